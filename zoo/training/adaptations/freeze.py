"""Freezing: layers and weights that keep their values."""

from __future__ import annotations

import keras

from zoo.config import TrainConfig
from zoo.errors import UsageError
from zoo.training.adaptations.contract import Adaptation, register_adaptation
from zoo.training.adaptations.parts import Trainability, matching, named_parts


@register_adaptation
class Freeze(Adaptation):
    """Makes the layers and weights that `freeze` names untrainable while a run lasts."""

    fields = ("freeze",)
    order = -1  # the patterns are about the model as it was built

    def __init__(self, model: keras.Model, config: TrainConfig) -> None:
        super().__init__(model, config)
        self._before = Trainability(model)

    def apply(self) -> None:
        """Freezes.

        Raises:
            UsageError: a pattern that matches nothing; nothing is left to train.
        """
        frozen = matching(self.config.freeze, named_parts(self.model), "freeze")
        for part in frozen.values():
            part.trainable = False
        if not self.model.trainable_variables:
            raise UsageError(
                f"freeze={self.config.freeze} leaves nothing of model {self.model.name!r} to train. Leave some layers out "
                "of it."
            )
        self._before.forget_traces()
        self.note = f"freeze matches {len(frozen)} layers or weights"

    def close(self) -> None:
        """Makes trainable again what was so before."""
        self._before.restore()
