"""Fonts for the labels of plots: installed fonts where matplotlib's own has no character, and numbers where none has."""

from __future__ import annotations

import contextlib
import re
import sys
import unicodedata
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PREFERRED = (
    "noto sans",
    "source han sans",
    "wenquanyi",
    "droid sans fallback",
    "pingfang",
    "hiragino",
    "heiti",
    "lohit",
)
"""Beginnings of the names of fonts that fit matplotlib's own, the best first."""
_CJK = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "IDEOGRAPHIC", "FULLWIDTH", "BOPOMOFO", "KANGXI")
"""First words of the names of Chinese, Japanese and Korean characters."""
_MOST = 12
"""Labels in a message."""

_NUMBERS: dict[str, int] = {}
"""The numbers of words that no font can draw. All plots of a process use the same ones."""


def save(figure: Figure, write: Callable[[], Any]) -> None:
    """Writes a figure with fonts that have its characters.

    Words with characters that no installed font has are drawn as [1], [2], ...; one line on standard error says what the
    numbers mean and what to install.

    Args:
        figure: the figure.
        write: writes it; called again after fonts or labels have changed.

    Example:
        >>> save(figure, lambda: figure.savefig("labels.png"))
    """
    from matplotlib.text import Text

    missing = _missing(write)
    if missing and (fonts := _fonts_with(missing)):
        for text in figure.findobj(Text):
            text.set_fontfamily([*map(_family, text.get_fontfamily()), *fonts])
        missing = _missing(write)
    if missing:
        new = _number(figure, missing)
        _missing(write)
        if new:
            print(_sentence(new, missing), file=sys.stderr, flush=True)


def _missing(write: Callable[[], Any]) -> set[str]:
    """Calls a function, and returns the characters without a glyph that matplotlib warns of; other warnings are shown."""
    found: set[str] = set()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        write()
    for warning in caught:
        if glyph := re.match(r"Glyph (\d+) ", str(warning.message)):
            found.add(chr(int(glyph[1])))
        elif "does not support" not in str(warning.message):  # a note on scripts whose letters are joined
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return found


def _family(name: str) -> str:
    """Returns the font that a generic family stands for: fonts to fall back on must follow a font, not a family."""
    from matplotlib import font_manager

    found = font_manager.findfont(font_manager.FontProperties(family=[name]))
    return font_manager.get_font(found).family_name


def _fonts_with(characters: set[str]) -> list[str]:
    """Returns the names of installed fonts that together have as many of the characters as possible."""
    from matplotlib import font_manager

    manager = font_manager.fontManager
    known = {entry.fname for entry in manager.ttflist}
    for file in font_manager.findSystemFonts():  # those installed after matplotlib listed them are not known
        if file not in known:
            with contextlib.suppress(Exception):  # such as a bitmap font
                manager.addfont(file)

    def rank(entry: Any) -> tuple[int, bool, str]:
        name = entry.name.lower()
        place = next((place for place, start in enumerate(_PREFERRED) if name.startswith(start)), len(_PREFERRED))
        return place, (entry.style, str(entry.weight)) not in (("normal", "400"), ("normal", "normal")), entry.fname

    left, chosen = {ord(character) for character in characters}, []
    for entry in sorted(manager.ttflist, key=rank):
        if not left:
            break
        if entry.name.startswith("Last Resort"):  # it has a box for each character
            continue
        with contextlib.suppress(Exception):
            if own := left & font_manager.get_font(entry.fname).get_charmap().keys():
                left -= own
                chosen.append(entry.name)
    return list(dict.fromkeys(chosen))


def _number(figure: Figure, missing: set[str]) -> list[str]:
    """Writes numbers in place of words that cannot be drawn. Returns the words that got a number now."""
    from matplotlib.text import Text

    letters = "".join(re.escape(character) for character in sorted(missing))
    part = rf"[^\s(),]*[{letters}][^\s(),]*"  # with its marks, which another font may have
    word = re.compile(rf"{part}(?:\s+{part})*")
    before = len(_NUMBERS)

    def drawable(text: str) -> str:
        return word.sub(lambda found: f"[{_NUMBERS.setdefault(' '.join(found[0].split()), len(_NUMBERS) + 1)}]", text)

    for axes in figure.axes:
        for axis in (axes.yaxis, axes.xaxis):
            labels = [label.get_text() for label in axis.get_ticklabels()]
            if any(map(word.search, labels)):
                axis.set_ticklabels([drawable(label) for label in labels])
    for text in figure.findobj(Text):
        text.set_text(drawable(text.get_text()))
    return list(_NUMBERS)[before:]


def _sentence(words: list[str], missing: set[str]) -> str:
    scripts = {unicodedata.name(character, "OTHER").split()[0].split("-")[0] for character in missing}
    fonts = ["Noto Sans CJK (fonts-noto-cjk in Debian and Ubuntu)"] if scripts & {*_CJK} else []
    others = sorted(script.capitalize() for script in scripts - {*_CJK})
    fonts += [f"Noto Sans for {', '.join(others)} (fonts-noto-core)"] if others else []
    shown = ", ".join(f"[{_NUMBERS[word]}] for {word}" for word in words[:_MOST])
    more = f" and {len(words) - _MOST:,} more" if len(words) > _MOST else ""
    return (
        f"zoo: no installed font has the letters of some labels; the plots show {shown}{more}. Install "
        f"{' and '.join(fonts)} to see them."
    )
