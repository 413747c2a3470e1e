"""Files written whole or not at all, byte strings without pickle, hashes."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`; on leaving without an error it takes `path`'s place in one step.

    Example:
        >>> with replacing("history.csv") as temporary:
        ...     temporary.write_text("epoch,loss")
    """
    path = Path(path)
    # The suffix stays last: some writers (Keras, Matplotlib) choose the format by it.
    temporary = path.with_name(f".{path.stem}-{uuid.uuid4().hex[:12]}{path.suffix}")
    temporary.touch(exist_ok=False)  # not mkstemp: its files are readable by their owner alone
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: Any) -> None:
    """Writes a JSON file whole or not at all; NaN and infinity are refused, other readers choke on them."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Reads a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def pack_strings(strings: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Returns byte strings as one uint8 array and int64 offsets, (total,) and (n + 1,).

    NumPy's own string type drops trailing zero bytes, and object arrays need pickle to be read back.
    """
    import numpy as np

    offsets = np.zeros(len(strings) + 1, np.int64)
    offsets[1:] = np.cumsum([len(s) for s in strings], dtype=np.int64)
    return np.frombuffer(b"".join(strings), np.uint8), offsets


def unpack_strings(data: np.ndarray, offsets: np.ndarray) -> list[bytes]:
    """The inverse of `pack_strings`."""
    return [data[a:b].tobytes() for a, b in itertools.pairwise(offsets)]


_PARTS = (".bytes", ".offsets", ".shape")


def pack_arrays(arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns the arrays as `numpy.savez` can keep them: an array of strings NAME becomes NAME.bytes, NAME.offsets and
    NAME.shape. Text is kept as UTF-8.

    Raises:
        TypeError: an array of other objects than strings, which would need pickle.
        ValueError: a name that ends as the parts of a packed array do.
    """
    import numpy as np

    packed: dict[str, np.ndarray] = {}
    for name, value in arrays.items():
        if name.endswith(_PARTS):
            raise ValueError(f"{name!r} ends in one of {', '.join(_PARTS)}, as packed strings do. Choose another name.")
        array = np.asarray(value)
        if array.dtype.kind not in "OSU":
            packed[name] = array
            continue
        # As objects from the start: NumPy's own string type has dropped trailing zero bytes already.
        flat = np.asarray(value, object).ravel().tolist()
        if wrong := [s for s in flat if not isinstance(s, (bytes, str))]:
            raise TypeError(f"{name!r} holds {wrong[0]!r}; expected bytes or str.")
        encoded = [s.encode() if isinstance(s, str) else s for s in flat]
        packed[f"{name}.bytes"], packed[f"{name}.offsets"] = pack_strings(encoded)
        packed[f"{name}.shape"] = np.asarray(array.shape, np.int64)
    return packed


def unpack_arrays(packed: Any) -> dict[str, np.ndarray]:
    """The inverse of `pack_arrays`; takes what `numpy.load` gives."""
    import numpy as np

    arrays: dict[str, np.ndarray] = {}
    for key in packed:
        if key.endswith(".bytes"):
            name = key.removesuffix(".bytes")
            flat = unpack_strings(packed[key], packed[f"{name}.offsets"])
            array = np.empty(len(flat), object)
            array[:] = flat
            arrays[name] = array.reshape(packed[f"{name}.shape"])
        elif not key.endswith(_PARTS):
            arrays[key] = packed[key]
    return arrays


def sha256(path: str | Path) -> str:
    """Returns the SHA-256 of a file in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_tree(path: str | Path) -> None:
    """Removes a folder and everything in it; nothing happens where there is none."""
    shutil.rmtree(path, ignore_errors=True)
