"""Several labels at once, or values, from the columns of a CSV file, for texts and images."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from zoo.datasets.preprocessing.columns import NO, YES
from zoo.datasets.sources.csv_files import Table
from zoo.datasets.sources.in_memory import Rows, check_images, texts
from zoo.datasets.sources.labels import check_classes, rarest, unified
from zoo.datasets.sources.splitting import digest, is_undivided
from zoo.errors import UsageError
from zoo.tables import cells

_YES, _NO = (*YES, "1.0", "x"), (*NO, "0.0")
_FEW = 20
"""Up to this number of rows, nearly as many labels as rows are no mistake."""


@dataclasses.dataclass(frozen=True)
class Target:
    """The target of every row of a table.

    Attributes:
        key: its key in an example.
        values: float32 (rows, labels) or (rows, values), or int64 (rows,) for class numbers.
        class_names: the labels.
        about: further metadata.
    """

    key: str
    values: np.ndarray
    class_names: tuple[str, ...] = ()
    about: dict[str, Any] = dataclasses.field(default_factory=dict)

    def rows(self, tasks: tuple[str, ...], columns: dict[str, Any], picked: Sequence[int], **more: Any) -> Rows:
        """Returns the rows of a data set: its other columns, and the target of the picked rows of the table."""
        values = self.values[np.asarray(picked, np.int64)]
        strata = (values if values.ndim == 1 else rarest(values)).tolist() if self.class_names else None
        about = {**self.about, **more.pop("about", {})}
        columns = {**columns, self.key: values}
        return Rows(tasks, columns, strata=strata, class_names=self.class_names, about=about, **more)


Read = Callable[[Table], Target]
Splits = Callable[..., Any]
"""Returns the split of every row, or of the picked ones."""


def text_rows(table: Table, task: str, read: Read, splits: Splits) -> Rows:
    """Returns texts, or pairs of texts, with the target that `read` makes of the table."""
    table.require("text")
    target = read(table)
    cells = {key: table.text(key) for key in ("text", "text_pair") if key in table}
    digests = [digest(*parts) for parts in zip(*cells.values(), strict=True)]
    columns = {key: texts(values) for key, values in cells.items()}
    return target.rows((task,), columns, range(len(digests)), digests=digests, given=splits(table))


def image_rows(table: Table, task: str, read: Read, splits: Splits) -> Rows:
    """Returns the image files of a table with the target that `read` makes of the table."""
    table.require("image")
    target = read(table)
    paths = [table.path.parent / image.strip() for image in table.text("image")]
    images = check_images(paths, table.path, skip_broken=table.skip_broken)
    table.about["left_out"].update(images.left_out)
    return target.rows(
        (task,),
        {"image": texts([os.fsencode(paths[i]) for i in images.kept])},
        images.kept,
        digests=images.contents,
        given=splits(table, images.kept),
        about={"image_shape": images.shape, "image_sizes": images.sizes},
        images="image",
    )


def read_values(table: Table) -> Target:
    """Reads the columns of `value` as numbers. Rows without one of them are left out."""
    names = table.columns["value"]
    for name in names:
        table.leave_out(np.isnan(table.numbers(name)), f"rows without {name}")
    table.require("value")
    values = np.stack([table.numbers(name) for name in names], axis=1)
    for name, column in zip(names, values.T, strict=True):
        cells.check_range(table.path, table.frame[name], column)
        step = float(np.spacing(np.float32(np.abs(column).max())))
        if 0 < column.std() < step:
            raise UsageError(
                f"{table.path}: {name} is between {column.min():.17g} and {column.max():.17g}; a model learns it in steps of "
                f"{step:g}. Subtract {column.min():.17g} from the column, and convert the answers back."
            )
        if table.about.get("log_values") and column.min() < 0:
            raise UsageError(
                f"{table.path} has a {name} of {column.min():g}; log_values takes none below 0. Leave log_values out."
            )
    return Target("value", values.astype(np.float32), about={"value_names": list(names)})


def read_label_sets(table: Table) -> Target:
    """Reads the columns of `labels`: a column with yes or no for each label, or one that lists labels, with a separator.

    Raises:
        UsageError: a cell is neither yes nor no, a label has no example or is the same in all rows, there is one label only,
            or the separator does not occur.
    """
    columns, separator = table.columns["labels"], table.settings.get("separator")
    names, flags = _of_lists(table, columns, separator) if separator is not None else _of_columns(table, columns)
    return Target("labels", flags, names)


def _of_lists(table: Table, columns: Sequence[str], separator: Any) -> tuple[tuple[str, ...], np.ndarray]:
    if not isinstance(separator, str) or not separator or len(columns) != 1:
        raise UsageError(
            f"columns has the separator {separator!r} and {len(columns)} columns for labels; expected a text, and the one "
            "column whose cells it separates. Leave separator out for a yes or no in each column."
        )
    (column,) = columns
    cells = table.text("labels")
    lists = [{unified(part.strip()) for part in cell.split(separator)} - {""} for cell in cells]
    names = tuple(sorted(set().union(*lists)))
    where = f"{table.path} column {column}"
    if not is_undivided():
        if not any(separator in cell for cell in cells):
            raise UsageError(
                f"{where} has the separator {separator!r} in no cell; {max(cells, key=len)!r:.60} is one. Pass the mark that "
                "separates its labels; if every row has exactly one label, use the key label, without separator."
            )
        if len(cells) > _FEW and 2 * len(names) > len(cells):
            raise UsageError(
                f"{where} has {len(names):,} different labels in {len(cells):,} rows, {names[0]!r} for example; expected "
                "several rows of every label. Choose another column or separator."
            )
    check_classes(where, names)
    numbers = {name: number for number, name in enumerate(names)}
    flags = np.zeros((len(lists), len(names)), np.float32)
    for row, held in enumerate(lists):
        flags[row, [numbers[name] for name in held]] = 1
    return names, flags


def _of_columns(table: Table, columns: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
    if len(columns) < 2:
        raise UsageError(
            f"columns has one column for labels, {columns[0]!r}; several labels at once need two or more, each with yes or "
            "no. If its cells list labels, pass the separator too; if it is one label per row, use the key label."
        )
    names = tuple(unified(column.strip()) for column in columns)
    check_classes(f"{table.path}", names)
    flags = np.stack([_yes(table, column) for column in columns], axis=1).astype(np.float32)
    for column, values in zip(columns, flags.T, strict=True):
        if not is_undivided() and values.min() == values.max():
            which = "no row" if not values.any() else "all rows"
            raise UsageError(
                f"{table.path} has the label {column!r} in {which}, so nothing can be learned. Leave the column out, or add "
                "rows of both kinds."
            )
    return names, flags


def _yes(table: Table, column: str) -> np.ndarray:
    """Returns whether the cells of a column say yes. An empty cell means no if no cell says no, as in a list of crosses."""
    cells = table.frame[column].str.strip().str.lower()
    no = (*_NO,) if cells.isin(_NO).any() else (*_NO, "")
    wrong = ~cells.isin((*_YES, *no)).to_numpy()
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise UsageError(
            f"{table.path} row {cells.index[at] + 1}: the label {column!r} is {table.frame[column].iloc[at]!r}; expected yes "
            "or no, as 1 and 0, true and false, yes and no, or x and empty. Correct it; if the column lists labels, pass "
            "it alone, with a separator."
        )
    return cells.isin(_YES).to_numpy()
