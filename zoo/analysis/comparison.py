"""The result of a comparison of two models, and its lines for a terminal."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from zoo.analysis.inputs import in_words
from zoo.display import interval_text, number_text
from zoo.errors import printable

_MOST_SLICES = 8


@dataclasses.dataclass(frozen=True, repr=False)
class Comparison:
    """The result of `compare`. Differences are those of the second model from the first one.

    Attributes:
        task: name of the task.
        data: name of the data set.
        split: name of the split.
        num_examples: number of examples that both models were called with.
        models: for each model its `path` and `model` (the family), `parameters`, `bytes` of the SavedModel (None without
            one) and `milliseconds` of a request: `one`, and `batch`, in a batch of 64.
        metrics: for each metric its `metric` (the name), `first`, `second`, `difference`, `interval` (the 95 % bootstrap
            interval of the difference, None if it is the same in every sample) and `higher_is_better`.
        mcnemar: for examples that are right or wrong the numbers `both`, `only_first`, `only_second` and `neither`, and
            the `p_value` of McNemar's exact test; else None.
        slices: the first metric for each class, label and category of a table with 20 examples or more, those that differ
            most first: `by`, `value`, `examples`, `first`, `second`, `difference` and `interval` (normal approximation).
        examples: those on which the models differ most, first those that one alone has right: `place` in the split, `input`,
            `target`, and for both models, as `first` and `second`, the `answer` and its metric.
    """

    task: str
    data: str
    split: str
    num_examples: int
    models: tuple[Mapping[str, Any], Mapping[str, Any]]
    metrics: Sequence[Mapping[str, Any]]
    mcnemar: Mapping[str, Any] | None
    slices: Sequence[Mapping[str, Any]]
    examples: Sequence[Mapping[str, Any]]

    def __repr__(self) -> str:
        return self.table()

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as values that JSON holds."""
        return dataclasses.asdict(self)

    @property
    def verdict(self) -> str:
        """A sentence on the first metric: which model is better, and by how much."""
        return verdict(self.metrics[0])

    def table(self) -> str:
        """Returns the comparison as lines for a terminal."""
        return text(self)


def verdict(metric: Mapping[str, Any]) -> str:
    """Returns a sentence on a metric of two models A and B: which is better, and whether the examples can tell.

    Example:
        >>> verdict({"metric": "accuracy", "difference": 0.03, "interval": [0.01, 0.05], "higher_is_better": True})
        'B is better: accuracy 0.0300 higher (0.01 to 0.05)'
    """
    gap, interval = metric["difference"], metric["interval"]
    if not gap:
        return f"A and B have the same {metric['metric']}"
    better = "B" if (gap > 0) == metric["higher_is_better"] else "A"
    by = gap if better == "B" else -gap
    direction = "higher" if by > 0 else "lower"
    if interval is None:
        return f"{better} is better: {metric['metric']} {number_text(abs(by))} {direction}"
    low, high = sorted(abs(end) for end in interval)
    if interval[0] <= 0 <= interval[1]:
        return (
            f"these examples cannot tell A and B apart: the difference of {metric['metric']}, {number_text(gap)}, has the "
            f"interval {_signed(interval)}"
        )
    return f"{better} is better: {metric['metric']} {number_text(abs(by))} {direction} {interval_text([low, high])}"


def text(comparison: Comparison) -> str:
    """Returns all parts of a comparison."""
    one = comparison
    names = [
        f"{letter}: {printable(model['path'])} ({model['model']})"
        for letter, model in zip("AB", one.models, strict=True)
    ]
    head = f"{one.num_examples:,} examples, the {one.split} split of {printable(one.data)}"
    rows = [["", "A", "B", "B - A", "95 % interval"]]
    rows += [
        [part["metric"], _number(part["first"]), _number(part["second"]), _gap(part), _signed(part["interval"])]
        for part in one.metrics
    ]
    parts = [*names, head, "", *aligned(rows), f"Result: {verdict(one.metrics[0])}"]
    if one.mcnemar:
        parts += ["", *_mcnemar(one.mcnemar)]
    if one.slices:
        parts += ["", *_slices(one)]
    return "\n".join([*parts, "", *aligned(_costs(one.models)), *_examples(one.examples)])


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns rows as lines; all columns but the first are right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if not place else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _number(value: float) -> str:
    return number_text(value)


def _gap(part: Mapping[str, Any]) -> str:
    return f"{'+' if part['difference'] > 0 else ''}{number_text(part['difference'])}"


def _signed(interval: Sequence[float] | None) -> str:
    return "" if interval is None else interval_text(interval)


def _mcnemar(test: Mapping[str, Any]) -> list[str]:
    alone = f"only A {test['only_first']:,}, only B {test['only_second']:,}"
    return [
        f"Examples: both right {test['both']:,}, {alone}, neither {test['neither']:,}",
        f"McNemar's exact test: p = {test['p_value']:.2g}",
    ]


def _slices(one: Comparison) -> list[str]:
    rows = [["slice", "examples", "A", "B", "B - A", "95 % interval"]]
    for part in one.slices[:_MOST_SLICES]:
        name = printable(f"{part['by']} {part['value']}"[:40])
        numbers = [_number(part["first"]), _number(part["second"]), _gap(part), _signed(part["interval"])]
        rows.append([name, f"{part['examples']:,}", *numbers])
    shown = min(len(one.slices), _MOST_SLICES)
    title = f"{one.metrics[0]['metric']} by slice, the {shown} of {len(one.slices):,} that differ most"
    chance = round(len(one.slices) * 0.05)
    note = f"; of so many, about {chance:,} differ by chance alone" if chance else ""
    return [f"{title}{note}", *aligned(rows)]


def _costs(models: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    sizes = ["not exported" if m["bytes"] is None else f"{m['bytes'] / 1e6:,.2f} MB" for m in models]
    return [
        ["", "A", "B"],
        ["parameters", *(f"{m['parameters']:,}" for m in models)],
        ["SavedModel on disk", *sizes],
        ["milliseconds, one request", *(f"{m['milliseconds']['one']:.3f}" for m in models)],
        ["milliseconds, in a batch of 64", *(f"{m['milliseconds']['batch']:.3f}" for m in models)],
    ]


def _examples(examples: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = ["", "Examples on which A and B differ most"] if examples else []
    for part in examples:
        lines.append(f"  example {part['place']:,}: {in_words(part['input'])}")
        lines.append(f"    correct {printable(str(part['target']))}")
        for letter, name in (("A", "first"), ("B", "second")):
            (metric,) = (key for key in part[name] if key != "answer")
            lines.append(f"    {letter} {part[name]['answer']} ({metric} {number_text(part[name][metric])})")
    return lines
