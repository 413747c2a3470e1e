"""The CSV columns of each task; `LAYOUTS` lists them."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from zoo.datasets.data import Data
from zoo.datasets.sources import csv_series, csv_targets, side_files, table_rows
from zoo.datasets.sources.csv_files import Table
from zoo.datasets.sources.csv_labels import classes_of, sequences_of, splits_of
from zoo.datasets.sources.in_memory import Rows, check_images, texts
from zoo.datasets.sources.labels import check_classes, numbered
from zoo.datasets.sources.splitting import (
    digest,
    divide_users_by_time,
    duplicates,
    sentence_groups,
    with_validation_by_time,
)
from zoo.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Layout:
    """The columns of one task.

    Attributes:
        task: its name.
        required: keys that must have a column.
        optional: keys that may have one, besides `split`.
        rows: makes examples from a table; None for a series to forecast, whose examples are windows.
        repeats: whether equal examples are normal, such as a user's ratings of one item, and are not counted.
        options: further options of the source that it takes.
        several: keys that may have several columns.
        settings: keys that hold a setting instead of a column.
        inferred: whether a table whose columns are named like the keys has this layout without `columns`.
    """

    task: str
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    rows: Callable[[Table], Rows] | None = None
    repeats: bool = False
    options: tuple[str, ...] = ()
    several: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    inferred: bool = True

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys."""
        return (*self.required, *self.optional, *self.settings, *(("split",) if self.rows else ()))

    @property
    def forecasts(self) -> bool:
        """Whether examples are windows, which have the options window and horizon."""
        return self.rows is None

    def read(self, table: Table, name: str, arguments: dict[str, Any], source: str, memory_limit: int) -> Data:
        """Returns the data set of a table."""
        if self.rows is None:
            return csv_series.forecasting(table, name, arguments, source, memory_limit)
        rows = self.rows(table)
        if not self.repeats:
            table.about["duplicates"] = duplicates(rows.digests)
        rows.about = {**table.about, **rows.about}
        return rows.to_data(name, arguments, source, memory_limit)


def _classified_texts(table: Table) -> Rows:
    table.require("text", "label")
    labels = table.labels("label")
    classes = classes_of(table, labels)
    read = {key: table.text(key) for key in ("text", "text_pair") if key in table}
    columns: dict[str, Any] = {key: texts(cells) for key, cells in read.items()}
    digests = [digest(*parts) for parts in zip(*read.values(), strict=True)]
    return Rows(
        tasks=("text_classification",),
        columns={**columns, "label": numbered(labels, classes)},
        digests=digests,
        strata=labels,
        given=splits_of(table),
        class_names=classes,
    )


def _classified_images(table: Table) -> Rows:
    table.require("image", "label")
    labels = table.labels("label")
    classes_of(table, labels)
    paths = [table.path.parent / image.strip() for image in table.text("image")]
    images = check_images(paths, table.path, skip_broken=table.skip_broken)
    table.about["left_out"].update(images.left_out)
    labels = [labels[i] for i in images.kept]
    classes = classes_of(table, labels)
    return Rows(
        tasks=("image_classification",),
        columns={"image": texts([os.fsencode(paths[i]) for i in images.kept]), "label": numbered(labels, classes)},
        digests=images.contents,
        strata=labels,
        given=splits_of(table, images.kept),
        class_names=classes,
        about={"image_shape": images.shape, "image_sizes": images.sizes},
        images="image",
    )


def _read_label(table: Table) -> csv_targets.Target:
    table.require("label")
    labels = table.labels("label")
    classes = classes_of(table, labels)
    return csv_targets.Target("label", numbered(labels, classes), classes)


def _translations(table: Table) -> Rows:
    """Pairs that share a sentence of either language stay in one split."""
    table.require("text", "translation")
    pairs = list(zip(table.text("text"), table.text("translation"), strict=True))
    return Rows(
        tasks=("translation",),
        columns={"text": texts([a for a, _ in pairs]), "translation": texts([b for _, b in pairs])},
        digests=sentence_groups(pairs),
        given=splits_of(table),
    )


def _paired_texts(table: Table) -> Rows:
    """Two examples for each pair, with the same number. Pairs that share a text belong together, and stay in one split."""
    table.require("text", "text_pair")
    pairs = list(zip(table.text("text"), table.text("text_pair"), strict=True))
    groups = [group for group in sentence_groups(pairs) for _ in range(2)]
    _, numbers = np.unique(np.array(groups, object), return_inverse=True)
    given = splits_of(table)
    return Rows(
        tasks=("text_embedding",),
        columns={
            "text": texts([text for pair in pairs for text in pair]),
            "label": numbers.reshape(-1).astype(np.int64),
        },
        digests=groups,
        given=None if given is None else [split for split in given for _ in range(2)],
    )


