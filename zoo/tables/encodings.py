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


_WINDOWS = tuple(f"cp{number}" for number in (1252, 1251, 1250, 1254, 1253, 1256, 1255, 1257, 1258, 874))
_CODECS = (*_WINDOWS, "gb18030", "big5", "shift_jis", "euc_kr", "koi8_r")
"""Encodings that are proposed."""
_HEAD = 1 << 16
_MOST_READINGS, _LONGEST_READING = 4, 24
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")


def decoded(path: Path, content: bytes, format: TableFormat) -> str:
    """Returns the text of a file without a byte order mark.

    Raises:
        UsageError: it has another encoding than the one that was named, or than UTF-8. The message gives the row.

    Example:
        >>> decoded(Path("a.csv"), "Größe\\n".encode("cp1252"), TableFormat(encoding="cp1252"))
        'Größe\\n'
    """
    codec, option = codecs.lookup(format.encoding or "utf-8").name, format.flags
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
        likely, read = _proposal(content, codec)
        raise UsageError(
            f"{path} {_place(content, error.start, codec)} is not {_shown(format)}. Pass {option(encoding=likely)}{read}; or "
            "save it as CSV UTF-8."
        ) from error
    if not codec.startswith("utf") and (found := _CONTROLS.search(text)):
        line = text.count("\n", 0, found.start()) + 1
        likely, read = _proposal(content, codec)
        raise UsageError(
            f"{path} line {line} has the control character {ord(found[0]):#04x} if it is {format.encoding}, so it seems to "
            f"have another encoding. Pass {option(encoding=likely)}{read}."
        )
    return text


def _proposal(content: bytes, codec: str) -> tuple[str, str]:
    """Returns a likely encoding, and a clause with some words of the file in each encoding that is likely."""
    found = [(name, words) for name, words in _readings(content) if codecs.lookup(name).name != codec]
    if not found:
        return "gb18030", ", say, with the encoding that it was saved in"
    read = ", ".join(f"{name} {words!r}" for name, words in found)
    return found[0][0], f", or another one that reads its words rightly: {read}"


def _readings(content: bytes) -> list[tuple[str, str]]:
    """Returns the likely encodings, best first, with words of the file that they read differently."""
    import charset_normalizer

    head = content[:_HEAD].rpartition(b"\n")[0] or content[:_HEAD]
    matches = charset_normalizer.from_bytes(head, cp_isolation=list(_CODECS), enable_fallback=False)
    names = [name for match in matches for name in sorted(match.could_be_from_charset, key=_CODECS.index)]
    names = list(dict.fromkeys(names))[: 2 * _MOST_READINGS]
    lines = [line for line in head.splitlines() if not line.isascii()][:200]
    best: list[tuple[str, str]] = []
    most = 0
    for line in lines:
        readings: dict[str, str] = {}
        for name in names:
            readings.setdefault(_words(line.decode(name, "replace")), name)
        if len(readings) > most:
            best, most = [(name, words) for words, name in readings.items()], len(readings)
    return best[:_MOST_READINGS]


def _words(line: str) -> str:
    """Returns the first words of a line that have letters beyond ASCII."""
    found = [word for word in re.split(r"[\s,;|\"]+", line) if _NOT_ASCII.search(word)]
    return " ".join(found)[:_LONGEST_READING]


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
    return len(_NOT_ASCII.findall(text)) >= fewest


def _place(content: bytes, start: int, codec: str) -> str:
    """Returns where a byte is: its row, as messages count rows, its line, and the letters before it."""
    before = content[:start].decode(codec, "replace").removeprefix("\ufeff")
    line = re.split(r"\r\n|\n|\r", before)
    row = _rows_in(before)
    where = f"row {row} (line {len(line)})" if row else f"line {len(line)}"
    return f"{where}, {f'after {line[-1][-12:]!r}' if line[-1] else 'at its beginning'}, byte {content[start]:#04x},"


def _rows_in(text: str) -> int:
    """Returns the number of the row that a text ends in; 0 for the header. Line breaks in quotation marks do not count."""
    return len(re.findall(r"\r\n|\n|\r", re.sub(r'"[^"]*"?', "", text)))
