"""The CSV columns of each task; `LAYOUTS` lists them."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from zoo.datasets.data import Data
from zoo.datasets.sources import csv_targets, seasons, table_rows
from zoo.datasets.sources.csv_files import Table
from zoo.datasets.sources.in_memory import Rows, check_images, features_of, positive, texts, window_splits
from zoo.datasets.sources.labels import SPLIT_NAMES, check_classes, numbered
from zoo.datasets.sources.splitting import (
    digest,
    divide_users_by_time,
    duplicates,
    sentence_groups,
    with_validation_by_time,
)
from zoo.errors import UsageError, did_you_mean
from zoo.tables import cells as csv_cells

_MOST_GAPS = 0.2
"""Largest share of steps that can be gaps. With more, times are uneven, such as the 1st and 10th of every month."""
_MANY = 50
"""More labels than this that are numbers, some with fractions, are measurements."""
_FEW = 20
"""Up to this number of rows, nearly as many labels as rows are no mistake."""


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
    """

    task: str
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    rows: Callable[[Table], Rows] | None = None
    repeats: bool = False
    options: tuple[str, ...] = ()
    several: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()

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
            return _forecasting(table, name, arguments, source, memory_limit)
        rows = self.rows(table)
        if not self.repeats:
            table.about["duplicates"] = duplicates(rows.digests)
        rows.about = {**table.about, **rows.about}
        return rows.to_data(name, arguments, source, memory_limit)


def _splits(table: Table, picked: list[int] | None = None) -> list[str] | None:
    """Returns the split of every row, or of the picked rows; None without a split column."""
    if "split" not in table:
        return None
    cells = table.text("split")
    for row, cell in zip(table.frame.index, cells, strict=True):
        if cell.strip().lower() not in SPLIT_NAMES:
            raise UsageError(
                f"{table.path} row {row + 1}: the split is {cell!r}. {did_you_mean(cell.strip().lower(), SPLIT_NAMES)}"
            )
    found = [SPLIT_NAMES[cell.strip().lower()] for cell in cells]
    return found if picked is None else [found[i] for i in picked]


def _labels(table: Table, labels: list[str]) -> tuple[str, ...]:
    classes = tuple(sorted(set(labels)))
    (column,) = table.columns["label"]
    check_classes(f"{table.path} column {column}", classes)
    if len(labels) > _FEW and 2 * len(classes) > len(labels):
        raise UsageError(
            f"{table.path} column {column} has {len(classes):,} different labels in {len(labels):,} rows, {labels[0]!r} for "
            "example; expected several rows of every label. Choose another column as label."
        )
    fractions = [label for label in classes if re.fullmatch(r"[+-]?\d*[.,]\d+", label)]
    whole = [label for label in classes if re.fullmatch(r"[+-]?\d+", label)]
    if len(classes) > _MANY and fractions and len(fractions) + len(whole) == len(classes):
        raise UsageError(
            f"{table.path} column {column} has {len(classes):,} different numbers, {fractions[0]!r} for example, which would "
            "be as many classes. Choose another column as label, or put the numbers into a few named ranges."
        )
    return classes


def _classified_texts(table: Table) -> Rows:
    table.require("text", "label")
    labels = table.labels("label")
    classes = _labels(table, labels)
    read = {key: table.text(key) for key in ("text", "text_pair") if key in table}
    columns: dict[str, Any] = {key: texts(cells) for key, cells in read.items()}
    digests = [digest(*parts) for parts in zip(*read.values(), strict=True)]
    return Rows(
        tasks=("text_classification",),
        columns={**columns, "label": numbered(labels, classes)},
        digests=digests,
        strata=labels,
        given=_splits(table),
        class_names=classes,
    )


def _classified_images(table: Table) -> Rows:
    table.require("image", "label")
    labels = table.labels("label")
    _labels(table, labels)
    paths = [table.path.parent / image.strip() for image in table.text("image")]
    images = check_images(paths, table.path, skip_broken=table.skip_broken)
    table.about["left_out"].update(images.left_out)
    labels = [labels[i] for i in images.kept]
    classes = _labels(table, labels)
    return Rows(
        tasks=("image_classification",),
        columns={"image": texts([os.fsencode(paths[i]) for i in images.kept]), "label": numbered(labels, classes)},
        digests=images.contents,
        strata=labels,
        given=_splits(table, images.kept),
        class_names=classes,
        about={"image_shape": images.shape},
        images="image",
    )


