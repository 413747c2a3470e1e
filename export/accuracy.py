"""Compares one figure, such as accuracy: of the report, of the trained model and of the artifact, on raw test examples.

The golden examples only compare the artifact with the trained model. This comparison also finds a model that is not the
evaluated one, a preprocessor that differs from training, and differences on other examples than the golden ones.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from zoo import copies, kernels, scores
from zoo.errors import UsageError
from zoo.export import live
from zoo.export.standalone import arrays
from zoo.export.verdict import Check

if TYPE_CHECKING:
    from zoo.datasets.interface import Interface

ERRORS = 3.0
"""Standard errors by which one figure may be worse than another."""
_SECONDS = 5.0  # time limit; slow models are measured on fewer than 1,000 examples


@dataclasses.dataclass(frozen=True)
class Measured:
    """The trained model's figure on raw test examples.

    Attributes:
        score: the score of the task.
        requests: the examples by input name.
        targets: the correct answers.
        names: the labels, or the names of the values.
        sums: the result of `score.sums`.
        reported: the report's figure; None if there is none to compare with.
    """

    score: scores.Score
    requests: Mapping[str, np.ndarray]
    targets: np.ndarray
    names: tuple[str, ...]
    sums: scores.Sums
    reported: float | None

    @property
    def figure(self) -> float:
        """The trained model's figure."""
        return float(self.sums[0].sum() / self.sums[1].sum())

    @property
    def allowed(self) -> float:
        """The allowed difference: three standard errors of the figure, but at least the weight of about three examples."""
        totals, counts = self.sums
        error = math.sqrt(float(np.sum((totals - self.figure * counts) ** 2)))
        return ERRORS * max(error, abs(self.figure)) / float(counts.sum())

    def is_worse(self, figure: float, than: float) -> bool:
        """Whether `figure` is worse than `than` by more than the allowed difference."""
        return (than - figure if self.score.higher_is_better else figure - than) > self.allowed

    def write(self, folder: Path) -> dict[str, str]:
        """Writes the requests to a file for the replay process; returns the file by signature."""
        file = str(folder / "sample.npz")
        arrays.save(file, dict(self.requests))
        return {self.score.signature: file}

    def compare(self, sample: Mapping[str, str]) -> Check:
        """Scores the outputs with which the replay process has replaced the requests in the file."""
        answers = arrays.load(sample[self.score.signature])
        name = f"{self.score.figure} on raw test examples"
        if set(answers) == set(self.requests):
            return Check(name, False, detail="the artifact has no outputs for them")
        totals, counts = self.score.sums(answers, self.targets, self.names)
        if not counts.sum():
            return Check(name, False, detail="no output of the artifact can be scored")
        figure = float(totals.sum() / counts.sum())
        reported = "" if self.reported is None else f", report {self.reported:.4g}"
        detail = f"{len(self.targets):,} examples: artifact {figure:.4g}, trained model {self.figure:.4g}{reported}"
        return Check(name, not self.is_worse(figure, self.figure), abs(figure - self.figure), detail, self.allowed)


