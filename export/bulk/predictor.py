"""Computes the answers of a chunk with the SavedModel, in the process that has loaded it."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from zoo import storage
from zoo.errors import UsageError
from zoo.export import artifact_paths
from zoo.export.bulk import answers
from zoo.export.bulk.chunks import Chunk, InputInfo, Marks, Rejected, Rows, Served, printable
from zoo.export.bulk.formats import readers
from zoo.export.loading import LoadedModel
from zoo.export.prediction_files import columns_of
from zoo.export.prediction_items import rejected, rejected_row
from zoo.export.standalone import arrays
from zoo.export.unknown_values import unknown_counts, vocabularies_of
from zoo.export.zoo_json import read, signatures
from zoo.tasks import REQUEST_KINDS

_INVALID = (
    tf.errors.InvalidArgumentError,
    tf.errors.OutOfRangeError,
    tf.errors.UnimplementedError,
    ValueError,
    TypeError,
)
"""What the graph raises for invalid values. Any other error, such as too little memory, is no fault of a row."""
_MOST_UNKNOWN = 100
_ONLY_ROW = re.compile(r", row 0(?=:)|\brow 0: ")
"""The number of the row in a batch, which says nothing in a file."""

Arrays = dict[str, np.ndarray]


def share_devices() -> None:
    """Lets several processes use the memory of a GPU. Call it before anything is computed."""
    for device in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(device, True)


@dataclasses.dataclass
class Answered:
    """The answers of a chunk.

    Attributes:
        table: one row for each row that has an answer.
        rejected: the other rows.
        unknown: how often values of categories occur that the model does not know, by column and value.
        marks: see `Marks`; None if the options or the first rows decide.
        unused: see `Rows`.
    """

    table: Any
    rejected: list[Rejected]
    unknown: list[tuple[str, str, int]]
    marks: Marks | None = None
    unused: tuple[str, ...] = ()


class Predictor:
    """A loaded SavedModel for bulk predictions.

    Args:
        path: a version folder, its parent folder, or a run.
        signature: the signature to call.
        batch_size: rows that are computed together.

    Raises:
        UsageError: there is no SavedModel or no such signature, or its outputs are not one per example.
    """

    def __init__(self, path: str | Path, signature: str, batch_size: int | None) -> None:
        found = artifact_paths.find(path)
        if changed := artifact_paths.changes(found):
            raise UsageError(
                f"{found} has changed since its export: {'; '.join(changed[:3])}. Copy the folder again; "
                f"`zoo verify {found}` checks it."
            )
        self.model = LoadedModel(found)
        self.served = _served(self.model, signature)
        are_bytes = any(REQUEST_KINDS.get(value.kind).is_bytes for value in self.served.inputs.values())
        self.batch_size = batch_size or (_BATCH_OF_FILES if are_bytes else _BATCH)
        # Outputs that are padded to the longest example of a batch would depend on the neighbours.
        self._is_fixed = all(None not in shape for _, shape in self.served.outputs.values())
        facts = read(self.model.path)
        self._vocabularies = vocabularies_of(facts)
        self._warm(facts)

    def _warm(self, facts: Mapping[str, Any]) -> None:
        """Calls the signature with a golden example, and with a whole batch if that is quick: the first calls take longer
        than others."""
        file = self.model.path / artifact_paths.EXTRA / "golden.npz"
        known = (
            arrays.examples(arrays.load(file), signatures(facts), self.served.signature)[0] if file.is_file() else {}
        )
        if not known:
            return
        one = {name: value[:1] for name, value in known.items()}
        self.model(one, self.served.signature)
        begun = time.perf_counter()
        self.model(one, self.served.signature)
        if self._is_fixed and time.perf_counter() - begun < _QUICK:
            places = np.arange(self.batch_size) % len(next(iter(known.values())))
            with contextlib.suppress(UsageError):  # a batch that is too large for the graph is divided later
                self.model({name: value[places] for name, value in known.items()}, self.served.signature)

    def answer(self, chunk: Chunk) -> Answered:
        """Returns the answers of a chunk.

        Raises:
            UsageError: the chunk as a whole cannot be read, or the SavedModel fails for another reason than a row's values.
        """
        rows = readers()[chunk.reader].rows(chunk, self.model, self.served)
        if rows.signature is None:
            lacking = {name: value for name, value in self.served.defaults.items() if name not in rows.inputs}
            rows.inputs = {**rows.inputs, **{name: [value] * len(rows) for name, value in lacking.items()}}
        computed = _Computation(self.model, rows, rows.signature or self.served.signature, self.served)
        size = self.batch_size if self._is_fixed else 1
        for start in range(0, len(rows), size):
            computed.add(range(start, min(start + size, len(rows))))
        kept, values = computed.values()
        is_one = isinstance(rows.sources, str)
        sources = printable(rows.source(0)) if is_one else [printable(rows.source(place)) for place in kept]
        found = answers.table(sources, rows.numbers[kept], values, self.served.outputs)
        faults = [*rows.rejected, *computed.rejected]
        if not is_one:
            order = {source: place for place, (source, _, _) in enumerate(chunk.content[0])}
            faults.sort(key=lambda fault: order[fault.source])
        else:
            faults.sort(key=lambda fault: fault.row)
        unknown = unknown_counts(rows.inputs, self._vocabularies) if self._vocabularies else collections.Counter()
        counts = [(*key, count) for key, count in sorted(unknown.items(), key=lambda pair: (-pair[1], pair[0]))]
        faults = [Rejected(printable(fault.source), fault.row, printable(fault.reason)) for fault in faults]
        return Answered(found, faults, counts[:_MOST_UNKNOWN], rows.marks, rows.unused)


_BATCH, _BATCH_OF_FILES = 256, 64
"""Rows that are computed together by default."""
_QUICK = 0.02
"""Seconds of a call with one row; a batch of slower ones is not tried before the first chunk."""


class _Computation:
    """The outputs of the rows of a chunk, batch by batch."""

    def __init__(self, model: LoadedModel, rows: Rows, signature: str, served: Served) -> None:
        self._model, self._rows, self._signature, self._served = model, rows, signature, served
        self._parts: list[tuple[list[int], Arrays]] = []
        self.rejected: list[Rejected] = []

    def add(self, places: Sequence[int]) -> None:
        """Computes some rows; those of unlike shape, such as series of different length, apart."""
        values = {name: self._rows.inputs[name][places[0] : places[-1] + 1] for name in self._rows.inputs}
        kept, batch = self._opened(list(places), values)
        groups: dict[Any, list[int]] = {}
        if all((isinstance(part, np.ndarray) and part.dtype != object) or _are_bytes(part) for part in batch.values()):
            groups[()] = list(range(len(kept)))
        else:
            for at in range(len(kept)):
                key = tuple(() if isinstance(part[at], bytes) else np.shape(part[at]) for part in batch.values())
                groups.setdefault(key, []).append(at)
        for group in groups.values():
            part = batch if len(group) == len(kept) else {name: [v[at] for at in group] for name, v in batch.items()}
            self._compute([kept[at] for at in group], part)

    def _opened(self, places: list[int], values: Mapping[str, Any]) -> tuple[list[int], dict[str, Any]]:
        """Returns the values with the bytes of files in place of their paths, without rows whose file cannot be read."""
        paths = {
            name
            for name, part in values.items()
            if name in self._served.inputs
            and REQUEST_KINDS.get(self._served.inputs[name].kind).is_path
            and any(isinstance(value, str) for value in part)
        }
        if not paths:
            return places, dict(values)
        kept: list[int] = []
        batch: dict[str, list[Any]] = {name: [] for name in values}
        for at, place in enumerate(places):
            row = {name: part[at] for name, part in values.items()}
            try:
                for name in paths:
                    kind = REQUEST_KINDS.get(self._served.inputs[name].kind)
                    if isinstance(row[name], str) and kind.read is not None:
                        row[name] = kind.read(row[name], self._served.entries.get(name, {}))
            except UsageError as error:
                self._reject(place, str(error))
                continue
            kept.append(place)
            for name, value in row.items():
                batch[name].append(value)
        return kept, batch

    def _compute(self, places: list[int], batch: Mapping[str, Any]) -> None:
        """Computes rows together. If that fails, computes each half, so that an invalid row fails alone."""
        if not places:
            return
        try:
            self._parts.append((places, self._model(batch, self._signature)))
            return
        except UsageError as error:
            cause = error.__cause__ or error
            if not isinstance(cause, _INVALID):
                raise
            if len(places) == 1:
                self._reject(places[0], self._reason(places[0], batch, cause))
                return
        middle = len(places) // 2
        for part in (slice(None, middle), slice(middle, None)):
            self._compute(places[part], {name: value[part] for name, value in batch.items()})

    def _reason(self, place: int, batch: Mapping[str, Any], cause: BaseException) -> str:
        row = {name: value[0] for name, value in batch.items()}
        if self._served.are_columns:
            said = str(rejected_row(1, row, self._served.entries, cause))
        else:
            item = next(iter(row.values()))
            item = item.decode("utf-8", "replace") if isinstance(item, bytes) else item
            shown = self._rows.source(place) if self._served.are_files else item
            said = str(rejected(shown, {name: value.kind for name, value in self._served.inputs.items()}, cause))
            said = said.removeprefix("Cannot predict for ")
        return _ONLY_ROW.sub("", said.removeprefix("Cannot predict for row 1: "))

    def _reject(self, place: int, reason: str) -> None:
        self.rejected.append(Rejected(self._rows.source(place), int(self._rows.numbers[place]), reason))

    def values(self) -> tuple[list[int], dict[str, Any]]:
        """Returns the places of the rows that have answers, and their outputs by name."""
        outputs = self._served.outputs
        places = [place for part, _ in self._parts for place in part]
        order = np.argsort(places, kind="stable")
        kept = [places[at] for at in order]
        found: dict[str, Any] = {}
        for name, (dtype, shape) in outputs.items():
            parts = [part[name] for _, part in self._parts]
            if None in shape:
                rows = [row for part in parts for row in part]
                found[name] = [rows[at] for at in order]
            elif parts:
                whole = np.concatenate(parts)
                found[name] = whole if kept == places else whole[order]
            else:
                found[name] = np.zeros((0, *shape), object if dtype == "string" else _plain(dtype))
        return kept, found


def _plain(dtype: str) -> Any:
    return np.float32 if dtype == "bfloat16" else np.dtype(dtype)


def _are_bytes(values: Any) -> bool:
    return (
        isinstance(values, np.ndarray)
        and values.dtype == object
        and values.ndim == 1
        and (not len(values) or isinstance(values[0], bytes))
    )


def _served(model: LoadedModel, signature: str) -> Served:
    specs, outputs = model.specs(signature)
    if not all(tensor.shape.rank and tensor.shape[0] is None for tensor in outputs.values()):
        raise UsageError(
            f"The outputs of {signature} are not one per example, so it cannot predict for the rows of files. Choose another "
            f"signature: {', '.join(model.signatures())}."
        )
    kinds, entries = model.kinds(signature), model.entries(signature)
    inputs = {
        name: InputInfo(kind, specs[name].dtype.name, tuple((specs[name].shape.as_list() or [None])[1:]))
        for name, kind in kinds.items()
    }
    known = columns_of(model.data, entries, model.described_inputs(signature))
    sums = model.path / artifact_paths.EXTRA / artifact_paths.SUMS
    return Served(
        path=str(model.path),
        signature=signature,
        inputs=inputs,
        outputs={name: (value.dtype.name, tuple(value.shape.as_list()[1:])) for name, value in sorted(outputs.items())},
        columns={name: known.get(name, name) for name in inputs},
        entries=entries,
        data=model.data,
        digest=storage.sha256(sums) if sums.is_file() else _hash_of_files(model.path),
        defaults=model.defaults(signature),
        tensorflow=tf.__version__,
    )


def _hash_of_files(folder: Path) -> str:
    found = hashlib.sha256()
    for file in artifact_paths.files(folder):
        found.update(f"{file} {storage.sha256(folder / file)}\n".encode())
    return found.hexdigest()
