"""LoRA: low-rank matrices that train in the place of whole kernels, and are added to them when the run ends.

Source: Hu et al., LoRA: low-rank adaptation of large language models, ICLR 2022.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence

import keras
import numpy as np

from zoo.config import TrainConfig
from zoo.errors import UsageError
from zoo.training.adaptations.contract import Adaptation, register_adaptation
from zoo.training.adaptations.layer_decay import depths
from zoo.training.adaptations.parts import Part, Trainability, matching, named_parts

_ADAPTED = ("kernel", "embeddings")
"""Names of the weights in Keras's layers that LoRA can adapt."""


@register_adaptation
class Lora(Adaptation):
    """Freezes all but the last layer, and gives the chosen layers two trainable matrices of rank `lora_rank`.

    When the run ends, their product is added to the kernel, so that the model is a plain one again.
    """

    fields = ("lora_rank",)

    def __init__(self, model: keras.Model, config: TrainConfig) -> None:
        super().__init__(model, config)
        self._before = Trainability(model)
        self._adapted: list[keras.layers.Layer] = []

    def apply(self) -> None:
        """Freezes the layers below the last one, and adds the matrices.

        Raises:
            UsageError: a pattern that matches nothing, or nothing that LoRA can adapt.
        """
        parts = named_parts(self.model)
        below = {name for name, depth in depths(self.model).items() if depth > 0}
        chosen = _adaptable(self.config.lora_layers, parts, below)
        frozen = matching(self.config.freeze, parts, "freeze")
        for layer in self.model.layers:
            if layer.name in below:
                layer.trainable = False
        self._adapt({name: layer for name, layer in chosen.items() if not _is_within(name, frozen)})
        self._before.forget_traces()
        self.note = f"LoRA in {len(self._adapted)} layers"

    def _adapt(self, layers: Mapping[str, keras.layers.Layer]) -> None:
        """Gives every layer two trainable matrices, whose product is zero at first."""
        rank = self.config.lora_rank
        if not layers:
            raise UsageError(
                f"lora_rank={rank}, but every layer that LoRA would adapt is frozen. Leave some of them out of freeze."
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
            seed = int(np.random.SeedSequence([self.config.seed, number]).generate_state(1)[0])
            layer._trainable = True  # else Keras makes what it adds untrainable
            with self.model.distribute_strategy.scope(), _as_precise(layer):
                layer.enable_lora(rank, a_initializer=keras.initializers.HeUniform(seed=seed))
            self._adapted.append(layer)

    def optimizer(self, optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
        """Returns a new optimizer with the same settings: the state belongs to matrices that are gone after the run."""
        return type(optimizer).from_config(optimizer.get_config())

    def close(self) -> None:
        """Adds the products to the kernels, and makes trainable again what was so before."""
        for layer in self._adapted:
            _merge(layer)
        self._before.restore()


@contextlib.contextmanager
def _as_precise(layer: keras.layers.Layer) -> Iterator[None]:
    """Lets the matrices of a float64 layer be float64 too, where Keras makes them float32."""
    if layer.variable_dtype != "float64":
        yield
        return
    add_weight = layer.add_weight
    object.__setattr__(layer, "add_weight", lambda **options: add_weight(**{**options, "dtype": "float64"}))
    try:
        yield
    finally:
        object.__delattr__(layer, "add_weight")


def _adaptable(
    patterns: Sequence[str], parts: Mapping[str, Part], below: Collection[str]
) -> dict[str, keras.layers.Layer]:
    """Returns the layers that LoRA adapts: those that match, and the dense layers inside of those that match.

    Without patterns, all dense layers in the layers `below` the last one.
    """
    layers = {name: part for name, part in parts.items() if isinstance(part, keras.layers.Layer)}
    able = {name: layer for name, layer in layers.items() if hasattr(layer, "enable_lora")}
    dense = {n: layer for n, layer in able.items() if isinstance(layer, keras.layers.Dense | keras.layers.EinsumDense)}
    if not patterns:
        found = {name: layer for name, layer in dense.items() if name.split("/")[0] in below}
        if not found:
            raise UsageError(
                "lora_rank adapts dense layers below the last one; this model has none. Name others in lora_layers, "
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
    """Whether a layer is one of the parts or inside one, or one of the parts is the weight that LoRA would adapt."""
    own = {f"{name}/{weight}" for weight in _ADAPTED}
    return any(name == part or name.startswith(f"{part}/") or part in own for part in parts)


def _merge(layer: keras.layers.Layer) -> None:
    """Adds LoRA's product to the weight, and removes its matrices from the layer."""
    for name in _ADAPTED:
        if not hasattr(layer, f"lora_{name}_a"):
            continue
        weight, first, second = (getattr(layer, n) for n in (f"_{name}", f"lora_{name}_a", f"lora_{name}_b"))
        # The layer's own property gives the sum in the type that the layer computes in.
        product = (layer.lora_alpha / layer.lora_rank) * np.matmul(first.numpy(), second.numpy())
        weight.assign(weight.numpy() + product.astype(weight.dtype))
        second.assign(np.zeros(second.shape, second.dtype))  # for functions that were traced while the layer had them
        for attribute, variable in ((f"lora_{name}_a", first), (f"lora_{name}_b", second)):
            layer._untrack_variable(variable)
            # Past Layer.__delattr__, which collects garbage after every variable.
            super(keras.layers.Layer, layer).__delattr__(attribute)
    layer.lora_enabled = False
    layer.lora_rank = layer.lora_alpha = None
