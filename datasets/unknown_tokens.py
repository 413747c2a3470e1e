"""How many tokens of a data set a fitted preprocessor does not know."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from zoo.datasets.prepared import Prepared


def describe_unknown(prepared: Prepared) -> str:
    """Returns a line with the share of unknown tokens in 1,024 validation examples, and a warning if it is large; empty
    without a vocabulary.

    Example:
        >>> describe_unknown(zoo.datasets.load("commands").prepare("embedding_lstm"))
        '\\nUnknown tokens: 0.0% in the validation split.'
    """
    unknown = getattr(prepared.preprocessor, "unknown", None)
    if unknown is None:
        return ""
    count, total = 0, 0
    for inputs, _, _ in prepared.batches("validation", 64).take(16):
        numbers = inputs[unknown.input].numpy()
        real = inputs["padding_mask"].numpy() != 0 if "padding_mask" in inputs else numbers != 0
        count, total = count + int(np.sum(real & (numbers == unknown.number))), total + int(np.sum(real))
    share = count / max(total, 1)
    warning = f"\nWarning: the model does not know {share:.0%} of the tokens. {unknown.advice}"
    return f"\nUnknown tokens: {share:.1%} in the validation split.{warning if share > unknown.many else ''}"
