"""Other data for a finished run: its raw examples with the run's preprocessor, vocabulary and classes."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo import datasets, storage
from zoo.errors import UsageError, one_line
from zoo.tables import formats

if TYPE_CHECKING:
    import tensorflow as tf

    from zoo.datasets.data import Data
    from zoo.datasets.interface import Interface
    from zoo.datasets.prepared import Prepared
    from zoo.datasets.raw import RawData, Split
    from zoo.tasks import Task

_INHERITED = ("columns", "window", "horizon", "season", "header")
"""Options that other data takes over from the run's, if it takes them."""


def prepare_other(
    data: Any,
    split: str,
    interface: Interface,
    directory: Path,
    settings: Mapping[str, Any],
    arguments: Mapping[str, Any],
    own: RawData | None = None,
    *,
    baselines: bool = True,
) -> tuple[Prepared, str]:
    """Returns other data prepared for a run, and the name of the split in it. Its split `train` is the run's own.

    The run's own data under another path or name is prepared as such.

    Args:
        data: a data set's name, arrays, a DataFrame, a data set of another library or a loaded data set.
        split: train, validation, test or all.
        interface: the run's.
        directory: the run's folder.
        settings: the run's `data` section.
        arguments: arguments of `zoo.datasets.load`.
        own: the run's data; None loads it again, if that is possible.
        baselines: whether the run's training split is needed, for the baselines of a report.

    Raises:
        UsageError: the data cannot be loaded, is for another task, has unknown classes or does not fit the preprocessor, or
            the split is unknown; or the data is the run's own with other splits. Parts of the run's arrays are not
            recognised.
    """
    from zoo.datasets.prepared import Prepared
    from zoo.tasks import get_task

    task = get_task(interface.task)
    data, arguments = _read(data, interface, arguments)
    loaded = _load(data, interface, settings, arguments, whole=True)
    if _is_same(loaded, interface):
        if split == "all":
            raise UsageError(
                f"{loaded.name} is the data of the run in {directory}: all of its examples include those of the training. "
                "Pass split='test', or leave split out."
            )
        with contextlib.redirect_stdout(io.StringIO()):  # the notes about it are printed already
            loaded = _load(data, interface, settings, arguments, whole=False)
        prepared = loaded.prepared_as(interface, {})
        if prepared.class_names != interface.class_names or "train" in prepared.changed:
            raise UsageError(
                f"{loaded.name} is the data that the run in {directory} was trained on, with other labels, columns or "
                "splits, so its test split may hold training examples. Leave the data out to evaluate the run's test split, "
                "or pass other examples."
            )
        return prepared, split
    _check_targets(loaded, interface, directory)
    found = {name: _renumbered(part, loaded.class_names, interface, task) for name, part in loaded.splits.items()}
    splits = {"other_train" if name == "train" else name: part for name, part in found.items()}
    if split == "all":
        from zoo.datasets.raw import joined

        splits["all"] = dataclasses.replace(joined(list(found.values())), content=None)
    elif split not in found:
        raise UsageError(
            f"{loaded.name} has the splits {', '.join(found)}; received split {split!r}. Pass one of these, or all."
        )
    own = _own_data(settings, directory) if own is None and baselines else own
    if own is not None and own.class_names == interface.class_names:
        splits["train"] = own.splits["train"]
    about = {**(own.about if own is not None else {}), **loaded.about}
    combined = dataclasses.replace(loaded, splits=splits, class_names=interface.class_names, about=about)
    prepared = Prepared(
        data=combined,
        model=interface.build["name"],
        task=task,
        preprocessor=interface.preprocessor,
        requested={},
        arguments=dict(interface.build["arguments"]),
        other=_file_name(loaded, data),
    )
    split = "other_train" if split == "train" else split
    _check_fits(prepared, split, interface, directory)
    return prepared, split


def _read(data: Any, interface: Interface, arguments: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any]]:
    """Returns the arrays of a data set of another library and the remaining arguments; everything else unchanged."""
    from zoo.datasets.sources.dataset_objects import is_dataset, take

    if not is_dataset(data) or hasattr(data, "splits"):
        return data, arguments
    options = dict(arguments)
    taken = take(data, "train", options.pop("columns", None), options.pop("batched", None), interface.task)
    return (taken.x, taken.y), options


def _load(
    data: Any, interface: Interface, settings: Mapping[str, Any], arguments: Mapping[str, Any], *, whole: bool
) -> Data:
    """Loads the data for the run's task; if it has no splits and is `whole`, as one split."""
    from zoo.datasets.sources.array_kinds import plain
    from zoo.datasets.sources.frames import from_frame
    from zoo.datasets.sources.registry import SOURCES, options_of, takes_path
    from zoo.datasets.sources.splitting import undivided
    from zoo.datasets.sources.table_kinds import reading_as

    options = dict(arguments)
    kind = data.partition(":")[0] if isinstance(data, str) else ""
    own_files = kind in SOURCES.names() and takes_path(SOURCES.get(kind))
    is_frame = hasattr(data, "iloc")
    taken: Collection[str] = (
        options_of(from_frame if is_frame else SOURCES.get(kind)) if is_frame or kind in SOURCES.names() else {}
    )
    if isinstance(data, tuple) and hasattr(data[0], "iloc"):  # a table, and its targets
        taken = [name for name in formats.OPTIONS if name != "encoding"]
    own = {name: settings[name] for name in (*_INHERITED, *formats.OPTIONS) if name in settings and name in taken}
    options = formats.inherit(own, {**{name: own[name] for name in _INHERITED if name in own}, **options})
    if settings.get("out_of_scope") is not None and not hasattr(data, "splits"):
        options.setdefault("out_of_scope", settings["out_of_scope"])
    is_arrays = not isinstance(data, str) and not is_frame and not hasattr(data, "splits")
    if is_arrays:
        options["task"] = interface.task
        targets = plain(data[1], "y") if isinstance(data, tuple) and len(data) == 2 else None
        if interface.class_names and isinstance(targets, np.ndarray) and targets.dtype.kind in "biuf":
            options["class_names"] = list(interface.class_names)  # numbers are the numbers of the run's classes
    as_whole = whole and (own_files or not isinstance(data, str))
    with (
        undivided() if as_whole else contextlib.nullcontext(),
        formats.expecting(interface.data.get("format")),
        reading_as(getattr(interface.preprocessor, "reading", None)),
    ):
        return datasets.load(data, **options).for_task(interface.task)


