"""A run directory: everything needed to understand a run, to repeat it, and to resume it."""

from __future__ import annotations

import contextlib
import csv
import errno
import fcntl
import io
import json
import os
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from zoo import copies, lease, lineage, remote, storage
from zoo.config import read_yaml, to_yaml
from zoo.errors import UsageError, one_line
from zoo.training.other_settings import reject_other_settings

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from zoo.training.tensorboard import TensorBoard


class RunDirectory:
    """Owns a run's folder while it trains.

    Opening an existing one resumes its run, provided that the settings and the data are the same; it is locked
    against a second trainer until `close`. Nothing of such a run is changed before `record`.

    Args:
        path: the folder; made where it is missing.
        settings: the run's `model`, `data` and `config` sections.
        overwrite: deletes the existing run and starts again.
        interface: the data's, see `TrainingData`; None for data that has none.
        own: whether model or data are of the user's own, so that no command repeats the run.
        untyped: the settings that nobody passed, see `reject_other_settings`.

    Raises:
        UsageError: the path exists and is no run, holds a run with other settings or of other data, is in use by another
            process, or cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        settings: Mapping[str, Any],
        *,
        overwrite: bool = False,
        interface: Any = None,
        own: bool = False,
        untyped: Collection[str] = (),
    ) -> None:
        self.path, self._head = Path(path), _OWN_HEAD if own else _CONFIG_HEAD
        self._interface = interface
        self._data_sha256 = None if interface is None else interface.fingerprint.sha256
        self._settings = {**settings, "data_sha256": self._data_sha256}
        self._lock: _Lock | None = None
        self._tensorboard: TensorBoard | None = None
        existing = self._existing()
        self._resumes = existing is not None and not overwrite and has_begun(self.path)
        if existing is not None and self._resumes:
            changes = [] if interface is None else interface.changes_since(self.interface)
            reject_other_settings(
                self.path, existing, settings, same_data=interface is not None and not changes, untyped=untyped
            )
            self._reject_other_data(existing, changes)
        self.lineage = lineage.read(self.path) if self._resumes else lineage.started(settings, self._data_sha256)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            if overwrite and existing is not None:
                self._clear()
        except OSError as error:
            raise UsageError(
                f"Cannot write the run directory {self.path}: {error.strerror}. Pass another run_directory."
            ) from error

    def _reject_other_data(self, existing: Mapping[str, Any], changes: Sequence[str]) -> None:
        if changes:
            raise UsageError(
                f"{self.path} holds a run that was trained on other data: {'; '.join(changes)}. Put the old data back to "
                "resume, or pass another run_directory, or overwrite=True (--overwrite) to start again."
            )
        if existing.get("data_sha256", self._data_sha256) != self._data_sha256:
            raise UsageError(
                f"{self.interface} belongs to other data than the checkpoints of {self.path}. Put the run's own folder "
                "back, or pass another run_directory, or overwrite=True (--overwrite) to start again."
            )

    def record(self) -> None:
        """Writes the settings, and the interface of a new run; a resumed one keeps its own.

        Call it after all checks, the restored checkpoint included.
        """
        with writing(self.path):
            settings = {k: v for k, v in self._settings.items() if k != "data_sha256"}
            storage.write_text(self.config_file, self._head + to_yaml(settings))
            storage.write_json(self._settings_file, self._settings)
            if not self._resumes:
                lineage.write(self.path, self.lineage)
            if self._interface is not None and not self._resumes:
                self._interface.save(self.interface)

    def write_model(self, model: keras.Model) -> None:
        """Writes model.keras, which says in the comment of its archive which data it was trained on.

        The report on the model before it goes first: an export in between has no figures then, instead of other weights'.
        """
        (self.path / "evaluation.json").unlink(missing_ok=True)
        with storage.replacing(self.model_file) as temporary:
            model.save(temporary)
            with zipfile.ZipFile(temporary, "a") as archive:
                if found := copies.decided(model):
                    archive.writestr(_DECIDED, json.dumps(found))
                if self._data_sha256 is not None:
                    archive.comment = f"{_DATA}{self._data_sha256}".encode()

    def _existing(self) -> dict[str, Any] | None:
        """Returns the settings of the run that is there, or None for a new or empty folder."""
        if not self.path.exists():
            return None
        if not self.path.is_dir():
            raise UsageError(f"{self.path} exists and is not a folder. Pass another run_directory.")
        if is_run(self.path):
            # Not config.yaml where it can be helped: that one a user may have edited since.
            kept = self._settings_file
            restore = f"Put back a copy of it, or delete it: {self.config_file} holds the same settings."
            return storage.read_record(kept, _SETTINGS, restore) if kept.is_file() else read_settings(self.path)
        if any(entry.name not in _LOCKS for entry in self.path.iterdir()):
            raise UsageError(
                f"{self.path} exists and is not a run: it holds files, but no config.yaml of a run. "
                "Pass another run_directory; nothing was changed."
            )
        return None

    def _take_lock(self) -> None:
        self._lock = _Lock(self.path)
        for folder in (self.path, self.interface, self.path / "plots"):
            storage.remove_leftovers(folder)

    def _clear(self) -> None:
        for entry in sorted(self.path.iterdir()):
            if entry.name not in _LOCKS:
                storage.remove_tree(entry) if entry.is_dir() else entry.unlink()

    @property
    def shown(self) -> str:
        """The path for messages, which is the remote one of a working copy."""
        return remote.shown(self.path)

    def check(self) -> None:
        """Raises UsageError if another machine has taken the run over; call it before anything is written."""
        if self._lock is not None:
            self._lock.lease.check(look=True)

    def publish(self, *, final: bool = False) -> None:
        """Copies what is new to the store of a remote run, see `remote.publish`. Call it after each complete checkpoint.

        Raises:
            UsageError: another process has taken the run over; or, with `final`, the store cannot be written.
        """
        remote.publish(self.path, final=final)

    def close(self) -> None:
        """Closes the files of TensorBoard and gives the lock back."""
        if self._tensorboard is not None:
            self._tensorboard.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @property
    def config_file(self) -> Path:
        """The complete settings, which `zoo train --config` repeats."""
        return self.path / "config.yaml"

    @property
    def _settings_file(self) -> Path:
        return self.path / ".settings.json"

    @property
    def interface(self) -> Path:
        """The folder of everything between raw request and answer that is not the model."""
        return self.path / "interface"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def model_file(self) -> Path:
        """The trained model as Keras keeps it; there once training is finished."""
        return self.path / "model.keras"

    def write_history(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Writes history.csv: a row per epoch."""
        columns = list(dict.fromkeys(key for row in rows for key in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        storage.write_text(self.path / "history.csv", text.getvalue())

    def write_scalars(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Adds the rows to tensorboard/ that are not there yet; see `TensorBoard.write_scalars`."""
        self._board().write_scalars(rows)

    def write_histograms(self, model: keras.Model, epoch: int) -> None:
        """Adds the weights after an epoch, counted from 1, to tensorboard/; see `TensorBoard.write_histograms`."""
        self._board().write_histograms(model, epoch)

    def write_graph(self, traced: tf.types.experimental.ConcreteFunction | tf.Graph) -> None:
        """Adds the graph of the model's forward pass to tensorboard/, once; see `TensorBoard.write_graph`."""
        self._board().write_graph(traced)

    def _board(self) -> TensorBoard:
        if self._tensorboard is None:
            from zoo.training.tensorboard import TensorBoard

            self._tensorboard = TensorBoard(self.path / "tensorboard")
        return self._tensorboard


_LOCKS = (".lock", lease.NAME, remote.MANIFEST)
"""Files of a folder that are no part of a run."""


class _Lock:
    """The right to write a run: a lock of this machine's processes, and a lease among machines.

    Raises:
        UsageError: another process has it.
    """

    def __init__(self, path: Path) -> None:
        self._file = _locked(path)
        # The lock says that no process of this machine is left. On a file system that several machines share, it may say
        # nothing about the others.
        self.lease = lease.Lease(
            lease.FolderBoard(path), str(path), lambda facts: facts.get("machine") == lease.machine()
        )
        try:
            self.lease.acquire()
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Gives lease and lock back."""
        self.lease.release()
        self._file.close()


def _locked(path: Path) -> IO[str]:
    """Returns the open lock file of a run; closing it gives the lock back."""
    try:
        descriptor = os.open(
            path / ".lock", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666
        )
    except OSError as error:
        if (path / ".lock").is_symlink() or error.errno in (errno.EISDIR, errno.ENXIO):
            raise UsageError(
                f"{path / '.lock'} is no regular file, but a link, a folder or a device. Remove it, or pass another run "
                "directory."
            ) from error
        raise
    lock = os.fdopen(descriptor, "a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        owner = lock.read().strip() or "unknown"
        lock.close()
        raise UsageError(
            f"{path} is in use by another trainer (process {owner}). Wait for it, or pass another run_directory."
        ) from None
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


@contextlib.contextmanager
def in_use(path: Path) -> Iterator[None]:
    """Keeps a run from other trainers while the block evaluates or exports it, and copies a remote run at its end.

    Raises:
        UsageError: another process has it, or its store cannot be written.
    """
    with contextlib.closing(_Lock(path)):
        yield
        remote.publish(path, final=True)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an OSError while a run is written into a UsageError."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"Cannot write to {path}: {one_line(error)}. Make room and start the same command again to resume."
        ) from error


_HEAD = "# All settings of this run."
_CONFIG_HEAD = f"{_HEAD} `zoo train --config config.yaml` repeats it.\n"
_OWN_HEAD = f"{_HEAD} Its model or data are your own: call zoo.train with them to repeat it.\n"


def is_run(path: Path) -> bool:
    """Returns whether a folder holds a run: many programs call a file config.yaml, so its first line decides."""
    file = path / "config.yaml"
    return file.is_file() and file.read_text(encoding="utf-8", errors="replace").startswith(_HEAD)


def has_begun(path: Path) -> bool:
    """Returns whether a run has a checkpoint or its model: before that there is nothing to lose, and nothing that other
    settings could be mixed with."""
    return is_run(path) and (any((path / "checkpoints").glob("step-*")) or (path / "model.keras").is_file())


RESTORE_MODEL = (
    "Put back a copy, or delete it and start the training again with the same settings: that writes it from the newest "
    "checkpoint."
)
_SETTINGS = {"model": {"name": str}, "data": {"name": str}, "config": dict}


def read_settings(path: Path) -> dict[str, Any]:
    """Returns the settings of a run from config.yaml.

    Raises:
        UsageError: the file cannot be read or has another form.
    """
    file = path / "config.yaml"
    settings = read_yaml(file)
    if wrong := storage.mismatch(settings, _SETTINGS):
        raise UsageError(
            f"{file} is damaged: {wrong}. Put back a copy; {path / '.settings.json'} holds the same settings."
        )
    return settings


_DATA = "data_sha256="


def trained_on(model_file: Path) -> str | None:
    """Returns the hash of the data that a run's model.keras says it was trained on; None where it says nothing."""
    try:
        with zipfile.ZipFile(model_file) as archive:
            comment = archive.comment.decode(errors="replace")
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise UsageError(f"{model_file} cannot be loaded: {one_line(error, 120)}. {RESTORE_MODEL}") from error
    return comment.removeprefix(_DATA) if comment.startswith(_DATA) else None


_DECIDED = "zoo_decided.json"


def decided(model_file: Path) -> dict[str, Any]:
    """Returns what the task of a run's model.keras decided after the training; empty if it decided nothing.

    Raises:
        UsageError: the file is damaged.
    """
    try:
        with zipfile.ZipFile(model_file) as archive:
            if _DECIDED not in archive.namelist():
                return {}
            found = json.loads(archive.read(_DECIDED))
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError, RecursionError) as error:
        raise UsageError(f"{model_file} cannot be loaded: {one_line(error, 120)}. {RESTORE_MODEL}") from error
    if wrong := storage.mismatch(found, {}):
        raise UsageError(f"{model_file} is damaged: {wrong}. {RESTORE_MODEL}")
    return dict(found)
