"""What families recommend: arguments and training options by the size of the data, from the modules of this package."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from zoo.errors import UsageError, did_you_mean, one_line

if TYPE_CHECKING:
    from zoo.config import TrainConfig
    from zoo.registry import ModelSpec, Situation


def describe(examples: int, arguments: Mapping[str, Any], given: TrainConfig, completed: TrainConfig) -> str:
    """Returns a line with what a model recommends for the data and the user has left open; empty if that is nothing.

    Args:
        examples: number of training examples.
        arguments: recommended arguments of the builder.
        given: the options that were passed.
        completed: these, with the recommended options.

    Example:
        >>> describe(300, {"members": 8}, TrainConfig(), TrainConfig(batch_size=32))
        'recommended for 300 examples: members 8, batch_size 32'
    """
    before = given.to_dict()
    options = {name: value for name, value in completed.to_dict().items() if value != before[name]}
    taken = [f"{name} {value}" for name, value in {**arguments, **options}.items()]
    return f"recommended for {examples:,} examples: {', '.join(taken)}" if taken else ""


def arguments_of(spec: ModelSpec, situation: Situation) -> dict[str, Any]:
    """Returns the arguments of the builder that a model recommends.

    Raises:
        UsageError: its function fails, returns no dict, or names an argument that the builder does not have.

    Example:
        >>> arguments_of(zoo.get_spec("mlp"), Situation("tabular_regression", 20_000, {}))["members"]
        8
    """
    return _checked(spec, "recommended_arguments", situation, spec.parameters)


def options_of(spec: ModelSpec, situation: Situation) -> dict[str, Any]:
    """Returns the options of `TrainConfig` that a model recommends.

    Raises:
        UsageError: its function fails, returns no dict, or names an option that `TrainConfig` does not have, or a value
            that it does not take.

    Example:
        >>> options_of(zoo.get_spec("mlp"), Situation("tabular_regression", 300, {}))["batch_size"]
        32
    """
    from zoo.config import TrainConfig

    found = _checked(spec, "recommended_options", situation, TrainConfig().to_dict())
    try:
        TrainConfig().completed(found)
    except UsageError as error:
        raise UsageError(f"recommended_options of the model {spec.name!r}: {error}") from error
    return found


def _checked(spec: ModelSpec, name: str, situation: Situation, known: Collection[str]) -> dict[str, Any]:
    try:
        found = getattr(spec, name)(situation)
    except UsageError:
        raise
    except Exception as error:  # whatever the function of a plugin raises
        raise UsageError(
            f"{name} of the model {spec.name!r} failed for {situation.examples:,} examples of {situation.task}: "
            f"{type(error).__name__}: {one_line(error, 120)}. Correct this function of the model."
        ) from error
    if not isinstance(found, Mapping):
        raise UsageError(
            f"{name} of the model {spec.name!r} returned {found!r:.60}; expected a dict. Return {{}} to recommend nothing."
        )
    for key in found:
        if key not in known:
            raise UsageError(
                f"{name} of the model {spec.name!r} returned {key!r}, which is unknown. {did_you_mean(str(key), known)}"
            )
    return dict(found)
