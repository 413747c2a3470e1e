"""Labels of plots in scripts that matplotlib's own font lacks."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from PIL import Image

from zoo.evaluation import fonts
from zoo.evaluation.classification import classification_report
from zoo.evaluation.plots import plot_confusion_matrix

NAMES = ["体育", "财经 新闻", "T恤"]


@pytest.fixture(autouse=True)
def no_other_fonts(monkeypatch):
    own = [entry for entry in font_manager.fontManager.ttflist if "mpl-data" in entry.fname]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [])
    monkeypatch.setattr(fonts, "_NUMBERS", {})


def draw(file):
    report = classification_report([0, 1, 2], np.eye(3) * 0.7 + 0.1, NAMES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_confusion_matrix(report, file)
    return np.asarray(Image.open(file).convert("L"))


def a_font(path, letters):
    """Writes a font whose letters are black squares."""
    pen = TTGlyphPen(None)
    for point, move in zip([(0, 0), (0, 900), (900, 900), (900, 0)], [pen.moveTo, *[pen.lineTo] * 3], strict=True):
        move(point)
    pen.closePath()
    square = pen.glyph()
    names = [".notdef", *(f"g{ord(letter)}" for letter in letters)]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(letter): f"g{ord(letter)}" for letter in letters})
    builder.setupGlyf(dict.fromkeys(names, square))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=900)
    builder.setupPost()
    builder.save(path)


def test_words_without_a_font_are_numbered_once(tmp_path, capsys):
    first = draw(tmp_path / "a.png")
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "the plots show [1] for 体育, [2] for 财经 新闻, [3] for T恤. Install" in said
    assert "fonts-noto-cjk" in said
    assert (draw(tmp_path / "b.png") == first).all() and capsys.readouterr().err == ""


def test_an_installed_font_draws_them(tmp_path, capsys, monkeypatch):
    numbered = draw(tmp_path / "numbered.png")
    capsys.readouterr()
    a_font(tmp_path / "squares.ttf", "体育财经新闻恤")
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(tmp_path / "squares.ttf")])
    drawn = draw(tmp_path / "drawn.png")
    assert capsys.readouterr().err == ""
    assert drawn.shape != numbered.shape or (drawn != numbered).any()
    assert (drawn < 50).sum() > 1.5 * (numbered < 50).sum() or drawn.shape != numbered.shape
