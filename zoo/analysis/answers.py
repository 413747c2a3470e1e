"""The raw examples of a split, and what finished models answer to them."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from zoo import datasets
from zoo.analysis.paired import Outcome
from zoo.datasets.sampling import accepting, targets_of
from zoo.datasets.split_reader import SplitReader
from zoo.errors import UsageError, one_line
from zoo.other_data import prepare_other

if TYPE_CHECKING:
    from zoo.analysis.sides import Side
    from zoo.datasets.prepared import Prepared
    from zoo.scores import FurtherScore, Score

_CHUNK = 256


def own_data(side: Side) -> Prepared:
    """Returns the data that a run was trained on, prepared as for the run.

    Raises:
        UsageError: it cannot be loaded, or its training split or classes have changed.
    """
    interface = side.interface
    prepared = datasets.load_of_run(side.settings, side.directory).prepared_as(interface, {})
    if prepared.class_names != interface.class_names or "train" in prepared.changed:
        raise UsageError(
            f"The data of the run in {side.directory} has changed: its test split may hold training examples. Put the old "
            "data back, or pass other data (--data)."
        )
    return prepared


def shared_data(
    sides: Sequence[Side], data: Any, split: str, arguments: Mapping[str, Any]
) -> tuple[Prepared, Side, str]:
    """Returns the data on which models are compared, the model for which it is prepared, and the name of the split.

    Args:
        sides: the models.
        data: other data as `zoo.evaluate` takes it; None for the data of the first run.
        split: train, validation or test; or all examples of other data.
        arguments: arguments of `zoo.datasets.load`.

    Raises:
        UsageError: no data was given and there is none that all models know; as in `zoo.evaluate` otherwise.
    """
    if data is None:
        return _own(sides, split, arguments)
    found: list[tuple[Prepared, Side, str]] = []
    for side in sides:
        # What is read is described once.
        with contextlib.redirect_stdout(io.StringIO()) if found else contextlib.nullcontext():
            prepared, name = prepare_other(
                data, split, side.interface, side.directory, side.settings, arguments, baselines=False
            )
        _check_counts(side, prepared)
        found.append((prepared, side, name))
    # What one of them was trained on is divided as for its training, so that its training examples are left out.
    return next((part for part in found if not part[0].other), found[0])


def _own(sides: Sequence[Side], split: str, arguments: Mapping[str, Any]) -> tuple[Prepared, Side, str]:
    if arguments:
        raise UsageError(f"{next(iter(arguments))} came without data. Pass data, or leave it out.")
    side = next((side for side in sides if side.is_run), None)
    if side is None:
        raise UsageError(
            f"{' and '.join(side.name for side in sides)} do not say where their data is. Pass data: the name of a data set, "
            "or a labelled file (--data csv:FILE)."
        )
    prepared = own_data(side)
    for other in sides:
        same_splits = not other.is_run or all(
            other.interface.splits.get(name) == side.interface.splits.get(name) for name in ("train", split)
        )
        same_data = all(other.interface.data[key] == side.interface.data[key] for key in ("name", "source"))
        if not (same_splits and same_data):
            raise UsageError(
                f"{other.name} was trained on {other.interface.data['name']}, {side.name} on {side.interface.data['name']}, "
                "or on other splits of it, so the test examples of one may be training examples of the other. Pass data that "
                "neither has seen, such as --data csv:FILE."
            )
        _check_counts(other, prepared)
    return prepared, side, split


def _check_counts(side: Side, prepared: Prepared) -> None:
    """Raises UsageError if a SavedModel without a run was trained on another number of examples of the same data."""
    known = side.counts.get("train")
    if side.is_run or prepared.other or known is None or known == prepared.num_examples("train"):
        return
    raise UsageError(
        f"{side.name} was trained on {known:,} examples of {prepared.data.name}, whose training split now has "
        f"{prepared.num_examples('train'):,}: its test split may hold training examples. Pass the same data and options as "
        "in training, or other data."
    )


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Some neighbouring raw examples of a split that can be sent as requests, their places in it, and their targets."""

    examples: list[dict[str, Any]]
    places: np.ndarray
    targets: dict[str, np.ndarray]


