"""Answers as tables, and the files that hold them: Parquet, CSV and JSON lines."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa

INPUT, ROW = "input", "row"
"""The first columns: the file, and the number of the row in it, from 1; 0 for a file that holds one example."""
_GROUP_BYTES = 32 << 20
"""A row group of a Parquet file ends after the part with which it has this many bytes."""

Outputs = Mapping[str, tuple[str, tuple[int | None, ...]]]


def schema(outputs: Outputs) -> pa.Schema:
    """Returns the columns of the answers: `input`, `row` and the outputs; lists for outputs with several numbers.

    Example:
        >>> schema({"class_name": ("string", ()), "probabilities": ("float32", (10,))}).names
        ['input', 'row', 'class_name', 'probabilities']
    """
    import pyarrow as pa

    fields = [pa.field(INPUT, pa.string()), pa.field(ROW, pa.int64())]
    for name, (dtype, shape) in outputs.items():
        kind = (pa.binary() if name.endswith("_bytes") else pa.string()) if dtype == "string" else _number(dtype)
        for _ in shape:
            kind = pa.list_(kind)
        fields.append(pa.field(name if name not in (INPUT, ROW) else f"output_{name}", kind))
    return pa.schema(fields)


def _number(dtype: str) -> Any:
    import pyarrow as pa

    if dtype == "bfloat16":
        return pa.float32()
    return pa.from_numpy_dtype(np.dtype(dtype))


def table(sources: str | Sequence[str], numbers: np.ndarray, values: Mapping[str, Any], outputs: Outputs) -> pa.Table:
    """Returns answers as a table.

    Args:
        sources: the file of each row, or one for all.
        numbers: the number of each row.
        values: an array for each output, or a list with an array for each row.
        outputs: see `schema`.
    """
    import pyarrow as pa

    wanted = schema(outputs)
    names = [sources] * len(numbers) if isinstance(sources, str) else list(sources)
    columns = [pa.array(names, pa.string()), pa.array(numbers, pa.int64())]
    columns += [
        _column(values[name], len(shape), field.type)
        for name, (_, shape), field in zip(outputs, outputs.values(), list(wanted)[2:], strict=True)
    ]
    return pa.table(columns, schema=wanted)


def _column(values: Any, rank: int, kind: Any) -> pa.Array:
    import pyarrow as pa

    if rank == 0:
        return _flat(np.asarray(values).reshape(-1) if not isinstance(values, list) else np.array(values), kind)
    if isinstance(values, list):  # rows of different lengths
        counts = [len(value) for value in values]
        inner = list(values) if rank == 1 else [part for value in values for part in value]
        below = np.concatenate(inner) if rank == 1 and inner else inner
    else:
        counts = [values.shape[1]] * len(values)
        below = values.reshape(-1, *values.shape[2:])
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]), pa.int32())
    held = _column(below, rank - 1, kind.value_type) if len(below) else pa.array([], kind.value_type)
    return pa.ListArray.from_arrays(offsets, held)


def _flat(values: np.ndarray, kind: Any) -> pa.Array:
    import pyarrow as pa

    if values.dtype != object:
        return pa.array(values.astype(kind.to_pandas_dtype(), copy=False), kind)
    held = pa.array(values.tolist(), pa.binary())
    if pa.types.is_binary(kind):
        return held
    try:
        return held.cast(pa.string())
    except pa.ArrowInvalid:  # not UTF-8
        return pa.array([value.decode("utf-8", "replace") for value in values.tolist()], pa.string())


@dataclasses.dataclass(frozen=True)
class Format:
    """A format of answers.

    Attributes:
        encode: makes the bytes of a part of a table.
        join: writes the parts, in order, as one file.
    """

    encode: Callable[[Any], bytes]
    join: Callable[[Iterable[bytes], Any, Path], None]


def _stream(part: Any) -> bytes:
    import pyarrow as pa

    content = io.BytesIO()
    with pa.ipc.new_stream(content, part.schema) as writer:
        writer.write_table(part)
    return content.getvalue()


def _join_parquet(parts: Iterable[bytes], wanted: Any, file: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    held: list[Any] = []
    with pa.parquet.ParquetWriter(file, wanted, compression="zstd") as writer:
        for part in parts:
            held.append(pa.ipc.open_stream(part).read_all())
            if sum(table.nbytes for table in held) >= _GROUP_BYTES:
                writer.write_table(pa.concat_tables(held).combine_chunks())
                held = []
        if held:
            writer.write_table(pa.concat_tables(held).combine_chunks())


def _csv(part: Any) -> bytes:
    """Returns rows of a CSV file without the header; lists are JSON."""
    import pyarrow as pa
    import pyarrow.csv

    content = io.BytesIO()
    columns = [_texts(column.combine_chunks(), field, nested=False) for column, field in zip(part, part.schema)]  # noqa: B905
    plain = pa.table(columns, names=part.schema.names)
    pyarrow.csv.write_csv(plain, content, pyarrow.csv.WriteOptions(include_header=False))
    return content.getvalue()


def _texts(column: Any, field: Any, *, nested: bool) -> Any:
    """Returns a column whose lists are JSON; with `nested`, all values are."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = field.type if hasattr(field, "type") else field
    column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_list(kind):
        inner = _texts(column.flatten(), kind.value_type, nested=True)
        offsets = pc.subtract(column.offsets, column.offsets[0])
        joined = pc.binary_join(pa.ListArray.from_arrays(offsets.cast(pa.int32()), inner), ",")
        return pc.binary_join_element_wise("[", joined, "]", "")
    if pa.types.is_binary(kind):
        import base64

        column = pa.array([base64.b64encode(value).decode() for value in column.to_pylist()], pa.string())
    if pa.types.is_floating(kind):
        texts = column.cast(pa.float32() if kind == pa.float16() else kind).cast(pa.string())
        return pc.if_else(pc.is_finite(column), texts, pa.scalar("null" if nested else None, pa.string()))
    if not nested:
        return column
    if pa.types.is_string(column.type):
        known = column.dictionary_encode()
        words = pa.array([json.dumps(word, ensure_ascii=False) for word in known.dictionary.to_pylist()], pa.string())
        return words.take(known.indices)
    return column.cast(pa.string())


