"""Files written whole or not at all, and their hashes."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import unicodedata
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zoo.errors import UsageError, one_line, printable


@contextlib.contextmanager
def replacing(path: str | Path, *, sync: bool = True) -> Iterator[Path]:
    """Yields a temporary path in the folder of `path`. On exit without an error, it replaces `path` atomically.

    Args:
        path: the file to write.
        sync: whether to wait until the disk has the content. Without, a file that is replaced is whole after a kill, but may
            be empty after a power failure, which the reader must notice.

    Example:
        >>> with replacing("history.csv") as temporary:
        ...     temporary.write_text("epoch,loss")
    """
    path = Path(path)
    # The suffix stays last: some writers (Keras, Matplotlib) choose the format by it.
    temporary = path.with_name(f".{path.stem}-{uuid.uuid4().hex[:12]}{path.suffix}")
    temporary.touch(exist_ok=False)  # not mkstemp: only the owner can read its files
    try:
        yield temporary
        if sync:
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


_LEFT = re.compile(r"\..+-[0-9a-f]{12}(\.[^.]*)?")


def remove_leftovers(folder: Path) -> None:
    """Removes the temporary files of `replacing` that killed processes have left in a folder. Call it only while no other
    process writes there."""
    for file in folder.iterdir() if folder.is_dir() else ():
        if _LEFT.fullmatch(file.name) and file.is_file():
            file.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: Any) -> None:
    """Writes a JSON file whole or not at all. NaN and infinity are errors, because other readers reject them."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    # A list of numbers is one line, not a line for each: the confusion matrix of 1,000 classes has a million.
    text = _NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", text)
    write_text(path, text + "\n")


_NUMBERS = re.compile(r"\[\n\s+([-+.,0-9eE\s]+)\]")
MOST_BYTES = 256 << 20
"""Largest size of a text file that is read whole."""


def read_text(path: str | Path) -> str:
    """Reads a regular UTF-8 file of at most `MOST_BYTES`.

    Raises:
        OSError: it cannot be read.
        ValueError: it is a device or a pipe, larger, or not UTF-8.
    """
    return read_bytes(path, MOST_BYTES).decode("utf-8")


def read_json(path: str | Path) -> Any:
    """Reads a JSON file.

    Raises:
        OSError, ValueError: it cannot be read, as in `read_text`, is not JSON, or is nested too deeply.
    """
    try:
        return json.loads(read_text(path))
    except RecursionError as error:
        raise ValueError("It is nested too deeply. Replace it by the original file.") from error


def read_bytes(path: str | Path, most: int) -> bytes:
    """Reads a regular file of at most `most` bytes.

    Pipes and devices are rejected without waiting for them, and a large file without reading it.

    Raises:
        UsageError: the file is not regular, or is larger.
        OSError: the file is missing or cannot be read.

    Example:
        >>> read_bytes("/dev/zero", 1 << 20)
        Traceback (most recent call last):
        zoo.errors.UsageError: /dev/zero is not a regular file. Pass a file.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        facts = os.fstat(file.fileno())
        if stat.S_ISDIR(facts.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(facts.st_mode):
            raise UsageError(f"{printable(str(path))} is not a regular file. Pass a file.")
        if facts.st_size > most:
            raise UsageError(
                f"{printable(str(path))} has {facts.st_size:,} bytes; expected at most {most:,}. Pass a smaller file."
            )
        return file.read(most)


def read_record(path: str | Path, schema: Any, restore: str) -> Any:
    """Reads a JSON file of a run and checks its form.

    Args:
        path: the file.
        schema: as in `mismatch`.
        restore: a sentence that says what the user can do if the file is damaged.

    Raises:
        UsageError: the file cannot be read or has another form.
    """
    try:
        content = read_json(path)
        wrong = mismatch(content, schema)
    except (OSError, ValueError) as error:
        wrong = one_line(error, 120).rstrip(".")
    if wrong:
        raise UsageError(f"{path} is damaged: {wrong.rstrip('.')}. {restore} Or pass a run whose files are intact.")
    return content


_TYPES = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "a mapping",
    list: "a list",
}


def mismatch(content: Any, schema: Any, name: str = "its content") -> str:
    """Returns a phrase for the first part of JSON content that differs from a schema, or "".

    Args:
        content: the result of `read_json`.
        schema: a type; a list of one schema for every element; or a dict of schemas of required keys, more keys being
            allowed. None allows everything.
        name: how the phrase calls the content.

    Example:
        >>> mismatch({"names": ["a", 1]}, {"names": [str]})
        'names[1] is 1; expected a text'
    """
    kind: Any = schema if isinstance(schema, type) else type(schema)
    if schema is None:
        return ""
    accepted: Any = (int, float) if kind is float else kind
    if not isinstance(content, accepted) or (isinstance(content, bool) and kind is not bool):
        shown = repr(content)
        return f"{name} is {shown if len(shown) < 40 else shown[:40] + '...'}; expected {_TYPES[kind]}"
    if isinstance(schema, list):
        found = (mismatch(part, schema[0], f"{name}[{i}]") for i, part in enumerate(content))
        return next(filter(None, found), "")
    if isinstance(schema, dict):
        for key, part in schema.items():
            if key not in content:
                return f"{key} is missing"
            if wrong := mismatch(content[key], part, key):
                return wrong
    return ""


def sha256(path: str | Path) -> str:
    """Returns the SHA-256 of a file in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_name(path: str | Path) -> None:
    """Raises UsageError if a part of a path is longer than file systems accept."""
    longest = max((part for part in Path(path).parts), key=lambda part: len(os.fsencode(part)), default="")
    if (size := len(os.fsencode(longest))) > _LONGEST_NAME:
        raise UsageError(
            f"The folder name {longest[:40]}... has {size} bytes; file systems accept {_LONGEST_NAME}. Pass a shorter one."
        )