def _is_same(loaded: Data, interface: Interface) -> bool:
    """Returns whether the data is the run's own, by its name and source, or by the hash of its file or arrays."""
    earlier = interface.data
    hashes = [re.findall(r"SHA-256 (\w+)", source) for source in (loaded.source, earlier["source"])]
    return (loaded.name, loaded.source) == (earlier["name"], earlier["source"]) or bool(
        hashes[0] and hashes[0] == hashes[1]
    )


def _check_targets(loaded: Data, interface: Interface, directory: Path) -> None:
    unknown = [name for name in loaded.class_names if name not in interface.class_names]
    if unknown:
        more = ", ..." if len(unknown) > 5 else ""
        raise UsageError(
            f"{loaded.name} has the classes {', '.join(map(repr, unknown[:5]))}{more}, which the run in {directory} does not "
            f"know; it has {', '.join(map(repr, interface.class_names[:5]))}{', ...' * (len(interface.class_names) > 5)}. "
            "Rename these classes, or leave their examples out."
        )
    known = tuple(getattr(getattr(interface.preprocessor, "targets", None), "value_names", ()))
    names = tuple(loaded.about.get("value_names") or known)
    if names != known and (len(names) != len(known) or set(names) == set(known)):
        raise UsageError(
            f"{loaded.name} has the values {', '.join(names)}; the run in {directory} predicts {', '.join(known)}, in this "
            f"order. Pass columns={{'value': {list(known)}}}."
        )


def _renumbered(split: Split, class_names: tuple[str, ...], interface: Interface, task: Task) -> Split:
    """Returns a split with the run's class numbers, or with a column for each of its labels."""
    import tensorflow as tf

    key = task.classes or task.objective.labels
    if key is None or class_names == interface.class_names:
        return split
    with tf.device("CPU"):
        numbers = tf.constant([interface.class_names.index(name) for name in class_names], tf.int64)

    def renumber(labels: tf.Tensor) -> tf.Tensor:
        if task.classes is None:  # a label that the other data does not have is 0
            return tf.scatter_nd(numbers[:, tf.newaxis], labels, [len(interface.class_names)])
        known = (labels >= 0) & (labels < len(class_names))
        return tf.cast(tf.where(known, tf.gather(numbers, tf.where(known, labels, 0)), -1), labels.dtype)

    return split.map(lambda example: {**example, key: renumber(example[key])}, split.content)


def _own_data(settings: Mapping[str, Any], directory: Path) -> Data | None:
    """Loads the run's data, for the baselines of the report; None if it is not where it was."""
    with contextlib.redirect_stdout(io.StringIO()):  # its columns and rows are not those of the report
        try:
            return datasets.load_of_run(settings, directory)
        except UsageError:
            return None


def _check_fits(prepared: Prepared, split: str, interface: Interface, directory: Path) -> None:
    """Raises UsageError if the examples have other columns, channels or ranks than those of the run."""
    import tensorflow as tf

    name = prepared.data.name
    hint = f"Pass data with the columns, channels and lengths of the run in {directory}."
    try:
        examples = list(prepared.data.splits[split].dataset().take(1).as_numpy_iterator())
        given = prepared.preprocessor.to_requests(examples) if examples else {}
    except (KeyError, ValueError, TypeError, tf.errors.OpError) as error:
        raise UsageError(
            f"{name} does not fit the run: {type(error).__name__}: {one_line(error, 200)}. {hint}"
        ) from error
    for request, values in interface.examples.requests.items():
        if request not in given:
            raise UsageError(f"{name} has no {request}, which the run takes. {hint}")
        feature = prepared.data.features.get(request)  # NumPy and TensorFlow would repeat a single channel
        if feature is not None and np.ndim(values) > 2 and feature.shape[1:] != np.shape(values)[2:]:
            shapes = [" x ".join(map(str, shape)) for shape in (feature.shape[1:], np.shape(values)[2:])]
            raise UsageError(f"{name} has {request} with {shapes[0]} channels; the run has {shapes[1]}. {hint}")
    if examples:
        try:
            next(iter(prepared.batches(split, 2)))
        except UsageError:
            raise
        except (KeyError, ValueError, TypeError, tf.errors.OpError) as error:
            raise UsageError(f"{name} does not fit the run: {one_line(error, 200)}. {hint}") from error


def _file_name(loaded: Data, data: Any) -> str:
    """Returns a name of the data for files; arrays are known by their content."""
    content = "" if isinstance(data, str) else f"-{next(iter(loaded.splits.values())).sha256[:8]}"
    return storage.file_name(f"{loaded.name}{content}")
