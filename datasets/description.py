"""What is printed about a data set before training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.datasets.raw import SPLITS
from zoo.datasets.unknown_tokens import describe_unknown
from zoo.errors import printable

if TYPE_CHECKING:
    from zoo.datasets.prepared import Prepared
    from zoo.datasets.raw import RawData

_MOST_SHOWN = 10


def describe_data(prepared: Prepared) -> str:
    """Returns lines with the sizes of the splits, the classes, and the share of unknown tokens."""
    return f"{describe_splits(prepared.data)}{describe_unknown(prepared)}"


def describe_splits(data: RawData) -> str:
    """Returns lines with the sizes of the splits and the classes, with their numbers of examples if these are known.

    Example:
        >>> print(describe_splits(zoo.datasets.load("images:photos")))
        Examples: 48 train, 6 validation, 6 test.
        2 classes: 'cat' (24, 3, 3), 'dog' (24, 3, 3).
    """
    sizes = ", ".join(f"{data.splits[role].num_examples:,} {role}" for role in SPLITS if role in data.splits)
    lines = [f"Examples: {sizes}."]
    if data.class_names:
        counts = data.about.get("class_counts")
        shown = [
            repr(printable(label))
            + (f" ({', '.join(f'{counts[role][number]:,}' for role in SPLITS)})" if counts else "")
            for number, label in enumerate(data.class_names[:_MOST_SHOWN])
        ]
        more = ", ..." if len(data.class_names) > _MOST_SHOWN else ""
        lines.append(f"{len(data.class_names)} classes: {', '.join(shown)}{more}.")
    if naive := data.about.get("naive"):
        lines.append(f"Forecasts are compared with {' and '.join(naive)}.")
    return "\n".join(lines)
