"""Rows of a table to numbers and categories, with core TensorFlow ops."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import tensorflow as tf

from zoo.datasets.preprocessing import records
from zoo.datasets.preprocessing.base import object_array, register_preprocessor
from zoo.datasets.preprocessing.columns import (
    COLUMNS,
    Categories,
    Columns,
    Moments,
    Numbers,
    YesNo,
    input_names,
    restored,
)
from zoo.datasets.preprocessing.targets import Targets
from zoo.errors import UsageError
from zoo.tasks import Request
from zoo.tasks.shared import RECORDS

if TYPE_CHECKING:
    from zoo.datasets.preprocessing.base import Batch, Tensors
    from zoo.datasets.raw import RawData

_BINS, _FEWEST_BINS, _ROWS_PER_BIN = 32, 4, 100
"""Bins of a number: one for 100 rows within these limits. On a few hundred rows, more bins are learned by heart."""
_BATCH = 4096  # rows that are read at once


@register_preprocessor
@dataclasses.dataclass(frozen=True)
class TablePreprocessor:
    """Rows of named columns to `numbers`, float32 (batch, numbers), and `categories`, int32 (batch, columns).

    A kind of column determines what a column becomes, see `zoo.datasets.preprocessing.columns`. Requests are one input per
    column, or serialized `tf.Example` records with the columns' names as keys.

    Attributes:
        order: the names of all columns, as in the data.
        groups: the columns by kind.
        targets: what is predicted.

    Example:
        >>> preprocessor = zoo.datasets.load("iris").prepare("mlp").preprocessor
        >>> preprocessor.serve({"petal_length": [1.4], ...})[0]["numbers"].shape
        TensorShape([1, 4])
    """

    kind: ClassVar[str] = "table"
    padding: ClassVar[float] = 0
    order: tuple[str, ...]
    groups: tuple[Columns, ...]
    targets: Targets

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", restored(self.groups))
        object.__setattr__(self, "order", tuple(self.order))
        object.__setattr__(self, "targets", Targets.restored(self.targets))

    @classmethod
    def for_model(
        cls, data: RawData, needs: Mapping[str, Any], arguments: Mapping[str, Any]
    ) -> tuple[TablePreprocessor, dict[str, Any]]:
        """Fits the columns on the training split.

        Returns:
            The preprocessor, and the builder's arguments `input_shape`, `category_sizes` and `bin_edges`; for values also
            `num_classes` and a linear last layer.

        Raises:
            UsageError: a column has no value in the training split, or the earlier run has other columns.
        """
        kinds: Mapping[str, str] = data.about["table"]
        rows = _columns(data, list(kinds))
        options = data.about.get("table_options", {})
        earlier = needs.get("earlier")
        edges = None  # the weights of an earlier run belong to its edges
        if earlier is not None:
            known = cls._like(earlier, kinds, options.get("orders", {}))
            preprocessor = dataclasses.replace(known, targets=Targets.fit(data, needs.get("quantiles", ())))
            edges = earlier.build["arguments"].get("bin_edges")
        else:
            names = input_names(list(kinds))
            groups = []
            for kind, group in COLUMNS.items():
                own = [column for column, its in kinds.items() if its == kind]
                if own:
                    values = np.stack([rows[column] for column in own], axis=1)
                    groups.append(group.fit(own, [names[column] for column in own], values, options))
            preprocessor = cls(tuple(kinds), tuple(groups), Targets.fit(data, needs.get("quantiles", ())))
        fixed: dict[str, Any] = {
            "input_shape": (preprocessor.count,),
            "category_sizes": preprocessor.category_sizes,
            "bin_edges": preprocessor.bin_edges(rows) if edges is None else edges,
            **preprocessor.targets.arguments,
        }
        return preprocessor, fixed

    @classmethod
    def _like(cls, earlier: Any, kinds: Mapping[str, str], orders: Mapping[str, str]) -> TablePreprocessor:
        """Returns the preprocessor of an earlier run, whose weights belong to its columns. Dates are requested in the order
        of this table, since the weights belong to moments."""
        known = cls._with_orders(earlier.preprocessor, orders)
        held = {name: group.kind for group in known.groups for name in group.names}
        if held != dict(kinds):
            differing = sorted({name for name, _ in set(held.items()) ^ set(kinds.items())})
            raise UsageError(
                f"The earlier run has other columns or kinds than this table: {', '.join(differing[:5])}. Pass the same "
                "columns, or leave start_from out."
            )
        return known

    @staticmethod
    def _with_orders(known: TablePreprocessor, orders: Mapping[str, str]) -> TablePreprocessor:
        def turned(group: Columns) -> Columns:
            if not isinstance(group, Moments):
                return group
            own = zip(group.names, group.orders, strict=True)
            return dataclasses.replace(group, orders=tuple(orders.get(name, order) for name, order in own))

        return dataclasses.replace(known, groups=tuple(turned(group) for group in known.groups))

    @property
    def reading(self) -> dict[str, str]:
        """The kind of every column, for tables that are read for this preprocessor, see `table_kinds.reading_as`."""
        found = {name: group.kind for group in self.groups for name in group.names}
        for group in self.groups:
            if isinstance(group, Moments):
                found |= {name: f"{group.kind}_{order}" for name, order in zip(group.names, group.orders, strict=True)}
        return {name: found[name] for name in self.order}

    @property
    def count(self) -> int:
        """How many numbers a row becomes."""
        return sum(len(group.binned) for group in self.groups)

    @property
    def category_sizes(self) -> tuple[int, ...]:
        """How many numbers the categories of each column have."""
        return next((group.sizes for group in self.groups if isinstance(group, Categories)), ())

    def bin_edges(self, rows: Mapping[str, np.ndarray]) -> tuple[tuple[float, ...], ...]:
        """Returns for each number the edges of bins with equal counts in the training split; none for marks."""
        parts = [
            group.numbers(tf.constant(np.stack([rows[name] for name in group.names], axis=1))).numpy()
            for group in self.groups
            if group.binned
        ]
        numbers = np.concatenate(parts, axis=1) if parts else np.zeros((1, 0))
        bins = min(_BINS, max(_FEWEST_BINS, len(numbers) // _ROWS_PER_BIN))
        binned = [flag for group in self.groups for flag in group.binned]
        edges: list[tuple[float, ...]] = []
        for place, flag in enumerate(binned):
            cut = quantile_edges(numbers[:, place], bins) if flag else ()
            edges.append(tuple(float(edge) for edge in cut) if len(cut) > 2 else ())
        return tuple(edges)

    @property
    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """{"numbers": (numbers,), "categories": (columns,)}, each only if there are any."""
        sizes = {"numbers": self.count, "categories": len(self.category_sizes)}
        return {name: (size,) for name, size in sizes.items() if size}

    @property
    def requests(self) -> dict[str, Request]:
        """One input per column, (batch,); and `examples`, string (batch,), serialized `tf.Example` records."""
        found = {group.names[place]: group.request(place) for group in self.groups for place in range(len(group.names))}
        ordered = {found[name].name: found[name] for name in self.order}
        text = "a serialized tf.Example with the columns as keys, see Limits"
        return {**ordered, RECORDS: Request(RECORDS, "record", "string", (), text)}

    @property
    def described_inputs(self) -> dict[str, str]:
        """How numbers and categories are made."""
        texts = {
            "numbers": "scaled numbers, parts of dates, marks of missing values; `serving_default` makes them from columns",
            "categories": "numbers of categories, 0 is unknown",
        }
        return {name: texts[name] for name in self.input_shapes}

    @property
    def limits(self) -> tuple[str, ...]:
        """The columns, and what is rejected."""
        return (
            "A row has a value of every column, and may lack any of them: NaN for a number, an empty text for others.",
            f"The keys of a `tf.Example` by type are {records.keys(self.groups)}. A key may be missing; a record without "
            "any of them is rejected. Other keys are not used.",
            *(sentence for group in self.groups for sentence in group.limits),
        )

    def _inputs(self, rows: Tensors) -> dict[str, tf.Tensor]:
        """Turns raw columns, (batch,) each, into the model's inputs."""
        return self._encoded(
            {group.kind: tf.stack([rows[name] for name in group.names], axis=1) for group in self.groups}
        )

    def _encoded(self, raw: Tensors) -> dict[str, tf.Tensor]:
        numbers = [group.numbers(raw[group.kind]) for group in self.groups if group.binned]
        inputs = {"numbers": tf.concat(numbers, axis=1)} if numbers else {}
        for group in self.groups:
            if isinstance(group, Categories):
                inputs["categories"] = group.lookup(raw[group.kind])
        return inputs

    def encode(self, examples: Tensors) -> Batch:
        """Turns raw columns into the inputs and the target."""
        return self._inputs(examples), self.targets.encode(examples), {}

    def trim(self, inputs: Tensors, targets: Tensors, weights: Tensors) -> Batch:
        """Rows have no padding."""
        return inputs, targets, weights

    def serve(self, requests: Tensors) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Turns one input per column, or `examples`, into the model's inputs."""
        if RECORDS in requests:
            requests = records.parsed(requests[RECORDS], self.groups)
        raw = {group.kind: group.raw(requests) for group in self.groups}
        counts = tf.stack([tf.shape(values)[0] for values in raw.values()])
        said = "The inputs have different numbers of rows. Send a value of every column for each row."
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(counts == counts[0]), [said])]):
            return self._encoded({kind: tf.identity(values) for kind, values in raw.items()}), {}

    def accepts(self, example: Mapping[str, Any]) -> bool:
        """Whether a raw example is a valid record: whether it has a value of any column."""
        return any(
            value != b"" if isinstance(value, bytes) else not np.isnan(value)
            for value in (example[name] for name in self.order)
        )

    def to_requests(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Returns raw rows as a client sends them: one array per column, and the same as serialized records."""
        found: dict[str, np.ndarray] = {}
        for group in self.groups:
            for place, (name, key) in enumerate(zip(group.names, group.inputs, strict=True)):
                values = [group.to_request(example[name], place) for example in examples]
                found[key] = np.asarray(values, np.float32) if isinstance(group, Numbers) else object_array(values)
        ordered = {key: found[key] for key in self.requests if key != RECORDS}
        return {**ordered, RECORDS: records.serialized(ordered, self.groups)}

    def generated(self, generator: np.random.Generator, count: int) -> dict[str, Any]:
        """Returns rows of random values: numbers and dates from the range of the data, and known categories."""
        made: dict[str, Any] = {}
        for group in self.groups:
            for place, key in enumerate(group.inputs):
                draw = _GENERATED[group.kind]
                made[key] = [group.to_request(value, place) for value in draw(group, place, generator, count)]
        made = {key: np.float32(made[key]) if isinstance(made[key][0], np.floating) else made[key] for key in made}
        ordered = {key: made[key] for key in self.requests if key != RECORDS}
        return {**ordered, RECORDS: records.serialized(ordered, self.groups).tolist()}

    def for_export(self, directory: Path) -> tuple[TablePreprocessor, list[Any]]:
        """Returns an equal preprocessor whose categories are a file in `directory`, and the objects to save with it."""
        pairs = [group.for_export(directory) for group in self.groups]
        served = dataclasses.replace(self, groups=tuple(group for group, _ in pairs))
        return served, [resource for _, resources in pairs for resource in resources]

    def config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            "order": list(self.order),
            "groups": [{"kind": group.kind, **group.config()} for group in self.groups],
            "targets": self.targets.config(),
        }


def quantile_edges(values: np.ndarray, bins: int) -> np.ndarray:
    """Returns the edges of bins with about equal counts, ascending float32. A value that would fill more than a bin,
    such as the many zeros of a rare gain, does not take bins from the others.

    Example:
        >>> quantile_edges(np.float32([0] * 90 + [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]), 4).tolist()
        [0.0, 1.0, 4.0, 7.0, 10.0]
    """
    known, counts = np.unique(values, return_counts=True)
    often = np.zeros(len(known), bool)
    while True:  # without the frequent values, others may be frequent among the rest
        left = max(1, bins - int(often.sum()))
        new = ~often & (counts * left > counts[~often].sum())
        if not new.any() or (often | new).sum() >= bins:
            break
        often |= new
    rest = np.repeat(known[~often], counts[~often])
    shares = np.linspace(0, 1, left + 1)
    cuts = np.quantile(rest, shares, method="lower") if len(rest) else rest
    return np.unique(np.concatenate([known[often], cuts, known[[0, -1]]]).astype(np.float32))


def _random_numbers(group: Any, place: int, generator: np.random.Generator, count: int) -> np.ndarray:
    values = generator.uniform(group.lows[place], group.highs[place], count)
    return np.rint(values) if place in group.whole else values


_GENERATED: dict[str, Callable[[Any, int, np.random.Generator, int], Any]] = {
    Numbers.kind: _random_numbers,
    YesNo.kind: lambda group, place, generator, count: generator.integers(0, 2, count).astype(float),
    Moments.kind: lambda group, place, generator, count: np.floor(
        generator.uniform(group.starts[place], group.stops[place], count)
    ),
    Categories.kind: lambda group, place, generator, count: [
        (group.vocabularies[place][i] if group.vocabularies[place] else "").encode()
        for i in generator.integers(0, max(1, len(group.vocabularies[place])), count)
    ],
}


def _columns(data: RawData, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns the columns of the training split as arrays.

    Raises:
        UsageError: a column has no value.
    """
    parts: list[dict[str, np.ndarray]] = list(data.train.batch(_BATCH).as_numpy_iterator())
    columns = {name: np.concatenate([part[name] for part in parts]) for name in names}
    for name, values in columns.items():
        empty = (values == b"") if values.dtype == object else np.isnan(values)
        if empty.all():
            raise UsageError(
                f"Column {name!r} of {data.name!r} has no value in the training split. Leave it out with "
                f"--data.leave_out '[\"{name}\"]'."
            )
    return columns
