"""Data from memory: NumPy arrays and lists of texts as data sets."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zoo.datasets.data import Data
from zoo.datasets.raw import Feature
from zoo.datasets.sources import array_splits, array_tables, array_targets
from zoo.datasets.sources.array_kinds import READERS, Layout, choose, note_on_labels, plain
from zoo.datasets.sources.in_memory import Column, features_of, split_of
from zoo.datasets.sources.labels import check_classes, count_classes, note_on_lacking, rarest
from zoo.datasets.sources.registry import register_source
from zoo.datasets.sources.splitting import also_in_train, is_undivided
from zoo.datasets.sources.windows import useful_lags
from zoo.errors import UsageError

NAME = "arrays"
"""The name of data from memory in config.yaml and messages."""


def from_arrays(
    x: Any,
    y: Any = None,
    *,
    validation: tuple[Any, Any] | None = None,
    test: tuple[Any, Any] | None = None,
    class_names: Sequence[str] | None = None,
    value_names: Sequence[str] | None = None,
    log_values: bool = False,
    task: str | None = None,
    memory_limit: int = 2 << 30,
) -> Data:
    """Makes a data set from arrays in memory, with the same preprocessing and SavedModel as data from files.

    The task follows from the inputs and targets:

    | x | y | task |
    |---|---|---|
    | images (examples, height, width[, channels]), from 0 to 255 or from 0 to 1 | labels | image classification |
    | strings (examples,) | labels | text classification |
    | strings | None | masked language modelling |
    | lists of words | lists of tags | tagging |
    | floats (examples, steps, channels), or a list of arrays (steps, channels) | labels | series classification |
    | floats (examples, window, channels) | floats (examples, horizon) | forecasting |
    | strings | strings, with task="translation" | translation |
    | images or strings | rows of 0 and 1, some without exactly one 1 | several labels at once |
    | images or strings | floats (examples,) or (examples, values) | regression |
    | numbers (examples, columns), for a model of tables; a DataFrame or a list of dicts | labels, rows of 0 and 1, or \
