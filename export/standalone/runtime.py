"""The class `Runtime`, used by the code that compares runtimes and by the process that runs them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

Request = Mapping[str, Any]
"""`model` (a SavedModel to convert), `signature`, `file` (to write or read), and the fixed sizes `batch` and `length`, None
for a dynamic size."""


class CannotConvertError(Exception):
    """Raised with a clear reason if a model cannot be converted."""


@dataclasses.dataclass(frozen=True)
class Runtime:
    """A runtime other than TensorFlow in Python. It is the `RUNTIME` of a file in `export/runtimes/` and has its name.

    Such a file is loaded by its path in a process where this package cannot be imported. At module level, it therefore
    imports only this module. Its functions import the runtime.

    Attributes:
        title: name for people.
        tolerance: largest difference from the trained model's outputs, relative to the larger of 1 and the output's
            largest value.
        modules: import names of the required packages.
        version: the module whose `__version__` is reported.
        format: name of the format for `zoo convert --to`; "" for none.
        file: name of the file that the runtime reads.
        convert: writes `file` from `model`.
        answer: reads `file`; returns a function from arrays by name to arrays by name.
        sample: lines of Python that run the file; `{inputs}` is replaced by arrays by name.
        unsupported: regular expressions for a converter's messages; the group is an unsupported op.
        one_signature: whether the runtime reads a SavedModel directly, with a single signature.
        fixed_sizes: whether some models need a fixed batch or length.
        verifies: whether `zoo verify` runs it by default; False if it is TensorFlow again.
        fails_late: whether unsupported models may fail only when they run.
        missing: returns what this machine lacks, or None; for requirements other than `modules`.
        answer_all: runs all signatures of a SavedModel directly, instead of `convert` and `answer`.
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
    verifies: bool = True
    fails_late: bool = False
    missing: Callable[[], str | None] | None = None
    answer_all: Callable[..., dict[str, Any]] | None = None


def function(loaded: Any, request: Request) -> Any:
    """Returns the signature of a loaded SavedModel as a concrete function, with the fixed sizes of the request."""
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
    """Replaces unknown dimensions after the batch by the length."""
    return shape[:1] + [request["length"] if size is None else size for size in shape[1:]]
