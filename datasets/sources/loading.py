"""Loads a data set from its source: embedded, the user's own files, or a builder of TensorFlow Datasets."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import remote
from zoo.datasets.cache import Cache, as_cache
from zoo.datasets.sources.embedded import EMBEDDED
from zoo.datasets.sources.labels import leaving_out
from zoo.datasets.sources.names import check_folder, check_options
from zoo.datasets.sources.registry import SOURCES, common_arguments, options_of, takes_path
from zoo.datasets.sources.tensorflow_datasets import load_builder
from zoo.errors import UsageError, printable

if TYPE_CHECKING:
    from zoo.datasets.data import Data


def load(
    name: Any,
    *,
    data_dir: str | None,
    manual_dir: str | None,
    memory_limit: int,
    options: Mapping[str, Any],
    folds: int | None,
    fold: int | None,
    task: str | None = None,
    validation: Any = None,
    test: Any = None,
    model: str | None = None,
    out_of_scope: str | None = None,
    tokenizer: str | None = None,
    examples_per_class: int | None = None,
    cache: str | None = None,
    cache_dir: str | None = None,
) -> Data:
    """See `zoo.datasets.load`. `options` are the options that only some data sets take; `model` names the model that the
    data is for, whose tasks decide what arrays are."""
    check_tokenizer(tokenizer)
    kept = as_cache(cache, cache_dir)
    given = {k: v for k, v in options.items() if v is not None}
    if (folds is None) != (fold is None):
        raise UsageError(
            f"folds is {folds} and fold is {fold}; expected both or none. Pass folds=5 and fold=0 to 4, or leave both out."
        )
    if not isinstance(name, str):
        from zoo.datasets.sources.dataset_objects import from_objects

        with leaving_out(out_of_scope):
            data = from_objects(name, validation, test, memory_limit, task, model, given)
        data = with_tokenizer(data, tokenizer)
        if isinstance(name, type(data)):  # its lines were printed when it was loaded
            _print_notes(data, name.about.get("notes", ()))
        else:
            _print_notes(data)
            _print_columns(data)
            _print_left_out(data)
        data = _cached(_few(_scoped(data, out_of_scope), examples_per_class), kept)
        return data if folds is None or fold is None else _fold(data, folds, fold)
    given |= {split: file for split, file in (("validation", validation), ("test", test)) if file is not None}
    kind, _, path = name.partition(":")
    is_source = kind in SOURCES.names()
    if is_source:
        with leaving_out(out_of_scope):
            data = _load_source(name, kind, path, manual_dir, memory_limit, given)
    else:
        data = load_builder(name, data_dir=data_dir, manual_dir=manual_dir, memory_limit=memory_limit, options=given)
    if task is not None:
        data = dataclasses.replace(data.for_task(task), arguments={**data.arguments, "task": task})
    data = with_tokenizer(data, tokenizer)
    _print_notes(data)
    if not is_source or takes_path(SOURCES.get(kind)):
        _print_columns(data)
        _print_left_out(data)
    data = _cached(_few(_scoped(data, out_of_scope), examples_per_class), kept)
    return data if folds is None or fold is None else _fold(data, folds, fold)


def _scoped(data: Data, label: str | None) -> Data:
    """Takes the examples of a label out of the splits, and prints how many are out of scope."""
    if label is not None:
        from zoo.datasets.sources.out_of_scope import without_class

        data = without_class(data, label)
    if data.out_of_scope:
        counts = ", ".join(f"{part.num_examples:,} with {name}" for name, part in data.out_of_scope.items())
        print(f"Out of scope of {data.name}, scored in the report alone: {counts}", flush=True)
    return data


def _few(data: Data, count: int | None) -> Data:
    if count is None:
        return data
    from zoo.datasets.sources.few_examples import few_of_each_class

    return few_of_each_class(data, count)


def _cached(data: Data, cache: Cache | None) -> Data:
    return data if cache is None else dataclasses.replace(data, cache=cache)


def _fold(data: Data, folds: int, fold: int) -> Data:
    from zoo.datasets.sources.folds import take_fold

    return take_fold(data, folds, fold)


_FILE_NAMES = ("validation", "test", "titles", "items", "users")
"""Options that may be names of files in the folder of the first."""


def _load_source(
    name: str, kind: str, path: str, manual_dir: str | None, memory_limit: int, options: dict[str, Any]
) -> Data:
    """Loads from a registered source. A relative path starts at manual_dir or the current folder, which is recorded."""
    read = SOURCES.get(kind)
    common = {"name": name, "memory_limit": memory_limit}
    if not takes_path(read):
        if manual_dir is not None:
            where = "is embedded and" if kind in EMBEDDED else "has no files and"
            raise UsageError(f"Data set {name!r} {where} takes no manual_dir. Leave it out.")
        if name != kind:
            raise UsageError(f"Data set {kind!r} takes no path; received {name!r}. Pass {kind}.")
        check_options(name, options, [*options_of(read)])
        return _with_arguments(read(**common_arguments(read, **common), **options), options)
    check_folder(manual_dir)
    if not path:
        raise UsageError(f"Data set {name!r} has no path. Pass {kind}:PATH.")
    check_options(name, options, [*options_of(read)])
    if remote.is_remote(path):
        names = [str(options[key]) for key in _FILE_NAMES if isinstance(options.get(key), str)]
        common |= {"name": remote.masked(name), "path": remote.fetched(path, names)}
        return _with_arguments(read(**common_arguments(read, **common), **options), options)
    base = Path(manual_dir or ".").expanduser().resolve()
    if any("\ud800" <= letter <= "\udfff" for letter in f"{base}/{path}"):
        raise UsageError(f"The path of data set '{printable(name)}' is not UTF-8. Rename its files or folders.")
    data = read(**common_arguments(read, **common, path=base / Path(path).expanduser()), **options)
    relative = not Path(path).expanduser().is_absolute()
    return _with_arguments(data, {**({"manual_dir": str(base)} if relative else {}), **options})


def _print_notes(data: Data, known: Collection[str] = ()) -> None:
    for note in data.about.get("notes", ()):
        if note not in known:
            print(note, flush=True)


_TOKENIZERS = ("auto", "words", "characters", "subwords")


def check_tokenizer(name: str | None) -> None:
    """Raises UsageError if this is not a value of the option `tokenizer`."""
    if name is not None and name not in _TOKENIZERS:
        raise UsageError(f"tokenizer is {name!r}; expected {', '.join(_TOKENIZERS)}. Pass tokenizer='auto'.")


def with_tokenizer(data: Data, name: str | None) -> Data:
    """Returns a data set with the option `tokenizer`; unchanged without one.

    Tagged words of languages without spaces get tags for their characters, and the data a note that says so.

    Raises:
        UsageError: the data has no texts.
    """
    if {"tokens", "tags"} <= {*data.features}:
        from zoo.datasets.sources.tagged_characters import with_characters

        return with_characters(data, name)
    if name is None:
        return data
    if "text" not in data.features:
        raise UsageError(
            f"tokenizer={name!r} is for texts; data set {data.name!r} has {', '.join(data.features)}. Leave tokenizer out."
        )
    return dataclasses.replace(data, arguments={**data.arguments, "tokenizer": name})


def _print_columns(data: Data) -> None:
    """Prints the columns of a table, one per line; of other CSV files, their types in one line."""
    from zoo.datasets.display import describe_columns

    if lines := describe_columns(data):
        print("\n".join([f"Columns of {data.name}:", *lines]), flush=True)
    elif columns := data.about.get("columns"):
        listed = (f"{column} {facts['dtype']}, {facts['missing']} missing" for column, facts in columns.items())
        print(f"Columns of {data.name}: {'; '.join(listed)}", flush=True)


def _print_left_out(data: Data) -> None:
    for what, count in data.about.get("left_out", {}).items():
        print(f"Left out of {data.name}: {count} {what}", flush=True)


def _with_arguments(data: Data, arguments: Mapping[str, Any]) -> Data:
    """Adds the arguments of a source, unless its data already has them."""
    return dataclasses.replace(data, arguments={**arguments, **data.arguments})
