"""Raw requests that a user passes or a preprocessor makes up, as arrays for golden.npz."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from zoo import storage, tasks
from zoo.errors import UsageError, one_line
from zoo.export import artifact_paths
from zoo.export.keras_models.files import read_examples
from zoo.export.standalone import arrays
from zoo.export.zoo_json import MADE_UP

MOST = 64
"""The number of requests that an artifact keeps."""
GENERATED = "generated"
TEST = "test"
"""The origin of such requests, in zoo.json."""
IN_MEMORY = "in memory"
"""What a run records of requests that only Python can pass again."""


def requests_to_publish(interface: Any, golden: Any) -> tuple[Any, str]:
    """Returns an interface whose examples are the ones to publish, and what they are, for the model card.

    Args:
        interface: the run's interface, with test examples.
        golden: None or `test` for these, raw requests in their place, a list with one .npz file of them, or `generated`.

    Raises:
        UsageError: the requests do not fit, or the preprocessor makes up none.
    """
    if is_test(golden):
        return interface, "real test examples" if interface.data else "the examples that were passed to the export"
    preprocessor, origin = interface.preprocessor, "the examples that were passed to the export"
    if isinstance(golden, str):
        if golden == IN_MEMORY:
            raise UsageError(
                "The SavedModel of this run holds golden examples that were passed from memory and are not in its "
                f"config.yaml. Pass golden= or --golden again, or --golden {GENERATED}, or --golden {TEST} for test examples."
            )
        if golden != GENERATED:
            raise UsageError(
                f"golden is {golden!r}; expected a list of requests, {GENERATED!r} or {TEST!r}. Pass [{golden!r}]."
            )
        if not hasattr(preprocessor, "generated"):
            raise UsageError(
                f"The preprocessor {preprocessor.kind!r} makes up no requests. Pass a list of requests, or add a method "
                "generated(generator, count) to it."
            )
        golden, origin = preprocessor.generated(np.random.default_rng(0), MOST), MADE_UP
    if _is_file(golden):
        golden = read_examples(golden)
    requests = raw_requests(preprocessor, golden)
    inputs = _complete(encoded(preprocessor, requests), golden, interface.examples.inputs)
    examples = dataclasses.replace(interface.examples, requests=requests, inputs=inputs, targets={})
    return dataclasses.replace(interface, examples=examples), origin


def is_test(golden: Any) -> bool:
    """Returns whether golden examples are test examples of the data."""
    return golden is None or (isinstance(golden, str) and golden == TEST)


def _is_file(golden: Any) -> bool:
    """Returns whether golden examples are one .npz file of them."""
    return isinstance(golden, list) and len(golden) == 1 and isinstance(golden[0], str) and golden[0].endswith(".npz")


def recorded(preprocessor: Any, golden: Any) -> Any:
    """Returns golden examples as a run's config.yaml records them: a word, texts, or absolute paths of files.

    Example:
        >>> recorded(preprocessor, ["Turn the radio off"]), recorded(preprocessor, {"text": array})
        (['Turn the radio off'], 'in memory')
    """
    if golden is None or isinstance(golden, str):
        return golden
    if not isinstance(golden, (list, tuple)) or not all(isinstance(value, (str, os.PathLike)) for value in golden):
        return IN_MEMORY
    reads = any(tasks.REQUEST_KINDS.get(request.kind).read for request in preprocessor.requests.values())
    words = [os.fspath(value) for value in golden]
    return [os.path.abspath(word) for word in words] if reads or _is_file(words) else words


def check_inputs(golden: Mapping[str, np.ndarray]) -> None:
    """Raises UsageError if examples whose outputs are not finite are not finite themselves."""
    for name, values in golden.items():
        if name.startswith("inputs/") and values.dtype.kind == "f" and not np.isfinite(values).all():
            place = ", ".join(map(str, np.argwhere(~np.isfinite(values))[0].tolist()))
            raise UsageError(
                f"The examples have {values[~np.isfinite(values)][0]} at {name.removeprefix('inputs/')}[{place}], and the "
                "model's outputs for them are not finite. Replace these values, or pass other examples."
            )


def publishes(directory: Path, interface: Any, golden: Any) -> bool:
    """Returns whether an artifact holds these golden examples; see `save`."""
    shown, origin = requests_to_publish(interface, golden)
    extra = directory / artifact_paths.EXTRA
    if storage.read_json(extra / "zoo.json").get("golden") != origin:
        return False
    held = arrays.load(extra / "golden.npz")
    wanted = {f"requests/{name}": values for name, values in shown.examples.requests.items()}
    return all(
        np.array_equal(held[name], values, equal_nan=values.dtype.kind == "f")
        for name, values in wanted.items()
        if name in held
    )


def _complete(made: dict[str, Any], golden: Any, known: Mapping[str, Any]) -> dict[str, Any]:
    """Returns model inputs with those that no request determines, such as the target of a translation."""
    if len(made) == len(known):
        return made
    missing = [name for name in known if name not in made]
    if lacking := [name for name in missing if not isinstance(golden, Mapping) or name not in golden]:
        raise UsageError(
            f"The model also takes {', '.join(lacking)}, which no request determines. Pass golden={{..., "
            f"{lacking[0]!r}: array}}, or {GENERATED!r}."
        )
    return {**made, **{name: np.asarray(golden[name], known[name].dtype)[:MOST] for name in missing}}


def raw_requests(preprocessor: Any, examples: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Returns raw examples by the names of the preprocessor's requests.

    Args:
        preprocessor: declares the requests.
        examples: a list for the first request, or a dict of lists by name. Requests with a default may be left out.

    Raises:
        UsageError: a request is missing, has another number of examples, or holds something else.
    """
    names = list(preprocessor.requests)
    if not isinstance(examples, Mapping):
        examples = {names[0]: examples}
    single = [
        name for name, value in examples.items() if isinstance(value, (str, bytes)) or not hasattr(value, "__len__")
    ]
    if single:
        raise UsageError(
            f"{single[0]} is one example, {examples[single[0]]!r:.40}; expected several. Pass a list of them."
        )
    first, requests = examples.get(names[0], ()), preprocessor.requests
    examples = {
        **{name: [each.default] * len(first) for name, each in requests.items() if each.default is not None},
        **examples,
    }
    if missing := [name for name in names if name not in examples]:
        raise UsageError(
            f"The preprocessor takes {', '.join(names)}; the examples have {', '.join(map(str, examples))}. "
            f"Pass {missing[0]} too."
        )
    if len({len(examples[name]) for name in names}) > 1 or not len(examples[names[0]]):
        counts = " and ".join(f"{len(examples[name]):,} of {name}" for name in names)
        raise UsageError(f"There are {counts}; expected as many of each, at least one. Pass lists of one length.")
    return {name: _raw(list(examples[name])[:MOST], requests[name]) for name in names}


