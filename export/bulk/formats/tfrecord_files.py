"""TFRecord files of serialized tf.Example records, whose features have the names of the inputs or columns."""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import UsageError
from zoo.export.bulk.chunks import MOST_BYTES, Chunk, Limits, Rejected, Rows, Served
from zoo.export.bulk.formats import Reader
from zoo.export.bulk.frames import by_column
from zoo.tables.formats import TableFormat

_FRAME = 16
"""Bytes of the length, its checksum and the checksum of the data."""


def chunks(path: Path, served: Served, format: TableFormat, limits: Limits) -> Iterator[Chunk]:
    """Divides a file by the lengths of its records; the checksums are compared where the records are read."""
    held: list[bytes] = []
    size, first, count = 0, 1, 0
    left = path.stat().st_size
    with path.open("rb") as file:
        while head := file.read(12):
            length = struct.unpack("<Q", head[:8])[0] if len(head) == 12 else left
            if length + _FRAME > left:
                raise UsageError(
                    f"{path} is damaged, or no TFRecord file, at record {first + count}: it ends too early. Make it again "
                    "with tf.io.TFRecordWriter, not compressed."
                )
            held.append(head + file.read(length + 4))
            left -= length + _FRAME
            size += length + _FRAME
            count += 1
            if count == limits.rows or size >= MOST_BYTES:
                yield Chunk("tfrecord_files", str(path), first, count, b"".join(held), size)
                first += count
                held, size, count = [], 0, 0
    if held:
        yield Chunk("tfrecord_files", str(path), first, count, b"".join(held), size)
    elif first == 1:
        raise UsageError(f"{path} is empty. Choose a file with records.")


def rows(chunk: Chunk, model: Any, served: Served) -> Rows:
    """Reads the records of a chunk. A signature of records gets them unchanged."""
    records = _records(chunk)
    numbers = np.arange(chunk.first, chunk.first + len(records))
    if (taken := _signature_of_records(model, served)) is not None:
        found = np.empty(len(records), object)
        found[:] = records
        return Rows({taken[1]: found}, numbers, chunk.source, signature=taken[0], unused=_unused(records, served))
    values: list[dict[str, Any]] = []
    kept: list[int] = []
    rejected: list[Rejected] = []
    for number, record in zip(numbers.tolist(), records, strict=True):
        try:
            values.append(_values(record, served))
            kept.append(number)
        except UsageError as error:
            rejected.append(Rejected(chunk.source, number, str(error)))
    inputs = {name: [row[name] for row in values] for name in served.inputs}
    return Rows(inputs, np.array(kept, np.int64), chunk.source, rejected, unused=_unused(records, served))


def _unused(records: list[bytes], served: Served) -> tuple[str, ...]:
    """Returns the features of the first record that the model does not use; records of a file usually have the same."""
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    try:
        return tuple(sorted(served.unused(tf.train.Example.FromString(records[0]).features.feature)))
    except DecodeError:  # the row is rejected for it
        return ()


def _records(chunk: Chunk) -> list[bytes]:
    import tensorflow as tf

    memory = "/dev/shm"
    with tempfile.NamedTemporaryFile(dir=memory if os.access(memory, os.W_OK) else None) as file:
        file.write(chunk.content)
        file.flush()
        try:
            return [record.numpy() for record in tf.data.TFRecordDataset(file.name)]
        except tf.errors.DataLossError as error:
            raise UsageError(
                f"{chunk.source} is damaged after record {chunk.first - 1}: a checksum differs. Replace it with the "
                "original file."
            ) from error


def _signature_of_records(model: Any, served: Served) -> tuple[str, str] | None:
    """Returns a signature with the same outputs that takes records, and its input; the one asked for, if that does."""
    names = [served.signature, *(name for name in model.signatures() if name != served.signature)]
    for name in names if served.are_columns else names[:1]:
        kinds, outputs = model.kinds(name), model.specs(name)[1]
        if list(kinds.values()) == ["record"] and set(outputs) == set(served.outputs):
            return name, next(iter(kinds))
    return None


def _values(record: bytes, served: Served) -> dict[str, Any]:
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    try:
        features = tf.train.Example.FromString(record).features.feature
    except DecodeError as error:
        raise UsageError("is no tf.Example. Write it with tf.train.Example.") from error
    given = by_column({name: _held(feature) for name, feature in features.items()}, served)
    left_out = {name for name, value in given.items() if value is served.defaults.get(name)}
    return {name: value if name in left_out else _shaped(name, value, served) for name, value in given.items()}


def _held(feature: Any) -> list[Any]:
    kind = feature.WhichOneof("kind")
    return list(getattr(feature, kind).value) if kind else []


def _shaped(name: str, value: list[Any], served: Served) -> Any:
    """Returns the values of a feature in the shape of the input."""
    wanted = served.inputs[name]
    if (wanted.dtype == "string") != all(isinstance(part, bytes) for part in value):
        raise UsageError(f"has a feature {name} of another type; expected {wanted.dtype}. Convert it to this type.")
    if not wanted.shape:
        if len(value) != 1:
            raise UsageError(f"has {len(value)} values of {name}; expected one. Correct it.")
        return value[0] if wanted.dtype == "string" else np.asarray(value[0], wanted.dtype)
    found = np.array(value, object if wanted.dtype == "string" else wanted.dtype)
    try:
        return found.reshape([-1 if size is None else size for size in wanted.shape])
    except ValueError as error:
        sizes = ", ".join(str(size or "any") for size in wanted.shape)
        raise UsageError(f"has {len(value)} values of {name}; expected the shape ({sizes}). Correct it.") from error


READER = Reader((".tfrecord", ".tfrecords"), chunks, rows)
