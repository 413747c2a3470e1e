"""The kinds of arrays that can be inputs or targets, and how each becomes raw examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from zoo.datasets.sources import array_tables
from zoo.datasets.sources.in_memory import Column, texts
from zoo.errors import UsageError
from zoo.pixels import as_uint8

CHANNELS = (1, 3, 4)
_WHITE = 255
_FEW = 0.5
"""Strings are labels without doubt if at most this share of them is distinct."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """The arrays of one task.

    Attributes:
        task: its name.
        x: the kind of the inputs.
        key: their key in an example.
        y: the kind of the targets; "" without targets.
        target: their key in an example.
    """

    task: str
    x: str
    key: str
    y: str = ""
    target: str = ""


LAYOUTS = (
    Layout("image_classification", "images", "image", "labels", "label"),
    Layout("text_classification", "texts", "text", "labels", "label"),
    Layout("masked_language_modelling", "texts", "text"),
    Layout("translation", "texts", "text", "texts", "translation"),
    Layout("tagging", "words", "tokens", "words", "tags"),
    Layout("series_classification", "series", "series", "labels", "label"),
    Layout("forecasting", "series", "series", "numbers", "forecast"),
    Layout("tabular_classification", "rows", "features", "labels", "label"),
    Layout("tabular_multilabel", "rows", "features", "flags", "labels"),
    Layout("tabular_regression", "rows", "features", "values", "value"),
    Layout("image_multilabel", "images", "image", "flags", "labels"),
    Layout("text_multilabel", "texts", "text", "flags", "labels"),
    Layout("image_regression", "images", "image", "values", "value"),
    Layout("text_regression", "texts", "text", "values", "value"),
)


def describe(values: Any) -> str:
    """Returns what an argument is, for messages: its type, shape and dtype."""
    if values is None:
        return "None"
    if isinstance(values, np.ndarray):
        return f"an array of {values.dtype} with the shape {values.shape}"
    first = f" of {type(values[0]).__name__}" if len(values) else ""
    return f"a {type(values).__name__}{first} with {len(values):,} entries"


def plain(values: Any, what: str) -> Any:
    """Returns an argument as an array, or as a list if its entries are sequences of different lengths.

    Raises:
        UsageError: it has no entries, or is an array of objects that are not strings.
    """
    if values is None:
        return None
    if hasattr(values, "to_numpy"):  # of pandas
        values = values.to_numpy()
    if not isinstance(values, np.ndarray):
        if hasattr(values, "__array__"):
            values = np.asarray(values)
        elif not isinstance(values, Sequence) or isinstance(values, (str, bytes)):
            came = repr(values)[:60] if isinstance(values, (str, bytes, int, float)) else f"a {type(values).__name__}"
            came += ", which is sparse" * hasattr(values, "toarray")
            raise UsageError(
                f"{what} is {came}; expected an array or a list. Pass one entry for each example, and a sparse matrix as "
                "x.toarray()."
            )
        else:
            values = _from_list(list(values))
    if isinstance(values, np.ndarray) and not values.ndim:
        raise UsageError(
            f"{what} is one value, {values.item()!r:.40}; expected an array. Pass one entry for each example."
        )
    if not len(values):
        raise UsageError(f"{what} has no entries. Pass at least one example.")
    if isinstance(values, np.ndarray) and values.dtype == object:
        values = _from_objects(values, what)
    return values


def _from_list(values: list[Any]) -> Any:
    if values and isinstance(values[0], (str, bytes)):
        return np.array(values, object)
    try:
        array = np.asarray(values)
    except ValueError:  # entries of different lengths
        return values
    if array.dtype == object and not all(isinstance(value, (list, tuple, np.ndarray)) for value in values):
        return array
    return values if array.dtype.kind in "USO" else array


def _from_objects(values: np.ndarray, what: str) -> Any:
    if all(isinstance(value, (str, bytes)) for value in values.ravel()):
        return values
    if values.ndim == 1 and all(isinstance(value, (list, tuple, np.ndarray)) for value in values):
        return values.tolist()
    wrong = next(i for i, value in enumerate(values.ravel()) if not isinstance(value, (str, bytes)))
    held = values.ravel()[wrong]
    if held is None or held != held:
        hint = "leave out examples without a value"
    elif values.ndim == 1 and isinstance(held, (int, float, np.number)):
        name = what.split()[0]
        hint = f"{name}.astype(str), or {name}.astype(int)"
    else:
        hint = f"np.stack({what.split()[0]}).astype('float32'), say"
    raise UsageError(
        f"{what} is an array of objects; entry {wrong} is {repr(held)[:40]} of type {type(held).__name__}. Pass "
        f"strings, or an array of numbers: {hint}."
    )


def kinds_of_inputs(values: Any) -> tuple[str, ...]:
    """Returns the kinds of inputs that an argument can be."""
    if isinstance(values, list):
        flat = all(np.ndim(entry) <= 2 for entry in values if isinstance(entry, np.ndarray))
        return ("words",) if _is_words(values) else ("series",) if flat else ()
    if values.dtype.kind in "OUS":
        return ("texts",) if values.ndim == 1 else ()
    if values.dtype.kind not in "biuf" or values.ndim < 2:
        return ()
    if values.ndim == 4:
        return ("images",)
    if values.ndim == 3:
        return ("images",) if values.dtype == np.uint8 else ("images", "series")
    return ("series",) * (values.dtype.kind == "f") + ("rows",) if values.ndim == 2 else ()


def kinds_of_targets(values: Any, *, stated: bool = False) -> tuple[str, ...]:
    """Returns the kinds of targets that an argument can be; with `stated`, where the task is known, also the unlikely ones:
    whole numbers that are values and no labels, and rows with one label each of several."""
    if values is None:
        return ("",)
    if isinstance(values, list):
        return ("words",) if _is_words(values) else ()
    if values.dtype.kind in "OUS":
        return ("labels",) if len(set(values.ravel().tolist())) <= _FEW * len(values) else ("labels", "texts")
    if values.dtype.kind not in "biuf":
        return ()
    if values.ndim > 2 and values.size > len(values) * values.shape[1]:
        return ()
    is_float, rows = values.dtype.kind == "f", values.ndim == 2 and values.shape[1] > 1
    values_too = ("values",) if values.ndim <= 2 and values.dtype.kind != "b" else ()
    unlikely = values_too if stated else ()
    if rows and _is_flags(values):
        one_hot = bool(np.all(values.sum(axis=1) == 1))
        return ("labels", *(("flags",) * stated), *unlikely) if one_hot else ("flags", "numbers", *unlikely)
    if rows:
        return ("numbers", *(values_too if is_float else unlikely))
    if not is_float:
        return ("labels", *unlikely) if values.size == len(values) else ()
    if bool(np.all(values == np.floor(values))):
        return ("labels", "numbers", *unlikely)
    return ("numbers", *values_too)


def _is_words(values: list[Any]) -> bool:
    return all(isinstance(entry[0], (str, bytes)) for entry in values if len(entry))


def _is_flags(values: np.ndarray) -> bool:
    return bool(np.all((values == 0) | (values == 1)))


@dataclasses.dataclass(frozen=True)
class Read:
    """Values as raw examples have them, and a note for the user."""

    values: Column
    note: str = ""


def _images(values: np.ndarray, what: str) -> Read:
    """Returns uint8 (examples, height, width, channels)."""
    if values.ndim == 3:
        values = values[..., np.newaxis]
    if values.ndim != 4 or values.shape[-1] not in CHANNELS:
        first = values.ndim == 4 and values.shape[1] in CHANNELS
        hint = " If the channels are first, pass np.moveaxis(x, 1, -1)." if first else ""
        raise UsageError(
            f"{what} has the shape {values.shape}.{hint} Pass images (examples, height, width, channels) with 1 or 3 "
            "channels."
        )
    values = values[..., :3] if values.shape[-1] == 4 else values
    _check_finite(values, what)
    return Read(*as_uint8(values, what))


def _texts(values: np.ndarray, what: str) -> Read:
    return Read(texts(values.tolist()))


def _words(values: list[Any], what: str) -> Read:
    for place, entry in enumerate(values):
        if not len(entry) or not all(isinstance(word, (str, bytes)) for word in entry):
            raise UsageError(
                f"{what}[{place}] is {entry!r:.60}; expected a list of words that is not empty. Correct it."
            )
    return Read([texts(entry) for entry in values])


def _series(values: Any, what: str) -> Read:
    """Returns float32 (examples, steps, channels), or a list of arrays (steps, channels); NaN is a missing value."""
    if isinstance(values, np.ndarray):
        values = values[..., np.newaxis] if values.ndim == 2 else values
        _check_finite(values, what, nan=True)
        return Read(values.astype(np.float32, copy=False))
    found = []
    for place, entry in enumerate(values):
        part = np.asarray(entry)
        part = part[:, np.newaxis] if part.ndim == 1 else part
        if part.dtype.kind not in "biuf" or part.ndim != 2 or not len(part):
            raise UsageError(
                f"{what}[{place}] is {describe(np.asarray(entry))}; expected numbers (steps, channels). Correct it."
            )
        _check_finite(part, f"{what}[{place}]", nan=True)
        found.append(part.astype(np.float32, copy=False))
    channels = {part.shape[1] for part in found}
    if len(channels) > 1:
        raise UsageError(f"{what} has series with {sorted(channels)} channels. Pass the same number in all.")
    return Read(found)


def _rows(values: np.ndarray, what: str) -> Read:
    """Returns rows of numbers as they are; NaN is a missing value."""
    _check_finite(values, what, nan=True)
    return Read(values, array_tables.note(values))


def _numbers(values: np.ndarray, what: str) -> Read:
    _check_finite(values, what)
    return Read(values.reshape(len(values), -1).astype(np.float32))


def _values(values: np.ndarray, what: str) -> Read:
    """Returns float32 (examples, values)."""
    _check_finite(values, what)
    if values.ndim > 2:
        raise UsageError(f"{what} has the shape {values.shape}; expected (examples, values). Pass a row per example.")
    return Read(values.reshape(len(values), -1).astype(np.float32))


def _flags(values: np.ndarray, what: str) -> Read:
    """Returns float32 (examples, labels) of 0 and 1."""
    _check_finite(values, what)
    if values.ndim != 2 or values.shape[1] < 2 or not _is_flags(values):
        raise UsageError(
            f"{what} is {describe(values)}; expected 0 and 1, with a row per example and two or more columns, one per label. "
            "Pass such rows."
        )
    return Read(values.astype(np.float32))


def _labels(values: np.ndarray, what: str) -> Read:
    """Returns int64 class numbers, or the labels as strings."""
    if values.dtype.kind in "OUS":
        named = [
            value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values.ravel()
        ]
        return Read(np.array([name.strip() for name in named], object))
    _check_finite(values, what)
    if values.ndim == 2 and values.shape[1] > 1:
        return Read(values.argmax(axis=1).astype(np.int64))
    return Read(values.reshape(len(values)).astype(np.int64))


def _check_finite(values: np.ndarray, what: str, *, nan: bool = False) -> None:
    if values.dtype.kind != "f":
        return
    bad = np.isinf(values) if nan else ~np.isfinite(values)
    if bad.any():
        place = ", ".join(map(str, np.argwhere(bad)[0].tolist()))
        others = f", as are {int(bad.sum()) - 1:,} other values" * bool(bad.sum() > 1)
        raise UsageError(
            f"{what}[{place}] is {values[tuple(np.argwhere(bad)[0])]}{others}. Replace them, or leave these examples out."
        )


def note_on_labels(layout: Layout, y: Any, task: str | None) -> str:
    """Returns a sentence if targets that are floats without fractions, such as ratings, were taken as labels and nobody said
    so; empty otherwise.

    Example:
        >>> note_on_labels(LAYOUTS[0], np.array([1.0, 3.0, 1.0]), None)
        "y has floats without fractions, which are taken as 2 classes. Pass task='image_regression' to predict numbers."
    """
    numbers = next((other.task for other in LAYOUTS if (other.x, other.y) == (layout.x, "values")), None)
    is_float = isinstance(y, np.ndarray) and y.dtype.kind == "f" and y.size == len(y)
    if task is not None or layout.y != "labels" or not is_float:
        return ""
    hint = (
        f"Pass task={numbers!r} to predict numbers." if numbers else "Convert them to whole numbers if they are labels."
    )
    return f"y has floats without fractions, which are taken as {len(np.unique(y))} classes. {hint}"


def _can_be_pixels(values: Any) -> bool:
    return not (isinstance(values, np.ndarray) and values.size and values.max() > _WHITE)


def _shapes(values: list[Any]) -> str:
    """Returns two shapes of a list of arrays with two or more dimensions; "" for anything else."""
    shapes = [np.shape(value) for value in values if isinstance(value, np.ndarray) and value.ndim > 1]
    return " and ".join(map(str, sorted({*shapes})[:2])) if len(shapes) == len(values) and len({*shapes}) > 1 else ""


READERS: dict[str, Callable[[Any, str], Read]] = {
    "flags": _flags,
    "images": _images,
    "labels": _labels,
    "numbers": _numbers,
    "rows": _rows,
    "series": _series,
    "texts": _texts,
    "values": _values,
    "words": _words,
}
"""Makes raw values of an argument, by kind: from the argument and its name in messages."""


def choose(x: Any, y: Any, task: str | None, among: Sequence[str]) -> Layout:
    """Returns the layout that fits inputs and targets.

    Args:
        x: the inputs.
        y: the targets, or None.
        task: the task, if the user chose it.
        among: the tasks of the model; empty for any.

    Raises:
        UsageError: no layout fits, or several.
    """

    def layouts_for(kinds: Sequence[str]) -> list[Layout]:
        return [layout for layout in LAYOUTS if layout.x in kinds_of_inputs(x) and layout.y in kinds]

    fitting, possible = layouts_for(kinds_of_targets(y)), layouts_for(kinds_of_targets(y, stated=task is not None))
    if task is None and not among and isinstance(x, np.ndarray) and x.dtype.kind != "f":  # they may be flat images
        fitting, possible = ([layout for layout in part if layout.x != "rows"] for part in (fitting, possible))
    found = [layout for layout in possible if task in (None, layout.task) and (not among or layout.task in among)]
    if among and any(layout.x == "rows" for layout in found):  # what most people mean by a row of numbers
        found = [layout for layout in found if layout.x == "rows"]
    if len({layout.x for layout in found}) > 1 and not _can_be_pixels(x):
        found = [layout for layout in found if layout.x != "images"]
    # If they fit as a series with its forecast too, they are one: images are rarely floats without an axis for channels.
    # Rows of floats with a float each are as often a table with a value to predict, so that the user has to say it.
    rows = [] if among or task else [layout for layout in found if (layout.x, layout.y) == ("rows", "values")]
    plain_targets = [layout for layout in found if layout.y not in ("flags", "values")]
    found = [*plain_targets, *rows] or found
    if len(found) == 1:
        return found[0]
    if isinstance(y, np.ndarray):
        _check_finite(y, "y")
    came = f"x is {describe(x)}, y is {describe(y)}"
    if found:
        tasks = " or ".join(f"task={layout.task!r}" for layout in found)
        raise UsageError(
            f"{came}; these fit several tasks. Pass {tasks}; to zoo.run, data_arguments={{'task': {found[0].task!r}}}, say."
        )
    wanted = f"the task {task}" if task else f"a model for {', '.join(among)}" if among and fitting else "any task"
    shapes = _shapes(x) if isinstance(x, list) else ""
    hint = f" The entries of x have several shapes, {shapes}: resize images to one size." if shapes else ""
    if fitting:
        raise UsageError(
            f"{came}; these fit {', '.join(layout.task for layout in fitting)}, not {wanted}.{hint} Choose one of these."
        )
    if isinstance(x, np.ndarray) and x.ndim == 2 and x.dtype.kind in "biu":
        hint = (
            " If the rows are flat images, reshape them: x.reshape(-1, 28, 28). If they are token ids, pass the texts. If "
            "they are a table, pass task='tabular_classification' or 'tabular_regression'."
        )
    raise UsageError(
        f"{came}; these do not fit {wanted}.{hint} Pass as x images (examples, height, width, channels), strings, lists of "
        "words, or series (examples, steps, channels); and as y whole numbers, strings or one-hot rows; for several labels "
        "at once rows of 0 and 1; for values of images or texts floats, or any numbers with task='image_regression', say."
    )
