"""What families that tag words recommend, by the number of sentences; chosen on validation splits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.registry import Situation

_FEW_SENTENCES = 4_000
_SENTENCES = 30_000
"""Sentences of a training on few of them, in all epochs together."""


def tagger_arguments(situation: Situation) -> dict[str, Any]:
    """Returns arguments of a recurrent network that tags words: strong dropout, of whole words too.

    Dropout of the state between words is left out, because it is slow and adds nothing to the others.

    Example:
        >>> tagger_arguments(Situation("tagging", 20_000, {}))["dropout"]
        0.5
    """
    return {"dropout": 0.5, "recurrent_dropout": 0.0, "word_dropout": 0.3}


def tagging_options(situation: Situation) -> dict[str, Any]:
    """Returns options for sentences whose words have tags.

    The learning rate falls to zero, so the number of epochs is that of the best result, and the weights of the best epoch of
    the validation split are kept. Few sentences need more passes and smaller batches.

    Example:
        >>> tagging_options(Situation("tagging", 20_000, {}))["epochs"]
        5
    """
    few = situation.examples < _FEW_SENTENCES
    return {
        "epochs": min(40, max(5, _SENTENCES // max(1, situation.examples))),
        "batch_size": 16 if few else 64,
        "learning_rate": 0.003,
        "schedule": "cosine",
        "group_by_length": True,
        "keep_best": 1,
    }
