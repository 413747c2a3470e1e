"""What a search varies: ranges of numbers and lists of choices, written as in `--space NAME=LOW:HIGH[:log]|a,b,c`."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from zoo.config import TrainConfig
from zoo.errors import UsageError, did_you_mean
from zoo.registry import ModelSpec

if TYPE_CHECKING:
    import optuna

SECTIONS = ("config", "model")
COMMON: Mapping[str, str] = {"config.learning_rate": "1e-4:1e-2:log", "config.batch_size": "32,64,128,256"}
"""What is searched for a model that declares no `search_space`."""
_EXAMPLE = "Pass learning_rate=1e-4:1e-2:log, dropout=0:0.5 or batch_size=32,64,128, say."


@dataclasses.dataclass(frozen=True)
class Dimension:
    """An option of the training, or an argument of the builder, and the values that a search may give it.

    Attributes:
        section: config or model.
        name: the option's name.
        low: the lowest number; None for choices.
        high: the highest number.
        log: whether numbers are drawn on a logarithmic scale.
        choices: the values, as they were written.
    """

    section: str
    name: str
    low: float | int | None = None
    high: float | int | None = None
    log: bool = False
    choices: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The full name, such as config.learning_rate."""
        return f"{self.section}.{self.name}"

    @property
    def distribution(self) -> optuna.distributions.BaseDistribution:
        """The values as Optuna's distribution."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.low is None or self.high is None:
            return CategoricalDistribution(self.choices)
        if isinstance(self.low, int) and isinstance(self.high, int):
            return IntDistribution(self.low, self.high, log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    def value(self, drawn: Any) -> Any:
        """Returns the option's value for what was drawn from the distribution."""
        return read_value(drawn) if self.choices else drawn

    def __str__(self) -> str:
        if self.choices:
            return ",".join(self.choices)
        return f"{self.low}:{self.high}{':log' if self.log else ''}"


def read_value(text: str) -> Any:
    """Returns a value that is written as on the command line: a number, true, false, null, a list or a text.

    Example:
        >>> read_value("[64, 64]"), read_value("1e-3"), read_value("adamw")
        ([64, 64], 0.001, 'adamw')
    """
    import yaml

    if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+", text):  # YAML 1.1 reads 1e-3 as a text
        return float(text)
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(
            f"{text!r} in the search space is no number, text or list. Correct it; lists are [64, 64]."
        ) from error


def dimension(name: str, text: str, spec: ModelSpec) -> Dimension:
    """Returns a dimension from its name and its values as text.

    Args:
        name: an argument of the builder or an option of the training, with `model.` or `config.` before it if both have it.
        text: LOW:HIGH, LOW:HIGH:log, or choices with commas between them.
        spec: the model.

    Raises:
        UsageError: the name is unknown, or the values are no range and no list.

    Example:
        >>> dimension("dropout", "0:0.5", zoo.get_spec("mlp")).key
        'model.dropout'
    """
    section, name = _place(name, spec)
    text = text.strip()
    choices = [part.strip() for part in re.split(r",(?![^\[\]]*\])", text)]
    if ":" in text and len(choices) == 1:
        return _range(section, name, text)
    if len(choices) < 2 or not all(choices) or len({*choices}) < len(choices):
        raise UsageError(
            f"The space of {name} is {text!r}; expected LOW:HIGH, LOW:HIGH:log, or two or more different choices. {_EXAMPLE}"
        )
    for choice in choices:
        read_value(choice)
    return Dimension(section, name, choices=tuple(choices))


def _range(section: str, name: str, text: str) -> Dimension:
    parts = text.split(":")
    try:
        low, high = (int(part) if re.fullmatch(r"[-+]?\d+", part.strip()) else float(part) for part in parts[:2])
    except ValueError:
        low = high = math.nan
    scale = parts[2:] in ([], ["log"])
    if not (scale and math.isfinite(low) and math.isfinite(high) and low < high):
        raise UsageError(f"The space of {name} is {text!r}; expected LOW:HIGH or LOW:HIGH:log. {_EXAMPLE}")
    if parts[2:] and low <= 0:
        raise UsageError(
            f"The space of {name} is {text!r}; a logarithmic scale begins above 0. Pass {high / 1000:g}:{high:g}:log, say."
        )
    return Dimension(section, name, low, high, bool(parts[2:]))


def _place(name: str, spec: ModelSpec) -> tuple[str, str]:
    """Returns the section and the name of an option."""
    fields = {field.name for field in dataclasses.fields(TrainConfig)} - {"seed"}
    arguments = {*spec.parameters} - {*spec.data_arguments, *spec.initial_arguments, "input_shape"}
    known = {"model": arguments, "config": fields}
    given, _, last = name.strip().rpartition(".")
    last = last.replace("-", "_")
    found = [section for section in SECTIONS if last in known[section] and given in ("", section)]
    if len(found) == 1:
        return found[0], last
    if found:
        raise UsageError(
            f"{last} is an option of the training and an argument of {spec.name}. Pass config.{last} or model.{last}."
        )
    names = [f"{section}.{other}" for section in SECTIONS for other in known[section]]
    near = did_you_mean(f"{given}.{last}" if given else last, names if given else [*fields, *arguments])
    raise UsageError(f"The search space has {name!r}, which {spec.name} does not have. {near}")


def search_space(given: Iterable[str] | Mapping[str, str] | None, spec: ModelSpec) -> tuple[Dimension, ...]:
    """Returns what a search varies.

    Args:
        given: texts NAME=VALUES, or a dict of them; None for what the model declares.
        spec: the model.

    Raises:
        UsageError: a text has no =, a name occurs twice, or as in `dimension`.

    Example:
        >>> [str(part) for part in search_space(["learning_rate=1e-4:1e-2:log"], zoo.get_spec("mlp"))]
        ['0.0001:0.01:log']
    """
    if given is None:
        given = spec.search_space or COMMON
    pairs: list[tuple[str, str]] = []
    if isinstance(given, Mapping):
        pairs = [(str(name), str(values)) for name, values in given.items()]
    else:
        for text in [given] if isinstance(given, str) else given:
            name, equals, values = str(text).partition("=")
            if not equals:
                raise UsageError(f"The search space has {text!r}; expected NAME=VALUES. {_EXAMPLE}")
            pairs.append((name, values))
    found: dict[str, Dimension] = {}
    for name, values in pairs:
        part = dimension(name, values, spec)
        if part.key in found:
            raise UsageError(f"The search space has {part.key} twice. Leave one of them out.")
        found[part.key] = part
    if not found:
        raise UsageError(f"The search space is empty. {_EXAMPLE}")
    return tuple(found.values())
