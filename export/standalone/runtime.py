"""What a runtime is, for those that compare it and for the process that runs it: one object in a file of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

Request = Mapping[str, Any]
"""`model` (a SavedModel to convert) and `signature`, `file` (what is written, or read), and the sizes that are fixed: `batch`
and `length`, None for any."""


class CannotConvertError(Exception):
    """A reason in words that a person can act on."""


@dataclasses.dataclass(frozen=True)
class Runtime:
    """A runtime other than TensorFlow's Python. It is the `RUNTIME` of a file in `export/runtimes/`, whose name it has.

    Such a file is loaded by its path in a process where nothing of this package can be imported: at its top it imports
    nothing but this module, and its functions import the runtime.

    Attributes:
        title: as people write it.
        tolerance: largest difference from the trained model's outputs, relative to the larger of 1 and the output's
            largest value.
        modules: what must be installed, by the names under which it is imported.
        version: the module that tells the version.
        format: what `zoo convert --to` calls its files; "" for none.
        file: the name of the file that it reads.
        convert: writes `file` from `model`.
        answer: reads `file`; returns a function from arrays by name to arrays by name.
        sample: lines of Python that answer a request from the file; `{inputs}` stands for arrays by name.
        unsupported: patterns in a converter's messages whose group is an op that it does not know.
        one_signature: whether it reads a SavedModel itself, of one signature.
        fixed_sizes: whether some models need a fixed batch or length.
        fails_late: whether it says only when it answers what it cannot do.
        missing: returns what this machine lacks, or None, where that is more than modules.
        answer_all: answers every signature of a SavedModel as it is; instead of `convert` and `answer`.
    """

    title: str
    tolerance: float
    modules: tuple[str, ...] = ()
    version: str = ""
    format: str = ""
    file: str = ""
    convert: Callable[[Request], None] | None = None
    answer: Callable[[Request], Callable[[dict[str, Any]], dict[str, Any]]] | None = None
    sample: tuple[str, ...] = ()
    unsupported: tuple[str, ...] = ()
    one_signature: bool = False
    fixed_sizes: bool = False
    fails_late: bool = False
    missing: Callable[[], str | None] | None = None
    answer_all: Callable[..., dict[str, Any]] | None = None


def function(loaded: Any, request: Request) -> Any:
    """Returns the signature of a loaded SavedModel as a concrete function, of fixed sizes where they are asked for."""
    import tensorflow as tf

    signature, batch = loaded.signatures[request["signature"]], request["batch"]
    if batch is None and request["length"] is None:
        return signature
    specs = {}
    for name, spec in signature.structured_input_signature[1].items():
        shape = with_length(spec.shape.as_list(), request)
        specs[name] = tf.TensorSpec([batch or shape[0], *shape[1:]] if shape else shape, spec.dtype, name)

    def fixed(**inputs: Any) -> Any:
        return signature(**inputs)

    return tf.function(fixed, autograph=False).get_concrete_function(**specs)


def with_length(shape: list[int | None], request: Request) -> list[int | None]:
    """Fills the length in where a dimension after the batch is unknown."""
    return shape[:1] + [request["length"] if size is None else size for size in shape[1:]]
