"""The kinds of columns of a table: how each is requested, and the numbers or categories that it becomes.

All columns of one kind are computed together, so that a table of hundreds of columns is a graph of a few dozen ops.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from zoo.datasets.preprocessing.columns.base import Columns, input_names
from zoo.datasets.preprocessing.columns.categories import Categories
from zoo.datasets.preprocessing.columns.dates import Moments
from zoo.datasets.preprocessing.columns.lists import Lists
from zoo.datasets.preprocessing.columns.numbers import NO, YES, Numbers, YesNo

COLUMNS: dict[str, type[Columns]] = {cls.kind: cls for cls in (Numbers, YesNo, Moments, Lists, Categories)}
"""The kinds of columns, in the order of their numbers."""

__all__ = [
    "COLUMNS",
    "NO",
    "YES",
    "Categories",
    "Columns",
    "Lists",
    "Moments",
    "Numbers",
    "YesNo",
    "input_names",
    "restored",
]


def restored(groups: Iterable[Columns | Mapping[str, Any]]) -> tuple[Columns, ...]:
    """Returns columns, of which some may be plain values with their `kind`, as read from a file.

    Example:
        >>> restored([{"kind": "list", "names": ["genre"], "inputs": ["genre"], "vocabularies": [["Drama"]]}])[0].names
        ('genre',)
    """
    return tuple(
        group
        if isinstance(group, Columns)
        else COLUMNS[group["kind"]](**{key: value for key, value in group.items() if key != "kind"})
        for group in groups
    )
