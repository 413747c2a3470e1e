"""Chooses raw test examples: the golden examples of an artifact, and a sample for comparing it with model and report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.datasets import statistics
from zoo.datasets.batches import rectangular
from zoo.datasets.interface import Examples, Sample
from zoo.datasets.sources.labels import rarest
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.datasets.preprocessing.base import Preprocessor
    from zoo.datasets.split_reader import SplitReader

COUNT = 1_000
SCAN = 10_000
BYTES = 64 << 20
_MOST_DESCRIBED = 50_000
_MOST_READ = 1 << 30
_FEWEST = 30


def draw_sample(splits: SplitReader, known: Examples) -> Sample | None:
    """Draws at most 1,000 random test examples, and at most 64 MiB. The draw is the same every time.

    A streamed split is sampled from its first 10,000 examples only.

    Args:
        splits: reads the test split.
        known: examples from whose size the number that fits is estimated.
    """
    split, preprocessor = splits.split("test"), splits.preprocessor
    whole = not splits.is_streamed("test") or split.num_examples <= SCAN
    num_examples = split.num_examples if whole else SCAN
    each = sum(_bytes(values) for values in known.requests.values()) / max(1, len(next(iter(known.requests.values()))))
    count = int(min(COUNT, num_examples, BYTES // max(1.0, each)))
    chosen = np.sort(np.random.default_rng(0).permutation(num_examples)[:count])
    accepts = accepting(preprocessor)
    examples = [example for example in split.at(chosen).as_numpy_iterator() if accepts(example)]
    if not examples:
        return None
    order = np.random.default_rng(1).permutation(len(examples))  # so that the first n are a random sample too
    examples = [examples[i] for i in order]
    return Sample(preprocessor.to_requests(examples), targets_of(splits, examples, lost=True), whole)


def describe_training(splits: SplitReader) -> dict[str, Any]:
    """Returns statistics of the requests of random training examples, see `statistics.summarize`, as JSON values.

    They are at most 1,000 examples, drawn from the first 50,000; fewer, but at least 30, if these take more than 1 GiB. The
    draw is the same every time. At most about 64 MiB of them are held at once.
    """
    split, preprocessor = splits.split("train"), splits.preprocessor
    known = min(split.num_examples, _MOST_DESCRIBED)
    chosen = np.sort(np.random.default_rng(0).permutation(known)[:COUNT])
    accepts, count, size, total = accepting(preprocessor), 0, 0, 0
    columns: statistics.Columns = {}
    examples: list[Mapping[str, Any]] = []

    def measure() -> None:
        for key, part in statistics.measured(preprocessor, preprocessor.to_requests(examples)).items():
            columns.setdefault(key, []).extend(part)
        examples.clear()

    for example in split.at(chosen).as_numpy_iterator():
        if not accepts(example):
            continue
        examples.append(example)
        count, each = count + 1, sum(_bytes(np.asarray(value)) for value in example.values())
        size, total = size + each, total + each
        if size > BYTES:
            measure()
            size = 0
        if total > _MOST_READ and count >= _FEWEST:
            break
    if examples:
        measure()
    return {"split": "train", "examples": count, "inputs": statistics.summarize(columns)} if count else {}


def pick_examples(splits: SplitReader, count: int = 64) -> Examples:
    """Returns at least `count` test examples, the first of every class before the second of any. Of several labels at once,
    the rarest of an example is its class.

    Raises:
        UsageError: no test example can be sent as a request.
    """
    split = splits.split("test")
    dataset = split.dataset().take(SCAN)
    names, key = _names(splits), splits.task.classes
    targets = list(dataset.map(lambda e: {name: e[name] for name in names}).as_numpy_iterator()) if names else []
    if key is not None and np.ndim(targets[0][key]) == 0:
        labels = np.array([target[key] for target in targets])
        splits.check_classes("test", labels)
        chosen = spread(labels, max(count, len(splits.data.class_names)))
    elif (several := splits.task.objective.labels) is not None:
        chosen = spread(rarest(np.stack([target[several] for target in targets])), count)
    else:
        accepts = accepting(splits.preprocessor)
        valid = [i for i, example in enumerate(dataset.as_numpy_iterator()) if accepts(example)]
        chosen = np.array(valid[:count], np.int64)
    if not len(chosen):
        raise UsageError(
            f"No test example of data set {splits.data.name!r} can be sent as a request: their values do not occur in "
            "the training split. Choose another way to split the data."
        )
    raw = split.at(chosen)
    examples = list(raw.as_numpy_iterator())
    requests = splits.preprocessor.to_requests(examples)
    inputs, *_ = splits.collect(raw)
    right = targets_of(splits, examples, lost=False)
    return Examples(requests, right, {name: value.numpy() for name, value in inputs.items()})


def _names(splits: SplitReader) -> list[str]:
    """Returns the targets that the data has; ratings are optional."""
    return [name for name in splits.task.targets if name in splits.data.features]


def targets_of(splits: SplitReader, examples: Sequence[Mapping[str, Any]], *, lost: bool) -> dict[str, np.ndarray]:
    """Returns the targets of the examples' requests by name."""
    aligned: Any = getattr(splits.preprocessor, "to_targets", None)
    found: dict[str, np.ndarray] = aligned(examples, lost=lost) if aligned else {}
    others = {name: rectangular([e[name] for e in examples]) for name in _names(splits) if name not in found}
    return {**found, **others}


def accepting(preprocessor: Preprocessor) -> Callable[[Mapping[str, Any]], bool]:
    """Returns whether an example can be sent as a request; a rating of an unknown item is valid in training only."""
    return getattr(preprocessor, "accepts", lambda example: True)


def spread(labels: np.ndarray, count: int) -> np.ndarray:
    """Returns the numbers of `count` examples, the first of every class before the second of any."""
    seen: dict[int, int] = {}
    rank = []
    for label in labels.tolist():
        rank.append(seen.get(label, 0))
        seen[label] = rank[-1] + 1
    order = np.lexsort((np.arange(len(labels)), np.array(rank)))
    return np.sort(order[:count])


def _bytes(values: np.ndarray) -> int:
    return sum(map(len, values.ravel().tolist())) if values.dtype == object else values.nbytes
