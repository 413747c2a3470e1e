"""The kinds of raw inputs and of printed outputs. Clients, the command line and the model card read them here."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from zoo.registries import Registry


@dataclasses.dataclass(frozen=True)
class RequestKind:
    """A kind of raw input: how people and programs pass it.

    Attributes:
        placeholder: the input in a printed command line, such as FILE.
        description: what it holds.
        is_path: whether a command line takes the path of a file.
        is_bytes: whether it holds bytes that are no text, which JSON needs in base64.
        path: for bytes, the path that stands for a file of the user in printed requests.
        suffixes: endings of the names of files that hold one example each, for folders of such files; small letters.
        media: the `Content-Type` of an HTTP body that holds it, such as image/*, or the examples of a table.
        open: for an input that is passed itself, makes it of the path of such a file.
        read: makes the value of one example of a file's path, and of the input's entry in zoo.json; None if the value is
            passed itself, as text or numbers.
        has_format: whether `read` takes a third argument, the `zoo.tables.formats.TableFormat` of a CSV file.
        read_rows: for a signature with one input per column, makes the rows of a CSV file's path or of a DataFrame, each a
            dict of values by input, from the inputs' entries in zoo.json by name, and `format`, a `TableFormat`; and the
            names of columns that are not used.
        read_columns: for a kind with `read_rows`, the same for a table of texts, as arrays by input; see
            `zoo.tasks.row_files.read_columns`.
        read_items: for a kind with `read` and `has_format`, makes the examples of a table with several of them: the name and
            the value of each, and the names of columns that are not used; None for a file that holds one example.
        measure: makes columns of numbers or texts by name of the values of an input, for statistics, see `request_measures`;
            None for a kind of which nothing is measured.
    """

    placeholder: str
    description: str
    is_path: bool = False
    is_bytes: bool = False
    path: str = "/path/to/file"
    suffixes: tuple[str, ...] = ()
    media: tuple[str, ...] = ()
    open: Callable[[Any], Any] | None = None
    read: Callable[..., Any] | None = None
    has_format: bool = False
    read_rows: Callable[..., tuple[list[dict[str, Any]], list[str]]] | None = None
    read_columns: Callable[..., tuple[dict[str, Any], Any]] | None = None
    read_items: Callable[..., tuple[list[tuple[str, Any]], list[str]] | None] | None = None
    measure: Callable[[Sequence[Any]], dict[str, list[Any]]] | None = None


Format = Callable[[Mapping[str, Any], Any, Sequence[str], int], str]
"""Prints the outputs for one example in one line: from the outputs by name, the signature's `Shown`, the class names, and
the number of labels to print."""

REQUEST_KINDS: Registry[RequestKind] = Registry("kind of request", "zoo.tasks.request_kinds")
ANSWER_KINDS: Registry[Format] = Registry("kind of answer", "zoo.tasks.answer_kinds")


def register_request_kind(name: str, kind: RequestKind) -> None:
    """Registers a kind of raw input.

    Raises:
        ValueError: another module has registered the name.

    Example:
        >>> register_request_kind("audio", RequestKind("FILE.wav", "a WAV file", is_path=True, is_bytes=True, read=read))
    """
    REQUEST_KINDS.add(name, kind, _caller())


def register_answer_kind(name: str, formatted: Format) -> None:
    """Registers a way to print outputs, for `Shown`.

    Raises:
        ValueError: another module has registered the name.

    Example:
        >>> register_answer_kind("boxes", lambda answer, shown, labels, top: str(answer["boxes"].tolist()))
    """
    ANSWER_KINDS.add(name, formatted, _caller())


def _caller() -> str:
    return str(sys._getframe(2).f_globals.get("__name__", "__main__"))
