"""The worst mistakes of a finished model, with their inputs."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo import storage
from zoo.analysis.inputs import in_words, is_curve, is_picture
from zoo.analysis.sides import Side, open_side
from zoo.display import number_text
from zoo.errors import UsageError, printable

if TYPE_CHECKING:
    from zoo.analysis.paired import Outcome
    from zoo.datasets.prepared import Prepared
    from zoo.scores import Score

_SUFFIXES = (".json", ".csv", ".png")


@dataclasses.dataclass(frozen=True, repr=False)
class Mistakes:
    """The result of `mistakes`.

    Attributes:
        path: the model.
        data: name of the data set.
        split: name of the split.
        num_examples: number of examples that the model was called with.
        num_wrong: how many of them it has wrong; None for a task whose answers are closer or further, not right or wrong.
        metric: name of the metric by which they are sorted, such as `log_loss`.
        examples: the worst first: `place` in the split, `input`, `target`, `answer`, `loss` (the metric of this example), and
            of a forecast its `values`.
        raw: the raw examples in the same order, for pictures.
        channels: names of the channels of series.
    """

    path: str
    data: str
    split: str
    num_examples: int
    num_wrong: int | None
    metric: str
    examples: Sequence[Mapping[str, Any]]
    raw: Sequence[Mapping[str, Any]] = ()
    channels: Sequence[str] = ()

    def __repr__(self) -> str:
        return self.table()

    @property
    def _are_images(self) -> bool:
        """Whether the only input is an image, of which words say nothing."""
        return bool(self.raw) and len(self.examples[0]["input"]) == 1 and any(map(is_picture, self.raw[0].values()))

    @property
    def has_pictures(self) -> bool:
        """Whether `draw` can draw the inputs: images or series."""
        return any(is_picture(value) or is_curve(value) for example in self.raw[:1] for value in example.values())

    def to_dict(self) -> dict[str, Any]:
        """Returns everything but the raw examples as values that JSON holds."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)[:-2]}

    def table(self) -> str:
        """Returns the mistakes as lines for a terminal."""
        whole = f"{self.num_examples:,} examples of the {self.split} split of {printable(self.data)}"
        head = whole if self.num_wrong is None else f"{self.num_wrong:,} of {whole} are wrong"
        shown = f"the {len(self.examples):,} with the worst {self.metric}" if self.examples else "no mistakes"
        lines = [f"{head}; {shown}"]
        for part in self.examples:
            answer = f"answer {printable(str(part['answer']))}, correct {printable(str(part['target']))}"
            lines.append(f"{part['place']:>7,}  {self.metric} {number_text(part['loss'])}  {answer}")
            if not self._are_images:
                lines.append(f"         {in_words(part['input'])}")
        return "\n".join(lines)

    def write(self, path: str | Path) -> Path:
        """Writes the mistakes to a file: .json, .csv with a column for each input, or .png with pictures.

        Raises:
            UsageError: the name has another ending, the file cannot be written, or there are no pictures to draw.
        """
        path = Path(path)
        if path.suffix.lower() not in _SUFFIXES:
            raise UsageError(
                f"{path} ends with {path.suffix!r}; expected {', '.join(_SUFFIXES)}. Pass errors.csv, say."
            )
        try:
            if path.suffix.lower() == ".png":
                self.draw(path)
            elif path.suffix.lower() == ".json":
                storage.write_text(path, json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n")
            else:
                storage.write_text(path, self._csv())
        except OSError as error:
            raise UsageError(f"Cannot write {path}: {error.strerror}. Pass another file.") from error
        return path

    def draw(self, path: str | Path) -> None:
        """Draws the inputs, images or curves, with the model's answers and the correct ones, as a PNG file.

        Raises:
            UsageError: the inputs are texts or rows, or there are no mistakes.
        """
        from zoo.analysis.sheets import draw_sheet

        if not self.has_pictures:
            raise UsageError(
                f"The mistakes of {self.path} have no images or series to draw. Choose a .csv or .json file instead."
            )
        draw_sheet(self.raw, self.examples, self.channels, Path(path))

    def _csv(self) -> str:
        text = io.StringIO()
        names = list(dict.fromkeys(name for part in self.examples for name in part["input"]))
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["place", *names, "target", "answer", self.metric])
        for part in self.examples:
            inputs = [_cell(part["input"].get(name)) for name in names]
            writer.writerow([part["place"], *inputs, _cell(part["target"]), part["answer"], part["loss"]])
        return text.getvalue()


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else value


