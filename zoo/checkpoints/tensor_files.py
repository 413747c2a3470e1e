"""Reads tensors of a checkpoint folder as NumPy arrays: safetensors and PyTorch's pickles, whole or in shards.

PyTorch is not needed, and no code of a file is run. From a pickle only ordered dictionaries, storages and tensors that are
views of storages are built. Any other name is rejected before it is called. Before that, all instructions of the pickle are
checked, so that none can exhaust memory or the stack.
"""

from __future__ import annotations

import io
import json
import math
import mmap
import pickle
import pickletools
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo import storage
from zoo.errors import UsageError, one_line

if TYPE_CHECKING:
    import numpy as np

Arrays = dict[str, "np.ndarray"]

SAFETENSORS = "model.safetensors"
_LARGEST_INDEX = 64 << 20
"""Maximum bytes of an index of shards."""
_FILES = (SAFETENSORS, f"{SAFETENSORS}.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""Possible files of a folder's tensors. The first existing one is read."""

PATTERNS = (
    (_FILES[0],),
    (_FILES[1], "model-*-of-*.safetensors"),
    (_FILES[2],),
    (_FILES[3], "pytorch_model-*-of-*.bin"),
)
"""These files with their shards, as patterns of names."""


def read_tensors(folder: str | Path) -> tuple[Arrays, Path]:
    """Returns a checkpoint folder's tensors by name, and the file or the index of shards that they were read from.

    Floating-point tensors are returned as float32, for any type in the file (float64, float16 and bfloat16 too).

    Args:
        folder: holds model.safetensors or pytorch_model.bin, or an index of several such files; the first is preferred.

    Raises:
        UsageError: there is no such file, a shard is missing or outside the folder, a file is damaged, or a pickle needs
            anything but tensors.

    Example:
        >>> tensors, file = read_tensors("bert-base-uncased")
    """
    folder = Path(folder)
    file = next((folder / name for name in _FILES if (folder / name).is_file()), None)
    if file is None:
        raise UsageError(
            f"{folder} holds no weights; expected {_FILES[0]} or {_FILES[2]}, or their index. Put one of them there; "
            "files of TensorFlow or Flax are not supported."
        )
    shards = _shards(file) if file.suffix == ".json" else [file]
    arrays: Arrays = {}
    for shard in shards:
        found = _read_safetensors(shard) if shard.suffix == ".safetensors" else _read_pickle(shard)
        if twice := sorted(set(found) & set(arrays)):
            raise UsageError(
                f"{shard} holds {twice[0]}, which an earlier shard also holds. Replace the whole checkpoint."
            )
        arrays.update(found)
    return arrays, file


def read_file(file: str | Path) -> Arrays:
    """Returns the tensors of one file by name, as `read_tensors` does: safetensors by its ending, else a PyTorch pickle.

    Raises:
        UsageError: there is no such file, it is damaged, or a pickle needs anything but tensors.

    Example:
        >>> sorted(read_file("efficientnet-lite0-57934424.pth"))[0]
        '_blocks.0._bn1.bias'
    """
    file = Path(file)
    if not file.is_file():
        raise UsageError(f"There is no file {str(file)!r}. Pass a file of tensors, such as weights.pth.")
    return _read_safetensors(file) if file.suffix == ".safetensors" else _read_pickle(file)


def _shards(index: Path) -> list[Path]:
    """The files of an index, each once, after checking that they exist."""
    try:
        names = sorted(set(json.loads(storage.read_bytes(index, _LARGEST_INDEX))["weight_map"].values()))
    except UsageError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(
            f"{index} is not an index of shards ({one_line(error, 100)}). Replace it with a complete file."
        ) from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not name.endswith((".safetensors", ".bin")):
            raise UsageError(
                f"{index} names the shard {name!r}; expected a file in the same folder. Replace it with the right index."
            )
        if not (index.parent / name).is_file():
            raise UsageError(f"{index} names the shard {name}, which is missing. Put it into the same folder.")
    return [index.parent / name for name in names]


# --- safetensors ------------------------------------------------------------------------------------------------------

_TYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


def _read_safetensors(file: Path) -> Arrays:
    import numpy as np
    from safetensors import SafetensorError, deserialize

    try:
        entries = deserialize(file.read_bytes())
    except SafetensorError as error:
        raise UsageError(
            f"{file} is damaged or not a safetensors file ({one_line(error, 100)}). Replace it with a complete file."
        ) from error
    arrays = {}
    while entries:  # each entry is freed as soon as it is converted
        name, entry = entries.pop()
        if entry["dtype"] not in _TYPES:
            raise UsageError(
                f"{file}: {name} has the type {entry['dtype']}; expected {', '.join(_TYPES)}. Convert the checkpoint to F32."
            )
        values = np.frombuffer(entry["data"], _dtype(_TYPES[entry["dtype"]]))
        arrays[name] = _full(values.reshape(entry["shape"]))
    return arrays


def _dtype(name: str) -> Any:
    import ml_dtypes
    import numpy as np

    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def _full(array: np.ndarray) -> np.ndarray:
    """Floating-point values as float32, infinite if they are too large for it; other values unchanged."""
    import numpy as np

    with np.errstate(over="ignore"):
        return array if array.dtype.kind in "iub" else np.asarray(array, np.float32)


# --- PyTorch's pickles ------------------------------------------------------------------------------------------------


class _Kind(NamedTuple):
    """The class of a storage, which cannot be called."""

    dtype: str


class _Storage(NamedTuple):
    """A block of numbers in the file."""

    key: str
    dtype: str
    size: int


class _View(NamedTuple):
    """A tensor: the place of its numbers in a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _view(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _View:
    """The function that the file calls to make a tensor; its other arguments concern gradients."""
    whole = [offset, *shape, *strides]
    if not isinstance(storage, _Storage) or len(shape) != len(strides):
        raise pickle.UnpicklingError("a tensor that is not a view of a storage")
    if not all(isinstance(n, int) and n >= 0 for n in whole):
        raise pickle.UnpicklingError("a tensor of a negative or broken size")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if math.prod(shape) > storage.size or (math.prod(shape) and last >= storage.size):
        raise pickle.UnpicklingError("a tensor that reaches beyond its storage")
    return _View(storage, offset, tuple(shape), tuple(strides))


_STORAGES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _view,
    **{("torch", name): _Kind(dtype) for name, dtype in _STORAGES.items()},
}


class _Refused(Exception):
    """The name of something that is not part of a dictionary of tensors."""


class _Unpickler(pickle.Unpickler):
    """Builds only dictionaries of views."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise _Refused(f"{module}.{name}")
        found = _ALLOWED[module, name]
        # A new function each time, because a pickle can set attributes of a function.
        return (lambda *arguments: _view(*arguments)) if found is _view else found

    def persistent_load(self, pid: Any) -> _Storage:
        kind, storage, key, _, count = pid[:5]
        if (
            kind != "storage"
            or not isinstance(storage, _Kind)
            or not isinstance(key, str)
            or not isinstance(count, int)
            or count < 0
            or pid[5:] not in ((), (None,))
        ):
            raise pickle.UnpicklingError("a storage of an unknown kind")
        return _Storage(key, storage.dtype, count)


_MOST_INSTRUCTIONS, _MOST_PARTS = 1_000_000, 1_000
"""Limits of a pickle, and of a tuple with all nested parts: far more than files of tensors have."""
_MAKES = {
    *("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "FROZENSET"),
    *("REDUCE", "BUILD", "NEWOBJ", "NEWOBJ_EX", "OBJ", "INST", "BINPERSID"),
}
"""Instructions that make a hashable object from the objects on the stack."""
_CHANGES = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "DUP"}
"""Instructions that leave their first object on the stack."""


def _check_pickle(stream: Any) -> None:
    """Checks a pickle's instructions without running them; raises exceptions that `_read_pickle` catches.

    The unpickler trusts a pickle: it allocates memory for any memo number, and the hash of nested tuples recurses on the C
    stack, once for each path. So the parts of every hashable object are counted here, including parts of parts. Lists and
    dictionaries cannot be hashed, and count as one part.
    """
    stack: list[int | None] = []  # the parts of each object; None is a mark
    memo: dict[Any, int | None] = {}
    for number, (instruction, argument, _) in enumerate(pickletools.genops(stream)):
        name, before = instruction.name, instruction.stack_before
        if number >= _MOST_INSTRUCTIONS:
            raise pickle.UnpicklingError(f"more than {_MOST_INSTRUCTIONS:,} instructions")
        if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            place = len(memo) if argument is None else argument
            if not 0 <= place <= number:
                raise pickle.UnpicklingError(f"a memo of {place} places after {number} instructions")
            memo[place] = stack[-1]
            continue
        taken: list[int | None] = []
        if pickletools.markobject in before:
            while (part := stack.pop()) is not None:
                taken.append(part)
            before = before[: before.index(pickletools.markobject)]
        taken += [stack.pop() for _ in before]
        if name in ("GET", "BINGET", "LONG_BINGET"):
            parts: int | None = memo[argument]
        elif name == "MARK":
            parts = None
        elif name in _CHANGES:
            parts = taken[-1]
        else:
            parts = 1 + sum(part or 0 for part in taken) if name in _MAKES else 1
        if (parts or 0) > _MOST_PARTS:
            raise pickle.UnpicklingError(f"a tuple of more than {_MOST_PARTS:,} parts")
        stack += [parts] * len(instruction.stack_after)


def _read_pickle(file: Path) -> Arrays:
    read = _read_zip if zipfile.is_zipfile(file) else _read_stream
    try:
        views, storages = read(file)
        if not isinstance(views, dict) or not all(isinstance(v, _View) for v in views.values()):
            raise pickle.UnpicklingError("not a dictionary of tensors")
        if not all(isinstance(name, str) for name in views):
            raise pickle.UnpicklingError("a tensor whose name is not a string")
        return {name: _gather(view, storages) for name, view in views.items()}
    except _Refused as error:
        raise UsageError(
            f"{file} calls {error}, which a file of tensors does not need; it was not run. Convert the checkpoint to "
            f"{SAFETENSORS} on a machine that trusts it, and pass that file."
        ) from None
    except (
        *(pickle.UnpicklingError, zipfile.BadZipFile, struct.error, OSError, EOFError, ArithmeticError),
        *(ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError),  # the last: zips with a password
    ) as error:
        raise UsageError(
            f"{file} is damaged or not a file of PyTorch tensors ({one_line(error, 100)}). Replace it with a complete file, "
            f"or convert it to {SAFETENSORS}."
        ) from error


def _gather(view: _View, storages: dict[str, bytes | memoryview]) -> np.ndarray:
    import numpy as np

    storage = view.storage
    flat = np.frombuffer(storages[storage.key], _dtype(storage.dtype), storage.size)[view.offset :]
    if not math.prod(view.shape):
        return _full(np.empty(view.shape, flat.dtype))
    steps = [stride * flat.itemsize for stride in view.strides]
    strided = np.lib.stride_tricks.as_strided(flat, view.shape, steps, writeable=False)
    return _full(np.array(strided, order="C"))


def _read_zip(file: Path) -> tuple[Any, dict[str, bytes | memoryview]]:
    """The form since PyTorch 1.6: a zip with data.pkl and a file for each storage."""
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        top = next(name for name in [*names, ""] if name.endswith("data.pkl") or not name).removesuffix("data.pkl")
        if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
            raise pickle.UnpicklingError("compressed parts, unlike PyTorch's files")
        if sum(max(info.file_size, info.compress_size) for info in archive.infolist()) > file.stat().st_size:
            raise pickle.UnpicklingError("parts that are longer than the file")
        if f"{top}byteorder" in names and archive.read(f"{top}byteorder") != b"little":
            raise pickle.UnpicklingError("big-endian numbers")
        views = _load(io.BytesIO(archive.read(f"{top}data.pkl")))
        prefix = f"{top}data/"
        return views, {name.removeprefix(prefix): archive.read(name) for name in names if name.startswith(prefix)}


def _load(stream: Any) -> Any:
    start = stream.tell()
    _check_pickle(stream)
    length = stream.tell() - start
    stream.seek(start)
    return _Unpickler(io.BytesIO(stream.read(length))).load()


_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def _read_stream(file: Path) -> tuple[Any, dict[str, bytes | memoryview]]:
    """Reads the format before PyTorch 1.6: pickles of a magic number, a version, the machine, the tensors and the storages'
    keys, then each storage as its count and its numbers."""
    # A mapped file never returns more bytes than it has. A plain file first allocates memory for the requested size.
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as stream:
        if _load(stream) != _MAGIC or _load(stream) != _PROTOCOL:
            raise pickle.UnpicklingError("a wrong magic number or version")
        if not _load(stream).get("little_endian"):
            raise pickle.UnpicklingError("big-endian numbers")
        views = _load(stream)
        keys = _load(stream)
        kinds = {view.storage.key: view.storage for view in views.values()}
        return views, {key: _block(stream, kinds.get(key)) for key in keys}


def _block(stream: mmap.mmap, storage: _Storage | None) -> bytes:
    (count,) = struct.unpack("<q", stream.read(8))
    if storage is None or count != storage.size:
        raise pickle.UnpicklingError("a storage without a tensor, or with another size")
    length, left = count * _dtype(storage.dtype).itemsize, len(stream) - stream.tell()
    if length > left:
        raise pickle.UnpicklingError(f"a storage of {length} bytes, but {left} are left")
    return stream.read(length)