def _read_label(table: Table) -> csv_targets.Target:
    table.require("label")
    labels = table.labels("label")
    classes = _labels(table, labels)
    return csv_targets.Target("label", numbered(labels, classes), classes)


def _translations(table: Table) -> Rows:
    """Pairs that share a sentence of either language stay in one split."""
    table.require("text", "translation")
    pairs = list(zip(table.text("text"), table.text("translation"), strict=True))
    return Rows(
        tasks=("translation",),
        columns={"text": texts([a for a, _ in pairs]), "translation": texts([b for _, b in pairs])},
        digests=sentence_groups(pairs),
        given=_splits(table),
    )


def _paired_texts(table: Table) -> Rows:
    """Two examples for each pair, with the same number. Pairs that share a text belong together, and stay in one split."""
    table.require("text", "text_pair")
    pairs = list(zip(table.text("text"), table.text("text_pair"), strict=True))
    groups = [group for group in sentence_groups(pairs) for _ in range(2)]
    _, numbers = np.unique(np.array(groups, object), return_inverse=True)
    given = _splits(table)
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
    parts, given = None, _splits(table)
    if "time" in table:
        columns["time"] = table.times()
        parts = divide_users_by_time(users, columns["time"].tolist())
        given = given and with_validation_by_time(users, columns["time"].tolist(), given)
    digests = [digest(user, item) for user, item in zip(users, items, strict=True)]
    return Rows(("recommendation",), columns, digests, given=given, parts=parts, about=about)


def _sequences(table: Table, key: str) -> list[np.ndarray]:
    """Returns the positions of the rows of every sequence, in the order of the file.

    Raises:
        UsageError: the rows of a sequence are not contiguous.
    """
    ids = table.text(key)
    parts: dict[str, list[int]] = {}
    for position, current in enumerate(ids):
        if current in parts and ids[position - 1] != current:
            raise UsageError(
                f"{table.path} row {table.frame.index[position] + 1}: the rows of {key} {current!r} are not contiguous. "
                "Give every sequence a unique id, and put its rows together."
            )
        parts.setdefault(current, []).append(position)
    return [np.array(positions) for positions in parts.values()]


def _tagged(table: Table) -> Rows:
    table.require("sentence")
    tokens, tags = table.text("tokens"), table.labels("tags")
    found = _sequences(table, "sentence")
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
        given=_splits(table, [int(part[0]) for part in sentences]),
        class_names=classes,
    )


def _classified_series(table: Table) -> Rows:
    table.require("sequence", "label", "time")
    channels = table.columns["series"]
    values = np.stack([table.numbers(column) for column in channels], axis=1).astype(np.float32)
    labels = table.labels("label")
    classes = _labels(table, labels)
    sequences = _sequences(table, "sequence")
    for part in sequences:
        if len({labels[i] for i in part}) > 1:
            raise UsageError(
                f"{table.path}: sequence {table.text('sequence')[part[0]]!r} has several labels. Give it one label."
            )
    if "time" in table:
        times = table.times()
        sequences = [part[np.argsort(times[part], kind="stable")] for part in sequences]
    kept = [part for part in sequences if not np.isnan(values[part]).all()]
    if len(kept) < len(sequences):
        table.about["left_out"]["sequences without a value"] = len(sequences) - len(kept)
    series = [values[part] for part in kept]
    firsts = [int(part[0]) for part in kept]
    return Rows(
        tasks=("series_classification",),
        columns={"series": series, "label": numbered([labels[i] for i in firsts], classes)},
        digests=[digest(part.tobytes()) for part in series],
        strata=[labels[i] for i in firsts],
        given=_splits(table, firsts),
        class_names=classes,
        about={"channels": list(channels), "request_columns": table.named("time", "sequence", series=channels)},
    )


