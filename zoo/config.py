"""Typed settings of a training run. They are checked on creation and saved with the run to repeat it."""

from __future__ import annotations

import dataclasses
import functools
import re
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from zoo import config_checks as checks
from zoo import storage
from zoo.errors import UsageError, did_you_mean, one_line

Schedule = Literal["constant", "linear", "cosine"]
Precision = Literal["float32", "mixed_bfloat16", "mixed_float16", "auto"]
Strategy = Literal["auto", "one_device", "mirrored", "multi_worker", "tpu"]
_ADAM = ("adam_beta_1", "adam_beta_2", "adam_epsilon")
_OF_OPTIMIZER = ("learning_rate", "weight_decay", *_ADAM)
_OF_SELECTION = ("patience", "min_delta", "keep_best", "monitor")
_WITHOUT_TRAINING = {"seed", "deterministic", "strategy", "replicas", "precision", "abstain", "quantiles"}
"""The options that have the same effect if a model is solved for instead of trained."""
_WARMUPS = ("warmup_steps", "warmup_fraction", "warmup_from_zero")
_WITHOUT_CLOSED_FORM = (
    *("accumulation_steps", "ema_momentum", "augmentation", "label_smoothing", "patience", "keep_best", "time_limit"),
    *("layer_decay", "freeze", "lora_rank", "head_first", "class_weights"),
)


def _option(default: Any, check: Callable[[str, Any], Any]) -> Any:
    """Declares an option: its default and the function that checks a value of it; None is valid if it is the default."""
    settings: dict[str, Any] = {"metadata": {"check": check}}
    if isinstance(default, list):
        return dataclasses.field(default_factory=list, **settings)
    return dataclasses.field(default=default, **settings)


def _noting_fields(cls: type[TrainConfig]) -> type[TrainConfig]:
    """Makes the constructor of a dataclass keep the names of the fields that were passed, and suggest the nearest field for
    an unknown one."""
    create = cls.__init__

    @functools.wraps(create)
    def checked(self: TrainConfig, *args: Any, **values: Any) -> None:
        _check_names(type(self), values)
        create(self, *args, **values)
        first = [field.name for field in dataclasses.fields(self)][: len(args)]
        object.__setattr__(self, "given", frozenset({*first, *values}))

    setattr(cls, "__init__", checked)  # noqa: B010
    return cls


def _check_names(cls: type[TrainConfig], values: Mapping[Any, Any]) -> None:
    known = [field.name for field in dataclasses.fields(cls)]
    initials = {"".join(word[0] for word in name.split("_")): name for name in reversed(known) if "_" in name}  # lr
    for name in values:
        if name in initials and name not in known:
            raise UsageError(f"TrainConfig has no field {name!r}. Pass {initials[name]}={values[name]!r:.40}.")
        if name not in known:
            raise UsageError(f"TrainConfig has no field {name!r}. {did_you_mean(str(name), known)}")


