"""Embedded data sets with several labels at once, and with values, for tests and first tries without network."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.datasets.sources.splitting import digest

if TYPE_CHECKING:
    from zoo.datasets.data import Data

_DIGITS = (
    "Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998, "
    "doi:10.24432/C50P49, as shipped with scikit-learn"
)
_SHAPES = {"even": (0, 2, 4, 6, 8), "loop": (0, 6, 8, 9), "straight stroke": (1, 4, 7)}


def load_digit_shapes(memory_limit: int) -> Data:
    """The images of `digits` with several labels: even numbers, digits with a loop, and digits of straight strokes.

    3 and 5 have no label. The images are real; the labels follow from the digit.
    """
    images, numbers = _digits()
    flags = np.stack([np.isin(numbers, held) for held in _SHAPES.values()], axis=1).astype(np.float32)
    return _of_images("digit_shapes", "image_multilabel", images, "labels", flags, memory_limit, tuple(_SHAPES))


def load_digit_ink(memory_limit: int) -> Data:
    """The images of `digits` with three values: their mean level from 0 to 255, and the row and column of the centre of the
    ink, in pixels from the upper left corner.

    The images are real; the values are computed from them, so the best error is 0.
    """
    images, _ = _digits()
    level = images[..., 0].astype(np.float64)
    places, total = np.arange(level.shape[1]) + 0.5, level.sum(axis=(1, 2))
    center = [(level * weight).sum(axis=(1, 2)) / total for weight in (places[:, np.newaxis], places)]
    values = np.stack([level.mean(axis=(1, 2)), *center], axis=1).astype(np.float32)
    about = {"value_names": ["ink", "row", "column"]}
    return _of_images("digit_ink", "image_regression", images, "value", values, memory_limit, about=about)


def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    source = load_digits()
    return np.round(source.images * (255 / 16)).astype(np.uint8)[..., np.newaxis], source.target


def _of_images(
    name: str,
    task: str,
    images: np.ndarray,
    key: str,
    target: np.ndarray,
    memory_limit: int,
    class_names: tuple[str, ...] = (),
    about: dict[str, Any] | None = None,
) -> Data:
    from zoo.datasets.sources.in_memory import Rows
    from zoo.datasets.sources.labels import rarest

    rows = Rows(
        tasks=(task,),
        columns={"image": images, key: target},
        digests=[digest(image.tobytes()) for image in images],
        strata=rarest(target).tolist() if class_names else None,
        class_names=class_names,
        about=about or {},
    )
    return dataclasses.replace(rows.to_data(name, {}, _DIGITS, memory_limit), licence="CC BY 4.0")


_WISHES = {
    "light": ["it is too dark here", "switch on the lamp", "i cannot see anything"],
    "music": ["play a song", "turn the radio on", "it is too quiet"],
    "warmth": ["i am cold", "start the heater", "it is freezing"],
    "window": ["let in fresh air", "open the window", "the smell is bad"],
}
_OPENINGS = ["", "hello, ", "please, "]
_IDLE = ["how are you", "thank you", "good night", "never mind", "who are you", "that is all"]


def load_wishes(memory_limit: int) -> Data:
    """486 synthetic texts with up to three wishes of four kinds, from a grammar without ambiguity: the best F1 score is 1.

    A text is an opening and up to two phrases, or three phrases in alphabetical order of their kinds. 18 texts have no wish.
    """
    from zoo.datasets.sources.in_memory import Rows, texts
    from zoo.datasets.sources.labels import rarest

    held: list[tuple[tuple[str, ...], str]] = [((), words) for words in _IDLE]
    for count in (1, 2):
        for kinds in itertools.permutations(_WISHES, count):
            held += [(kinds, " and ".join(parts)) for parts in itertools.product(*(_WISHES[kind] for kind in kinds))]
    examples = [(kinds, f"{opening}{words}") for kinds, words in held for opening in _OPENINGS]
    for kinds in itertools.combinations(_WISHES, 3):
        examples += [(kinds, " and ".join(parts)) for parts in itertools.product(*(_WISHES[kind] for kind in kinds))]
    names = tuple(sorted(_WISHES))
    flags = np.array([[name in kinds for name in names] for kinds, _ in examples], np.float32)
    rows = Rows(
        tasks=("text_multilabel",),
        columns={"text": texts([words for _, words in examples]), "labels": flags},
        digests=[digest(words) for _, words in examples],
        strata=rarest(flags).tolist(),
        class_names=names,
    )
    return _synthetic(rows, "wishes", memory_limit)


_NUMBERS = ["one", "two", "three", "four", "five"]
_PRICES = {"apple": 0.5, "bread": 3.0, "cheese": 4.5, "lemon": 0.8, "melon": 2.5}


def load_baskets(memory_limit: int) -> Data:
    """525 synthetic texts that name one or two kinds of goods and their numbers, with two values: the number of pieces and
    the price of all. They follow from the text, so the best error is 0.
    """
    from zoo.datasets.sources.in_memory import Rows, texts

    baskets = [
        tuple(zip(counts, goods, strict=True))
        for size in (1, 2)
        for goods in itertools.permutations(_PRICES, size)
        for counts in itertools.product(range(1, 6), repeat=size)
    ]
    phrases = [" and ".join(f"{_NUMBERS[count - 1]} {good}" for count, good in basket) for basket in baskets]
    values = [[sum(n for n, _ in basket), sum(n * _PRICES[good] for n, good in basket)] for basket in baskets]
    rows = Rows(
        tasks=("text_regression",),
        columns={"text": texts(phrases), "value": np.array(values, np.float32)},
        digests=[digest(phrase) for phrase in phrases],
        about={"value_names": ["pieces", "price"]},
    )
    return _synthetic(rows, "baskets", memory_limit)


def _synthetic(rows: Any, name: str, memory_limit: int) -> Data:
    source = "a grammar in this package; synthetic data for tests and first tries"
    return dataclasses.replace(rows.to_data(name, {}, source, memory_limit), licence="none needed, made by a program")
