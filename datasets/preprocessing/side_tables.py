"""Features of known users or items: a table with a row for each, and the same columns in requests for new ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from zoo.datasets.preprocessing.base import object_array
from zoo.datasets.preprocessing.columns import COLUMNS, Categories, Columns, Numbers, input_names, restored
from zoo.tasks import Request

_MISSING: dict[str, Any] = {"category": b"", "list": b""}
Tensors = Mapping[str, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class SideTable:
    """The features of users or items. The kinds of columns are those of tables, see `zoo.datasets.preprocessing.columns`.

    Attributes:
        of: `user` or `item`, with which the names of requests begin.
        groups: the columns by kind.
        rows: the raw values of every column, in the order of the known users or items; None for a missing number.

    Example:
        >>> table = SideTable.fit("item", {"year": "number"}, {"year": np.float32([1979, np.nan])})
        >>> table.encoded()["numbers"].shape, list(table.requests)
        ((2, 2), ['item_year'])
    """

    of: str
    groups: tuple[Columns, ...]
    rows: Mapping[str, Sequence[Any]]

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", restored(self.groups))
        object.__setattr__(self, "rows", {name: tuple(values) for name, values in self.rows.items()})

    @classmethod
    def fit(
        cls,
        of: str,
        kinds: Mapping[str, str],
        columns: Mapping[str, np.ndarray],
        orders: Mapping[str, str] | None = None,
    ) -> SideTable:
        """Fits the columns to the raw values of all known users or items.

        Args:
            of: `user` or `item`.
            kinds: the kind of every column.
            columns: raw values, see `zoo.datasets.preprocessing.columns`.
            orders: for dates, the order of year, month and day.
        """
        inputs = {name: f"{of}_{part}" for name, part in input_names(list(kinds)).items()}
        groups: list[Columns] = []
        for kind, group in COLUMNS.items():
            own = [name for name, its in kinds.items() if its == kind]
            if own:
                values = np.stack([columns[name] for name in own], axis=1)
                fitted: Any = group.fit(own, [inputs[name] for name in own], values, {"orders": orders or {}})
                groups.append(fitted.owned_by(of))
        rows = {name: [_plain(value) for value in columns[name].tolist()] for name in kinds}
        return cls(of, tuple(groups), rows)

    @property
    def arguments(self) -> dict[str, Any]:
        """The builder's arguments: how many numbers a row becomes, and the sizes of its categories."""
        sizes = next((group.sizes for group in self.groups if isinstance(group, Categories)), ())
        return {f"{self.of}_numbers": sum(len(group.binned) for group in self.groups), f"{self.of}_categories": sizes}

    @property
    def requests(self) -> dict[str, Request]:
        """One input per column."""
        found = {group.names[place]: group.request(place) for group in self.groups for place in range(len(group.names))}
        return {found[name].name: found[name] for name in self.rows}

    def encoded(self) -> dict[str, np.ndarray]:
        """Returns the features of all known users or items, {"numbers": float32 (count, n), "categories": int32 (count, m)},
        each only if there are any."""
        raw = {group.kind: tf.stack([self._column(name) for name in group.names], axis=1) for group in self.groups}
        return {name: values.numpy() for name, values in self._encoded(raw).items()}

    def _column(self, name: str) -> tf.Tensor:
        group = next(group for group in self.groups if name in group.names)
        if group.kind in _MISSING:
            return tf.constant(self.rows[name], tf.string)
        values = np.array([np.nan if value is None else value for value in self.rows[name]], np.float64)
        return tf.constant(values if group.kind == "time" else values.astype(np.float32))

    def _encoded(self, raw: Tensors) -> dict[str, tf.Tensor]:
        numbers = [group.numbers(raw[group.kind]) for group in self.groups if group.binned]
        found = {"numbers": tf.concat(numbers, axis=1)} if numbers else {}
        for group in self.groups:
            if isinstance(group, Categories):
                found["categories"] = group.lookup(raw[group.kind])
        return found

    def serve(self, requests: Tensors) -> dict[str, tf.Tensor]:
        """Turns one input per column into side tensors, such as `item_numbers`."""
        raw = {group.kind: group.raw(requests) for group in self.groups}
        return {f"{self.of}_{name}": values for name, values in self._encoded(raw).items()}

    def to_requests(self, numbers: Sequence[int]) -> dict[str, np.ndarray]:
        """Returns the columns of users or items by their numbers, as a client sends them; of 0 all values are missing."""
        found: dict[str, np.ndarray] = {}
        for group in self.groups:
            missing = _MISSING.get(group.kind, np.nan)
            for place, (name, key) in enumerate(zip(group.names, group.inputs, strict=True)):
                held = [self.rows[name][number - 1] if number > 0 else missing for number in numbers]
                held = [np.nan if value is None else value for value in held]
                raw = [value.encode() if isinstance(value, str) else value for value in held]
                values = [group.to_request(value, place) for value in raw]
                found[key] = np.asarray(values, np.float32) if isinstance(group, Numbers) else object_array(values)
        return {key: found[key] for key in self.requests}

    def for_export(self, directory: Path) -> tuple[SideTable, list[Any]]:
        """Returns an equal table whose categories are files in `directory`, and the objects to save with it."""
        pairs = [group.for_export(directory) for group in self.groups]
        served = dataclasses.replace(self, groups=tuple(group for group, _ in pairs))
        return served, [resource for _, resources in pairs for resource in resources]

    def config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        groups = [{"kind": group.kind, **group.config()} for group in self.groups]
        return {"of": self.of, "groups": groups, "rows": {name: list(values) for name, values in self.rows.items()}}


def _plain(value: Any) -> Any:
    """Returns a raw value as JSON can hold it."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return None if np.isnan(value) else value