def mistakes(model: Any, data: Any = None, split: str = "test", *, count: int = 20, **data_arguments: Any) -> Mistakes:
    """Returns the worst mistakes of a finished model on raw examples, the largest loss first.

    Of a task whose answers are right or wrong, only wrong ones are mistakes. The loss is the first further metric of the
    task's score, such as the log loss of a class, or the score itself. Of windows of a series that overlap by the horizon,
    only the worst is returned.

    Args:
        model: a run, its folder or what `zoo.run` returned; or the folder of a SavedModel that this package wrote.
        data: other data, as `zoo.evaluate` takes it; None for the data that the run was trained on.
        split: train, validation or test; or all examples of other data. Files without splits are one split, test.
        count: the largest number of mistakes to return.
        **data_arguments: arguments of `zoo.datasets.load`.

    Raises:
        UsageError: the path is no finished model, the data does not fit, or the task has no metric of single examples.

    Example:
        >>> found = zoo.mistakes("runs/digits-cnn", count=30)
        >>> found.examples[0]["target"], found.examples[0]["answer"]
        ('8', '3 0.9712')
        >>> found.write("mistakes.png")
        PosixPath('mistakes.png')
    """
    from zoo.analysis.answers import Scored, chunks, requests_of, shared_data

    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise UsageError(f"count is {count!r}; expected a whole number of at least 1. Pass count=20, say.")
    side = open_side(model)
    score = side.interface.definition.score
    if score is None:
        raise UsageError(
            f"{side.name} is for the task {side.interface.task}, whose metrics are no means over examples, so no example has "
            "a score. Call `zoo evaluate` instead."
        )
    prepared, _, split = shared_data((side,), data, split, data_arguments)
    scored, places = Scored(side, score, prepared.class_names), []
    for chunk in chunks(prepared, split, (side,)):
        scored.add(requests_of(side, chunk, prepared.data.name), chunk.targets)
        places.append(chunk.places)
    if not places:
        raise UsageError(
            f"No example of split {split!r} of {prepared.data.name} can be sent as a request. Choose another split."
        )
    outcomes = scored.outcomes()
    # Neighbouring windows of a series share most of their steps: of these, the worst alone.
    apart = max(1, *scored.target_shape) if prepared.task.follows_time and scored.target_shape else 1
    metric, rows = _worst(score, outcomes, count, apart)
    wrong = _wrong(score, outcomes[score.figure])
    examples, raw = _described(side, score, prepared, split, np.concatenate(places)[rows])
    each = outcomes[metric].each()
    return Mistakes(
        path=side.name,
        data=prepared.data.name,
        split=split,
        num_examples=len(each),
        num_wrong=None if wrong is None else int(wrong.sum()),
        metric=metric,
        examples=[{**facts, "loss": float(each[row])} for facts, row in zip(examples, rows, strict=True)],
        raw=raw,
        channels=tuple(prepared.data.about.get("channels", ())),
    )


def _wrong(score: Score, outcome: Outcome) -> np.ndarray | None:
    """Returns which examples are not completely right; None if they are closer or further."""
    return (outcome.totals < outcome.counts) & (outcome.counts > 0) if score.higher_is_better else None


def _worst(score: Score, outcomes: Mapping[str, Outcome], count: int, apart: int) -> tuple[str, list[int]]:
    """Returns the metric that sorts the mistakes, and the numbers of the worst examples, which are at least `apart`."""
    metric = score.further[0] if score.further else score
    each = outcomes[metric.figure].each()
    loss = np.nan_to_num(-each if metric.higher_is_better else each, nan=-np.inf)
    wrong = _wrong(score, outcomes[score.figure])
    order = [int(row) for row in np.argsort(-loss, kind="stable") if np.isfinite(loss[row])]
    found: list[int] = []
    for row in order:
        if (wrong is None or wrong[row]) and all(abs(row - other) >= apart for other in found):
            found.append(row)
        if len(found) == count:
            break
    return metric.figure, found


def _described(
    side: Side, score: Score, prepared: Prepared, split: str, places: np.ndarray
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Returns the inputs, targets and answers of examples, and the raw examples."""
    from zoo.analysis.answers import Chunk, examples_at, requests_of, targets_at
    from zoo.analysis.inputs import correct_answer, plain_inputs

    if not len(places):
        return [], []
    held = examples_at(prepared, split, places.tolist())
    examples = [held[place] for place in places.tolist()]
    targets = targets_at(prepared, examples)
    answers = side.answer(requests_of(side, Chunk(examples, places, targets), prepared.data.name), score.signature)
    found = []
    for row, (place, example) in enumerate(zip(places.tolist(), examples, strict=True)):
        one = {key: value[row] for key, value in answers.items()}
        facts = {"place": place, "input": plain_inputs(example, prepared)}
        facts |= {"target": correct_answer(targets, row, prepared), "answer": side.describe(one, score.signature)}
        values = targets[score.target][row]
        arrays = [np.asarray(value) for value in one.values()]
        alike = [value for value in arrays if value.dtype.kind == "f" and value.shape == np.shape(values)]
        if np.ndim(values) and np.asarray(values).dtype.kind == "f" and alike:  # a forecast, for its picture
            facts["values"] = [float(value) for value in alike[0]]
        found.append(facts)
    return found, examples
