"""Typed settings of a training run. They are checked on creation and saved with the run to repeat it."""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from zoo.errors import UsageError, did_you_mean

AUGMENTATIONS = ("flip", "crop", "rand_augment", "mixup", "cutmix")
MIXING = ("mixup", "cutmix")  # these mix the targets too
_WHOLE = {
    "epochs": 1,
    "batch_size": 1,
    "accumulation_steps": 1,
    "warmup_steps": 0,
    "patience": 1,
    "keep_best": 0,
    "seed": 0,
    "replicas": 1,
    "steps_per_call": 1,
    "checkpoint_steps": 1,
    "keep_checkpoints": 1,
    "lora_rank": 1,
}
_OPTIONAL = (
    "clip_norm",
    "weight_decay",
    "adam_beta_1",
    "adam_beta_2",
    "adam_epsilon",
    "ema_momentum",
    "lora_rank",
    "monitor",
    "patience",
    "replicas",
    "checkpoint_steps",
)
_ADAM = ("adam_beta_1", "adam_beta_2", "adam_epsilon")


def check_augmentation_names(names: Sequence[str]) -> None:
    """Raises UsageError unless `names` is a list of known augmentations, each once, with mixup and cutmix last."""
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise UsageError(f"augmentation is {names!r}; expected a list of names. Pass augmentation=['flip'], say.")
    for index, name in enumerate(names):
        if name not in AUGMENTATIONS:
            raise UsageError(f"Unknown augmentation {name!r}. {did_you_mean(str(name), AUGMENTATIONS)}")
        if name in names[:index]:
            raise UsageError(f"augmentation names {name!r} twice; expected it once. Remove one of the two.")
        if name not in MIXING and set(names[:index]) & set(MIXING):
            raise UsageError(
                f"augmentation has {name!r} after 'mixup' or 'cutmix': {list(names)}; expected 'mixup' and 'cutmix' last. "
                f"Put {name!r} before them."
            )