@_noting_fields
@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Training options: everything that affects a run's result, except the model and the data.

    Options that are not passed take what the model recommends for the data (`recommended_options` of its spec), and
    otherwise the defaults below. The run prints and records what it took. `dataclasses.replace` passes every option.

    Args:
        epochs: Passes over the training split.
        batch_size: Examples per optimizer step, counted over all devices, workers and accumulation steps.
        accumulation_steps: Parts into which each device splits its share of a batch, to save memory at the cost of time.
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
            block_1/inner/kernel, or a class of layers such as BatchNormalization.
        lora_rank: Rank of the LoRA matrices. Only these matrices and the last layer are trained. Their product is added to
            the kernels after training. Null trains the full weights.
        lora_layers: Layers that get LoRA matrices, as patterns. Empty selects all dense layers below the last layer.
        clip_norm: Maximum global norm of the gradients of a step. Null disables clipping.
        ema_momentum: Momentum of the moving average of the weights. The average is evaluated and exported. Null disables it.
        label_smoothing: Share of every label that is spread evenly over all classes.
        class_weights: Factor of the loss by class name, such as {spam: 4}, or balanced. Null weights all classes equally.
        augmentation: Augmentations of training images: flip, crop, rand_augment, mixup, cutmix.
        quantiles: Levels between 0 and 1, such as [0.1, 0.5, 0.9]. A model of values then also predicts these quantiles of
            each value, as outputs VALUE_q10, VALUE_q50 and VALUE_q90, calibrated on the validation split.
        abstain: Least share of right answers, such as 0.95. Finds on the validation split the probability from which on
            answers are right that often. Below it, the SavedModel's class_name is "unknown". Null answers always.
        precision: Data type of the computation. Weights and the last layer stay float32. Auto selects bfloat16 on devices
            that compute it faster. The trained model is always float32.
        monitor: Metric that decides which epoch is best, such as val_loss. Null uses the task's default.
        patience: Stops training after this many epochs without improvement. Null disables early stopping.
        min_delta: Smallest change of the monitored metric that counts as an improvement for patience.
        time_limit: Time after which training ends, such as 90s, 30m or 2h, interruptions excluded. Null sets no limit.
        keep_best: Number of best epochs whose weights are kept. If 1 or more, the best weights are evaluated and exported.
        seed: Seed of initial weights, shuffling, dropout and augmentation.
        deterministic: Whether TensorFlow uses deterministic ops only. Two runs are then equal bit for bit.
        strategy: Devices that share a step. Auto selects all visible GPUs, or the workers of a cluster, or the CPU.
        replicas: Number of devices for mirrored. Null uses all. Without GPUs, the CPU is split into this many devices.
        steps_per_call: Maximum number of steps in one compiled call. A call takes at most about a second. With a
            callback that has a hook for every batch, a call has one step.
        jit_compile: Whether XLA compiles the step. Auto enables it for long runs of models that are known to be faster with
            it on a CPU.
        checkpoint_steps: Steps between checkpoints within an epoch. Null saves only at the end of each epoch.
        keep_checkpoints: Number of checkpoints to keep.
        group_by_length: Whether batches hold sequences of similar length, which reduces padding.
        closed_form: Whether to solve for the weights directly instead of training. Only some models support it.
        head_first: Whether to solve for the last layer before the first epoch, from features that are computed once.
        histograms: Whether to write the distribution of every weight to tensorboard/ after every epoch.

    Raises:
        UsageError: a value is out of range, or two options contradict each other.

    Example:
        >>> TrainConfig(epochs=10, learning_rate=3e-4).epochs
        10
    """

    given: ClassVar[frozenset[str]] = frozenset()
    """The names of the options that were passed."""
    typed: ClassVar[frozenset[str] | None] = None  # of options that `completed` returned: the names passed before

    epochs: int = _option(10, checks.whole(1))
    batch_size: int = _option(64, checks.whole(1))
    accumulation_steps: int = _option(1, checks.whole(1))
    optimizer: str = _option("adam", checks.optimizer)
    learning_rate: float = _option(1e-3, checks.positive)
    schedule: Schedule = _option("constant", checks.one_of(*typing.get_args(Schedule)))
    warmup_steps: int = _option(0, checks.whole(0))
    warmup_fraction: float = _option(0.0, checks.fraction(0.1))
    warmup_from_zero: bool = _option(False, checks.boolean)
    weight_decay: float | None = _option(None, checks.not_negative)
    adam_beta_1: float | None = _option(None, checks.fraction(0.9))
    adam_beta_2: float | None = _option(None, checks.fraction(0.98))
    adam_epsilon: float | None = _option(None, checks.positive)
    layer_decay: float = _option(1.0, checks.factor)
    freeze: list[str] = _option([], checks.patterns)
    lora_rank: int | None = _option(None, checks.whole(1))
    lora_layers: list[str] = _option([], checks.patterns)
    clip_norm: float | None = _option(None, checks.positive)
    ema_momentum: float | None = _option(None, checks.fraction(0.99))
    label_smoothing: float = _option(0.0, checks.fraction(0.1))
    class_weights: dict[str, float] | Literal["balanced"] | None = _option(None, checks.class_weights)
    augmentation: list[str] = _option([], checks.augmentations)
    quantiles: list[float] = _option([], checks.quantiles)
    abstain: float | None = _option(None, checks.share(0.95))
    precision: Precision = _option("float32", checks.one_of(*typing.get_args(Precision)))
    monitor: str | None = _option(None, checks.named("val_loss"))
    patience: int | None = _option(None, checks.whole(1))
    min_delta: float = _option(0.0, checks.not_negative)
    time_limit: float | str | None = _option(None, checks.duration)
    keep_best: int = _option(0, checks.whole(0))
    seed: int = _option(0, checks.whole(0, 2**32))
    deterministic: bool = _option(False, checks.boolean)
    strategy: Strategy = _option("auto", checks.one_of(*typing.get_args(Strategy)))
    replicas: int | None = _option(None, checks.whole(1))
    steps_per_call: int = _option(32, checks.whole(1))
    jit_compile: bool | Literal["auto"] = _option("auto", checks.boolean_or_auto)
    checkpoint_steps: int | None = _option(None, checks.whole(1))
    keep_checkpoints: int = _option(2, checks.whole(1))
    group_by_length: bool = _option(False, checks.boolean)
    closed_form: bool = _option(False, checks.boolean)
    head_first: bool = _option(False, checks.boolean)
    histograms: bool = _option(False, checks.boolean)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not (value is None and field.default is None):
                check = field.metadata.get("check", lambda _, kept: kept)  # a subclass may leave it out
                object.__setattr__(self, field.name, check(field.name, value))
        _check_combinations(self)

    def to_dict(self) -> dict[str, Any]:
        """Returns all fields by name, as types that YAML and JSON support."""
        return dataclasses.asdict(self)

    def completed(self, recommended: Mapping[str, Any], *, validation: bool = True) -> TrainConfig:
        """Returns the options with recommended values for those that were not passed. All options of the result count as
        passed.

        A recommendation is left out if it belongs to an option that was passed with another value: those of an optimizer
        belong to it, and lengths of the warm-up to each other. A recommended closed form is taken alone, unless an option was
        passed that belongs to the training instead.

        Args:
            recommended: options by name.
            validation: whether there is a validation split, which `patience` and `keep_best` need.

        Example:
            >>> TrainConfig(epochs=3).completed({"epochs": 100, "batch_size": 32}).batch_size
            32
        """
        taken = {name: value for name, value in recommended.items() if name not in self.given}
        if self.optimizer != recommended.get("optimizer", self.optimizer) and "optimizer" in self.given:
            taken = {name: value for name, value in taken.items() if name not in _OF_OPTIMIZER}
        if self.given & {*_WARMUPS}:
            taken = {name: value for name, value in taken.items() if name not in _WARMUPS}
        if not validation:
            taken = {name: value for name, value in taken.items() if name not in _OF_SELECTION}
        if taken.pop("closed_form", False) and self.given <= _WITHOUT_TRAINING:
            taken = {"closed_form": True}
        if self.closed_form:
            taken = {}
        object.__setattr__(result := type(self)(**{**self.to_dict(), **taken}), "typed", self.given)
        return result

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Creates a config from fields by name. Missing fields keep their defaults.

        Raises:
            UsageError: an unknown field (the message suggests the nearest valid one), or an invalid value.
        """
        _check_names(cls, values)
        return cls(**values)