def _forecasting(table: Table, name: str, arguments: dict[str, Any], source: str, memory_limit: int) -> Data:
    """One series, in the order of its times or of its rows, split 70/10/20 by time."""
    for option in ("window", "horizon"):
        if arguments[option] is None:
            raise UsageError(
                f"Data set {name!r} needs {option}, a number of rows. Pass window=168 and horizon=24, say, to forecast 24 "
                "rows from 168 rows of history."
            )
    window, horizon = positive("window", arguments["window"], 168), positive("horizon", arguments["horizon"], 24)
    table.require("time")
    (quantity,) = table.columns["forecast"]
    channels = [quantity, *(c for c in table.columns.get("series", []) if c != quantity)]
    values = np.stack([table.numbers(column) for column in channels], axis=1).astype(np.float32)
    if "time" in table:
        times = table.times()
        order = np.argsort(times, kind="stable")
        values, gaps = values[order], np.diff(times[order])
        if (gaps == 0).any():
            row = table.frame.index[order[int(np.flatnonzero(gaps == 0)[0]) + 1]] + 1
            raise UsageError(f"{table.path} row {row}: the time occurs twice. Leave one row per time.")
        usual = np.median(gaps) if len(gaps) else 0
        # The threshold is above the ratio of the longest month to the shortest; a step twice as long is a missing row.
        longer = int((gaps > 1.5 * usual).sum())
        table.about["gaps"] = longer if longer <= _MOST_GAPS * len(gaps) else 0  # otherwise the steps are uneven
    else:
        for column in table.frame.columns.difference(channels):
            if csv_cells.runs_backwards(table.frame[column]):
                raise UsageError(
                    f'{table.path}: the rows run backwards in time, as {column} says. Add "time": "{column}" to the '
                    "columns, which sorts them."
                )
    if np.isnan(values[:, 0]).all():
        raise UsageError(f"{table.path} has no number in {quantity}. Choose another column.")
    missing = int(np.isnan(values[:, 0]).sum())
    if missing:
        table.about["left_out"]["missing values to forecast, and the windows with them"] = missing
    if table.about.get("gaps"):
        table.about["left_out"]["steps of the time that are too long; add the missing rows"] = table.about["gaps"]
    splits = window_splits(name, values, window, horizon)
    step = float(np.median(gaps)) if "time" in table and len(gaps) else None
    lags = seasons.lags(table.season, values[:, 0], window, horizon, step)
    return Data(
        name=name,
        arguments=arguments,
        tasks=("forecasting",),
        splits=splits,
        features=features_of(splits.get("train", splits["test"])),
        class_names=(),
        licence="not stated by the source",
        source=source,
        memory_limit=memory_limit,
        about={
            "channels": channels,
            "request_columns": table.named("time", series=channels),
            "unit": quantity,
            "naive": lags,
            **({} if table.season is None else {"season": table.season}),
            **table.about,
        },
    )


def _with_target(
    key: str, required: str, rows: Callable[..., Rows], task: str, read: csv_targets.Read, **more: Any
) -> Layout:
    """Returns the layout of a task whose target is `labels` or `value`."""
    return Layout(task, (required, key), rows=lambda table: rows(table, task, read, _splits), several=(key,), **more)


_labels_of = functools.partial(_with_target, "labels", read=csv_targets.read_label_sets, settings=("separator",))
_values_of = functools.partial(_with_target, "value", read=csv_targets.read_values)


def _of_features(task: str, key: str, read: csv_targets.Read, **more: Any) -> Layout:
    """Returns the layout of a table whose other columns are features."""
    return Layout(
        task,
        (key,),
        ("features",),
        rows=lambda table: table_rows.rows(table, task, read, _splits),
        several=(key, "features") if key != "label" else ("features",),
        options=table_rows.OPTIONS,
        **more,
    )


LAYOUTS = {
    layout.task: layout
    for layout in [
        Layout("text_classification", ("text", "label"), ("text_pair",), rows=_classified_texts),
        Layout("image_classification", ("image", "label"), rows=_classified_images),
        _labels_of("text", csv_targets.text_rows, "text_multilabel", optional=("text_pair",)),
        _labels_of("image", csv_targets.image_rows, "image_multilabel"),
        _values_of("text", csv_targets.text_rows, "text_regression", optional=("text_pair",)),
        _values_of("image", csv_targets.image_rows, "image_regression"),
        Layout("text_embedding", ("text", "text_pair"), rows=_paired_texts, repeats=True),
        Layout("translation", ("text", "translation"), rows=_translations),
        Layout("recommendation", ("user_id", "item_id"), ("rating", "time", "title"), rows=_interactions, repeats=True),
        Layout("forecasting", ("forecast",), ("series", "time"), several=("series",)),
        Layout(
            "series_classification",
            ("sequence", "series", "label"),
            ("time",),
            rows=_classified_series,
            several=("series",),
        ),
        Layout("tagging", ("sentence", "tokens", "tags"), rows=_tagged),
        _of_features("tabular_classification", "label", _read_label),
        _of_features("tabular_regression", "value", csv_targets.read_values),
        _of_features("tabular_multilabel", "labels", csv_targets.read_label_sets, settings=("separator",)),
    ]
}
"""The layouts by task."""
