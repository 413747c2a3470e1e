"""Checks of single training options: each function takes an option's name and value and returns the value as it is kept."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from zoo.errors import UsageError, did_you_mean

AUGMENTATIONS = ("flip", "crop", "rand_augment", "mixup", "cutmix")
MIXING = ("mixup", "cutmix")  # they mix the targets too
OPTIMIZERS = (
    *(
        "adadelta",
        "adafactor",
        "adagrad",
        "adam",
        "adamax",
        "adamw",
        "ftrl",
        "lamb",
        "lion",
        "muon",
        "nadam",
        "rmsprop",
    ),
    *("schedulefreeadamw", "sgd"),
)
"""The optimizers of Keras in small letters, which are known here without importing it. A test compares them."""

Check = Callable[[str, Any], Any]


def whole(least: int, limit: float = math.inf) -> Check:
    """Makes the check of a whole number from `least` to below `limit`."""

    def check(name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise UsageError(
                f"{name} is {value!r}; expected a whole number of at least {least}. Pass {name}={max(1, least)}, say."
            )
        if value >= limit:
            raise UsageError(f"{name} is {value}; expected a 32-bit number. Pass a number below {limit}.")
        return value

    return check


def positive(name: str, value: Any) -> float:
    """A number above 0."""
    if not (_is_finite(value) and value > 0):
        raise UsageError(f"{name} is {value!r}; expected a number above 0. Pass {name}=0.001, say.")
    return value


def duration(name: str, value: Any) -> float:
    """A time above 0, as seconds or as a text with a unit, such as 90s, 30m, 1.5h; returns seconds."""
    if isinstance(value, str) and (found := re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([smhd]?)\s*", value.lower())):
        value = float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]
    if not (_is_finite(value) and value > 0):
        raise UsageError(
            f"{name} is {value!r}; expected a time above 0. Pass {name}=30m, 2h or a number of seconds, say."
        )
    return float(value)


def not_negative(name: str, value: Any) -> float:
    """A number of at least 0."""
    if not (_is_finite(value) and value >= 0):
        raise UsageError(f"{name} is {value!r}; expected a number of at least 0. Pass {name}=0.01, say.")
    return value


def fraction(example: float) -> Check:
    """Makes the check of a number of at least 0 and less than 1."""

    def check(name: str, value: Any) -> Any:
        if not (_is_finite(value) and 0 <= value < 1):
            raise UsageError(f"{name} is {value!r}; expected at least 0 and less than 1. Pass {name}={example}, say.")
        return value

    return check


def share(example: float) -> Check:
    """Makes the check of a number above 0 and below 1."""

    def check(name: str, value: Any) -> float:
        if not (_is_finite(value) and 0 < value < 1):
            raise UsageError(f"{name} is {value!r}; expected a number above 0 and below 1. Pass {name}={example}, say.")
        return float(value)

    return check


def factor(name: str, value: Any) -> float:
    """A number above 0 and at most 1."""
    if not (_is_finite(value) and 0 < value <= 1):
        raise UsageError(f"{name} is {value!r}; expected a number above 0 and at most 1. Pass {name}=0.95, say.")
    return value


def boolean(name: str, value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise UsageError(f"{name} is {value!r}; expected a boolean. Pass true or false.")
    return value


def boolean_or_auto(name: str, value: Any) -> Any:
    """True, false or auto."""
    if value != "auto" and not isinstance(value, bool):
        raise UsageError(f"{name} is {value!r}. Pass true, false or auto.")
    return value


def named(example: str) -> Check:
    """Makes the check of a text that is not empty."""

    def check(name: str, value: Any) -> Any:
        if not (isinstance(value, str) and value):
            raise UsageError(f"{name} is {value!r}; expected a name. Pass {name}={example!r}, say.")
        return value

    return check


def optimizer(name: str, value: Any) -> str:
    """The name of an optimizer of Keras, in any letters."""
    known: str = named("adam")(name, value)
    if known.lower() not in OPTIMIZERS:
        raise UsageError(f"Unknown optimizer {known!r}. {did_you_mean(known.lower(), OPTIMIZERS)}")
    return known


def one_of(*valid: str) -> Check:
    """Makes the check of a choice."""

    def check(name: str, value: Any) -> Any:
        if value not in valid:
            raise UsageError(f"{name} is {value!r}. {did_you_mean(str(value), valid)}")
        return value

    return check


def augmentations(option: str, names: Any) -> list[str]:
    """A list of known augmentations, each once, with mixup and cutmix last."""
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise UsageError(f"{option} is {names!r}; expected a list of names. Pass {option}=['flip'], say.")
    for index, name in enumerate(names):
        if name not in AUGMENTATIONS:
            raise UsageError(f"Unknown augmentation {name!r}. {did_you_mean(str(name), AUGMENTATIONS)}")
        if name in names[:index]:
            raise UsageError(f"{option} names {name!r} twice; expected it once. Remove one of the two.")
        if name not in MIXING and set(names[:index]) & set(MIXING):
            raise UsageError(
                f"{option} has {name!r} after 'mixup' or 'cutmix': {list(names)}; expected 'mixup' and 'cutmix' last. "
                f"Put {name!r} before them."
            )
    return list(names)


def patterns(name: str, value: Any) -> list[str]:
    """A list of layer names or shell-style patterns of them."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise UsageError(f"{name} is {value!r}; expected a list of names or patterns. Pass {name}=['block_*'], say.")
    for pattern in value:
        if not isinstance(pattern, str) or not pattern:
            raise UsageError(f"{name} has {pattern!r}; expected a layer's name or a pattern. Pass 'block_*', say.")
    return list(value)


def quantiles(name: str, value: Any) -> list[float]:
    """A list of levels of quantiles between 0 and 1, each once; it becomes ascending."""
    levels = value.tolist() if hasattr(value, "tolist") else value  # of NumPy
    if isinstance(levels, str) or not isinstance(levels, Sequence):
        raise UsageError(f"{name} is {value!r}; expected a list of numbers. Pass {name}=[0.1, 0.5, 0.9], say.")
    for index, level in enumerate(levels):
        if not (_is_finite(level) and 0 < level < 1):
            raise UsageError(
                f"{name} has {level!r}; expected numbers above 0 and below 1. Pass {name}=[0.1, 0.5, 0.9] for 10 %, 50 % "
                "and 90 %, say."
            )
        if level in levels[:index]:
            raise UsageError(f"{name} has {level!r} twice; expected it once. Remove one of the two.")
    return sorted(map(float, levels))


def class_weights(option: str, weights: Any) -> Any:
    """Factors by class name or number, or `balanced`; the keys become text."""
    if weights == "balanced":
        return weights
    if not isinstance(weights, Mapping):
        raise UsageError(f"{option} is {weights!r}. Pass 'balanced', or {{'spam': 4.0}}, say.")
    for name, value in weights.items():
        known = isinstance(name, (str, numbers.Integral)) and not isinstance(name, bool)
        if not known or not (_is_finite(value) and value >= 0):
            raise UsageError(
                f"{option} has {name!r}: {value!r}; expected a class's name and a number of at least 0. "
                f"Pass {option}={{'spam': 4.0}}, say."
            )
    return {str(name): value for name, value in weights.items()}


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
