"""JSON values and arrays: the inputs of a request, and the outputs of a response."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from zoo.errors import printable
from zoo.export.serving.refusals import Refused

try:
    import orjson
except ImportError:  # the extra `serve` has it
    orjson = None  # type: ignore[assignment]


class Input(NamedTuple):
    """An input of a signature: its type and shape with the batch, whether it holds bytes that are no text, and its kind."""

    spec: tf.TensorSpec
    is_bytes: bool
    kind: str

    @property
    def described(self) -> str:
        """What it takes, for messages."""
        if self.spec.dtype == tf.string:
            return 'the bytes of a file as {"b64": "..."}' if self.is_bytes else "a text"
        shape = [size or "any" for size in (self.spec.shape.as_list()[1:] if self.spec.shape.rank else [])]
        return f"{self.spec.dtype.name} of shape {shape}" if shape else f"one {self.spec.dtype.name}"


def parse(body: bytes) -> Any:
    """Returns the content of a JSON body; `NaN` and `Infinity` are accepted, as in TensorFlow Serving.

    Raises:
        Refused: it is not JSON in UTF-8.
    """
    try:
        return orjson.loads(body) if orjson is not None else json.loads(body)
    except ValueError:
        try:
            return json.loads(body)
        except UnicodeDecodeError as error:
            raise Refused(
                400, f"The body is not UTF-8 at byte {error.start}, {body[error.start]:#04x}. Send JSON in UTF-8."
            ) from error
        except (ValueError, RecursionError) as error:
            came = f"{printable(body[:40].decode('utf-8', 'replace'))!r}" if body else "an empty body"
            where = getattr(error, "pos", 0)
            raise Refused(
                400, f"The body is not JSON at character {where}: it begins with {came}. Send JSON."
            ) from error


def array(value: Any, name: str, given: Input, *, batch: bool) -> np.ndarray:
    """Returns the values of an input as an array of the type of its spec; texts as bytes.

    Args:
        value: the JSON value.
        name: the input, for messages.
        given: its spec and kind.
        batch: whether the value has the batch dimension; without it, the array has none either.

    Raises:
        Refused: it has another type, shape or range.
    """
    shape = given.spec.shape.as_list() if given.spec.shape.rank is not None else None
    shape = shape if batch or shape is None else shape[1:]
    found = _strings(value, name, given) if given.spec.dtype == tf.string else _numbers(value, name, given)
    if shape and shape[-1] == 1 and found.ndim == len(shape) - 1:
        found = found[..., np.newaxis]  # one channel, or one number, as in Keras
    if shape is not None and found.ndim == len(shape) + 1 and found.shape[-1] == 1:
        found = found[..., 0]
    if shape is not None and not tf.TensorShape(shape).is_compatible_with(found.shape):
        wanted = [size or "any" for size in shape]
        raise Refused(400, f"{name} has the shape {list(found.shape)}; expected {wanted}. Send {given.described}.")
    return found


def _numbers(value: Any, name: str, given: Input) -> np.ndarray:
    dtype = np.dtype(given.spec.dtype.as_numpy_dtype)
    try:
        found = np.asarray(value)
    except ValueError as error:
        raise Refused(400, f"{name} has rows of different lengths. Send {given.described}.") from error
    if found.dtype == object and dtype.kind == "f" and _holds_missing(value):
        found = np.asarray(value, np.float64)  # null is a missing value
    if found.size == 0 and found.ndim == 1 and given.spec.shape.rank and given.spec.shape.rank > 1:
        raise Refused(400, f"{name} is empty. Send {given.described}.")
    if found.size == 0:
        return found.astype(dtype)
    allowed = {"f": "iuf", "i": "iu", "u": "iu", "b": "b"}.get(dtype.kind, dtype.kind)
    if found.dtype.kind not in allowed or ("b" not in allowed and _holds_true_or_false(value)):
        raise Refused(400, f"{name} is {_shown(value)}; expected {given.described}. Send JSON numbers.")
    with np.errstate(over="ignore", invalid="ignore"):
        converted = found.astype(dtype)
    exact = np.array_equal(converted, found) if dtype.kind != "f" else (np.isinf(converted) == np.isinf(found)).all()
    if not exact:
        raise Refused(400, f"{name} has numbers beyond the range of {dtype.name}. Send {given.described}.")
    return converted


def _holds_true_or_false(value: Any) -> bool:
    """Returns whether nested lists hold a boolean, which NumPy would take for 0 or 1 among numbers."""
    if not isinstance(value, list):
        return isinstance(value, bool)
    return (
        any(map(_holds_true_or_false, value)) if value and isinstance(value[0], list) else bool in set(map(type, value))
    )


def _holds_missing(value: Any) -> bool:
    """Returns whether nested lists hold only numbers and null."""
    if isinstance(value, list):
        return all(map(_holds_missing, value))
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


_MOST_DIMENSIONS = 8


def _strings(value: Any, name: str, given: Input) -> np.ndarray:
    """Returns texts, or bytes of {"b64": ...}, in an array of objects with the shape of the nested lists."""
    shape: list[int] = []
    part = value
    while isinstance(part, list):
        shape.append(len(part))
        if not part:
            break
        part = part[0]
    if len(shape) > _MOST_DIMENSIONS:
        raise Refused(400, f"{name} is nested {len(shape)} times. Send {given.described}.")
    flat: list[bytes] = []
    _fill(value, shape, name, given, flat)  # first, because rows of different lengths would make the array huge
    found = np.empty(shape, object)
    if shape and 0 not in shape:
        found.reshape(-1)[:] = flat
    elif not shape:
        found[()] = flat[0]
    return found


def _fill(value: Any, shape: list[int], name: str, given: Input, flat: list[bytes]) -> None:
    if not shape:
        flat.append(_bytes(value, name, given))
        return
    if not isinstance(value, list) or len(value) != shape[0]:
        raise Refused(400, f"{name} has lists of different lengths. Send {given.described}.")
    for part in value:
        _fill(part, shape[1:], name, given, flat)


def _bytes(value: Any, name: str, given: Input) -> bytes:
    if isinstance(value, dict) and set(value) == {"b64"}:
        return decoded(value["b64"], name)
    if isinstance(value, str):
        if given.is_bytes:
            raise Refused(
                400,
                f"{name} is {_shown(value)}; expected {given.described}. Send the file in base64: "
                '{"b64": "..."}, as `base64 -w0 FILE` prints it.',
            )
        return value.encode("utf-8", "surrogatepass")
    raise Refused(400, f"{name} is {_shown(value)}; expected {given.described}. Send a JSON string.")


def decoded(text: Any, name: str) -> bytes:
    """Returns the bytes of base64.

    Raises:
        Refused: it is not base64.
    """
    if not isinstance(text, str):
        raise Refused(400, f"{name} has {_shown(text)} as base64. Send a string.")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused(
            400,
            f"{name} is not base64 ({printable(str(error))[:100]}); it begins with {_shown(text)}. Send the output of "
            "`base64 -w0 FILE`.",
        ) from error


def _shown(value: Any) -> str:
    """Returns a short form of a value of a request for its own client."""
    text = json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


_LONGEST = 40


def plain(value: Any, name: str) -> Any:
    """Returns an output for JSON: numbers unchanged, strings as text; of a name that ends in `_bytes`, as base64."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value
    if not isinstance(value, np.ndarray):  # of one row
        return _json(value, name)
    return _mapped(value.tolist(), lambda part: _json(part, name))


