"""Training options that several families recommend: chosen by the size of the data, on validation splits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.registry import Situation

_FEW_ROWS = 4_000


def table_options(situation: Situation) -> dict[str, Any]:
    """Returns options for the rows of a table: training ends when the loss of the validation split no longer falls.

    The loss decides, because the accuracy of a small validation split takes few values. Small tables have few steps in an
    epoch, so batches are smaller and the patience is longer.

    Example:
        >>> table_options(Situation("tabular_regression", 300, {}))["batch_size"]
        32
    """
    if not situation.task.startswith("tabular_"):
        return {}
    few = situation.examples < _FEW_ROWS
    return {
        "epochs": 300 if few else 100,
        "batch_size": 32 if few else 256,
        "monitor": "val_loss",
        "patience": 40 if few else 12,
        "keep_best": 1,
    }
