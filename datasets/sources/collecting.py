"""Reads data set objects of other libraries into arrays: batches or single examples, each once."""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from zoo.datasets.preprocessing.base import object_array
from zoo.datasets.sources.array_kinds import CHANNELS
from zoo.datasets.sources.splitting import digest
from zoo.errors import UsageError
from zoo.iterables import array_of, start_of

Column = np.ndarray | list[np.ndarray]
Pair = tuple[np.ndarray, np.ndarray | None]
"""x and y of a batch or an example; y is None without targets."""

_COMPARED = 4
"""Elements that are read twice, to find out whether the order of a data set changes."""
_PLAIN_MODES = {"1": "L", "P": "RGB", "PA": "RGB", "LA": "L", "CMYK": "RGB", "YCbCr": "RGB", "HSV": "RGB"}
"""Modes of Pillow's images whose numbers are no grey values or colours, and the mode that has them."""


def elements_of(dataset: Any, what: str) -> tuple[Callable[[], Iterator[Any]], bool | None]:
    """Returns a function that begins to read a data set, and whether its elements are batches; None if that is open.

    Raises:
        UsageError: it never ends, or is no data set.
    """
    if hasattr(dataset, "element_spec"):
        if int(dataset.cardinality()) == tf.data.INFINITE_CARDINALITY:
            raise UsageError(f"The {what} never ends. Leave repeat() out, or pass dataset.take(n).")
        return dataset.as_numpy_iterator, None
    if hasattr(dataset, "column_names"):  # of Hugging Face: rows
        return dataset.__iter__, False
    if hasattr(dataset, "num_batches"):
        if dataset.num_batches is None:
            raise UsageError(f"The {what} never ends, as its num_batches is None. Give it the number of its batches.")
        return start_of(dataset) or dataset.__iter__, True
    if hasattr(dataset, "__next__"):
        return lambda: dataset, None
    start = start_of(dataset)
    if start is None and hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__"):
        return lambda: (dataset[i] for i in range(len(dataset))), False  # as PyTorch's map-style data sets
    if start is None:
        raise UsageError(
            f"The {what} is a {type(dataset).__name__}; expected a data set. Pass one that can be iterated."
        )
    return start, None


def collect(
    start: Callable[[], Iterator[Any]], choose: Callable[[Any], tuple[Any, Any]], batched: bool | None, what: str
) -> tuple[Column, Column | None, str]:
    """Reads all elements into arrays that hold them once.

    Args:
        start: begins to read the elements.
        choose: returns x and y of an element.
        batched: whether elements are batches; None decides by their shapes.
        what: the data set, for messages.

    Returns:
        x, y, and a note for the user.

    Raises:
        UsageError: there is no element, elements do not fit together, they do not fit in memory, or it is open whether
            they are batches.
    """
    parts: tuple[Growing, Growing] | None = None
    limit, begun, said = _most_bytes(), time.monotonic(), False
    for rows, (x, y) in enumerate(_pairs(start, choose), 1):
        parts = parts or (Growing(f"x of the {what}"), Growing(f"y of the {what}"))
        parts[0].add(x)
        if y is not None:
            parts[1].add(y)
        if parts[0].size + parts[1].size > limit:
            raise UsageError(
                f"The {what} has more than {limit / 2**30:.1f} GiB, half of the memory of this machine. If it never ends, "
                "end it, as by dataset.take(n); else write files and pass images:FOLDER or csv:FILE."
            )
        if not said and time.monotonic() - begun > 5:
            said = True
            print(
                f"Reading the {what}, {rows:,} elements so far. If it never ends, end it, as by dataset.take(n).",
                flush=True,
            )
    if parts is None:
        raise UsageError(f"The {what} is empty. Pass one with at least one example.")
    held, targets = parts[0], parts[1] if parts[1].shapes else None
    if batched is None:
        batched = are_batches(held, targets, what)
    inputs: Column = held.values(batched)
    answers: Column | None = None if targets is None else targets.values(batched)
    if _same_order(start, choose, held, targets):
        return inputs, answers, ""
    order = sorted(range(len(inputs)), key=_content(inputs, answers).__getitem__)
    inputs, answers = _sorted(inputs, order), None if answers is None else _sorted(answers, order)
    return (
        inputs,
        answers,
        f"the {what} changes its order: its examples are sorted by content, so that a run can be resumed",
    )


