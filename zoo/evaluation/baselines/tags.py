"""A linear tagger: each word's tag from the word, its first and last letters, its shape, and the words around it."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.evaluation.baselines.contract import Baseline, Columns, register_baseline

if TYPE_CHECKING:
    from zoo.datasets.raw import RawData

_FEATURES = 2**18
"""Features are hashed to this many numbers, which bounds the memory."""
_UPDATES = 1_000_000
"""Words that the method sees in all passes, which bounds the time, but at least one pass and at most `_PASSES`."""
_PASSES = 5
_EDGE = "\n"
"""Stands before the first and after the last word of a sentence."""
_AROUND = (-2, -1, 1, 2)


def _shape(word: str) -> str:
    """Returns the kinds of a word's letters, runs of one kind shortened to two: "McDonald7" is "AaAaa0"."""
    kinds = ("A" if c.isupper() else "a" if c.isalpha() else "0" if c.isdigit() else c for c in word)
    return re.sub(r"(.)\1+", r"\1\1", "".join(kinds), flags=re.DOTALL)


def _own(word: str) -> list[str]:
    lower = word.lower()
    edges = [*(f"first {lower[:size]}" for size in (1, 2, 3)), *(f"last {lower[-size:]}" for size in (1, 2, 3, 4))]
    return ["bias", f"word {word}", f"lower {lower}", f"shape {_shape(word)}", *edges]


def _near(word: str, distance: int) -> list[str]:
    lower = word.lower()
    further = [] if abs(distance) > 1 else [f"{distance} last {lower[-3:]}", f"{distance} shape {_shape(word)}"]
    return [f"{distance} {lower}", *further]


def _numbers(words: Sequence[str], features: Any) -> np.ndarray:
    """Returns the numbers of the features of each word, int32 (words, features)."""
    rows = [[zlib.crc32(name.encode("utf-8", "replace")) % _FEATURES for name in features(word)] for word in words]
    return np.array(rows, np.int32)


def _matrix(examples: Columns) -> tuple[Any, list[int]]:
    """Returns the features of all words, sparse (words, features), and the number of words of each sentence."""
    from scipy.sparse import csr_matrix

    sentences = [[token.decode("utf-8", "replace") for token in tokens] for tokens in examples["tokens"]]
    edge = [_EDGE] * len(_AROUND)
    text = [word for words in sentences for word in (*words, *edge)]
    different = {word: number for number, word in enumerate(dict.fromkeys([_EDGE, *text]))}
    which = np.array([different[word] for word in (*edge, *text)], np.int32)
    is_word = [flag for words in sentences for flag in (*[True] * len(words), *[False] * len(edge))]
    places = len(edge) + np.flatnonzero(is_word)
    # Features of a word are made once for all its places.
    parts = [_numbers([*different], _own)[which[places]]]
    for distance in _AROUND:
        known = _numbers([*different], lambda word, distance=distance: _near(word, distance))
        parts.append(known[which[places + distance]])
    numbers = np.concatenate(parts, axis=1)
    words, count = numbers.shape
    bounds = np.arange(0, words * count + 1, count)
    ones = np.ones(words * count, np.float32)
    return csr_matrix((ones, numbers.ravel(), bounds), shape=(words, _FEATURES)), [len(words) for words in sentences]


def _predict(train: Columns, examples: Columns, data: RawData) -> Mapping[str, Any]:
    from sklearn.linear_model import SGDClassifier

    rows, _ = _matrix(train)
    passes = int(np.clip(_UPDATES // rows.shape[0], 1, _PASSES))
    # Averaged stochastic gradient descent on a smooth margin loss: seconds, where logistic regression takes minutes.
    model = SGDClassifier("modified_huber", alpha=1e-6, max_iter=passes, tol=None, average=True, random_state=0)
    model.fit(rows, np.concatenate([*train["tags"]]))
    found, lengths = _matrix(examples)
    tags = model.predict(found) if found.shape[0] else np.zeros(0, np.int64)
    return {"tags": np.split(tags, np.cumsum(lengths)[:-1])}


register_baseline(
    "linear tagger",
    Baseline(
        lambda data: {"tokens", "tags"} <= {*data.features} and len(data.class_names) > 1, _predict, most_rows=25_000
    ),
)
