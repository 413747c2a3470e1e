"""Unicode normalisation in the graph against Python's `unicodedata`."""

from __future__ import annotations

import random
import unicodedata

import pytest
import tensorflow as tf

from zoo.datasets.preprocessing.normalization import normalize

FORMS = {chr(code) for code in range(0xFF01, 0xFFEF) if code != 0xFFE3}


def expected(text: str) -> str:
    """Replaces full-width and half-width forms, then composes."""
    return unicodedata.normalize("NFC", "".join(unicodedata.normalize("NFKD", c) if c in FORMS else c for c in text))


def found(texts: list[str]) -> list[str]:
    return [text.decode() for text in normalize(tf.constant(texts)).numpy()]


def assigned(stop: int = 0x30000) -> list[str]:
    return [c for c in map(chr, range(1, stop)) if unicodedata.category(c) not in ("Cs", "Cn")]


@pytest.mark.slow
def test_every_character_and_its_decomposition_equal_those_of_python():
    texts = [form for c in assigned() for form in {c, unicodedata.normalize("NFD", c)}]
    assert found(texts) == [expected(text) for text in texts]


def test_random_sequences_of_letters_and_marks_equal_those_of_python():
    marks = [c for c in assigned(0x3100) if unicodedata.combining(c)]
    composed = [c for c in assigned(0x3100) if unicodedata.normalize("NFD", c) != c]
    hangul = [
        *map(chr, range(0x1100, 0x1113)),
        *map(chr, range(0x1161, 0x1176)),
        *map(chr, range(0x11A7, 0x11C3)),
        "가",
        "각",
    ]
    pool = [*assigned(0x250), *marks, *marks, *composed, *hangul, *sorted(FORMS), *map(chr, range(0x900, 0xE00))]
    draw = random.Random(0)
    texts = ["".join(draw.choices(pool, k=draw.randint(0, 12))) for _ in range(20_000)]
    assert found(texts) == [expected(text) for text in texts]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain",
        "e\u0301",
        "\u0301 first",
        "a\u0323\u0302",  # Vietnamese: the marks in two orders and two compositions
        "a\u0302\u0323",
        "\u00e2\u0323",
        "เธอรู้\u0e49\u0e39",  # Thai: tone and vowel in the wrong order
        "ﾊﾞﾅﾅ ＡＢＣ　１２３！",
        "\u1112\u1161\u11ab\u1100\u116e\u11a8",
        "क\u093cि",
        "שָׁלוֹם",
        "مُحَمَّد",
        "👍🏽 👩‍👩‍👧 ❤️",
        "a" + "\u0301" * 3_000,
    ],
)
def test_a_text_alone_equals_that_of_python(text):
    assert found([text]) == [expected(text)]
    assert found([text, "e\u0301", text]) == [expected(text), "é", expected(text)], "texts do not influence each other"
