"""Embedded texts for language models."""

from __future__ import annotations

import dataclasses
import operator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.datasets.data import Data

_MOST = 30
_SMALL = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_OPERATIONS = {"plus": operator.add, "minus": operator.sub, "times": operator.mul}


def spoken(number: int) -> str:
    """Returns a number below 1,000 in words.

    Example:
        >>> spoken(-342)
        'minus three hundred and forty-two'
    """
    if number < 0:
        return f"minus {spoken(-number)}"
    if number < len(_SMALL):
        return _SMALL[number]
    if number < 100:
        tens, rest = divmod(number, 10)
        return _TENS[tens - 2] + (f"-{_SMALL[rest]}" if rest else "")
    hundreds, rest = divmod(number, 100)
    return f"{_SMALL[hundreds]} hundred" + (f" and {spoken(rest)}" if rest else "")


def load_spoken_sums(memory_limit: int) -> Data:
    """Returns 2,883 sentences such as `two plus three is five.`, for text generation."""
    from zoo.datasets.sources.in_memory import Rows, texts
    from zoo.datasets.sources.splitting import digest

    numbers = range(_MOST + 1)
    sentences = [
        f"{spoken(a)} {name} {spoken(b)} is {spoken(apply(a, b))}."
        for name, apply in _OPERATIONS.items()
        for a in numbers
        for b in numbers
    ]
    rows = Rows(("text_generation",), {"text": texts(sentences)}, [digest(sentence) for sentence in sentences])
    source = "a grammar in this package; synthetic data for tests and first tries"
    data = rows.to_data("spoken_sums", {}, source, memory_limit)
    return dataclasses.replace(data, licence="none needed, made by a program")
