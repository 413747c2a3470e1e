"""Compares two finished models on the same raw examples, as they are served."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.analysis.comparison import Comparison
from zoo.analysis.paired import Outcome, difference_interval, mcnemar
from zoo.analysis.sides import Side, open_side
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.datasets.prepared import Prepared
    from zoo.scores import Score


def compare(
    first: Any, second: Any, data: Any = None, split: str = "test", *, count: int = 5, **data_arguments: Any
) -> Comparison:
    """Compares two finished models on the same raw examples. Each is called as it is served: by its SavedModel if it has one.

    Args:
        first: a run, its folder or what `zoo.run` returned; or the folder of a SavedModel that this package wrote.
        second: the other model. It must be for the same task, classes and values.
        data: other data, as `zoo.evaluate` takes it; None for the data that the runs were trained on.
        split: train, validation or test; or all examples of other data. Files without splits are one split, test.
        count: number of examples to return on which the models differ most.
        **data_arguments: arguments of `zoo.datasets.load`. Another file has the columns of the training by default.

    Returns:
        Metrics with 95 % intervals of their differences, McNemar's test, slices, costs and examples. The models are called
        in this process, without a server; their times depend on the machine and on what else it does.

    Raises:
        UsageError: a path is no finished model; the models differ in task, classes or values, or were trained on different
            data and none was given; the data does not fit; or the task has no metric of single examples.

    Example:
        >>> result = zoo.compare("runs/digits-mlp", "runs/digits-cnn")
        >>> result.metrics[0]["difference"], result.metrics[0]["interval"], result.mcnemar["p_value"]
        (0.03..., [0.01..., 0.05...], 0.002...)
        >>> print(zoo.compare("exports/mails/1", "exports/mails/2", "csv:this_week.csv"))
    """
    from zoo.analysis.answers import Scored, chunks, requests_of, shared_data
    from zoo.analysis.costs import costs
    from zoo.analysis.slices import SliceValues, compared

    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise UsageError(f"count is {count!r}; expected a whole number of at least 0. Pass count=5, say.")
    sides = (open_side(first), open_side(second))
    score = _shared_score(*sides)
    prepared, _, split = shared_data(sides, data, split, data_arguments)
    scored = [Scored(side, score, prepared.class_names) for side in sides]
    values, places, timed = SliceValues(prepared), [], None
    for chunk in chunks(prepared, split, sides):
        given = [requests_of(side, chunk, prepared.data.name) for side in sides]
        timed = timed or [{name: array[:64] for name, array in part.items()} for part in given]
        for one, part in zip(scored, given, strict=True):
            one.add(part, chunk.targets)
        values.add(chunk.examples, chunk.targets)
        places.append(chunk.places)
    if timed is None:
        raise UsageError(
            f"No example of split {split!r} of {prepared.data.name} can be sent to both models. Choose another split."
        )
    outcomes = [one.outcomes() for one in scored]
    before, after = (found[score.figure] for found in outcomes)
    test = mcnemar(before, after) if prepared.task.classes is not None else None
    described = costs(sides, timed, score.signature)
    return Comparison(
        task=prepared.task.name,
        data=prepared.data.name,
        split=split,
        num_examples=len(before.totals),
        models=tuple(
            {"path": side.name, "model": side.family, **facts} for side, facts in zip(sides, described, strict=True)
        ),  # type: ignore[arg-type]  # one for each of the two sides
        metrics=_metrics(score, outcomes, _block(prepared, scored[0].target_shape)),
        mcnemar=test._asdict() if test else None,
        slices=compared(values.slices(), before, after),
        examples=_examples(sides, score, outcomes, prepared, split, np.concatenate(places), count),
    )


def _shared_score(first: Side, second: Side) -> Score:
    """Returns the score of both models.

    Raises:
        UsageError: they differ in task, classes or values, or the task has no score.
    """
    task, other = first.interface.definition, second.interface.definition
    if task.name != other.name:
        raise UsageError(
            f"{first.name} is for the task {task.name}, {second.name} for {other.name}. Pass two models of the same task."
        )
    for side, part in ((first, task), (second, other)):
        if part.score is None:
            raise UsageError(
                f"{side.name}, a {side.family}, is for the task {task.name} and has no metric that is a mean over examples. "
                "Call `zoo evaluate` with each model instead."
            )
    assert task.score is not None and other.score is not None
    classes = (first.interface.class_names, second.interface.class_names)
    for mine, others, has in ((*classes, second.name), (*classes[::-1], first.name)):
        if missing := [name for name in mine if name not in others]:
            more = ", ..." if len(missing) > 5 else ""
            raise UsageError(
                f"{has} does not have the classes {', '.join(map(repr, missing[:5]))}{more} of the other model. Pass two "
                "models with the same classes."
            )
    if first.value_names != second.value_names:
        raise UsageError(
            f"{first.name} predicts {', '.join(first.value_names)}; {second.name} predicts {', '.join(second.value_names)}. "
            "Pass two models of the same values."
        )
    if task.objective.quantiles == other.objective.quantiles:
        return task.score
    # The quantiles are different ones, so only the values are compared.
    return dataclasses.replace(task.score, further=tuple(p for p in task.score.further if p in other.score.further))


def _block(prepared: Prepared, target_shape: tuple[int, ...]) -> int:
    """Returns how many neighbouring examples are drawn together: windows of a series overlap by the horizon."""
    return max(1, *target_shape) if prepared.task.follows_time and target_shape else 1


def _metrics(score: Score, outcomes: Sequence[Mapping[str, Outcome]], block: int) -> list[dict[str, Any]]:
    first, second = outcomes
    better = {score.figure: score.higher_is_better, **{part.figure: part.higher_is_better for part in score.further}}
    return [
        {
            "metric": name,
            "first": first[name].figure,
            "second": second[name].figure,
            "difference": second[name].figure - first[name].figure,
            "interval": difference_interval(first[name], second[name], block),
            "higher_is_better": better[name],
        }
        for name in first
    ]


def _examples(
    sides: Sequence[Side],
    score: Score,
    outcomes: Sequence[Mapping[str, Outcome]],
    prepared: Prepared,
    split: str,
    places: np.ndarray,
    count: int,
) -> list[dict[str, Any]]:
    """Returns the examples on which the models differ most: first those that one of them alone has right, then by the first
    further metric if the task has one."""
    from zoo.analysis.answers import Chunk, examples_at, requests_of, targets_at
    from zoo.analysis.inputs import correct_answer, plain_inputs

    metric = (score.further[0] if score.further else score).figure
    each = np.stack([found[metric].each() for found in outcomes])
    gaps = np.nan_to_num(np.abs(each[0] - each[1]))
    right = [found[score.figure].each() for found in outcomes]
    alone = np.nan_to_num(np.abs(right[0] - right[1])) if score.higher_is_better else np.zeros(len(gaps))
    rows = [int(row) for row in np.lexsort((-gaps, -alone))[:count] if gaps[row] > 0]
    if not rows:
        return []
    held = examples_at(prepared, split, places[rows].tolist())
    examples = [held[int(places[row])] for row in rows]
    targets = targets_at(prepared, examples)
    chunk = Chunk(examples, places[rows], targets)
    answers = [side.answer(requests_of(side, chunk, prepared.data.name), score.signature) for side in sides]
    found = []
    for i, row in enumerate(rows):
        facts: dict[str, Any] = {"place": int(places[row]), "input": plain_inputs(examples[i], prepared)}
        facts["target"] = correct_answer(targets, i, prepared)
        for name, side, answer, values in zip(("first", "second"), sides, answers, each, strict=True):
            one = {key: value[i] for key, value in answer.items()}
            facts[name] = {"answer": side.describe(one, score.signature), metric: float(values[row])}
        found.append(facts)
    return found
