"""Requirements on the metrics of a report, such as `accuracy>=0.9`, for a gate before a model is published."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from zoo.display import number_text
from zoo.errors import UsageError, did_you_mean

_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


class Requirement(NamedTuple):
    """A metric, how it must compare with a number, and this number."""

    metric: str
    sign: str
    value: float


OF_A_REPORT = ("accuracy>=0.9", "mae<=2.5")
"""Requirements on a report, as examples in messages."""


def read_requirements(texts: str | Iterable[str], examples: tuple[str, str] = OF_A_REPORT) -> list[Requirement]:
    """Returns requirements from texts.

    Args:
        texts: such as "accuracy>=0.9".
        examples: two texts that a message suggests instead of one that has another form.

    Raises:
        UsageError: a text has another form.

    Example:
        >>> read_requirements(["accuracy>=0.9"])
        [Requirement(metric='accuracy', sign='>=', value=0.9)]
    """
    found = []
    for text in [texts] if isinstance(texts, str) else texts:
        parts = re.fullmatch(r"\s*([^<>=]+?)\s*(>=|<=|>|<)\s*(\S+)\s*", str(text))
        try:
            value = float(parts[3]) if parts else math.nan
        except ValueError:
            value = math.nan
        if parts is None or not math.isfinite(value):
            raise UsageError(
                f'The requirement {text!r} is not of the form METRIC>=NUMBER. Pass "{examples[0]}" or "{examples[1]}", say.'
            )
        found.append(Requirement(parts[1], parts[2], value))
    return found


def unmet(report: Mapping[str, Any], requirements: str | Iterable[str]) -> list[str]:
    """Returns a sentence for every requirement that a report does not meet; empty if it meets all.

    Args:
        report: the result of `zoo.evaluate`.
        requirements: texts such as "accuracy>=0.9", "log_loss<0.3" or "recall@10>0.2": a number of the report or a metric of
            its headline, one of >=, <=, > and <, and a number. A metric that is undefined meets none.

    Raises:
        UsageError: a text has another form, or the report has no such metric.

    Example:
        >>> zoo.evaluation.unmet(zoo.evaluate("runs/digits-cnn"), ["accuracy>=0.999"])
        ['accuracy is 0.9861; required is >= 0.999']
    """
    known = {name: value for name, value in report.items() if _is_number(value)}
    known |= {figure["metric"]: figure["value"] for figure in report.get("headline", ())}
    known |= {name: None for name, value in report.items() if value is None}
    found = []
    for metric, sign, value in read_requirements(requirements):
        if metric not in known:
            raise UsageError(f"The report has no metric {metric!r}. {did_you_mean(metric, known)}")
        came = known[metric]
        if came is None or not math.isfinite(came):
            found.append(f"{metric} is undefined; required is {sign} {value:g}")
        elif not _COMPARE[sign](came, value):
            found.append(f"{metric} is {_shown(came, value)}; required is {sign} {value:g}")
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _shown(came: float, value: float) -> str:
    """Returns a number as text that differs from the required one."""
    text = number_text(came)
    return text if float(text.replace(",", "")) != value else repr(came)
