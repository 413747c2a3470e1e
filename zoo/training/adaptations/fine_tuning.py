"""Fine-tuning a part of a model: frozen layers, and low-rank matrices in the place of whole kernels (LoRA).

Both are settings of a run, not of a model: when the run ends, every weight is trainable again that was so before, and what
LoRA has learned is added to the kernels. What is kept and exported is a plain model.
"""

from __future__ import annotations

import contextlib
import difflib
import fnmatch
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TypeAlias

import keras
import numpy as np

from zoo.config import TrainConfig
from zoo.errors import UsageError, did_you_mean
from zoo.training.adaptations.layer_decay import heights

Part: TypeAlias = keras.layers.Layer | keras.Variable
_ADAPTED = ("kernel", "embeddings")
"""What Keras's layers call the weights that LoRA can take the place of."""


def named_parts(model: keras.Model) -> dict[str, Part]:
    """Returns all layers and weights of a model by names such as block_1, block_1/inner and block_1/inner/kernel.

    A layer inside another one that was given no name is called as the attribute that holds it: Keras numbers such layers,
    so that their own names change with what was built before.

    Example:
        >>> [name for name in named_parts(model) if name.startswith("block_1/inner")]
        ['block_1/inner', 'block_1/inner/kernel', 'block_1/inner/bias']
    """
    parts: dict[str, Part] = {}

    def walk(layer: keras.layers.Layer, name: str) -> None:
        if not layer.weights:
            return
        parts[name] = layer
        parts.update({f"{name}/{v.name}": v for v in (*layer._trainable_variables, *layer._non_trainable_variables)})
        for inner in layer._layers:
            walk(inner, f"{name}/{_name_within(layer, inner)}")

    for layer in model.layers:
        walk(layer, layer.name)
    return parts


def _name_within(outer: keras.layers.Layer, layer: keras.layers.Layer) -> str:
    by_keras = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", type(layer).__name__).lower()
    if not re.fullmatch(rf"{re.escape(by_keras)}(_\d+)?", layer.name):
        return str(layer.name)
    for name, value in vars(outer).items():
        if value is layer:
            return name.lstrip("_")
        if name != "_layers" and isinstance(value, list) and any(each is layer for each in value):
            return f"{name.lstrip('_')}_{[id(each) for each in value].index(id(layer)) + 1}"
    return str(layer.name)


def matching(patterns: Sequence[str], parts: Mapping[str, Part], field: str) -> dict[str, Part]:
    """Returns the parts whose names match one of the patterns.

    Raises:
        UsageError: a pattern matches none; the nearest names are offered.
    """
    found: dict[str, Part] = {}
    for pattern in patterns:
        matched = fnmatch.filter(parts, pattern)
        if not matched:
            is_near = difflib.get_close_matches(pattern, parts, n=1, cutoff=0.5)
            near = did_you_mean(pattern, parts if is_near else [name for name in parts if "/" not in name])
            raise UsageError(f"{field} has {pattern!r}, which matches nothing here. {near}")
        found |= {name: parts[name] for name in matched}
    return found


class Tuning:
    """What a run changes of a model so that a part of it trains only.

    Args:
        model: the model, built in its strategy's scope.
        config: freeze, lora_rank, lora_layers, and the seed of LoRA's initial weights.
    """

    def __init__(self, model: keras.Model, config: TrainConfig) -> None:
        self.model, self._config = model, config
        self.active = bool(config.freeze or config.lora_rank)
        self._adapted: list[keras.layers.Layer] = []
        self._layers = [(layer, layer._trainable) for layer in model._flatten_layers()] if self.active else []
        self._variables = [(v, v.trainable) for v in model.variables] if self.active else []

    def apply(self) -> None:
        """Freezes, and gives the chosen layers LoRA's matrices.

        Raises:
            UsageError: a pattern that matches nothing, or nothing that can be adapted; nothing left to train.
        """
        if not self.active:
            return
        model, config = self.model, self._config
        parts = named_parts(model)
        frozen = matching(config.freeze, parts, "freeze")
        chosen: dict[str, keras.layers.Layer] = {}
        if config.lora_rank is not None:
            below = {name for name, height in heights(model).items() if height > 0}
            chosen = _adaptable(config.lora_layers, parts, below)
            for layer in model.layers:
                if layer.name in below:
                    layer.trainable = False
        for part in frozen.values():
            part.trainable = False
        if config.lora_rank is not None:
            self._adapt({n: layer for n, layer in chosen.items() if not _is_within(n, frozen)}, config.lora_rank)
        if not model.trainable_variables:
            raise UsageError(
                f"freeze={config.freeze} leaves nothing of model {model.name!r} to train. Leave some layers out of it."
            )
        _forget_traces(model)

    def _adapt(self, layers: Mapping[str, keras.layers.Layer], rank: int) -> None:
        """Gives every layer two trainable matrices, whose product is zero at first."""
        if not layers:
            raise UsageError(
                f"lora_rank={rank}, but every layer that it is for is frozen. Leave some of them out of freeze."
            )
        for number, (name, layer) in enumerate(layers.items()):
            if layer.lora_enabled:
                raise UsageError(
                    f"Layer {name!r} was built with LoRA of its own. Build it without, or leave lora_rank out."
                )
            if getattr(layer, "kernel_constraint", None) or getattr(layer, "embeddings_constraint", None):
                raise UsageError(
                    f"Layer {name!r} has a constraint, which LoRA cannot keep. Leave it out of lora_layers."
                )
            seed = int(np.random.SeedSequence([self._config.seed, number]).generate_state(1)[0])
            layer._trainable = True  # else Keras makes what it adds untrainable
            with self.model.distribute_strategy.scope():
                layer.enable_lora(rank, a_initializer=keras.initializers.HeUniform(seed=seed))
            self._adapted.append(layer)

    def optimizer(self, brought: keras.optimizers.Optimizer | None) -> keras.optimizers.Optimizer | None:
        """Returns the optimizer that the user has brought; with LoRA a new one like it, for what it would remember belongs to
        weights that are gone when the run ends."""
        if brought is None or not self._adapted:
            return brought
        with self.model.distribute_strategy.scope():
            return type(brought).from_config(brought.get_config())

    @property
    def summary(self) -> str:
        """How much trains, in a sentence; empty where all does."""
        if not self.active:
            return ""
        count = sum(math.prod(v.shape) for v in self.model.trainable_variables)
        low = f", those of LoRA in {len(self._adapted)} layers among them" if self._adapted else ""
        return f"{count:,} parameters are trained{low}."

    def settle(self) -> None:
        """Adds LoRA's products to the kernels, and makes trainable again what was; a second call does nothing."""
        if not self.active:
            return
        self.active = False
        for layer in self._adapted:
            _merge(layer)
        for layer, trainable in self._layers:
            layer._trainable = trainable
        for variable, trainable in self._variables:
            variable.trainable = trainable
        _forget_traces(self.model)


