"""Parquet files, read a batch of rows at a time."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zoo.errors import UsageError, one_line
from zoo.export.bulk.chunks import Chunk, Limits, Rows, Served
from zoo.export.bulk.formats import Reader
from zoo.export.bulk.frames import check_header, rows_of
from zoo.tables import frames
from zoo.tables.formats import TableFormat
from zoo.tables.headers import column_name


def chunks(path: Path, served: Served, format: TableFormat, limits: Limits) -> Iterator[Chunk]:
    """Divides a file by rows; only the columns that the model uses are read."""
    import pyarrow
    import pyarrow.parquet

    if format.encoding is not None and not format.inherited:
        raise UsageError(f"{path} is Parquet, which is UTF-8 and takes no encoding. Leave it out.")
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            header = {column_name(name): name for name in file.schema_arrow.names}
            check_header(path, list(header), served)
            used = [header[column] for column in dict.fromkeys(served.columns.values()) if column in header]
            share = path.stat().st_size / max(1, file.metadata.num_rows)
            first, unused = 1, tuple(served.unused(header))
            for batch in file.iter_batches(limits.rows, columns=used):
                content = io.BytesIO()
                with pyarrow.ipc.new_stream(content, batch.schema) as writer:
                    writer.write_batch(batch)
                weight = share * batch.num_rows
                held = (content.getvalue(), used, format)
                yield Chunk("parquet_files", str(path), first, batch.num_rows, held, weight, unused=unused)
                first += batch.num_rows
            if first == 1:
                raise UsageError(f"{path} has no rows. Choose a file with rows.")
    except (pyarrow.ArrowException, OSError) as error:
        raise UsageError(
            f"{path} cannot be read as Parquet: {one_line(error, 200)} Convert it again, or pass it as CSV."
        ) from error


def rows(chunk: Chunk, model: Any, served: Served) -> Rows:
    """Returns the rows of a chunk."""
    import pandas
    import pyarrow

    content, used, format = chunk.content
    table = pyarrow.ipc.open_stream(content).read_all().select(used)
    frame = frames.as_texts(table.to_pandas(integer_object_nulls=True, ignore_metadata=True), chunk.source, format)
    frame.index = pandas.RangeIndex(chunk.first - 1, chunk.first - 1 + len(frame))
    return rows_of(chunk.source, frame, served, [])


READER = Reader((".parquet",), chunks, rows)
