"""Typed settings of a training run: checked when made, saved beside the result, read back to repeat it."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from zoo.errors import UsageError, did_you_mean


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How to train. Everything that changes the numbers of a run and is neither model nor data.

    Args:
        epochs: Passes over the training split.
        batch_size: Examples per step over all devices together.
        optimizer: A Keras optimizer by name, such as adam, adamw, sgd or rmsprop.
        learning_rate: The optimizer's learning rate, the highest one where a schedule varies it.
        schedule: How the learning rate goes on after the warm-up, down to zero at the last step unless constant.
        warmup_steps: Steps over which the learning rate rises linearly from zero.
        clip_norm: Largest global norm of the gradients of a step, null for no clipping.
        seed: Seed of initial weights, shuffling and dropout.
        deterministic: Whether TensorFlow must use deterministic ops only, which makes two runs equal bit for bit.
        strategy: Which devices share a step; auto takes every visible GPU, else the CPU.
        replicas: Number of devices for mirrored, null for all; on a machine without GPUs the CPU is divided.
        steps_per_call: Steps that run inside one compiled call; callbacks and the progress bar see every such call.
        jit_compile: Whether XLA compiles the step; worth trying on dense models, harmful to convolutions on a CPU.
        checkpoint_steps: Steps between checkpoints within an epoch, null for one at each epoch's end only.
        keep_checkpoints: How many checkpoints stay.
        group_by_length: Whether a batch holds sequences of like length, which costs less padding.
        closed_form: Whether the weights are solved for at once instead of trained, for models that can be.

    Raises:
        UsageError: a value out of range or two that contradict each other.

    Example:
        >>> TrainConfig(epochs=10, learning_rate=3e-4).epochs
        10
    """

    epochs: int = 10
    batch_size: int = 64
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: int = 0
    clip_norm: float | None = None
    seed: int = 0
    deterministic: bool = False
    strategy: Literal["auto", "one_device", "mirrored"] = "auto"
    replicas: int | None = None
    steps_per_call: int = 32
    jit_compile: bool = False
    checkpoint_steps: int | None = None
    keep_checkpoints: int = 2
    group_by_length: bool = False
    closed_form: bool = False

    def __post_init__(self) -> None:
        for name, least in {
            "epochs": 1,
            "batch_size": 1,
            "warmup_steps": 0,
            "seed": 0,
            "replicas": 1,
            "steps_per_call": 1,
            "checkpoint_steps": 1,
            "keep_checkpoints": 1,
        }.items():
            value = getattr(self, name)
            optional = name in ("replicas", "checkpoint_steps") and value is None
            if not optional and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise UsageError(
                    f"{name} is {value!r}; expected a whole number of at least {least}. Pass {name}={max(1, least)}, say."
                )
        for name in ("learning_rate", "clip_norm"):
            value = getattr(self, name)
            optional = name == "clip_norm" and value is None
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not optional and not (number and math.isfinite(value) and value > 0):
                raise UsageError(f"{name} is {value!r}; expected a number above 0. Pass {name}=0.001, say.")
        for name in ("deterministic", "jit_compile", "group_by_length", "closed_form"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"{name} is {getattr(self, name)!r}; expected a truth value. Pass true or false.")
        if not isinstance(self.optimizer, str):
            raise UsageError(f"optimizer is {self.optimizer!r}; expected a name. Pass optimizer='adam', say.")
        if self.seed >= 2**32:
            raise UsageError(f"seed is {self.seed}; expected 32 bits. Pass a number below {2**32}.")
        for name, valid in {
            "schedule": ("constant", "linear", "cosine"),
            "strategy": ("auto", "one_device", "mirrored"),
        }.items():
            if getattr(self, name) not in valid:
                raise UsageError(f"{name} is {getattr(self, name)!r}. {did_you_mean(str(getattr(self, name)), valid)}")
        if self.replicas is not None and self.strategy != "mirrored":
            raise UsageError(
                f"replicas={self.replicas} goes with strategy='mirrored'; received strategy={self.strategy!r}. "
                "Pass both, or leave replicas out."
            )
        if self.replicas is not None and self.batch_size < self.replicas:
            raise UsageError(
                f"batch_size={self.batch_size} is smaller than replicas={self.replicas}: a device would get nothing. "
                f"Pass batch_size of at least {self.replicas}."
            )

    def to_dict(self) -> dict[str, Any]:
        """Returns all fields by name, in the types that YAML and JSON know."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Makes a config from fields by name; fields that are left out keep their defaults.

        Raises:
            UsageError: an unknown field (the nearest valid one is offered), or a value that does not pass.
        """
        known = [f.name for f in dataclasses.fields(cls)]
        for name in values:
            if name not in known:
                raise UsageError(f"TrainConfig has no field {name!r}. {did_you_mean(str(name), known)}")
        return cls(**values)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Reads a YAML file that holds a mapping.

    Raises:
        UsageError: no such file, not YAML, a key that is there twice, or not a mapping at its top.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """Takes 1e-3 for a number, and refuses what PyYAML would read without a word: the last of two equal keys."""

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen = set()
            for key, _ in node.value:
                name = str(key.value)
                if name in seen:
                    raise yaml.MarkedYAMLError(problem=f"{name!r} is there twice", problem_mark=key.start_mark)
                seen.add(name)
            return super().construct_mapping(node, deep)

    _know_exponents(Loader)
    path = Path(path)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except OSError as error:
        raise UsageError(f"Cannot read {path}: {error.strerror}. Pass the config.yaml of a run.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not YAML: {' '.join(str(error).split())}. Correct it and try again.") from error
    if not isinstance(content, dict):
        held = "nothing" if content is None else f"a {type(content).__name__}"
        raise UsageError(f"{path} holds {held}. Put a mapping there, with `model:`, `data:` and `config:` sections.")
    return content


def to_yaml(content: Mapping[str, Any]) -> str:
    """Returns the mapping as YAML, keys in the order given."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Sections one key a line, lists in one line."""

    _know_exponents(Dumper)  # so that the text 1e3 is quoted
    Dumper.add_representer(list, lambda d, v: d.represent_sequence("tag:yaml.org,2002:seq", v, flow_style=True))
    return yaml.dump(dict(content), Dumper=Dumper, sort_keys=False, allow_unicode=True)


def _know_exponents(kind: Any) -> None:
    """YAML 1.1 takes 1e-3 for text; everybody who writes it means the number."""
    number = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$")
    kind.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+0123456789."))