floats | a table |

    Labels are whole numbers from 0, strings, or one-hot rows. Whole numbers are values only with task="text_regression", say.

    Args:
        x: the inputs of the training examples.
        y: their targets.
        validation: inputs and targets of the validation split; by default a tenth of the training examples.
        test: inputs and targets of the test split; by default a tenth of the training examples.
        class_names: the names of the classes, for labels that are numbers. By default their numbers.
        value_names: the names of the values of a regression, which become those of the SavedModel's outputs.
        log_values: whether the model learns the logarithms log(1 + value).
        task: the task, where several fit.
        memory_limit: see `zoo.datasets.load`.

    Returns:
        The data set. Missing splits are cut from the training examples by a hash of each example, so that equal examples
        stay together.

    Raises:
        UsageError: x and y have different lengths, hold NaN or values of the wrong range, or fit no task or several.

    Example:
        >>> x, y = np.zeros((100, 28, 28), np.uint8), np.arange(100) % 10
        >>> x += np.arange(100, dtype=np.uint8)[:, None, None]
        >>> zoo.datasets.from_arrays(x, y).task
        'image_classification'
    """
    return make(
        (x, y),
        validation=validation,
        test=test,
        class_names=class_names,
        value_names=value_names,
        log_values=log_values,
        task=task,
        memory_limit=memory_limit,
    )


@register_source(NAME)
def _not_repeatable(**_: Any) -> Data:
    raise UsageError(
        "This run was trained on arrays in memory, which its config.yaml does not hold. Call zoo.run(...) in Python with "
        "the same arrays."
    )


def make(
    train: Any,
    *,
    validation: Any = None,
    test: Any = None,
    class_names: Sequence[str] | None = None,
    value_names: Sequence[str] | None = None,
    log_values: bool = False,
    task: str | None = None,
    among: Sequence[str] = (),
    decimal: str | None = None,
    thousands: str | None = None,
    missing: Sequence[str] | str | None = None,
    units: Sequence[str] | str | None = None,
    memory_limit: int = 2 << 30,
) -> Data:
    """See `from_arrays`. Each split is a pair (x, y), or x alone; `among` are the tasks of a model."""
    given = {
        role: part for role, part in (("train", train), ("validation", validation), ("test", test)) if part is not None
    }
    frames = array_tables.frames_of(given, task, among)
    format = array_tables.format_of(frames, decimal=decimal, thousands=thousands, missing=missing, units=units)
    if frames:
        own_names = array_tables.value_names(given["train"][1])
        given, among = array_tables.targets_of(given, frames), array_tables.TASKS
    pairs = {role: _pair(role, part) for role, part in given.items()}
    layout = choose(*pairs["train"], task, among)
    if frames and layout.y == "values" and value_names is None:
        value_names = own_names
    columns: dict[str, dict[str, Column]] = {}
    notes = [note] if (note := note_on_labels(layout, pairs["train"][1], task)) else []
    for role, (x, y) in pairs.items():
        read = READERS[layout.x](x, _name("x", role))
        notes += [f"{_name('x', role)}: {read.note}"] if read.note else []
        columns[role] = {layout.key: read.values}
        if layout.y:
            columns[role][layout.target] = READERS[layout.y](y, _name("y", role)).values
    names, strata = (), None  # type: tuple[str, ...], Any
    if layout.y in ("labels", "words"):
        names = _number(columns, layout, class_names)
        strata = columns["train"][layout.target] if layout.y == "labels" else None
    elif layout.y == "flags":
        names = array_targets.label_names(columns, layout.target, class_names)
        strata = rarest(np.asarray(columns["train"][layout.target]))
    elif class_names is not None:
        raise UsageError(f"class_names were given; {layout.task} has no classes. Leave them out.")
    about: dict[str, Any] = {"notes": notes, **array_targets.about_values(columns, layout, value_names, log_values)}
    if layout.x == "rows":
        return array_tables.table_of(
            layout.task,
            frames
            or {role: array_tables.frame_of_numbers(np.asarray(held[layout.key])) for role, held in columns.items()},
            {role: np.asarray(held[layout.target]) for role, held in columns.items()},
            name=NAME,
            target=layout.target,
            class_names=names,
            about=about,
            memory_limit=memory_limit,
            format=format,
        )
    return _divided(columns, layout, strata, names, about, memory_limit)


def _divided(
    columns: Mapping[str, Mapping[str, Column]],
    layout: Layout,
    strata: Any,
    names: tuple[str, ...],
    about: dict[str, Any],
    memory_limit: int,
) -> Data:
    """Returns the data set of the columns of the given splits; missing splits are cut from train."""
    digests = {role: array_splits.digests_of(held[layout.key]) for role, held in columns.items()}
    cut = array_splits.cut(digests, strata)
    parts = {
        role: {key: array_splits.rows_of(column, index) for key, column in columns[origin].items()}
        for role, (origin, index) in cut.items()
    }
    if "train" in cut and (
        repeated := also_in_train({k: [digests[origin][i] for i in index] for k, (origin, index) in cut.items()})
    ):
        about["also_in_train"] = repeated
    splits = {role: split_of(part) for role, part in parts.items()}
    if layout.y in ("labels", "flags") and not is_undivided():
        labels = {role: np.asarray(part[layout.target]) for role, part in parts.items()}
        given = {*columns} if len(columns) > 1 else set()
        counts = about["class_counts"] = count_classes(NAME, labels, names, given)
        about["notes"] += note_on_lacking(counts, names, given) if layout.y == "labels" else []
    whole = hashlib.sha256(b"".join(part for role in digests for part in digests[role])).hexdigest()
    features = features_of(splits.get("train", splits["test"]))
    return Data(
        name=NAME,
        arguments={},
        tasks=(layout.task,),
        splits=splits,
        features=features,
        class_names=names,
        licence="not stated by the source",
        source=f"arrays in memory (SHA-256 {whole[:16]})",
        memory_limit=memory_limit,
        about={**_about(layout, features), **about},
    )


def _name(argument: str, role: str) -> str:
    return argument if role == "train" else f"{argument} of the {role} split"


def _pair(role: str, part: Any) -> tuple[Any, Any]:
    """Returns x and y of a split; y is None without targets.

    Raises:
        UsageError: x and y have different lengths.
    """
    _check_pair(part, role)
    x, y = part if isinstance(part, tuple) and len(part) == 2 else (part, None)
    x, y = plain(x, _name("x", role)), plain(y, _name("y", role))
    if x is None:
        raise UsageError(f"{_name('x', role)} is None. Pass the inputs.")
    if isinstance(x, np.ndarray) and x.dtype.kind in "OUS" and x.ndim == 2 and x.shape[1] == 1:
        name = _name("x", role)
        raise UsageError(f"{name} has texts of the shape {x.shape}; expected ({len(x)},), one text each. Pass x[:, 0].")
    if y is not None and len(x) != len(y):
        raise UsageError(
            f"{_name('x', role)} has {len(x):,} examples and y has {len(y):,}; expected the same number. Pass both for "
            "the same examples."
        )
    return x, y


def _check_tags(role: str, words: Column, tags: Column) -> None:
    """Raises UsageError for a sentence with another number of tags than words."""
    for place, (row, held) in enumerate(zip(words, tags, strict=True)):
        if len(row) != len(held):
            raise UsageError(
                f"{_name('x', role)} has {len(row)} words in sentence {place} and y {len(held)} tags; expected a tag for "
                "every word. Correct it."
            )


def _check_pair(part: Any, role: str) -> None:
    """Raises UsageError for what looks like a pair (x, y) and is none."""
    came = {"train": "The data"}.get(role, f"The {role} split")
    if isinstance(part, tuple) and len(part) not in (1, 2) and all(isinstance(entry, np.ndarray) for entry in part):
        raise UsageError(
            f"{came} is a tuple of {len(part)} arrays; expected inputs and targets. Pass (x, y); weights of examples are for "
            "zoo.train with a model of your own."
        )
    if isinstance(part, list) and len(part) == 2 and len({np.ndim(entry) for entry in part if _is_array(entry)}) == 2:
        raise UsageError(f"{came} is a list of two arrays; expected a tuple of inputs and targets. Pass (x, y).")


def _is_array(value: Any) -> bool:
    return hasattr(value, "__array__") and np.ndim(value) > 0


def _number(
    columns: Mapping[str, dict[str, Column]], layout: Layout, class_names: Sequence[str] | None
) -> tuple[str, ...]:
    """Replaces labels or tags in the columns by class numbers; returns the names of the classes."""
    for role, split in columns.items() if layout.y == "words" else ():
        _check_tags(role, split[layout.key], split[layout.target])
    held = {role: part[layout.target] for role, part in columns.items()}
    flat = {role: part if isinstance(part, np.ndarray) else np.concatenate(list(part)) for role, part in held.items()}
    if flat["train"].dtype != object:
        names = _check_numbers(flat, class_names)
    else:
        if class_names is not None and layout.y == "labels":
            names = tuple(class_names)
        else:
            names = tuple(sorted({_text(label) for label in flat["train"]}))
        known = {name: number for number, name in enumerate(names)}
        for role, part in held.items():
            unknown = next((_text(label) for label in flat[role] if _text(label) not in known), None)
            if unknown is not None:
                raise UsageError(
                    f"{_name('y', role)} has the label {unknown!r}, which is not among the {len(names)} classes of the "
                    "training examples. Add training examples of it, or leave it out."
                )
            columns[role][layout.target] = (
                np.array([known[_text(label)] for label in part], np.int64)
                if isinstance(part, np.ndarray)
                else [np.array([known[_text(tag)] for tag in tags], np.int64) for tags in part]
            )
    if len(names) == 1 and not is_undivided():
        raise UsageError(f"y has only one class, {names[0]!r}; expected two or more. Add examples of another class.")
    check_classes("y", names)
    return names


def _check_numbers(flat: Mapping[str, np.ndarray], class_names: Sequence[str] | None) -> tuple[str, ...]:
    """Returns the class names of labels that are numbers.

    Raises:
        UsageError: they do not count from 0 without gaps.
    """
    seen = np.unique(flat["train"])
    count = int(seen[-1]) + 1 if class_names is None else len(class_names)
    if seen[0] < 0 or (class_names is None and len(seen) != count):
        shown = ", ".join(map(str, seen[:5].tolist())) + (" ..." if len(seen) > 5 else "")
        gaps = int(seen[-1]) - int(seen[0]) + 1 > len(seen)
        hint = f"Subtract {seen[0]} if they only start later"
        if seen[0] < 0:
            hint = f"Leave out examples with {seen[0]} if that means none, or add {-int(seen[0])}"
        elif gaps:
            hint = "Number them without gaps, as by np.unique(y, return_inverse=True)[1]"
        raise UsageError(
            f"y has the {len(seen)} labels {shown}; expected 0 to {len(seen) - 1}. {hint}; or pass y.astype(str) if the "
            "numbers are names, or task='tabular_regression', say, if they are values to predict."
        )
    for role, part in flat.items():
        if int(part.min()) < 0 or int(part.max()) >= count:
            wrong = int(part.max()) if int(part.max()) >= count else int(part.min())
            raise UsageError(
                f"{_name('y', role)} has the label {wrong}; expected 0 to {count - 1}. Pass class_names with all classes, "
                "and training examples of each, or correct it."
            )
    return tuple(map(str, range(count))) if class_names is None else tuple(class_names)


def _text(label: Any) -> str:
    return label.decode("utf-8", "replace") if isinstance(label, bytes) else str(label)


def _about(layout: Layout, features: Mapping[str, Feature]) -> dict[str, Any]:
    if layout.x != "series":
        return {}
    channels = [f"channel {number}" for number in range(int(features["series"].shape[-1] or 0))]
    if layout.y != "numbers":
        return {"channels": channels}
    window, horizon = features["series"].shape[0] or 0, int(features[layout.target].shape[0] or 0)
    return {"channels": channels, "unit": "", "naive": useful_lags({"the steps before": horizon}, window, horizon)}