def _check_patterns(field: str, patterns: Any) -> None:
    """Raises UsageError unless `patterns` is a list of layer names or patterns."""
    if isinstance(patterns, str) or not isinstance(patterns, Sequence):
        raise UsageError(
            f"{field} is {patterns!r}; expected a list of names or patterns. Pass {field}=['block_*'], say."
        )
    for pattern in patterns:
        if not isinstance(pattern, str) or not pattern:
            raise UsageError(f"{field} has {pattern!r}; expected a layer's name or a pattern. Pass 'block_*', say.")


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Training options: everything that affects a run's result, except the model and the data.

    Args:
        epochs: Passes over the training split.
        batch_size: Examples per optimizer step, counted over all devices, workers and accumulation steps.
        accumulation_steps: Number of parts into which each device splits its share of a batch. The parts are computed one
            after the other. This saves memory and costs time. Only batch normalisation statistics change.
        optimizer: Name of a Keras optimizer, such as adam, adamw, sgd or rmsprop.
        learning_rate: Learning rate of the optimizer. With a warm-up or a schedule, this is the peak value.
        schedule: Shape of the learning rate after the warm-up. Linear and cosine reach zero at the last step.
        warmup_steps: Steps over which the learning rate rises linearly from zero.
        warmup_fraction: Length of the warm-up as a fraction of all steps of the run, rounded up.
        warmup_from_zero: Whether the warm-up starts at exactly zero, as in Hugging Face's schedules. Step t (from 0) of a
            warm-up of n steps has the factor t / n if true, so the first step changes no weight. It is (t + 1) / n if false.
        weight_decay: Decoupled weight decay: each step subtracts this fraction of a weight times the learning rate. Biases
            and normalisation layers are excluded. Null uses the optimizer's default, which is 0 for most.
        adam_beta_1: Decay rate of Adam's first moment. Null uses 0.9.
        adam_beta_2: Decay rate of Adam's second moment. Null uses 0.999.
        adam_epsilon: Epsilon of Adam, added after the bias correction as in PyTorch, where 1e-8 is usual. Null uses Keras's
            1e-7, which is added before the correction.
        layer_decay: Factor of the learning rate from one group of layers to the group below. The top group has the full
            learning rate.
        freeze: Layers or weights that are not trained, as shell-style patterns of names such as embedding, block_* or
            block_1/inner/kernel.
        lora_rank: Rank of the LoRA matrices. Only these matrices and the last layer are trained. Their product is added to
            the kernels after training. Null trains the full weights.
        lora_layers: Layers that get LoRA matrices, as patterns. Empty selects all dense layers below the last layer.
        clip_norm: Maximum global norm of the gradients of a step. Null disables clipping.
        ema_momentum: Momentum of the moving average of the weights. The average is evaluated and exported. Null disables it.
        label_smoothing: Share of every label that is spread evenly over all classes.
        class_weights: Factor of the loss by class name, such as {spam: 4}, or balanced. Null weights all classes equally.
        augmentation: Augmentations of training images: flip, crop, rand_augment, mixup, cutmix.
        precision: Data type of the computation. Weights and the last layer stay float32. Auto selects bfloat16 on devices
            that compute it faster. The trained model is always float32.
        monitor: Metric that decides which epoch is best, such as val_loss. Null uses the task's default.
        patience: Stops training after this many epochs without improvement. Null disables early stopping.
        min_delta: Smallest change of the monitored metric that counts as an improvement for patience.
        keep_best: Number of best epochs whose weights are kept. If 1 or more, the best weights are evaluated and exported.
        seed: Seed of initial weights, shuffling, dropout and augmentation.
        deterministic: Whether TensorFlow uses deterministic ops only. Two runs are then equal bit for bit.
        strategy: Devices that share a step. Auto selects all visible GPUs, or the workers of a cluster, or the CPU.
        replicas: Number of devices for mirrored. Null uses all. Without GPUs, the CPU is split into this many devices.
        steps_per_call: Maximum number of steps in one compiled call. A call takes at most about a second. Callbacks and the
            progress bar still see every step.
        jit_compile: Whether XLA compiles the step. Auto enables it for long runs of models that are known to be faster with
            it on a CPU.
        checkpoint_steps: Steps between checkpoints within an epoch. Null saves only at the end of each epoch.
        keep_checkpoints: Number of checkpoints to keep.
        group_by_length: Whether batches hold sequences of similar length, which reduces padding.
        closed_form: Whether to solve for the weights directly instead of training. Only some models support it.
        histograms: Whether to write the distribution of every weight to tensorboard/ after every epoch.

    Raises:
        UsageError: a value is out of range, or two options contradict each other.

    Example:
        >>> TrainConfig(epochs=10, learning_rate=3e-4).epochs
        10
    """

    epochs: int = 10
    batch_size: int = 64
    accumulation_steps: int = 1
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: int = 0
    warmup_fraction: float = 0.0
    warmup_from_zero: bool = False
    weight_decay: float | None = None
    adam_beta_1: float | None = None
    adam_beta_2: float | None = None
    adam_epsilon: float | None = None
    layer_decay: float = 1.0
    freeze: list[str] = dataclasses.field(default_factory=list)
    lora_rank: int | None = None
    lora_layers: list[str] = dataclasses.field(default_factory=list)
    clip_norm: float | None = None
    ema_momentum: float | None = None
    label_smoothing: float = 0.0
    class_weights: dict[str, float] | Literal["balanced"] | None = None
    augmentation: list[str] = dataclasses.field(default_factory=list)
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16", "auto"] = "float32"
    monitor: str | None = None
    patience: int | None = None
    min_delta: float = 0.0
    keep_best: int = 0
    seed: int = 0
    deterministic: bool = False
    strategy: Literal["auto", "one_device", "mirrored", "multi_worker", "tpu"] = "auto"
    replicas: int | None = None
    steps_per_call: int = 32
    jit_compile: bool | Literal["auto"] = "auto"
    checkpoint_steps: int | None = None
    keep_checkpoints: int = 2
    group_by_length: bool = False
    closed_form: bool = False
    histograms: bool = False

    def __post_init__(self) -> None:
        self._check_numbers()
        self._check_choices()
        self._check_combinations()

    def _check_numbers(self) -> None:
        for name, least in _WHOLE.items():
            value = getattr(self, name)
            optional = name in _OPTIONAL and value is None
            if not optional and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise UsageError(
                    f"{name} is {value!r}; expected a whole number of at least {least}. Pass {name}={max(1, least)}, say."
                )
        if self.seed >= 2**32:
            raise UsageError(f"seed is {self.seed}; expected a 32-bit number. Pass a number below {2**32}.")
        for name in ("learning_rate", "clip_norm", "adam_epsilon"):
            value = getattr(self, name)
            if not (name in _OPTIONAL and value is None) and not (_is_finite(value) and value > 0):
                raise UsageError(f"{name} is {value!r}; expected a number above 0. Pass {name}=0.001, say.")
        for name in ("weight_decay", "min_delta"):
            value = getattr(self, name)
            if not (name in _OPTIONAL and value is None) and not (_is_finite(value) and value >= 0):
                raise UsageError(f"{name} is {value!r}; expected a number of at least 0. Pass {name}=0.01, say.")
        fractions = {"ema_momentum": 0.99, "label_smoothing": 0.1, "warmup_fraction": 0.1}
        for name, example in {**fractions, "adam_beta_1": 0.9, "adam_beta_2": 0.98}.items():
            value = getattr(self, name)
            if not (name in _OPTIONAL and value is None) and not (_is_finite(value) and 0 <= value < 1):
                raise UsageError(
                    f"{name} is {value!r}; expected at least 0 and less than 1. Pass {name}={example}, say."
                )
        if not (_is_finite(self.layer_decay) and 0 < self.layer_decay <= 1):
            raise UsageError(
                f"layer_decay is {self.layer_decay!r}; expected a number above 0 and at most 1. Pass layer_decay=0.95, say."
            )

    def _check_choices(self) -> None:
        for name in ("deterministic", "group_by_length", "closed_form", "histograms", "warmup_from_zero"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"{name} is {getattr(self, name)!r}; expected a boolean. Pass true or false.")
        for name in ("optimizer", "monitor"):
            value = getattr(self, name)
            if not (name in _OPTIONAL and value is None) and not (isinstance(value, str) and value):
                example = {"optimizer": "adam", "monitor": "val_loss"}[name]
                raise UsageError(f"{name} is {value!r}; expected a name. Pass {name}={example!r}, say.")
        for name in ("schedule", "strategy", "precision"):
            valid = typing.get_args(typing.get_type_hints(type(self))[name])
            if getattr(self, name) not in valid:
                raise UsageError(f"{name} is {getattr(self, name)!r}. {did_you_mean(str(getattr(self, name)), valid)}")
        if self.jit_compile != "auto" and not isinstance(self.jit_compile, bool):
            raise UsageError(f"jit_compile is {self.jit_compile!r}. Pass true, false or auto.")
        check_augmentation_names(self.augmentation)
        object.__setattr__(self, "augmentation", list(self.augmentation))
        for name in ("freeze", "lora_layers"):
            _check_patterns(name, getattr(self, name))
            object.__setattr__(self, name, list(getattr(self, name)))
        weights = self.class_weights
        if isinstance(weights, Mapping):
            for name, value in weights.items():
                if not isinstance(name, str) or not (_is_finite(value) and value >= 0):
                    raise UsageError(
                        f"class_weights has {name!r}: {value!r}; expected a class's name and a number of at least 0. "
                        "Pass class_weights={'spam': 4.0}, say."
                    )
            object.__setattr__(self, "class_weights", dict(weights))
        elif weights not in (None, "balanced"):
            raise UsageError(f"class_weights is {weights!r}. Pass 'balanced', or {{'spam': 4.0}}, say.")

    def _check_combinations(self) -> None:
        if self.replicas is not None and self.strategy != "mirrored":
            raise UsageError(
                f"replicas={self.replicas} requires strategy='mirrored'; received strategy={self.strategy!r}. "
                "Pass both, or leave replicas out."
            )
        if self.replicas is not None and self.batch_size < self.replicas:
            raise UsageError(
                f"batch_size={self.batch_size} is smaller than replicas={self.replicas}: a device would get no example. "
                f"Pass batch_size of at least {self.replicas}."
            )
        if self.batch_size < self.accumulation_steps:
            raise UsageError(
                f"batch_size={self.batch_size} cannot be divided into accumulation_steps={self.accumulation_steps} parts. "
                f"Pass batch_size of at least {self.accumulation_steps}, or fewer parts."
            )
        if self.jit_compile is True and self.accumulation_steps > 1:
            raise UsageError(
                f"jit_compile=true cannot be combined with accumulation_steps={self.accumulation_steps}. "
                "Leave one of them out."
            )
        self._check_fine_tuning()
        if self.min_delta and self.patience is None:
            raise UsageError(f"min_delta={self.min_delta} has no effect without patience. Pass patience=3, say.")
        if self.closed_form:
            default = TrainConfig()
            without_effect = (
                *("accumulation_steps", "ema_momentum", "augmentation", "label_smoothing", "patience", "keep_best"),
                *("layer_decay", "freeze", "lora_rank"),
            )
            for name in without_effect:
                if getattr(self, name) != getattr(default, name):
                    raise UsageError(
                        f"{name}={getattr(self, name)!r} has no effect with closed_form=true, which does not train. "
                        f"Leave {name} out."
                    )

    def _check_fine_tuning(self) -> None:
        if self.warmup_steps and self.warmup_fraction:
            raise UsageError(
                f"warmup_steps={self.warmup_steps} and warmup_fraction={self.warmup_fraction} both set the length of the "
                "warm-up. Leave one of them out."
            )
        if self.warmup_from_zero and not (self.warmup_steps or self.warmup_fraction):
            raise UsageError("warmup_from_zero=true has no effect without a warm-up. Pass warmup_fraction=0.1, say.")
        for name in _ADAM:
            if getattr(self, name) is not None and self.optimizer.lower() not in ("adam", "adamw"):
                raise UsageError(
                    f"{name}={getattr(self, name)} requires optimizer='adam' or 'adamw'; received {self.optimizer!r}. "
                    f"Leave {name} out."
                )
        if self.lora_layers and self.lora_rank is None:
            raise UsageError(f"lora_layers={self.lora_layers} has no effect without lora_rank. Pass lora_rank=8, say.")

    def to_dict(self) -> dict[str, Any]:
        """Returns all fields by name, as types that YAML and JSON support."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Creates a config from fields by name. Missing fields keep their defaults.

        Raises:
            UsageError: an unknown field (the message suggests the nearest valid one), or an invalid value.
        """
        known = [f.name for f in dataclasses.fields(cls)]
        for name in values:
            if name not in known:
                raise UsageError(f"TrainConfig has no field {name!r}. {did_you_mean(str(name), known)}")
        return cls(**values)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Reads a YAML file that holds a mapping.

    Raises:
        UsageError: the file is missing, is not YAML, has a duplicate key, or does not hold a mapping.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """Reads 1e-3 as a number and rejects duplicate keys, of which PyYAML silently keeps the last."""

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen = set()
            for key, _ in node.value:
                name = str(key.value)
                if name in seen:
                    raise yaml.MarkedYAMLError(problem=f"the key {name!r} occurs twice", problem_mark=key.start_mark)
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
        raise UsageError(f"{path} holds {held}; expected a mapping. Write `model:`, `data:` and `config:` sections.")
    return content


def to_yaml(content: Mapping[str, Any]) -> str:
    """Returns the mapping as YAML. Keys keep their order."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Writes one key per line, and each list on one line."""

    _know_exponents(Dumper)  # so that the text 1e3 is quoted
    Dumper.add_representer(list, lambda d, v: d.represent_sequence("tag:yaml.org,2002:seq", v, flow_style=True))
    return yaml.dump(dict(content), Dumper=Dumper, sort_keys=False, allow_unicode=True)


def _know_exponents(kind: Any) -> None:
    """Makes 1e-3 a number: YAML 1.1 reads it as text."""
    number = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$")
    kind.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+0123456789."))
