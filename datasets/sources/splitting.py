"""Splits examples by their content, never by the order of the rows, so that equal examples stay together."""

from __future__ import annotations

import contextlib
import contextvars
import hashlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence

import numpy as np

SHARES = (0.8, 0.1, 0.1)
"""Train, validation and test shares of a source without splits."""

_UNDIVIDED = contextvars.ContextVar("undivided", default=False)


@contextlib.contextmanager
def undivided() -> Iterator[None]:
    """Loads data for an evaluation alone: in the block, data without splits is a single split, `test`, which may be small
    and lack classes.

    Example:
        >>> with undivided():
        ...     data = zoo.datasets.load("csv:this_week.csv")
    """
    token = _UNDIVIDED.set(True)
    try:
        yield
    finally:
        _UNDIVIDED.reset(token)


def is_undivided() -> bool:
    """Returns whether data is loaded for an evaluation alone, see `undivided`."""
    return _UNDIVIDED.get()


def digest(*parts: bytes | str) -> bytes:
    """Returns the SHA-256 of an example's content. The bounds of the parts count: ("ab", "c") differs from ("a", "bc").

    Example:
        >>> digest("ab", "c") == digest("a", "bc")
        False
    """
    whole = hashlib.sha256()
    for part in parts:
        content = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        whole.update(len(content).to_bytes(8, "big") + content)
    return whole.digest()


def _ranked(digests: Sequence[bytes], strata: Sequence[Hashable] | None) -> list[list[list[int]]]:
    """Positions of the examples by stratum and group, both sorted. A group holds the examples with the same digest.

    A group that occurs in two strata belongs to the first.
    """
    groups: dict[bytes, list[int]] = defaultdict(list)
    for position, content in enumerate(digests):
        groups[content].append(position)
    held: dict[str, list[bytes]] = defaultdict(list)
    for content in sorted(groups):
        held[min(repr(strata[i]) for i in groups[content]) if strata is not None else ""].append(content)
    return [[groups[content] for content in held[stratum]] for stratum in sorted(held)]


def divide(
    digests: Sequence[bytes], strata: Sequence[Hashable] | None = None, shares: Sequence[float] = SHARES
) -> np.ndarray:
    """Divides examples by their content. The same set gives the same parts, whatever the order of its rows.

    Args:
        digests: digest of every example; examples with the same digest stay together.
        strata: values to spread evenly, such as the labels. A stratum with at least as many groups as there are parts
            occurs in all parts.
        shares: share of every part; the first part gets the remainder of the rounding.

    Returns:
        The number of every example's part, int64.

    Example:
        >>> np.bincount(divide([digest(str(i)) for i in range(100)])).tolist()
        [80, 10, 10]
    """
    parts = np.zeros(len(digests), np.int64)
    for groups in _ranked(digests, strata):
        start = 0
        for part, share in enumerate(shares[1:], 1):
            stop = start + max(round(len(groups) * share), int(len(groups) >= len(shares)))
            parts[[i for group in groups[start:stop] for i in group]] = part
            start = stop
    return parts


def deal(digests: Sequence[bytes], strata: Sequence[Hashable] | None, folds: int) -> np.ndarray:
    """Assigns examples to folds of equal size in turn: stratum after stratum, in the order of the digests.

    Args:
        digests: digest of every example; examples with the same digest stay together.
        strata: values to spread evenly.
        folds: number of folds.

    Returns:
        The number of every example's fold, int64.
    """
    numbers = np.zeros(len(digests), np.int64)
    dealt = 0
    for groups in _ranked(digests, strata):
        for group in groups:
            numbers[group] = dealt % folds
            dealt += 1
    return numbers