def as_config(given: Any) -> TrainConfig:
    """Returns training options: a config as it is, the fields of a dict, or the defaults for None.

    Raises:
        UsageError: it is something else, or an option is invalid.

    Example:
        >>> as_config({"epochs": 3}).epochs
        3
    """
    if given is None or isinstance(given, Mapping):
        return TrainConfig.from_dict(given or {})
    if not isinstance(given, TrainConfig):
        raise UsageError(
            f"config is {given!r:.60}; expected training options. Pass zoo.TrainConfig(epochs=10), say; and data as "
            "one argument, (x, y)."
        )
    return given


def not_defaults(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options that differ from the defaults.

    Args:
        options: options by name, as `TrainConfig.to_dict` returns them or a config.yaml records them.

    Example:
        >>> not_defaults({"epochs": 3, "batch_size": 64})
        {'epochs': 3}
    """
    default = TrainConfig().to_dict()
    return {name: value for name, value in options.items() if name not in default or value != default[name]}


def _check_combinations(config: TrainConfig) -> None:
    if config.replicas is not None and config.strategy != "mirrored":
        raise UsageError(
            f"replicas={config.replicas} requires strategy='mirrored'; received strategy={config.strategy!r}. "
            "Pass both, or leave replicas out."
        )
    if config.replicas is not None and config.batch_size < config.replicas:
        raise UsageError(
            f"batch_size={config.batch_size} is smaller than replicas={config.replicas}: a device would get no example. "
            f"Pass batch_size of at least {config.replicas}."
        )
    if config.batch_size < config.accumulation_steps:
        raise UsageError(
            f"batch_size={config.batch_size} cannot be divided into accumulation_steps={config.accumulation_steps} parts. "
            f"Pass batch_size of at least {config.accumulation_steps}, or fewer parts."
        )
    if config.jit_compile is True and config.accumulation_steps > 1:
        raise UsageError(
            f"jit_compile=true cannot be combined with accumulation_steps={config.accumulation_steps}. "
            "Leave one of them out."
        )
    _check_fine_tuning(config)
    if config.min_delta and config.patience is None:
        raise UsageError(f"min_delta={config.min_delta} has no effect without patience. Pass patience=3, say.")
    if config.closed_form:
        default = TrainConfig()
        for name in _WITHOUT_CLOSED_FORM:
            if getattr(config, name) != getattr(default, name):
                raise UsageError(
                    f"{name}={getattr(config, name)!r} has no effect with closed_form=true, which does not train. "
                    f"Leave {name} out."
                )


def _check_fine_tuning(config: TrainConfig) -> None:
    if config.warmup_steps and config.warmup_fraction:
        raise UsageError(
            f"warmup_steps={config.warmup_steps} and warmup_fraction={config.warmup_fraction} both set the length of the "
            "warm-up. Leave one of them out."
        )
    if config.warmup_from_zero and not (config.warmup_steps or config.warmup_fraction):
        raise UsageError("warmup_from_zero=true has no effect without a warm-up. Pass warmup_fraction=0.1, say.")
    for name in _ADAM:
        if getattr(config, name) is not None and config.optimizer.lower() not in ("adam", "adamw"):
            raise UsageError(
                f"{name}={getattr(config, name)} requires optimizer='adam' or 'adamw'; received {config.optimizer!r}. "
                f"Leave {name} out."
            )
    if config.lora_layers and config.lora_rank is None:
        raise UsageError(f"lora_layers={config.lora_layers} has no effect without lora_rank. Pass lora_rank=8, say.")


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
                if key.tag.endswith(":merge"):
                    raise yaml.MarkedYAMLError(problem="merge keys (<<) are not read", problem_mark=key.start_mark)
                if name in seen:
                    raise yaml.MarkedYAMLError(problem=f"the key {name!r} occurs twice", problem_mark=key.start_mark)
                seen.add(name)
            return super().construct_mapping(node, deep)

    _know_exponents(Loader)
    path = Path(path)
    try:
        content = yaml.load(storage.read_text(path), Loader)
        _check_size(content)
    except OSError as error:
        raise UsageError(f"Cannot read {path}: {error.strerror}. Pass the config.yaml of a run.") from error
    except RecursionError as error:
        raise UsageError(f"{path} is nested too deeply. Pass the config.yaml of a run.") from error
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"{path} is not YAML: {one_line(error)}. Correct it and try again.") from error
    if not isinstance(content, dict):
        held = "nothing" if content is None else f"a {type(content).__name__}"
        raise UsageError(f"{path} holds {held}; expected a mapping. Write `model:`, `data:` and `config:` sections.")
    return content


_MOST_VALUES = 1_000_000
"""Largest number of values in a YAML file, with those that aliases repeat."""


def _check_size(content: Any) -> None:
    """Raises ValueError if aliases make a small file large, or a value contains itself."""
    sizes: dict[int, int] = {}

    def size(value: Any) -> int:
        if not isinstance(value, (dict, list)):
            return 1
        if id(value) not in sizes:
            sizes[id(value)] = _MOST_VALUES  # while it is counted: a value that contains itself has no size
            sizes[id(value)] = 1 + sum(map(size, value.values() if isinstance(value, dict) else value))
        return sizes[id(value)]

    if size(content) >= _MOST_VALUES:
        raise ValueError(f"its aliases make it too large; expected at most {_MOST_VALUES:,} values.")


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