_REMOTE = re.compile(r"(?:[a-z_]+:)?(s3a?|gs|gcs|az|adl|abfss?|wasbs?|hdfs|r2|oss|hf):/", re.IGNORECASE)


def check_local(path: str | os.PathLike[str], what: str) -> None:
    """Raises UsageError for a path of an object store, which would become a local folder `gs:` otherwise.

    The message leaves the path out, which may hold a key.

    Args:
        path: what came, also with the name of a source before it, such as csv:s3://bucket/file.csv.
        what: the option or argument.

    Example:
        >>> check_local("gs://bucket/run", "run_directory")
        Traceback (most recent call last):
        zoo.errors.UsageError: run_directory is a path of gs://; ...
    """
    if found := _REMOTE.match(os.fspath(path)):
        raise UsageError(
            f"{what} is a path of {found[1].lower()}://; expected one of this machine. Pass a local path, and copy it from "
            "or to the object store with its own program."
        )


_LONGEST_NAME = 255
_PATTERN = re.compile(r"[*?\[\\]")


_MOST_BYTES = 200
"""Bytes. Every file system has room for 255, some of which a prefix or a suffix needs."""


def file_name(text: str) -> str:
    """Returns a text as a part of a file's name, which every file system of Linux and macOS supports: letters and digits of
    any script, `_` and `.`; all else becomes `-`. Texts with symbols such as emoji, and those longer than 200 bytes, end with
    a hash, so that different texts keep different names.

    Example:
        >>> file_name("csv:новости 2.csv")
        'csv-новости-2.csv'
    """
    text = unicodedata.normalize("NFC", text)  # macOS may decompose letters
    # A mark belongs to its letter: without marks, words in Hindi and Thai would become other words.
    groups = ["L" if c.isascii() else unicodedata.category(c)[0] for c in text]
    plain = "".join(c if group in "LMN" else "-" for c, group in zip(text, groups, strict=True))
    name = re.sub(r"[\x00-\x2d/:-@\[-^`{-\x7f]+", "-", plain).strip("-")
    if set(groups) <= set("LMNPZ") and len(name.encode()) <= _MOST_BYTES:
        return name
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    head = name.encode()[: _MOST_BYTES - len(digest) - 1].decode("utf-8", "ignore")
    return f"{head}-{digest}"


def is_pattern(path: str | Path) -> bool:
    """Whether TensorFlow interprets a path as a pattern when it loads a checkpoint or a SavedModel."""
    return _PATTERN.search(str(Path(path).absolute())) is not None


@contextlib.contextmanager
def without_pattern(folder: Path) -> Iterator[Path]:
    """Yields the path of a folder for TensorFlow to load from: if its own is a pattern, the path of a temporary link."""
    if not is_pattern(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory() as temporary:
        link = Path(temporary, "link")
        link.symlink_to(folder.absolute())
        yield link


def remove_tree(path: str | Path) -> None:
    """Removes a folder and its content, if it exists."""
    shutil.rmtree(path, ignore_errors=True)