def _raw(values: Sequence[Any], request: tasks.Request) -> np.ndarray[Any, Any]:
    kind = tasks.REQUEST_KINDS.get(request.kind)
    if request.dtype != "string":
        is_path = kind.read is not None and isinstance(values[0], (str, os.PathLike))
        try:
            return np.asarray([kind.read(v, {}) for v in values] if is_path and kind.read else values, request.dtype)
        except (ValueError, TypeError) as error:
            raise UsageError(
                f"The examples of {request.name} are no array: {one_line(error, 120)} Pass numbers, all rows of one shape."
            ) from error
    if request.shape:
        return _lists(values, request)
    found = np.empty(len(values), object)
    for row, value in enumerate(values):
        if kind.read is not None and isinstance(value, (str, os.PathLike)):
            value = kind.read(value, {})
        elif kind.is_bytes and isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim in (2, 3):
            value = tf.io.encode_png(value[..., np.newaxis] if value.ndim == 2 else value).numpy()
        if not isinstance(value, (str, bytes)):
            shown = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else repr(value)[:40]
            what = "paths, bytes or uint8 arrays of images" if kind.is_bytes else "strings"
            raise UsageError(f"The examples of {request.name} hold {shown}; expected {what}. Pass a list of them.")
        found[row] = value.encode() if isinstance(value, str) else value
    return found


def _lists(values: Sequence[Any], request: tasks.Request) -> np.ndarray[Any, Any]:
    """Returns lists of strings of any length as an array (examples, longest list), padded with empty strings."""
    read = tasks.REQUEST_KINDS.get(request.kind).read
    lists = [read(value, {}) if read is not None and isinstance(value, str) else value for value in values]
    for value in lists:
        if isinstance(value, bytes) or not all(isinstance(part, (str, bytes)) for part in value):
            raise UsageError(
                f"The examples of {request.name} hold {value!r:.40}; expected lists of strings. Pass a list for each example."
            )
    found = np.full((len(lists), max(map(len, lists))), b"", object)
    for row, value in enumerate(lists):
        found[row, : len(value)] = [part.encode() if isinstance(part, str) else part for part in value]
    return found


def encoded(preprocessor: Any, requests: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """Returns the model inputs that a preprocessor makes of raw requests."""
    tensors = {
        k: tf.constant(v.tolist(), tf.string) if v.dtype == object else tf.constant(v) for k, v in requests.items()
    }
    made, _ = preprocessor.serve(tensors)
    return {name: value.numpy() for name, value in made.items()}