def _pairs(start: Callable[[], Iterator[Any]], choose: Callable[[Any], tuple[Any, Any]]) -> Iterator[Pair]:
    """Yields x and y of each element as arrays; of batches of ragged tensors, those of each example."""
    for element in start():
        x, y = choose(element)
        rows = _rows(x), _rows(y)
        if rows[0] is not None or rows[1] is not None:
            yield from ((_array(a), _array(b)) for a, b in zip(rows[0] or x, rows[1] or y, strict=True))
        else:
            yield _array(x), None if y is None else _array(y)


def _rows(part: Any) -> list[Any] | None:
    """Returns the examples of a batch of a ragged tensor; None for anything else."""
    if hasattr(part, "nested_row_splits"):
        return list(part.to_list())
    is_ragged = isinstance(part, np.ndarray) and part.dtype == object and part.ndim == 1 and len(part)
    return list(part) if is_ragged and isinstance(part[0], np.ndarray) else None


def _array(part: Any) -> np.ndarray:
    if isinstance(part, (str, bytes)):
        return np.array(part, object)  # NumPy's string types would drop a NUL at the end
    if isinstance(part, (list, tuple)) and part and all(isinstance(value, (str, bytes)) for value in part):
        return object_array(part)
    if getattr(part, "mode", None) in _PLAIN_MODES and hasattr(part, "convert"):
        part = part.convert(_PLAIN_MODES[part.mode])
    return array_of(part)


