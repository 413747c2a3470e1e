"""A SavedModel in the place of the Keras model that it was made from, for reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zoo import copies
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.analysis.sides import Side

_SIGNATURE = "predict"


class ServedNetwork:
    """Calls the signature `predict` of a SavedModel with model inputs by name, and returns the outputs by name.

    Args:
        side: the SavedModel.

    Raises:
        UsageError: the report of its family needs more than the outputs, such as the scores of all items.
    """

    def __init__(self, side: Side) -> None:
        if side.interface.spec.functions:
            raise UsageError(
                f"{side.name} is a SavedModel of the family {side.family}, whose report needs the trained Keras model. Pass "
                "the run."
            )
        self.name = side.family
        self._side = side  # keeps the variables of the SavedModel
        self._call, names = side.raw_signature(_SIGNATURE)
        self._inputs = names
        copies.record_decided(self, side.decided)

    def __call__(self, inputs: Any, training: bool = False) -> Mapping[str, Any]:
        """Returns the outputs for a batch of model inputs: a dict, or the only tensor."""
        given = dict(inputs) if isinstance(inputs, Mapping) else {self._inputs[0]: inputs}
        if len(given) == 1 and len(self._inputs) == 1:  # a single input may have another name in training
            given = {self._inputs[0]: next(iter(given.values()))}
        found: Mapping[str, Any] = self._call(**given)
        return found
