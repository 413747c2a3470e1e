"""Data sets of other libraries, and whatever else `zoo.datasets.load` takes instead of a name."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from zoo.datasets.data import Data
from zoo.datasets.raw import SPLITS
from zoo.datasets.sources.array_kinds import CHANNELS, Layout
from zoo.datasets.sources.array_kinds import LAYOUTS as ALL_LAYOUTS
from zoo.datasets.sources.arrays import make
from zoo.datasets.sources.collecting import Column, collect, elements_of
from zoo.datasets.sources.frames import from_frame
from zoo.datasets.sources.names import SYNONYMS
from zoo.errors import UsageError, did_you_mean
from zoo.registry import get_spec
from zoo.tasks import get_task

LAYOUTS = [layout for layout in ALL_LAYOUTS if layout.x != "rows"]
"""The layouts of elements that are dicts. Those of a table have a key per column."""


def from_dataset(
    dataset: Any,
    *,
    validation: Any = None,
    test: Any = None,
    columns: Mapping[str, str] | None = None,
    batched: bool | None = None,
    class_names: Sequence[str] | None = None,
    task: str | None = None,
    memory_limit: int = 2 << 30,
) -> Data:
    """Makes a data set from one of another library, which is read once into memory.

    It can be a `tf.data.Dataset`, a Keras `PyDataset`, a loader or data set of PyTorch, a data set of Hugging Face
    `datasets`, a function that returns an iterator, or any object that can be iterated. Its elements are pairs (x, y), x
    alone, or dicts; each is one example or a batch of them. x, y and the task are those of `from_arrays`. Images may also
    have their channels first.

    The order of the examples counts, as for arrays. If the data set shuffles itself, they are sorted by their content.
    `zoo.run` shuffles them for each epoch.

    Args:
        dataset: the training examples; or a dict with the splits `train`, `validation` and `test`.
        validation: the validation split: a data set, or arrays (x, y). By default a tenth of the training examples.
        test: the test split, in the same form.
        columns: for dicts: the name of each key of an example, such as {"image": "img", "label": "fine_label"}. By default
            they have the names of the keys.
        batched: whether elements are batches. None decides by their shapes.
        class_names: the names of the classes, for labels that are numbers. By default those of a Hugging Face data set,
            else their numbers.
        task: the task, where several fit.
        memory_limit: see `zoo.datasets.load`.

    Raises:
        UsageError: the data set never ends, is empty, yields something else, or its examples are as `from_arrays` rejects
            them.

    Example:
        >>> x, y = np.arange(100, dtype=np.uint8).repeat(64).reshape(100, 8, 8), np.arange(100) % 10
        >>> batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(32)
        >>> zoo.datasets.from_dataset(batches).task
        'image_classification'
    """
    splits = {"validation": validation, "test": test}
    options = {"columns": columns, "batched": batched, "class_names": class_names}
    return _made(dataset, splits, memory_limit, task, (), options)


def from_objects(
    given: Any,
    validation: Any,
    test: Any,
    memory_limit: int,
    task: str | None,
    model: str | None,
    options: Mapping[str, Any],
) -> Data:
    """Returns the data set of what `zoo.datasets.load` takes instead of a name.

    It can be arrays, a DataFrame, a data set of another library, or a data set that was loaded before.

    Raises:
        UsageError: it is something else, or an option does not fit.
    """
    splits = {"validation": validation, "test": test}
    if isinstance(given, Data):
        _check_options("A loaded data set", {**options, **splits, "task": task}, ())
        return given
    if hasattr(given, "columns") and hasattr(given, "iloc"):
        _check_options("A DataFrame", {**options, **splits, "task": task}, _options_of(from_frame))
        return from_frame(given, memory_limit=memory_limit, **options)
    among = tuple(name for task in get_spec(model).tasks for name in (task, *get_task(task).data_of)) if model else ()
    return _made(given, splits, memory_limit, task, among, options)


def _options_of(function: Any) -> set[str]:
    """Returns the options of one kind of data; those that all kinds share are arguments of `load`."""
    return {*inspect.signature(function).parameters} - {"frame", "train", "among", "memory_limit", "task", *SPLITS}


def _check_options(what: str, options: Mapping[str, Any], taken: Collection[str]) -> None:
    for name, value in options.items():
        if value is not None and name not in taken:
            option, example = SYNONYMS.get(name, ("", ""))
            if option in {*taken, "validation"}:
                raise UsageError(f"{what} takes no {name}. Pass {option}={example}, say.")
            raise UsageError(f"{what} takes no {name}. Leave it out.")


def _made(
    given: Any,
    splits: Mapping[str, Any],
    memory_limit: int,
    task: str | None,
    among: Sequence[str],
    options: Mapping[str, Any],
) -> Data:
    """Returns the data set of arrays or of data sets of other libraries; `among` are the tasks of a model."""
    found = {"train": given, **{role: part for role, part in splits.items() if part is not None}}
    if isinstance(given, Mapping):
        found = _named_splits(given, found)
    options = dict(options)
    if not any(map(is_dataset, found.values())):
        _check_options("Data from arrays", options, _options_of(make))
    else:
        _check_options("A data set", options, {"columns", "batched", *_options_of(make)})
    columns, batched = options.pop("columns", None), options.pop("batched", None)
    notes: list[str] = []
    for role, part in found.items():
        if not is_dataset(part):
            continue
        taken = take(part, role, columns, batched, task, among)
        found[role] = (taken.x, taken.y)
        notes += [taken.note] if taken.note else []
        task = task or taken.task
        options["class_names"] = options.get("class_names") or taken.class_names
    train = found.pop("train")
    data = make(train, **found, task=task, among=among, memory_limit=memory_limit, **options)
    return dataclasses.replace(data, about={**data.about, "notes": [*notes, *data.about["notes"]]}) if notes else data


def _named_splits(given: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the splits of a dict of them.

    Raises:
        UsageError: it has other splits, or further ones are given.
    """
    if "train" not in given:
        raise UsageError(
            f"The data is a dict of {', '.join(map(str, given)) or 'nothing'}; expected splits, of which one is named train. "
            "Pass (x, y), or {'train': (x, y)}."
        )
    others = [name for name in given if name not in SPLITS]
    if others or len(found) > 1:
        raise UsageError(
            f"The data set has the splits {', '.join(map(str, given))}; expected train, validation and test alone. Pass "
            "dataset['train'], and validation=dataset[...] and test=dataset[...] if there are any."
        )
    return dict(given)