def measure(
    model: keras.Model, interface: Interface, report: Mapping[str, Any], serve: live.Serve | None = None
) -> Measured | None:
    """Measures the trained model on the interface's raw test examples; None if its task has no figure for that.

    `serve` is the result of `live.compiled_serve`; by default the preprocessor's own `serve`.

    Raises:
        UsageError: the figure is worse than in the report, or worse than in training because the inputs differ.
    """
    score = interface.definition.score
    names = report.get("class_names")
    if names is not None and interface.class_names and list(names) != list(interface.class_names):
        raise UsageError(
            f"The report has the classes {', '.join(map(str, names[:5]))}, the interface "
            f"{', '.join(interface.class_names[:5])}. Pass the report that zoo.evaluate(model, prepared) returns for this "
            "model and data."
        )
    if score is None:
        return None
    sample: Any = interface.sample or interface.examples
    if score.target not in sample.targets:
        return None
    function = live.signatures(model, interface, serve)[score.signature]
    assert function.takes is not None, "a score needs raw requests"
    given = {name: sample.requests[name] for name in function.takes}
    with kernels.whole_float32():
        # Traced once: eager decoding of 1,000 images would take longer than the export.
        specs = {name: interface.preprocessor.requests[name].spec for name in function.takes}
        once = kernels.traced(function, reduce_retracing=False, input_signature=[specs], autograph=False)
        answers = live.answers_to(given, once, _SECONDS)
    count = len(next(iter(answers.values())))
    given, targets = {k: v[:count] for k, v in given.items()}, sample.targets[score.target][:count]
    known = interface.class_names or getattr(getattr(interface.preprocessor, "targets", None), "value_names", ())
    sums = score.sums(answers, targets, known)
    if not sums[1].sum():
        return None
    whole = interface.sample is not None and interface.sample.whole  # then its first examples are random too
    same = (report.get("task"), report.get("split"), report.get("data")) == (
        interface.task,
        "test",
        interface.data.get("name"),
    )
    reported = report.get(score.figure) if whole and same else None
    found = Measured(score, given, targets, known, sums, reported)
    if reported is not None and found.is_worse(found.figure, reported):
        raise UsageError(
            f"{score.figure} is {reported:.4g} in the report, but model {model.name!r} has {found.figure:.4g} on {count:,} "
            f"raw test examples, more than {ERRORS:.0f} standard errors ({found.allowed:.2g}) worse. Pass the model that "
            "was evaluated, the interface of its data, and the report of zoo.evaluate(model, prepared)."
        )
    _check_training(model, interface, found)
    return found


def _check_training(model: keras.Model, interface: Interface, found: Measured) -> None:
    """Raises `UsageError` if the model is worse than in training because its inputs differ."""
    memory = getattr(model, "_zoo_trained", None)
    if memory is None:
        return
    parts = [np.asarray(part) for part in tf.nest.flatten(dict(interface.examples.inputs))]
    pairs = list(zip(memory["inputs"], map(copies.describe_values, parts), strict=False))
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    figure = found.score.trained or found.score.figure
    validated, trained = memory["figures"].get(f"val_{figure}"), memory["figures"].get(figure)
    before = (trained if validated is None else validated) if found.score.higher_is_better else None
    said = "" if before is None else f" (in training {before:.4g})"
    for was, is_now in known:
        if not _apart(was, is_now, 1.5) or (before is not None and not found.is_worse(found.figure, before)):
            continue
        if before is None and not _apart(was, is_now, 8.0):
            continue
        raise UsageError(
            f"Model {model.name!r} was trained on inputs from {was['low']:.4g} to {was['high']:.4g} (mean {was['mean']:.3g}, "
            f"deviation {was['deviation']:.3g}); the interface's preprocessor returns {is_now['low']:.4g} to "
            f"{is_now['high']:.4g} (mean {is_now['mean']:.3g}, deviation {is_now['deviation']:.3g}), and the model's "
            f"{figure} on {len(found.targets):,} raw test examples is {found.figure:.4g}{said}. Remove layers such as "
            "Rescaling from the model and train it on the inputs that prepared.batches returns, or pass the interface that "
            "it was trained with."
        )
    if (
        validated is not None
        and before is not None
        and found.figure < validated / 2
        and found.is_worse(found.figure, before)
    ):
        raise UsageError(
            f"Model {model.name!r} had {figure} {validated:.4g} on its validation data, but has {found.figure:.4g} on "
            f"{len(found.targets):,} raw test examples of the interface. Pass the interface of the data that the model was "
            "trained on, with the classes in the same order."
        )


def _apart(was: Mapping[str, float], is_now: Mapping[str, float], factor: float) -> bool:
    """Whether the deviations differ by more than `factor`, or the means by more than `factor` deviations."""
    least = 1e-9 * max(1.0, abs(was["mean"]), abs(is_now["mean"]))
    spreads = [max(one["deviation"], least) for one in (was, is_now)]
    return max(spreads) > factor * min(spreads) or abs(was["mean"] - is_now["mean"]) > factor * max(spreads)
