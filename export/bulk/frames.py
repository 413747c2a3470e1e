"""The rows of a table of texts as the inputs of a signature."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import UsageError
from zoo.export.bulk.chunks import Rejected, Rows, Served
from zoo.export.prediction_files import not_whole
from zoo.tables import cells
from zoo.tasks import REQUEST_KINDS


def check_header(path: Path, header: list[str], served: Served) -> None:
    """Raises UsageError if a table lacks a column of the model, or if the model takes no columns of tables."""
    for name in served.needed:
        value = served.inputs[name]
        if value.dtype != "string" and value.shape and not served.are_columns:
            raise UsageError(
                f"{served.takes}; {name} has several numbers, which {path} cannot hold in a column. Pass JSON lines (.jsonl)."
            )
    if missing := [served.columns[name] for name in served.needed if served.columns[name] not in header]:
        raise UsageError(
            f"{path} has no column {', '.join(map(repr, missing))}; its columns are {', '.join(header)}. Add or rename "
            "columns; cells may be empty."
        )


def rows_of(source: str, frame: Any, served: Served, rejected: list[Rejected]) -> Rows:
    """Returns the rows of a table.

    Args:
        source: the file.
        frame: a DataFrame of texts, as `zoo.tables.parsing.parse` makes it; its index has the numbers of the rows, from 0.
        served: the signature.
        rejected: rows that the file's format rejects.

    Raises:
        UsageError: a column is ambiguous as a whole, such as one whose points may separate thousands.
    """
    wrong: dict[int, str] = {}
    if served.are_columns:
        (kind,) = served.kinds
        inputs, frame = kind.read_columns(source, frame, served.entries, wrong)
    else:
        numeric = {name: value.dtype for name, value in served.inputs.items() if value.dtype != "string"}
        for name, dtype in numeric.items():
            if served.columns[name] in frame.columns:
                wrong.update(wrong_numbers(source, frame[served.columns[name]], dtype))
        attrs, frame = frame.attrs, frame.drop(index=[row for row in wrong if row in frame.index])
        frame.attrs = attrs
        given = [name for name in served.inputs if served.columns[name] in frame.columns]  # the others have a default
        inputs = {name: _values(source, frame, name, served) for name in given}
    faults = [Rejected(source, row + 1, why) for row, why in wrong.items()]
    found = sorted([*rejected, *faults], key=lambda fault: fault.row)
    return Rows(inputs, np.asarray(frame.index, np.int64) + 1, source, found)


def wrong_numbers(source: str, column: Any, dtype: str) -> dict[int, str]:
    """Returns why cells are no numbers of a type, by the numbers of their rows."""
    wrong = cells.wrong_numbers(Path(source), column)
    rest = column[~column.index.isin(list(wrong))]
    rest.attrs = column.attrs
    unfit = not_whole(cells.numbers(Path(source), rest), dtype)
    return {
        **wrong,
        **{
            int(rest.index[place]): f"{column.name}: {why}. Correct the cell, or leave the column out."
            for place, why in unfit.items()
        },
    }


def _values(source: str, frame: Any, name: str, served: Served) -> Any:
    """Returns the values of one input: bytes, paths, or numbers."""
    given, column = served.inputs[name], served.columns[name]
    if given.dtype != "string":
        values = cells.numbers(Path(source), frame[column]).astype(given.dtype)
        return values.reshape(-1, *[1] * len(given.shape))
    kind, texts = REQUEST_KINDS.get(given.kind), frame[column].tolist()
    if kind.is_path:
        return [str(Path(source).parent / text.strip()) for text in texts]
    if kind.read is not None:
        return [kind.read(text, served.entries.get(name, {})) for text in texts]
    found = np.empty(len(texts), object)
    found[:] = [text.encode("utf-8", "surrogatepass") for text in texts]
    return found.reshape(-1, *[1] * len(given.shape))  # one text for an input that takes several


def by_column(given: Mapping[str, Any], served: Served) -> dict[str, Any]:
    """Returns the values of one example by input. It has the names of the data's columns, or of the inputs; if both are
    given, the model was trained on the column.

    Raises:
        UsageError: a name is missing.
    """
    columns = served.columns
    by_name = set(served.needed) <= set(given) and any(columns[name] not in given for name in served.needed)
    names = {name: (name, columns[name]) if by_name else (columns[name], name) for name in served.inputs}
    first = {one for one, _ in names.values()}
    found: dict[str, Any] = {}
    for name, (one, other) in names.items():
        if one in given:
            found[name] = given[one]
        elif other in given and other not in first:  # otherwise it is the column of another input
            found[name] = given[other]
        elif name in served.defaults:
            found[name] = served.defaults[name]
    if missing := [columns[name] for name in served.inputs if name not in found]:
        raise UsageError(f"has no {', '.join(missing)}. Add it; null is a missing value.")
    return found