def is_dataset(value: Any) -> bool:
    """Returns whether an object is a data set of another library, not an array or a structure of them."""
    if isinstance(value, (Sequence, Mapping, np.ndarray)) or hasattr(value, "__array__") or hasattr(value, "to_numpy"):
        return False
    own = ("element_spec", "column_names", "num_batches", "__iter__")
    is_indexed = hasattr(value, "__getitem__") and hasattr(value, "__len__")
    return any(hasattr(value, name) for name in own) or is_indexed or callable(value)


@dataclasses.dataclass(frozen=True)
class Taken:
    """The examples of a data set.

    Attributes:
        x: the inputs.
        y: the targets; None without targets.
        task: the task that its columns state; None without columns.
        class_names: the names of the classes that it states.
        note: a note for the user.
    """

    x: Column
    y: Any
    task: str | None
    class_names: tuple[str, ...] | None
    note: str


def take(
    dataset: Any,
    role: str,
    columns: Mapping[str, str] | None,
    batched: bool | None,
    task: str | None = None,
    among: Sequence[str] = (),
) -> Taken:
    """Reads a data set of another library into arrays.

    Args:
        dataset: see `from_dataset`.
        role: its split, for messages.
        columns: see `from_dataset`.
        batched: see `from_dataset`.
        task: the task, if the user chose it.
        among: the tasks of the model; empty for any.

    Raises:
        UsageError: as in `from_dataset`.
    """
    what = "dataset" if role == "train" else f"{role} dataset"
    start, known = elements_of(dataset, what)
    found: tuple[Layout, str, str] | None = None

    def choose(element: Any) -> tuple[Any, Any]:
        nonlocal found
        if not isinstance(element, Mapping):
            return _pair_of(element, columns, what)
        found = found or _columns_of([*element], columns, task, among, what)
        _, x, y = found
        if lacking := [name for name in (x, y) if name and name not in element]:
            raise UsageError(f"An element of the {what} has no {lacking[0]!r}. Give it one, or leave it out.")
        return element[x], element[y] if y else None

    x, y, note = collect(start, choose, known if batched is None else batched, what)
    if isinstance(x, np.ndarray) and x.ndim == 4 and x.shape[1] in CHANNELS and x.shape[3] not in CHANNELS:
        x = np.moveaxis(x, 1, -1)
        note = "; ".join(
            filter(None, (note, f"the {what} has channels first, as PyTorch: they are moved behind the width"))
        )
    if not found:
        return Taken(x, y, None, None, note)
    layout, _, target = found
    names = _names_of(dataset, target)
    if names is not None and layout.y in ("labels", "words"):
        y = _named(y, names, f"y of the {what}")
    if names is not None and layout.y == "flags":
        y = _flags(y, names, f"y of the {what}")
    return Taken(x, y, layout.task, names if layout.y in ("labels", "flags") else None, note)


