"""Arguments of a model builder: from the user, from the data and from a checkpoint."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from zoo import registry
from zoo.errors import UsageError


class Read(dict[str, Any]):
    """Arguments that record which of them were read.

    Attributes:
        names: the names of these.

    Example:
        >>> arguments = Read(input_shape=(3,), dropout=0.1)
        >>> arguments.get("dropout"), arguments.names
        (0.1, {'dropout'})
    """

    def __init__(self, *args: Any, **values: Any) -> None:
        super().__init__(*args, **values)
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.names.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """Returns an argument, or the default."""
        self.names.add(name)
        return super().get(name, default)


def check_fixed(
    spec: registry.ModelSpec,
    chosen: Mapping[str, Any],
    fixed: Mapping[str, Any],
    read: Collection[str],
    data_name: str,
) -> None:
    """Checks that no argument from the user was overridden by one from the preprocessor that never read it.

    Args:
        spec: the model's spec.
        chosen: arguments from the user.
        fixed: arguments from the preprocessor.
        read: names of the arguments that the preprocessor has read, so that it has used the user's.
        data_name: name of the data set, for messages.

    Raises:
        UsageError: the preprocessor gives another value.
    """
    for name in chosen:
        if name not in fixed or name in read or name not in spec.parameters:
            continue
        typed, own = registry.plain(chosen[name]), registry.plain(fixed[name])
        if typed is None or typed == registry.plain(spec.parameters[name].default):
            continue
        if np.shape(typed) != np.shape(own) or np.any(np.asarray(typed) != np.asarray(own)):
            raise UsageError(
                f"{name}={chosen[name]!r:.60} contradicts data set {data_name!r}, from which {name}={fixed[name]!r:.60} "
                f"follows. Leave {name} out."
            )


def complete_arguments(
    spec: registry.ModelSpec,
    chosen: Mapping[str, Any],
    arguments: Mapping[str, Any],
    fixed: Mapping[str, Any],
    decided: Collection[str],
    data_name: str,
    from_checkpoint: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns all arguments of a builder, and the requested ones: chosen by the user, or left at their defaults.

    Args:
        spec: the model's spec.
        chosen: arguments from the user.
        arguments: these, the builder's defaults, and the arguments from the task.
        fixed: arguments from the preprocessor.
        decided: names of the arguments that the task and the data's classes determine.
        data_name: name of the data set, for messages.
        from_checkpoint: arguments from the checkpoint that the model starts from. Arguments from the user, such as
            another dropout, override them. The builder then compares sizes.

    Raises:
        UsageError: an argument contradicts the data, or the checkpoint has another size than the named model.

    Example:
        >>> spec = registry.get_spec("transformer")
        >>> complete_arguments(spec, {}, {"num_classes": 3}, {"vocab_size": 90}, ["num_classes"], "mails", {})[0]
        {'num_classes': 3, 'vocab_size': 90}
    """
    fixed = {name: value for name, value in fixed.items() if name in spec.parameters}
    not_requested = {*spec.data_arguments, *decided}
    own = {name: value for name, value in chosen.items() if value != spec.parameters[name].default}
    theirs = {name: own.get(name, value) for name, value in from_checkpoint.items() if name in spec.parameters}
    not_requested |= {*theirs} - {*own}
    _check_variant(spec, theirs, arguments)
    complete = {**arguments, **theirs, **fixed}
    for name in {*spec.data_arguments, *decided}:
        default = spec.parameters[name].default if name in spec.parameters else None
        value = registry.plain(chosen.get(name, default))
        if name in chosen and value not in (registry.plain(default), registry.plain(complete[name])):
            raise UsageError(
                f"{name}={chosen[name]!r} contradicts data set {data_name!r}, which needs {complete[name]!r}. "
                f"Leave {name} out."
            )
    known = {name: value for name, value in complete.items() if name in spec.parameters}
    return known, {name: value for name, value in arguments.items() if name in known and name not in not_requested}


def _check_variant(spec: registry.ModelSpec, theirs: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
    """Raises UsageError if the model has a named size, and the checkpoint has another."""
    if spec.variant_of is None:
        return
    family = registry.get_spec(spec.variant_of).parameters
    siblings = [registry.get_spec(name) for name in registry.list_models(f"{spec.variant_of}_*")]
    sizes = [sibling.parameters for sibling in siblings if sibling.variant_of == spec.variant_of]
    for name, parameter in spec.parameters.items():
        differs = any(size[name].default != family[name].default for size in sizes)
        if differs and theirs.get(name, parameter.default) != parameter.default:
            raise UsageError(
                f"{spec.name} has {name}={parameter.default}; {arguments['weights']} has {theirs[name]}. Choose "
                f"{spec.variant_of}, which uses the sizes of its checkpoint."
            )
