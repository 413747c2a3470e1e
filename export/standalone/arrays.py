"""Saves, joins and hashes arrays. Needs only NumPy, so that the folder can be copied elsewhere."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import math
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

UNREADABLE = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, RuntimeError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error),
)
"""The exceptions of `load` for a file that is missing or damaged."""
MOST_BYTES = 4 << 30
"""Largest size of a file of arrays, and of its arrays after unpacking."""
MOST_MEMBERS = 10_000
_DIRECTORY = 4 << 20  # bytes of the list of members, of which each takes about a hundred

_ESCAPES = {"%": "%25", ".": "%2E", "\0": "%00"}


def save(file: str | Path | IO[bytes], arrays: Mapping[str, Any], *, compress: bool = False) -> None:
    """Writes arrays of any name and type to a file for `load`; `numpy.load` can read it too.

    A numeric array is stored as NAME. Strings are stored as NAME.bytes (all bytes concatenated), NAME.offsets and
    NAME.shape, because NumPy's own strings lose trailing zeros, and objects need pickle. Text is encoded as UTF-8. A type
    that NumPy lacks, such as bfloat16, is stored as NAME.bytes, NAME.dtype and NAME.shape. In names, `%`, `.` and the zero
    byte are percent-encoded.

    Raises:
        TypeError: an array contains objects that are not strings.

    Example:
        >>> save("x.npz", {"texts": np.array([b"a", b""], object)})
        >>> load("x.npz")["texts"].tolist()
        [b'a', b'']
    """
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, value in arrays.items():
            key = "".join(_ESCAPES.get(letter, letter) for letter in name)
            for suffix, part in _parts(name, value).items():
                entry = zipfile.ZipInfo(f"{key}{suffix}.npy")
                entry.compress_type = method
                with archive.open(entry, "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, part, allow_pickle=False)


def _parts(name: str, value: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Returns the stored parts of an array by the suffix of their names."""
    array = np.asarray(value)
    shape = np.asarray(array.shape, np.int64)
    if array.dtype.kind == "V":
        data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        return {".bytes": data, ".dtype": np.frombuffer(array.dtype.name.encode(), np.uint8), ".shape": shape}
    if array.dtype.kind not in "OSU":
        return {"": array}
    # From `value`, not `array`: NumPy's own string type has already dropped trailing zeros.
    flat = np.asarray(value, object).ravel().tolist()
    if wrong := [s for s in flat if not isinstance(s, (bytes, str))]:
        raise TypeError(f"{name!r} holds {wrong[0]!r}; expected bytes or str.")
    encoded = [s.encode() if isinstance(s, str) else s for s in flat]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    return {".bytes": np.frombuffer(b"".join(encoded), np.uint8), ".offsets": ends, ".shape": shape}


def load(file: str | Path | IO[bytes]) -> dict[str, np.ndarray[Any, Any]]:
    """Returns the arrays that `save` wrote by name, in their order, with strings as objects.

    The sizes that the file declares are checked before anything is unpacked.

    Raises:
        OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error: the file is missing, invalid, or larger
            than `MOST_BYTES` after unpacking.
    """
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(open(file, "rb")) if isinstance(file, (str, Path)) else file
        _check_sizes(opened)
        opened.seek(0)
        return _read(stack.enter_context(np.load(opened, allow_pickle=False)))


def _read(held: Any) -> dict[str, np.ndarray[Any, Any]]:
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for key in held.files:
        escaped, dot, kind = key.partition(".")
        name = escaped
        for letter, escape in reversed(_ESCAPES.items()):
            name = name.replace(escape, letter)
        if not dot:
            arrays[name] = held[key]
        elif kind == "bytes":
            arrays[name] = _whole(held, escaped).reshape(held[f"{escaped}.shape"])
    return arrays


class _Limited:
    """A file of which no single read returns more than some bytes. `zipfile` reads the whole list of members at once."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, size: int = -1) -> bytes:
        found = self._file.read(min(size, _DIRECTORY + 1) if size >= 0 else _DIRECTORY + 1)
        if len(found) > _DIRECTORY:
            raise ValueError(f"Its list of members has more than {_DIRECTORY:,} bytes; expected fewer arrays.")
        return found


def _check_sizes(file: IO[bytes]) -> None:
    """Raises ValueError if a file is no NPZ file, or declares more bytes or members than are allowed."""
    file.seek(0)
    start = file.read(6)
    if start == b"\x93NUMPY":
        raise ValueError("It holds one array without a name; expected an NPZ file.")
    if start[:4] not in (b"PK\3\4", b"PK\5\6"):  # NumPy takes any other file for a pickle, and advises to load it
        raise ValueError("It is not an NPZ file. Pass a file that `save` wrote.")
    if file.seek(0, 2) > MOST_BYTES:
        raise ValueError(f"It has more than {MOST_BYTES:,} bytes; expected a smaller file.")
    limited: Any = _Limited(file)
    with zipfile.ZipFile(limited) as archive:
        members = archive.infolist()
        if len(members) > MOST_MEMBERS:
            raise ValueError(f"It has {len(members):,} arrays, more than {MOST_MEMBERS:,}; expected fewer.")
        if sum(member.file_size for member in members) > MOST_BYTES:
            raise ValueError(f"Its arrays have more than {MOST_BYTES:,} bytes after unpacking; expected smaller ones.")
        for member in members:
            with archive.open(member) as part:
                _check_array(part, member)


def _check_array(part: IO[bytes], member: zipfile.ZipInfo) -> None:
    """Raises ValueError if the shape in an array's header does not match the size of its data."""
    version = np.lib.format.read_magic(part)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"The array {member.filename!r} has an unknown format; expected 1.0 or 2.0.")
    shape, _, dtype = read(part)
    if dtype.hasobject:
        raise ValueError(f"The array {member.filename!r} holds pickled objects; expected numbers.")
    if min(shape, default=0) < 0 or part.tell() + math.prod(shape) * dtype.itemsize != member.file_size:
        raise ValueError(
            f"The array {member.filename!r} has another size than its header {list(shape)} of {dtype}; expected the same."
        )