def _pair_of(element: Any, columns: Any, what: str) -> tuple[Any, Any]:
    """Returns x and y of an element that is no dict."""
    if columns is not None:
        raise UsageError(f"columns came for the {what}, which yields no dicts. Leave them out.")
    if not isinstance(element, (list, tuple)):
        return element, None
    if len(element) not in (1, 2):
        raise UsageError(
            f"The {what} yields {len(element)} values for each element; expected x and y. Map it to pairs (x, y), or train a "
            "model of your own on it with zoo.train."
        )
    if parts := [part for part in element if isinstance(part, Mapping)]:
        raise UsageError(
            f"The {what} yields a dict of {', '.join(map(str, parts[0]))} in a pair; expected arrays. Map it to pairs of "
            "arrays, or to one dict."
        )
    return element[0], element[1] if len(element) == 2 else None


def _columns_of(
    names: Sequence[str], columns: Mapping[str, str] | None, task: str | None, among: Sequence[str], what: str
) -> tuple[Layout, str, str]:
    """Returns the layout that the columns of a data set have, and the names of its inputs and targets.

    Raises:
        UsageError: no layout fits, or several.
    """
    keys = dict.fromkeys(key for layout in LAYOUTS for key in (layout.key, layout.target) if key)
    listed = ", ".join(map(str, names))
    for key, name in (columns or {}).items():
        if key not in keys and key in names and name in keys:
            raise UsageError(
                f"columns has the column {key!r} in place of a key; keys come first. Pass columns={{{name!r}: {key!r}}}."
            )
        if key not in keys:
            raise UsageError(f"columns has the key {key!r}. {did_you_mean(str(key), keys)}")
        if name not in names:
            raise UsageError(
                f"The {what} has no column {name!r}; it has {listed}. {did_you_mean(str(name), map(str, names))}"
            )
    held = dict(columns) if columns is not None else {key: key for key in keys if key in names}
    fitting = [layout for layout in LAYOUTS if layout.key in held and (not layout.target or layout.target in held)]
    fitting = [layout for layout in fitting if task in (None, layout.task) and (not among or layout.task in among)]
    whole = [layout for layout in fitting if layout.target] or fitting
    if len(whole) == 1:
        return whole[0], held[whole[0].key], held.get(whole[0].target, "")
    if whole:
        tasks = " or ".join(f"task={layout.task!r}" for layout in whole)
        raise UsageError(
            f"The {what} has the columns {listed}, which fit several tasks. Pass {tasks}, or columns={{...}}."
        )
    goal = f" for {task or ' or '.join(among)}" * bool(task or among)
    raise UsageError(
        f"The {what} has the columns {listed}; expected a pair of keys{goal}, such as image and label, text and label, or "
        "tokens and tags. Pass columns={'text': NAME, 'label': NAME}, say."
    )


def _names_of(dataset: Any, column: str) -> tuple[str, ...] | None:
    """Returns the class names that a Hugging Face data set states for a column, or for the entries of its lists."""
    feature = (getattr(dataset, "features", None) or {}).get(column) if hasattr(dataset, "column_names") else None
    names = getattr(getattr(feature, "feature", feature), "names", None)
    return None if names is None else tuple(names)


def _named(y: Any, names: Sequence[str], what: str) -> Any:
    """Returns class numbers as class names.

    Raises:
        UsageError: a number is none of a class, such as -1 for examples without a label.
    """
    if not isinstance(y, np.ndarray) or y.ndim > 1:
        return [_named(np.asarray(row), names, what).tolist() for row in y]
    if y.dtype.kind not in "iu":
        return y
    _check_numbers(y, names, what)
    return np.array(names, object)[y]


def _flags(y: Any, names: Sequence[str], what: str) -> Any:
    """Returns lists of class numbers as rows of 0 and 1; rows of as many numbers as there are classes unchanged."""
    if isinstance(y, np.ndarray) and y.shape[1:] == (len(names),):
        return y
    found = np.zeros((len(y), len(names)), np.float32)
    for row, numbers in zip(found, y, strict=True):
        chosen = np.asarray(numbers).astype(np.int64).ravel()
        _check_numbers(chosen, names, what)
        row[chosen] = 1
    return found


def _check_numbers(y: np.ndarray, names: Sequence[str], what: str) -> None:
    if (wrong := y[(y < 0) | (y >= len(names))]).size:
        raise UsageError(
            f"{what} has the label {wrong[0]}; its classes have the numbers 0 to {len(names) - 1}. Leave these examples out; "
            "-1 often stands for examples without a label."
        )