def _json(part: Any) -> bytes:
    import pyarrow as pa
    import pyarrow.compute as pc

    cells: list[Any] = []
    for field, column in zip(part.schema, part, strict=True):
        name = f"{', ' if cells else '{'}{json.dumps(field.name, ensure_ascii=False)}: "
        cells += [name, _texts(column.combine_chunks(), field, nested=True)]
    lines = pc.binary_join_element_wise(*cells, "}\n", "")
    lines = lines.combine_chunks() if isinstance(lines, pa.ChunkedArray) else lines
    return "".join(lines.to_pylist()).encode()


def _join_csv(parts: Iterable[bytes], wanted: Any, file: Path) -> None:
    header = ",".join(f'"{name.replace(chr(34), chr(34) * 2)}"' for name in wanted.names)
    _concatenated([f"{header}\n".encode()], parts, file)


def _join_lines(parts: Iterable[bytes], wanted: Any, file: Path) -> None:
    _concatenated([], parts, file)


def _concatenated(before: list[bytes], parts: Iterable[bytes], file: Path) -> None:
    with file.open("wb") as written:
        written.writelines(before)
        written.writelines(parts)


_FORMATS = {
    ".parquet": Format(_stream, _join_parquet),
    ".csv": Format(_csv, _join_csv),
    ".jsonl": Format(_json, _join_lines),
}


def format_of(output: Path) -> Format:
    """Returns the format of a file of answers by the ending of its name.

    Raises:
        UsageError: it has another ending.
    """
    suffix = output.suffix.lower()
    if suffix not in _FORMATS:
        near = did_you_mean(suffix or output.name, _FORMATS)
        raise UsageError(f"The output {output} has no known ending. {near} Choose .parquet, .csv or .jsonl.")
    return _FORMATS[suffix]
