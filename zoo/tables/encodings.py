"""The text of a file: UTF-8, or the encoding that the user names. None is guessed."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.tables.formats import TableFormat

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_SURE = 8
"""So many letters that are valid UTF-8 by chance do not occur in other encodings."""
_CONTROLS = re.compile("[\x80-\x84\x86-\x9f]")
"""Characters of no text. ISO-8859-1 has them where Windows has letters and signs."""


_OTHERS = (
    "with the encoding that it was saved in: cp1252 for Western Europe, cp1251 for Cyrillic, gb18030 for Chinese, shift_jis "
    "for Japanese, euc_kr for Korean, cp874 for Thai"
)


def decoded(path: Path, content: bytes, format: TableFormat) -> str:
    """Returns the text of a file without a byte order mark.

    Raises:
        UsageError: it has another encoding than the one that was named, or than UTF-8. The message gives the row.

    Example:
        >>> decoded(Path("a.csv"), "Größe\\n".encode("cp1252"), TableFormat(encoding="cp1252"))
        'Größe\\n'
    """
    codec = codecs.lookup(format.encoding or "utf-8").name
    option, example = format.flags, "cp1252" if codec != "cp1252" else "cp1251"
    if content.startswith(_UTF16) and not codec.startswith(("utf-16", "utf-32")):
        raise UsageError(
            f"{path} is UTF-16, not {_shown(format)}. Pass {option(encoding='utf-16')}, or save it as CSV UTF-8."
        )
    if not codec.startswith("utf") and _is_utf8(content, 1 if format.inherited else _SURE):
        whose = ", the encoding of the training data" if format.inherited else ""
        raise UsageError(
            f"{path} is UTF-8, not {format.encoding}{whose}. Pass {option(encoding='utf-8')} for this file."
        )
    try:
        text = content.decode(codec).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path} {_place(content, error.start, codec)} is not {_shown(format)}. Pass "
            f"{option(encoding=example)}, say, {_OTHERS}; or save it as CSV UTF-8."
        ) from error
    if not codec.startswith("utf") and (found := _CONTROLS.search(text)):
        line = text.count("\n", 0, found.start()) + 1
        raise UsageError(
            f"{path} line {line} has the control character {ord(found[0]):#04x} if it is {format.encoding}, so it seems to "
            f"have another encoding. Pass {option(encoding=example)}, say, {_OTHERS}."
        )
    return text


def _shown(format: TableFormat) -> str:
    return format.encoding or "UTF-8"


def _is_utf8(content: bytes, fewest: int) -> bool:
    """Returns whether content is UTF-8 by its byte order mark, or by letters beyond ASCII, at least `fewest`."""
    if content.startswith(codecs.BOM_UTF8):
        return True
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return len(re.findall(r"[^\x00-\x7f]", text)) >= fewest


def _place(content: bytes, start: int, codec: str) -> str:
    """Returns where a byte is: its row, as messages count rows, its line, and the letters before it."""
    before = content[:start].decode(codec, "replace").removeprefix("\ufeff")
    line = re.split(r"\r\n|\n|\r", before)
    row = _rows_in(before)
    where = f"row {row} (line {len(line)})" if row else f"line {len(line)}"
    return f"{where}, {f'after {line[-1][-12:]!r}' if line[-1] else 'at its begin'}, byte {content[start]:#04x},"


def _rows_in(text: str) -> int:
    """Returns the number of the row that a text ends in; 0 for the header. Line breaks in quotation marks do not count."""
    return len(re.findall(r"\r\n|\n|\r", re.sub(r'"[^"]*"?', "", text)))
