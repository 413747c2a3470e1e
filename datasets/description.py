"""What is printed about a data set before training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.datasets.display import describe_splits
from zoo.datasets.unknown_tokens import describe_unknown

if TYPE_CHECKING:
    from zoo.datasets.prepared import Prepared


def describe_data(prepared: Prepared) -> str:
    """Returns lines with the sizes of the splits, the classes, the share of unknown tokens, and the number of words
    with a vector."""
    choices = getattr(prepared.preprocessor, "choices", None)
    notes = "".join(f"\n{note}" for note in choices.notes) if choices else ""
    vectors = f"\n{prepared.word_vectors}" if prepared.word_vectors else ""
    return f"{describe_splits(prepared.data)}{notes}{describe_unknown(prepared)}{vectors}"
