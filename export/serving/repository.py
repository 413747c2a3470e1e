"""The models of a server with their versions: found, loaded, warmed up, switched and drained."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import UsageError, did_you_mean, one_line
from zoo.export import artifact_paths
from zoo.export.serving.batching import Drained
from zoo.export.serving.metrics import Metrics
from zoo.export.serving.refusals import Refused
from zoo.export.serving.settings import Settings
from zoo.export.serving.version import Version

Event = Callable[..., None]
"""Writes a line of the log: the name of the event, and its fields."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclasses.dataclass(frozen=True)
class Failure:
    """A version that cannot be loaded, and the state of its files, after whose change it is tried again."""

    message: str
    state: Any


class Model:
    """A model with the versions that are served.

    Args:
        name: its name in addresses.
        path: a version folder, which is served alone; a folder of versions, which is watched; or a run.
        settings: the settings of the server.
        metrics: counts batches and versions.
        event: writes the log.

    Raises:
        UsageError: there is no SavedModel, or none that can be loaded.
    """

    def __init__(self, name: str, path: Path, settings: Settings, metrics: Metrics, event: Event) -> None:
        found = artifact_paths.find(path)
        self.name, self._settings, self._metrics, self._event = name, settings, metrics, event
        self._pinned = found == Path(path)
        self._base = found.parent
        self._only = int(found.name) if artifact_paths.is_version(found.name) else 1
        self._path = found
        self.versions: dict[int, Version] = {}
        self._states: dict[int, Any] = {}
        self.failures: dict[int, Failure] = {}
        self._lock = threading.Lock()
        self.update()
        if not self.versions:
            cause = next(iter(self.failures.values())).message if self.failures else f"{path} has no such version."
            raise UsageError(f"The model {name!r} cannot be served: {cause} Pass an intact version.")

    def update(self) -> None:
        """Loads versions that are new or written again, and closes those that are not wanted, once a newer one is ready."""
        with self._lock:
            on_disk = self._on_disk()
            for number in sorted(on_disk, reverse=True):
                loaded = [n for n in self.versions if n in on_disk]
                newest = max([number, *loaded])
                is_new = number not in self.versions or _state(on_disk[number]) != self._states[number]
                if is_new and self._settings.wants(number, newest):
                    self._load(number, on_disk[number])
            best = max((n for n in self.versions if n in on_disk), default=None)
            for number in [n for n in self.versions if n not in on_disk or not self._settings.wants(n, best or n)]:
                if len(self.versions) > 1:  # the last one is served even if its folder was removed
                    self._drain(number)

    def _on_disk(self) -> dict[int, Path]:
        if self._pinned:
            return {self._only: self._path}
        return {number: self._base / str(number) for number in artifact_paths.versions(self._base)}

    def _load(self, number: int, path: Path) -> None:
        state = _state(path)
        failure = self.failures.get(number)
        if failure is not None and failure.state == state:
            return
        try:
            version = Version(
                path, number, self._settings, lambda jobs, rows: self._metrics.batch(self.name, jobs, rows)
            )
        except Exception as error:  # noqa: BLE001, damaged files may raise any; the versions that are loaded stay
            message = one_line(error)
            self.failures[number] = Failure(message, state)
            self._event("version_failed", model=self.name, version=number, error=message, serving=sorted(self.versions))
            return
        self.failures.pop(number, None)
        before = self.versions.get(number)
        self.versions, self._states[number] = {**self.versions, number: version}, state
        if before is not None:
            before.close()
            before.batcher.join(self._settings.timeout)
        self._metrics.version(self.name, number, True)
        self._event("version_ready", model=self.name, version=number, path=str(path))

    def _drain(self, number: int) -> None:
        version = self.versions[number]
        self.versions = {n: v for n, v in self.versions.items() if n != number}
        version.close()
        self._metrics.version(self.name, number, False)
        drained = version.batcher.join(self._settings.timeout)
        self._event("version_drained" if drained else "version_still_busy", model=self.name, version=number)

    def version(self, number: str | None = None, label: str | None = None) -> Version:
        """Returns a version: by number, by label, or the newest.

        Raises:
            Refused: it is not served.
        """
        versions = self.versions
        if label is not None:
            labels = self._settings.labels
            wanted = labels.get(f"{self.name}:{label}", labels.get(label))
            if wanted is None:
                known = sorted({key.rpartition(":")[2] for key in labels})
                raise Refused(404, f"The model {self.name!r} has no label {label!r:.60}. {did_you_mean(label, known)}")
            number = str(wanted)
        if number is None:
            return versions[max(versions)]
        if not number.isdecimal() or int(number) not in versions:
            raise Refused(
                404,
                f"Version {number:.20} of {self.name!r} is not served. Choose one of "
                f"{', '.join(map(str, sorted(versions)))}, or leave the version out for the newest.",
            )
        return versions[int(number)]

    async def answer(
        self,
        version: Version,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        *,
        pinned: bool,
        alone: bool = False,
    ) -> dict[str, np.ndarray]:
        """Returns the outputs of a version for a batch; of the newest, if it was replaced meanwhile.

        Args:
            version: the version that the request was read for.
            signature: the signature.
            inputs: arrays by input name.
            pinned: whether the client named the version.
            alone: whether no other client has sent requests lately.

        Raises:
            Refused: see `Version.answer`; or the client's version is no longer served.
        """
        for _ in range(_MOST_SWITCHES):
            try:
                return await version.answer(signature, inputs, alone=alone)
            except Drained:
                if pinned:
                    break
                version = self.version()
                version.signature(signature)
        raise Refused(503, f"Version {version.number} of {self.name!r} was removed meanwhile. Send the request again.")

    def close(self) -> None:
        """Stops the threads of all versions when what waits is computed."""
        for version in self.versions.values():
            version.close()


_MOST_SWITCHES = 8


def _state(path: Path) -> Any:
    """Returns the names, sizes and times of the files of a folder, which change while it is copied."""
    files = sorted(path.rglob("*"))
    return tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file())


class Repository:
    """The models of a server by name.

    Args:
        paths: the path of each model by its name.
        settings: the settings of the server.
        metrics: counts requests, batches and versions.
        event: writes the log.

    Raises:
        UsageError: a name is not valid, or a model cannot be served.

    Example:
        >>> repository = Repository({"digits": "exports/digits"}, Settings(), Metrics(), print)
        >>> repository.model("digits").version().number
        1
    """

    def __init__(self, paths: Mapping[str, str | Path], settings: Settings, metrics: Metrics, event: Event) -> None:
        for name in paths:
            if not _NAME.fullmatch(name):
                raise UsageError(
                    f"The model's name {name!r} cannot be part of an address. Choose letters, numbers, - and _: NAME=PATH."
                )
        self.models = {name: Model(name, Path(path), settings, metrics, event) for name, path in paths.items()}
        self._settings, self._event = settings, event

    def model(self, name: str) -> Model:
        """Returns a model by name.

        Raises:
            Refused: there is none of this name.
        """
        if name not in self.models:
            raise Refused(404, f"There is no model {name!r:.110}. {did_you_mean(name, self.models)}")
        return self.models[name]

    async def watch(self) -> None:
        """Looks for new versions until it is cancelled. They are loaded in a thread, while requests are answered."""
        while True:
            await asyncio.sleep(self._settings.poll)
            for model in self.models.values():
                try:
                    await asyncio.to_thread(model.update)
                except Exception as error:  # noqa: BLE001, such as a folder that cannot be listed for a while
                    self._event("watch_failed", model=model.name, error=one_line(error))

    def close(self) -> None:
        """Closes all models."""
        for model in self.models.values():
            model.close()