class Growing:
    """Arrays one after another in one buffer, which grows in place.

    Attributes:
        shapes: the shape of each array.
        is_text: whether they hold strings.
        size: about how many bytes they take.
    """

    def __init__(self, what: str) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.is_text = False
        self.size = 0
        self._what, self._texts = what, list[Any]()
        self._flat, self._used = np.empty(0, np.uint8), 0

    def add(self, part: np.ndarray) -> None:
        """Adds an array.

        Raises:
            UsageError: it holds something else than those before it, or neither numbers nor strings.
        """
        is_text = part.dtype.kind in "OUS"
        values = part.ravel().tolist() if is_text else part.ravel()
        wrong = [value for value in values if not isinstance(value, (str, bytes))] if is_text else []
        if wrong or part.dtype.kind not in "biufOUS":
            shown = f"{wrong[0]!r:.40} of type {type(wrong[0]).__name__}" if is_text else f"values of {part.dtype}"
            raise UsageError(f"{self._what} has {shown}; expected numbers or strings. Map it to them.")
        if self.shapes and is_text != self.is_text:
            raise UsageError(f"{self._what} has numbers and strings. Map it to one of them.")
        self.is_text = is_text
        self.shapes.append(part.shape)
        if is_text:
            self._texts += values
            self.size += sum(map(len, values)) + 64 * len(values)
            return
        if self._flat.dtype != part.dtype:
            dtype = np.result_type(self._flat, part) if self._used else part.dtype
            self._flat = self._flat.astype(dtype)
        end = self._used + part.size
        if end > len(self._flat):
            self._flat.resize(max(end, len(self._flat) * 5 // 4, 1024), refcheck=False)
        self._flat[self._used : end] = values
        self._used, self.size = end, end * self._flat.itemsize

    def part(self, number: int) -> np.ndarray:
        """Returns an array that was added."""
        start = sum(map(math.prod, self.shapes[:number]))
        return self._part(start, self.shapes[number])

    def _part(self, start: int, shape: tuple[int, ...]) -> np.ndarray:
        stop = start + math.prod(shape)
        return (object_array(self._texts[start:stop]) if self.is_text else self._flat[start:stop]).reshape(shape)

    def parts(self) -> Iterator[np.ndarray]:
        """Yields the arrays that were added."""
        start = 0
        for shape in self.shapes:
            yield self._part(start, shape)
            start += math.prod(shape)

    def values(self, batched: bool) -> Column:
        """Returns all examples: an array, or a list of arrays if they have several lengths or are lists of words.

        Raises:
            UsageError: they are images of several sizes, batches of several lengths, or padded words.
        """
        if not self.is_text:
            self._flat.resize(self._used, refcheck=False)
        inner = {shape[1:] if batched else shape for shape in self.shapes}
        if len(inner) == 1:
            count = sum(shape[0] for shape in self.shapes) if batched else len(self.shapes)
            whole = self._part(0, (count, *next(iter(inner))))
            if not self.is_text or whole.ndim < 2:
                return whole
            self._check_words()
            return list(whole)
        shapes = " and ".join(map(str, itertools.islice(sorted(inner), 2)))
        if max(map(len, inner)) > 2:
            raise UsageError(
                f"{self._what} has several shapes, such as {shapes}. Map it to one size, as by tf.image.resize."
            )
        if batched:
            raise UsageError(
                f"{self._what} has batches of several lengths, such as {shapes}, as padding makes them. Pass the data set "
                "before it is padded and batched."
            )
        if self.is_text:
            self._check_words()
        return list(self.parts())

    def _check_words(self) -> None:
        if any(not word for word in self._texts):
            raise UsageError(
                f"{self._what} has empty words, as padding makes them. Pass the data set before it is padded and batched."
            )


def are_batches(x: Growing, y: Growing | None, what: str) -> bool:
    """Returns whether elements are batches, by their shapes and contents.

    Raises:
        UsageError: they may be batches or single examples.
    """
    if y is None:
        return bool(x.shapes[0])
    if any(not a or not b or a[0] != b[0] for a, b in zip(x.shapes, y.shapes, strict=True)):
        return False
    if any(len(shape) > 1 for shape in y.shapes):
        return True
    if not (_may_be_words(x, y) if x.is_text else _may_be_examples(x, y)):
        return True
    if len(x.shapes[0]) == 1 and not x.is_text:
        return False
    sizes = [shape[0] for shape in x.shapes]
    if {*sizes} == {1}:
        return True
    if len({*sizes}) > 1:
        return not x.is_text or (len({*sizes[:-1]}) == 1 and sizes[-1] < sizes[0])
    raise UsageError(
        f"Each of the {len(sizes):,} elements of the {what} has x of shape {x.shapes[0]} and y of shape {y.shapes[0]}: they "
        f"may be batches of {sizes[0]} examples, or single examples. Pass batched=True or batched=False."
    )


def _may_be_words(x: Growing, y: Growing) -> bool:
    """Returns whether elements may be words with a tag each, rather than texts with a label each."""
    return (
        len(x.shapes[0]) == 1
        and y.is_text
        and all(len(text.split()) == 1 for part in x.parts() for text in part.ravel())
    )


def _may_be_examples(x: Growing, y: Growing) -> bool:
    """Returns whether elements may be an image or a series with a row of targets, rather than several with one each."""
    rank = len(x.shapes[0])
    if y.is_text or rank > 3 or (rank == 3 and x.shapes[0][-1] not in CHANNELS):
        return False
    flags = all(bool(np.all((part == 0) | (part == 1))) for part in y.parts())
    return rank == 1 or flags or any(bool((part != np.floor(part)).any()) for part in y.parts())


def _same_order(
    start: Callable[[], Iterator[Any]],
    choose: Callable[[Any], tuple[Any, Any]],
    x: Growing,
    y: Growing | None,
) -> bool:
    """Returns whether another pass begins with the same elements."""
    again = itertools.islice(_pairs(start, choose), _COMPARED)
    for number, pair in enumerate(again):
        for held, part in zip((x, y), pair, strict=True):
            if held is not None and part is not None:
                first = held.part(number)
                if first.shape != part.shape or not np.array_equal(first, part, equal_nan=not held.is_text):
                    return False
    return True


def _content(x: Column, y: Column | None) -> list[bytes]:
    """Returns a digest of each example."""

    def content(value: Any) -> bytes:
        value = np.asarray(value)
        return repr(value.tolist()).encode() if value.dtype == object else np.ascontiguousarray(value).tobytes()

    return [digest(content(row), b"" if y is None else content(y[i])) for i, row in enumerate(x)]


def _sorted(values: Column, order: Sequence[int]) -> Column:
    return values[np.array(order)] if isinstance(values, np.ndarray) else [values[i] for i in order]


def _most_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