def divide_users_by_time(users: Sequence[str], times: Sequence[int], least: int = 5) -> np.ndarray:
    """Splits the ratings of each user by time: the last fifth is test, the tenth before it validation, the rest train.

    The test part of a user has n // 5 ratings, and the validation part n // 10, but at least 1. Users with fewer than
    `least` ratings are in train only. Ratings of the same second keep their order.

    Example:
        >>> divide_users_by_time(["a"] * 5 + ["b"], [50, 10, 20, 30, 40, 0]).tolist()
        [2, 0, 0, 0, 1, 0]
    """
    parts = np.zeros(len(users), np.int64)
    rated: dict[str, list[int]] = defaultdict(list)
    for position in np.argsort(np.asarray(times), kind="stable").tolist():
        rated[users[position]].append(position)
    for positions in rated.values():
        count = len(positions)
        if count >= max(least, 3):
            test = max(1, count // 5)
            parts[positions[-test:]] = 2
            parts[positions[-test - max(1, count // 10) : -test]] = 1
    return parts


def with_validation_by_time(users: Sequence[str], times: Sequence[int], given: Sequence[str]) -> list[str]:
    """Returns the splits of ratings with a validation split where the source has only train and one other split.

    It is cut from the end of train, as the other split is: the latest tenth of all training ratings if the other split is
    later than 99 % of them, otherwise the latest of each user, n // 10, but at least 1 of 3 or more. So what is chosen on
    it suits later ratings.

    Example:
        >>> with_validation_by_time(["a"] * 4, [4, 2, 3, 9], ["train"] * 3 + ["test"])
        ['validation', 'train', 'train', 'test']
    """
    other = {*given} - {"train"}
    if len(other) != 1:
        return list(given)
    found = ["train" if split == "train" else "test" for split in given]
    moments, is_train = np.asarray(times, np.float64), np.array([split == "train" for split in found])
    order = [place for place in np.argsort(moments, kind="stable").tolist() if is_train[place]]
    if not order:
        return list(given)
    chosen = order[-max(1, len(order) // 10) :]
    if np.mean(moments[is_train] <= moments[~is_train].min()) < 0.99:
        rated: dict[str, list[int]] = defaultdict(list)
        for place in order:
            rated[users[place]].append(place)
        chosen = [
            place for places in rated.values() if len(places) > 2 for place in places[-max(1, len(places) // 10) :]
        ]
    for place in chosen:
        found[place] = "validation"
    return found


def normalised(sentence: str) -> str:
    """Returns a sentence without case, punctuation and spacing, for comparisons.

    Example:
        >>> normalised("Really?  “YES”, he said…")
        'really yes he said'
    """
    return re.sub(r"[\W_]+", " ", unicodedata.normalize("NFKC", sentence).casefold()).strip() or sentence


def sentence_groups(pairs: Sequence[tuple[str, str]]) -> list[bytes]:
    """Returns a digest for every pair of sentences. Pairs that share a sentence of either language have the same digest.

    Groups are transitive: a pair that shares its English with one pair and its French with another joins the two. Sentences
    are compared without case, punctuation and spacing. The digest is that of the group's first sentence in sorted order,
    so it does not depend on the order of the pairs.
    """
    above: dict[tuple[int, str], tuple[int, str]] = {}

    def root(node: tuple[int, str]) -> tuple[int, str]:
        while above.setdefault(node, node) != node:
            above[node] = above[above[node]]
            node = above[node]
        return node

    keys = [((0, normalised(text)), (1, normalised(translation))) for text, translation in pairs]
    for text_key, translation_key in keys:
        one, other = sorted((root(text_key), root(translation_key)))
        above[other] = one  # the smallest of a group is its root
    return [digest(root(text_key)[1]) for text_key, _ in keys]


def also_in_train(digests: Mapping[str, Sequence[bytes]]) -> dict[str, int]:
    """Returns the number of examples of each other split that are equal to a training example, without zeros.

    Example:
        >>> also_in_train({"train": [b"1", b"2"], "test": [b"2", b"3"]})
        {'test': 1}
    """
    known = set(digests["train"])
    counts = {role: sum(one in known for one in part) for role, part in digests.items() if role != "train"}
    return {role: count for role, count in counts.items() if count}


def duplicates(digests: Sequence[bytes]) -> int:
    """Returns how many examples are equal to an earlier one."""
    return len(digests) - len(Counter(digests))