def _whole(held: Any, key: str) -> np.ndarray[Any, Any]:
    data = held[f"{key}.bytes"]
    if f"{key}.dtype" in held.files:
        import ml_dtypes  # comes with TensorFlow

        # From a bytearray, because some runtimes need writable arrays.
        return np.frombuffer(bytearray(data.tobytes()), getattr(ml_dtypes, held[f"{key}.dtype"].tobytes().decode()))
    offsets = held[f"{key}.offsets"]
    if len(offsets) < 1 or offsets[0] != 0 or offsets[-1] != len(data) or np.any(offsets[1:] < offsets[:-1]):
        raise ValueError(
            f"The strings of {key!r} overlap; expected one after the other."
        )  # they could take far more memory than the file
    texts = np.empty(len(offsets) - 1, object)
    texts[:] = [data[a:b].tobytes() for a, b in itertools.pairwise(offsets)]
    return texts


def padded(parts: Sequence[Any]) -> list[Any]:
    """Pads arrays (batch, steps, ...) to the largest number of steps, with 0 or b"". Other arrays are not changed."""
    if min(part.ndim for part in parts) < 2 or len({part.ndim for part in parts}) > 1:
        return list(parts)
    longest = max(part.shape[1] for part in parts)
    gaps = [[(0, 0), (0, longest - part.shape[1]), *[(0, 0)] * (part.ndim - 2)] for part in parts]
    filler = b"" if parts[0].dtype == object else 0
    return [np.pad(part, gap, constant_values=filler) for part, gap in zip(parts, gaps, strict=True)]


def joined(parts: Sequence[Any]) -> Any:
    """Concatenates batches, padded to the largest number of steps; for values without a batch, returns the first."""
    return np.concatenate(padded(parts)) if parts[0].ndim else parts[0]


def replayed(
    golden: Mapping[str, Any], signatures: Mapping[str, Any], name: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the golden inputs and outputs of a verification by name: as `examples`, but a signature that continues another
    one has the inputs of that one."""
    first = signatures.get(name, {}).get("continues") or name
    return examples(golden, signatures, first)[0], examples(golden, signatures, name)[1]


TURNS = 6
"""Calls of a signature that continues another one, in a verification."""


def in_turn(
    first: Callable[[dict[str, Any]], dict[str, Any]],
    following: Callable[[dict[str, Any]], dict[str, Any]],
    inputs: dict[str, Any],
    takes: Iterable[str],
    state: Iterable[str],
) -> dict[str, Any]:
    """Calls a function, and then another one several times with the outputs of the call before.

    Args:
        first: from the inputs to tensors by name.
        following: from those of `takes` to tensors of the same names.
        inputs: those of `first`, batch first.
        takes: the inputs of `following`.
        state: outputs that are not returned.

    Returns:
        The other outputs of all calls, one after the other in the second dimension.
    """
    outputs = first(inputs)
    calls = [outputs]
    for _ in range(TURNS):
        outputs = following({key: outputs[key] for key in takes})
        calls.append(outputs)
    found = {key: [np.asarray(call[key]) for call in calls] for key in outputs if key not in {*state}}
    return {
        key: np.concatenate([part if part.ndim > 1 else part[:, np.newaxis] for part in parts], axis=1)
        for key, parts in found.items()
    }


def digest(weights: Iterable[np.ndarray[Any, Any]]) -> str:
    """Returns the SHA-256 of weights in order. Equal weights have equal hashes, independent of their file."""
    found = hashlib.sha256()
    for weight in weights:
        found.update(str((weight.dtype, weight.shape)).encode())
        found.update(np.ascontiguousarray(weight).tobytes())
    return found.hexdigest()


def examples(
    golden: Mapping[str, Any], signatures: Mapping[str, Any], name: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the golden inputs and outputs of a signature by name; empty if golden.npz lacks them.

    Args:
        golden: the arrays of golden.npz: `requests/NAME`, `inputs/NAME`, `targets/NAME`, `answers/SIGNATURE/NAME`.
        signatures: the signatures in zoo.json. The entry `golden` of a signature tells whether its inputs are raw
            `requests` or model `inputs`, and which signature's `answers` are its expected outputs.
        name: the signature.

    Example:
        >>> described = {"predict": {"inputs": {"x": {}}, "golden": {"inputs": "inputs", "answers": "predict"}}}
        >>> examples({"inputs/x": 1, "answers/predict/y": 2}, described, "predict")
        ({'x': 1}, {'y': 2})
    """
    if name not in signatures:
        return {}, {}
    kind, answers = (signatures[name]["golden"][side] for side in ("inputs", "answers"))
    keys = {key: f"{kind}/{key}" for key in signatures[name]["inputs"]}
    inputs = {key: golden[where] for key, where in keys.items()} if set(keys.values()) <= golden.keys() else {}
    prefix = f"answers/{answers}/"
    return inputs, {key.removeprefix(prefix): value for key, value in golden.items() if key.startswith(prefix)}
