"""The identity of a model of the user's own: a hash of its configuration and of the code of its custom parts."""

from __future__ import annotations

import hashlib
import json
import types
from collections.abc import Iterable, Iterator
from typing import Any

import keras

from zoo.training.data.user_losses import plain, without_number

_LIBRARIES = ("keras", "tensorflow", "numpy", "zoo", "builtins")
"""Packages whose code is not hashed: a resumed run may use another version."""
_PLAIN = (bool, int, float, complex, str, bytes, type(None))


def identity(model: keras.Model) -> dict[str, str]:
    """Returns the name of a model and a hash of its configuration, its weights' shapes and its custom code.

    Names that Keras numbers across a process do not count, nor do comments and line numbers.

    Example:
        >>> sorted(identity(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])))
        ['name', 'sha256']
    """
    content = [_numbered(_config(model)), [[*v.shape] for v in model.weights], code_of_model(model)]
    text = json.dumps(content, sort_keys=True)
    return {"name": without_number(model.name), "sha256": hashlib.sha256(text.encode()).hexdigest()}


def code_of_model(model: keras.Model) -> str:
    """Returns a hash of the code of a model's custom layers and functions; empty where it has none."""
    parts = []
    for layer in model._flatten_layers():
        parts += [layer, *(value for value in vars(layer).values() if isinstance(value, types.FunctionType))]
    return code_digest(*parts)


def code_digest(*parts: Any) -> str:
    """Returns a hash of the code of functions and of the classes of objects; empty where all of it is a library's.

    Functions and constants of the same module that the code uses are included.

    Example:
        >>> code_digest(keras.losses.mean_squared_error, keras.losses.Huber())
        ''
    """
    seen: set[int] = set()
    lines = [line for part in parts for line in _code(part, seen)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest() if lines else ""


def _code(part: Any, seen: set[int]) -> Iterator[str]:
    """Yields the instructions, constants and default values of a function, or of an object's class."""
    if isinstance(part, types.FunctionType):
        if (part.__module__ or "").partition(".")[0] in _LIBRARIES or id(part) in seen:
            return
        seen.add(id(part))
        cells = [cell.cell_contents for cell in part.__closure__ or () if _is_filled(cell)]
        yield _constants([*cells, part.__defaults__, *(part.__kwdefaults__ or {}).items()])
        for code in _with_inner(part.__code__):
            yield code.co_code.hex()
            yield _constants([value for value in code.co_consts if value is None or value != part.__doc__])
            yield repr(code.co_names)
            used = [part.__globals__[name] for name in code.co_names if name in part.__globals__]
            yield _constants(used)
            for value in used:
                if getattr(value, "__module__", None) == part.__module__:
                    yield from _code(value, seen)
        for value in cells:
            if isinstance(value, types.FunctionType):
                yield from _code(value, seen)
        return
    for cls in part.__mro__ if isinstance(part, type) else type(part).__mro__:
        if cls.__module__.partition(".")[0] in _LIBRARIES or id(cls) in seen:
            continue
        seen.add(id(cls))
        for name, value in sorted(vars(cls).items()):
            value = getattr(value, "fget", None) or getattr(value, "__func__", value)
            if isinstance(value, types.FunctionType):
                yield name
                yield from _code(value, seen)
            elif not name.startswith("__"):
                yield f"{name}={_constants([value])}"


def _constants(values: Iterable[Any]) -> str:
    """Returns those of the values that are constants as text, the same in every process."""
    known = []
    for value in values:
        if isinstance(value, _PLAIN):
            known.append(repr(value))
        elif isinstance(value, (tuple, list, frozenset)):
            inner = [_constants([part]) for part in value]
            known.append(str(sorted(inner) if isinstance(value, frozenset) else inner))
    return str(known)


def _is_filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # a name that is bound later
        return False


def _with_inner(code: types.CodeType) -> Iterator[types.CodeType]:
    """Yields a function's code and that of the functions inside it."""
    yield code
    for value in code.co_consts:
        if isinstance(value, types.CodeType):
            yield from _with_inner(value)


def _config(model: keras.Model) -> Any:
    """Returns the model's configuration; of a subclassed model without one, its layers' and its plain attributes."""
    try:
        return plain(model.get_config())
    except (NotImplementedError, TypeError, ValueError):
        layers = list(model._flatten_layers(include_self=False, recursive=False))
        values = {k: v for k, v in vars(model).items() if isinstance(v, _PLAIN) and not k.startswith("_")}
        return [type(model).__name__, {k: v for k, v in values.items() if k not in _VARYING}, *map(_config, layers)]


_VARYING = frozenset({"built", "name", "compiled", "stop_training"})


def _numbered(config: Any) -> Any:
    """The configuration with every layer's name replaced by its position: Keras numbers automatic names across a process."""
    names: dict[str, str] = {}

    def collect(part: Any) -> None:
        if isinstance(part, dict):
            if isinstance(part.get("name"), str):
                names.setdefault(part["name"], f"#{len(names)}")
            part = list(part.values())
        for inner in part if isinstance(part, list) else ():
            collect(inner)

    def replace(part: Any) -> Any:
        if isinstance(part, dict):
            return {names.get(k, k): replace(v) for k, v in part.items()}
        if isinstance(part, list):
            return [replace(inner) for inner in part]
        return names.get(part, part) if isinstance(part, str) else part

    collect(config)
    return replace(config)
