"""What families for the rows of tables recommend, by the size of the data; chosen on validation splits."""

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
        "epochs": 300 if few else 200,
        "batch_size": 32 if few else 256,
        "monitor": "val_loss",
        "patience": 40 if few else 12,
        "keep_best": 1,
    }


def large_table_layers(situation: Situation) -> dict[str, Any]:
    """Returns arguments of a network with dense layers for the rows of a large table.

    Example:
        >>> large_table_layers(Situation("tabular_regression", 20_000, {}))["hidden_units"]
        (128, 128)
    """
    is_large = situation.task.startswith("tabular_") and situation.examples >= _FEW_ROWS
    return {"hidden_units": (128, 128), "dropout": 0.1} if is_large else {}


def table_members(situation: Situation) -> dict[str, Any]:
    """Returns arguments of a multi-layer perceptron for the rows of a large table: an ensemble in one network.

    A model of logits stays a plain one, because their loss, and so that of the members, is unknown.

    Example:
        >>> table_members(Situation("tabular_regression", 20_000, {}))["members"]
        8
    """
    arguments = large_table_layers(situation)
    is_ensemble = arguments and situation.arguments.get("classifier_activation", "") is not None
    return {**arguments, "members": 8} if is_ensemble else arguments


def small_attention(situation: Situation) -> dict[str, Any]:
    """Returns arguments of attention over the columns of a table for processors without an accelerator.

    Example:
        >>> small_attention(Situation("tabular_regression", 20_000, {}))["num_layers"]
        2
    """
    return {"embedding_dim": 64, "num_layers": 2, "feed_forward_dim": 128}