@contextlib.contextmanager
def tuned(model: keras.Model, config: TrainConfig) -> Iterator[Tuning]:
    """Freezes and adapts what a config asks for while the block runs, or until `settle` is called.

    Example:
        >>> with tuned(model, zoo.TrainConfig(freeze=["embedding"])):
        ...     print(len(model.trainable_variables))
    """
    tuning = Tuning(model, config)
    try:
        tuning.apply()
        yield tuning
    finally:
        tuning.settle()


def _adaptable(
    patterns: Sequence[str], parts: Mapping[str, Part], below: Collection[str]
) -> dict[str, keras.layers.Layer]:
    """Returns the layers that LoRA is for: those that match, and the dense ones in what matches; without patterns all dense
    ones in the layers `below` the last one."""
    layers = {name: part for name, part in parts.items() if isinstance(part, keras.layers.Layer)}
    able = {name: layer for name, layer in layers.items() if hasattr(layer, "enable_lora")}
    dense = {n: layer for n, layer in able.items() if isinstance(layer, keras.layers.Dense | keras.layers.EinsumDense)}
    if not patterns:
        found = {name: layer for name, layer in dense.items() if name.split("/")[0] in below}
        if not found:
            raise UsageError(
                "lora_rank is for dense layers below the last one; this model has none. Name others in lora_layers, "
                f"{', '.join(able) or 'of which it has none either'}; or leave lora_rank out."
            )
        return found
    found = {}
    for pattern in patterns:
        matched = matching([pattern], layers, "lora_layers")
        fitting = {n: layer for n, layer in dense.items() if _is_within(n, matched)}
        fitting |= {n: layer for n, layer in able.items() if n in matched}
        if not fitting:
            raise UsageError(
                f"lora_layers has {pattern!r}, in which Keras has no layer that LoRA can adapt. Pass some of: "
                f"{', '.join(able) or 'another model has such layers'}."
            )
        found |= fitting
    return found


def _is_within(name: str, parts: Mapping[str, Part]) -> bool:
    """Whether a layer is one of some parts, or in one of them, or one of them is the weight that LoRA would adapt."""
    own = {f"{name}/{weight}" for weight in _ADAPTED}
    return any(name == part or name.startswith(f"{part}/") or part in own for part in parts)


def _merge(layer: keras.layers.Layer) -> None:
    """Adds LoRA's product to the weight that it stood in for, and takes its matrices out of the layer."""
    for name in _ADAPTED:
        if not hasattr(layer, f"lora_{name}_a"):
            continue
        weight, first, second = (getattr(layer, n) for n in (f"_{name}", f"lora_{name}_a", f"lora_{name}_b"))
        # By hand: the layer's own property gives the sum in the type that the layer computes in.
        product = (layer.lora_alpha / layer.lora_rank) * np.matmul(first.numpy(), second.numpy())
        weight.assign(weight.numpy() + product.astype(weight.dtype))
        second.assign(np.zeros(second.shape, second.dtype))  # for whoever has traced the layer while it had them
        for attribute, variable in ((f"lora_{name}_a", first), (f"lora_{name}_b", second)):
            layer._untrack_variable(variable)
            # Past Layer.__delattr__, which collects garbage after every variable.
            super(keras.layers.Layer, layer).__delattr__(attribute)
    layer.lora_enabled = False
    layer.lora_rank = layer.lora_alpha = None


def _forget_traces(model: keras.Model) -> None:
    """Makes Keras trace its functions anew: those that it keeps know the layers as they were."""
    model.train_function = model.test_function = model.predict_function = None