def chunks(prepared: Prepared, split: str, sides: Sequence[Side]) -> Iterator[Chunk]:
    """Yields the examples of a split that all models accept as requests.

    Raises:
        UsageError: the split is unknown, or is empty.
    """
    reader = SplitReader(prepared.data, prepared.task, prepared.preprocessor)
    if not reader.split(split).num_examples:
        raise UsageError(f"Split {split!r} of data set {prepared.data.name!r} is empty. Choose another split.")
    numbered = enumerate(reader.split(split).dataset().as_numpy_iterator())
    tests = [accepting(side.interface.preprocessor) for side in sides]
    valid = ((place, example) for place, example in numbered if all(test(example) for test in tests))
    while part := list(itertools.islice(valid, _CHUNK)):
        places, examples = zip(*part, strict=True)
        targets = targets_of(reader, examples, lost=True)
        if (key := prepared.task.classes) in targets and targets[str(key)].ndim == 1:
            reader.check_classes(split, targets[str(key)])
        yield Chunk(list(examples), np.array(places), targets)


def requests_of(side: Side, chunk: Chunk, data: str) -> dict[str, np.ndarray]:
    """Returns the raw requests of a model for some examples.

    Raises:
        UsageError: the examples lack what the model takes.
    """
    try:
        return dict(side.interface.preprocessor.to_requests(chunk.examples))
    except (KeyError, ValueError, TypeError, tf.errors.OpError) as error:
        raise UsageError(
            f"{data} does not fit {side.name}: {type(error).__name__}: {one_line(error, 160)}. Pass data with its columns, "
            "channels and lengths."
        ) from error


class Scored:
    """Collects a model's answers and targets, and computes its metrics on every example.

    Args:
        side: the model.
        score: the score of the task.
        class_names: the names of the classes in the order of the targets' numbers.
    """

    def __init__(self, side: Side, score: Score, class_names: Sequence[str]) -> None:
        self.side, self._score, self._names = side, score, class_names
        self._answers: list[dict[str, np.ndarray]] = []
        self._targets: list[np.ndarray] = []

    def add(self, requests: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray]) -> None:
        """Answers some requests."""
        self._answers.append(self.side.answer(requests, self._score.signature))
        self._targets.append(self._renumbered(targets[self._score.target]))

    def _renumbered(self, targets: np.ndarray) -> np.ndarray:
        """Returns targets with the model's own class numbers."""
        own = list(self.side.interface.class_names)
        if own == list(self._names):
            return targets
        if self.side.interface.definition.objective.labels is not None:
            return targets[:, [list(self._names).index(name) for name in own]]
        numbers = np.array([own.index(name) for name in self._names])
        return np.where(targets >= 0, numbers[np.maximum(targets, 0)], targets)

    @property
    def target_shape(self) -> tuple[int, ...]:
        """The shape of the target of one example."""
        return self._targets[0].shape[1:]

    def outcomes(self) -> dict[str, Outcome]:
        """Returns the outcome of every metric by its name, the score of the task first."""
        names = self.side.interface.class_names or self.side.value_names
        answers, targets = self._answers, self._targets
        # Errors of several values are relative to their deviation over all examples.
        if len({(part.shape[1:], *_shapes(answer)) for part, answer in zip(targets, answers, strict=True)}) == 1:
            answers = [{name: np.concatenate([part[name] for part in answers]) for name in answers[0]}]
            targets = [np.concatenate(targets)]
        metrics: list[Score | FurtherScore] = [self._score, *self._score.further]
        found = {}
        for metric in metrics:
            parts = [metric.sums(answer, target, names) for answer, target in zip(answers, targets, strict=True)]
            totals, counts = (np.concatenate([np.asarray(part[i], np.float64) for part in parts]) for i in (0, 1))
            found[metric.figure] = Outcome(totals, counts, getattr(metric, "root", False))
        return found


def _shapes(answer: Mapping[str, np.ndarray]) -> tuple[Any, ...]:
    return tuple(value.shape[1:] for value in answer.values())


def examples_at(prepared: Prepared, split: str, places: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Returns raw examples of a split by their places."""
    wanted, found = set(places), {}
    for place, example in enumerate(prepared.data.splits[split].dataset().as_numpy_iterator()):
        if place in wanted:
            found[place] = example
            if len(found) == len(wanted):
                break
    return found


def targets_at(prepared: Prepared, examples: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Returns the targets of raw examples by name."""
    return targets_of(SplitReader(prepared.data, prepared.task, prepared.preprocessor), examples, lost=True)