def _interactions(table: Table) -> Rows:
    """Interactions with times are split by time for each user; others by the SHA-256 of user and item."""
    table.require("user_id", "item_id", "time")
    ratings = None
    if "rating" in table:
        (column,) = table.columns["rating"]
        ratings = table.numbers(column, "a rating in numbers")
        table.leave_out(np.isnan(ratings), f"rows without {column}")
        table.require("rating")
        ratings = ratings[~np.isnan(ratings)].astype(np.float32)
    users, items = table.text("user_id"), table.text("item_id")
    columns, about = dict[str, Any](user_id=texts(users), item_id=texts(items)), dict[str, Any]()
    if ratings is not None:
        columns["rating"] = ratings
        about["rating_range"] = [float(ratings.min()), float(ratings.max())]
    if "title" in table:
        about["titles"] = dict(zip(items, table.text("title"), strict=True))
    about |= side_files.read(table)
    parts, given = None, splits_of(table)
    if "time" in table:
        columns["time"] = table.times()
        parts = divide_users_by_time(users, columns["time"].tolist())
        given = given and with_validation_by_time(users, columns["time"].tolist(), given)
    digests = [digest(user, item) for user, item in zip(users, items, strict=True)]
    return Rows(("recommendation",), columns, digests, given=given, parts=parts, about=about)


def _tagged(table: Table) -> Rows:
    table.require("sentence")
    tokens, tags = table.text("tokens"), table.labels("tags")
    found = sequences_of(table, "sentence")
    sentences = [part for part in found if all(tokens[i].strip() and tags[i] for i in part)]
    if len(sentences) < len(found):
        table.about["left_out"]["sentences with a token or tag missing"] = len(found) - len(sentences)
    if not sentences:
        raise UsageError(f"{table.path} has no sentence with all its tokens and tags. Choose other columns.")
    classes = tuple(sorted({tags[i] for part in sentences for i in part}))
    check_classes(f"{table.path} column {table.columns['tags'][0]}", classes)
    numbers = numbered([tag if tag in set(classes) else classes[0] for tag in tags], classes)
    words = [[tokens[i] for i in part] for part in sentences]
    return Rows(
        tasks=("tagging",),
        columns={"tokens": [texts(part) for part in words], "tags": [numbers[part] for part in sentences]},
        digests=[digest(*part) for part in words],
        given=splits_of(table, [int(part[0]) for part in sentences]),
        class_names=classes,
    )


def _with_target(
    key: str, required: str, rows: Callable[..., Rows], task: str, read: csv_targets.Read, **more: Any
) -> Layout:
    """Returns the layout of a task whose target is `labels` or `value`."""
    return Layout(task, (required, key), rows=lambda table: rows(table, task, read, splits_of), several=(key,), **more)


_labels_of = functools.partial(_with_target, "labels", read=csv_targets.read_label_sets, settings=("separator",))
_values_of = functools.partial(_with_target, "value", read=csv_targets.read_values)


def _of_features(task: str, key: str, read: csv_targets.Read, **more: Any) -> Layout:
    """Returns the layout of a table whose other columns are features."""
    return Layout(
        task,
        (key,),
        ("features",),
        rows=lambda table: table_rows.rows(table, task, read, splits_of),
        several=(key, "features") if key != "label" else ("features",),
        options=table_rows.OPTIONS,
        **more,
    )


LAYOUTS = {
    f"{layout.task} of {', '.join(layout.required)}": layout
    for layout in [
        Layout("text_classification", ("text", "label"), ("text_pair",), rows=_classified_texts),
        Layout("image_classification", ("image", "label"), rows=_classified_images),
        _labels_of("text", csv_targets.text_rows, "text_multilabel", optional=("text_pair",)),
        _labels_of("image", csv_targets.image_rows, "image_multilabel"),
        _values_of("text", csv_targets.text_rows, "text_regression", optional=("text_pair",)),
        _values_of("image", csv_targets.image_rows, "image_regression"),
        Layout("text_embedding", ("text", "text_pair"), rows=_paired_texts, repeats=True),
        Layout("translation", ("text", "translation"), rows=_translations),
        Layout(
            "recommendation",
            ("user_id", "item_id"),
            ("rating", "time", "title"),
            rows=_interactions,
            repeats=True,
            options=tuple(side_files.OPTIONS),
        ),
        Layout(
            "forecasting",
            ("forecast",),
            ("series", "time", "sequence", "known"),
            several=("series", "known"),
            settings=("calendar",),
        ),
        Layout(
            "series_classification",
            ("sequence", "series", "label"),
            ("time",),
            rows=csv_series.classified_series,
            several=("series",),
        ),
        Layout(
            "series_classification",
            ("label", "steps"),
            rows=csv_series.wide_series,
            several=("steps",),
            inferred=False,
        ),
        Layout("tagging", ("sentence", "tokens", "tags"), rows=_tagged),
        _of_features("tabular_classification", "label", _read_label),
        _of_features("tabular_regression", "value", csv_targets.read_values),
        _of_features("tabular_multilabel", "labels", csv_targets.read_label_sets, settings=("separator",)),
    ]
}
"""The layouts by task and required keys."""