def _json(value: Any, name: str) -> Any:
    if not isinstance(value, bytes):
        return value
    return {"b64": base64.b64encode(value).decode()} if name.endswith("_bytes") else value.decode("utf-8", "replace")


def _mapped(value: Any, convert: Any) -> Any:
    return [_mapped(part, convert) for part in value] if isinstance(value, list) else convert(value)


def dumps(content: Any, *, missing: bool = True) -> bytes:
    """Returns JSON. float32 numbers have their shortest form.

    Args:
        content: dicts, lists, texts, numbers and arrays.
        missing: whether numbers that are not finite are written as `NaN` and `Infinity`, as TensorFlow Serving does;
            otherwise as null.
    """
    if orjson is not None and (not missing or _is_finite(content)):
        return orjson.dumps(content, default=_default, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    return json.dumps(_listed(content, missing), ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _is_finite(content: Any) -> bool:
    if isinstance(content, np.ndarray):
        return content.dtype.kind != "f" or bool(np.isfinite(content).all())
    if isinstance(content, np.floating):
        return bool(np.isfinite(content))
    if isinstance(content, Mapping):
        return all(map(_is_finite, content.values()))
    return all(map(_is_finite, content)) if isinstance(content, (list, tuple)) else True


def _default(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)) and value.ndim == 0:
        return float(str(value)) if value.dtype.kind == "f" else value.item()
    if isinstance(value, np.ndarray):  # one that is not contiguous, or of a type that orjson lacks
        return (
            np.ascontiguousarray(value) if value.dtype.kind in "iufb" and value.dtype.itemsize > 1 else value.tolist()
        )
    raise TypeError(f"{type(value).__name__} is no JSON value. Convert it to a list.")


def _listed(content: Any, missing: bool) -> Any:
    if isinstance(content, Mapping):
        return {key: _listed(value, missing) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_listed(value, missing) for value in content]
    if isinstance(content, (np.ndarray, np.generic)):
        if content.dtype == np.float32:
            content = (
                content.astype(str).astype(np.float64) if isinstance(content, np.ndarray) else np.float64(str(content))
            )
        return _listed(content.tolist(), missing)
    if isinstance(content, float) and not missing and not np.isfinite(content):
        return None
    return content
