"""What a builder is called with: what was chosen, what the data decides, what a checkpoint says."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from zoo import registry
from zoo.errors import UsageError

_MAY_SHRINK = ("vocab_size", "max_length")
"""Arguments that are upper bounds: data, or a checkpoint, with less lowers them."""


def complete_arguments(
    spec: registry.ModelSpec,
    chosen: Mapping[str, Any],
    arguments: Mapping[str, Any],
    fixed: Mapping[str, Any],
    decided: Collection[str],
    data_name: str,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns all arguments of a builder, and those of them that were requested: chosen, or left at their defaults.

    Args:
        spec: the model's.
        chosen: arguments that the user gave.
        arguments: these and the builder's defaults, and what the task decides.
        fixed: what the preprocessor, or a checkpoint, decides.
        decided: the names of what the task and the data's classes decide.
        data_name: of the data set, for messages.

    Raises:
        UsageError: an argument that contradicts the data, or a checkpoint of another named size.

    Example:
        >>> spec = registry.get_spec("bert")
        >>> complete_arguments(spec, {}, {"num_classes": 3}, {"vocab_size": 90}, ["num_classes"], "mails")[0]
        {'num_classes': 3, 'vocab_size': 90}
    """
    fixed = {name: value for name, value in fixed.items() if name in spec.parameters}
    not_requested = {*spec.data_arguments, *decided}
    if arguments.get("weights") is not None:
        # What was chosen in the place of what the checkpoint says, such as another dropout; sizes the builder compares.
        own = {name: value for name, value in chosen.items() if value != spec.parameters[name].default}
        fixed |= {name: value for name, value in own.items() if name in fixed and name not in _MAY_SHRINK}
        not_requested |= {*fixed} - {*own}
        _check_variant(spec, fixed, arguments["weights"])
    complete = {**arguments, **fixed}
    for name in {*spec.data_arguments, *decided}:
        default = spec.parameters[name].default if name in spec.parameters else None
        asked = registry.plain(chosen.get(name, default))
        if name in chosen and asked not in (registry.plain(default), registry.plain(complete[name])):
            raise UsageError(
                f"{name}={chosen[name]!r} contradicts data set {data_name!r}, which asks for {complete[name]!r}. "
                f"Leave {name} out."
            )
    return complete, {name: value for name, value in arguments.items() if name not in not_requested}


def _check_variant(spec: registry.ModelSpec, fixed: Mapping[str, Any], folder: str) -> None:
    """Raises UsageError where a named size was asked for, and the checkpoint is of another."""
    if spec.variant_of is None:
        return
    family = registry.get_spec(spec.variant_of).parameters
    siblings = [registry.get_spec(name) for name in registry.list_models(f"{spec.variant_of}_*")]
    sizes = [sibling.parameters for sibling in siblings if sibling.variant_of == spec.variant_of]
    for name, parameter in spec.parameters.items():
        differs = any(size[name].default != family[name].default for size in sizes)
        if differs and fixed.get(name, parameter.default) != parameter.default:
            raise UsageError(
                f"{spec.name} has {name}={parameter.default}; {folder} has {fixed[name]}. Choose {spec.variant_of}, which "
                "takes what the folder says."
            )
