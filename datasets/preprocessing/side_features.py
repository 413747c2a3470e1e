"""Interactions for a model that learns which item a user chooses next, from histories and features of users and items."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import tensorflow as tf

from zoo.datasets.preprocessing.base import object_array, register_preprocessor
from zoo.datasets.preprocessing.interactions import InteractionPreprocessor, Tensors, read_interactions
from zoo.datasets.preprocessing.side_tables import SideTable
from zoo.tasks import Request

if TYPE_CHECKING:
    from zoo.datasets.preprocessing.base import Batch
    from zoo.datasets.raw import RawData

_PERIODS, _CELLS = 128, 2_000_000
"""Maximum number of periods, and of periods times items."""
_ABOUT = {"user": "users", "item": "items"}


@register_preprocessor
@dataclasses.dataclass(frozen=True)
class SideFeaturePreprocessor(InteractionPreprocessor):
    """Ids to numbers as in the base, the items that a user chose before, and features of users and items.

    Users and items of the tables of features are known too, also without interactions in the training split. The target is
    the number of the item; ratings are not used.

    Attributes:
        users: the features of users, None without any.
        items_table: the features of items.
        period_starts: times at which the periods of the training split begin, ascending; empty without times.
        history_length: the latest items of a history that are model inputs.
    """

    kind: ClassVar[str] = "side_features"
    ranks: ClassVar[bool] = True
    users: SideTable | None = None
    items_table: SideTable | None = None
    period_starts: tuple[float, ...] = ()
    history_length: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "period_starts", tuple(self.period_starts))
        for name in ("users", "items_table"):
            if isinstance(value := getattr(self, name), Mapping):  # it was read from a file
                object.__setattr__(self, name, SideTable(**value))

    @classmethod
    def for_model(
        cls, data: RawData, needs: Mapping[str, Any], arguments: Mapping[str, Any]
    ) -> tuple[SideFeaturePreprocessor, dict[str, Any]]:
        """Does the same as the base, fits the features, and divides the time of the training split into periods.

        Returns:
            The preprocessor, and the builder's arguments `num_users`, `num_items`, `num_periods` and sizes of the features.
        """
        base: Any
        base, fixed = super().for_model(data, needs, arguments)  # an object of this class
        known = {"user": base.user_ids, "item": base.item_ids}
        tables = {of: _table(of, data, known[of]) for of in known}
        times = read_interactions(data.train).get("time")
        most = max(1, min(_PERIODS, _CELLS // len(base.item_ids)))
        starts: list[float] = []
        if times is not None and np.ptp(times):
            starts = np.unique(np.quantile(times.astype(np.float64), np.arange(most) / most, method="lower")).tolist()
        sizes = [table.arguments for table in tables.values() if table is not None]
        length = int(arguments["history_length"])
        preprocessor = dataclasses.replace(
            base,
            rated=False,
            users=tables["user"],
            items_table=tables["item"],
            period_starts=tuple(starts),
            history_length=length,
        )
        sized = {name: size for part in sizes for name, size in part.items()}
        return preprocessor, {**fixed, "num_periods": len(starts), **sized}

    @classmethod
    def further_ids(cls, data: RawData) -> Mapping[str, Sequence[bytes]]:
        """Returns the ids of the tables of features."""
        found = {of: data.about.get(name) for of, name in _ABOUT.items()}
        return {f"{of}_id": [text.encode() for text in part["ids"]] for of, part in found.items() if part}

    @property
    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """`history`: (history_length,); one number for each other input."""
        return {"user_ids": (), "item_ids": (), "history": (self.history_length,), "periods": ()}

    @property
    def requests(self) -> dict[str, Request]:
        """Those of the base, and one for each feature: `user_` or `item_` and the name of the column."""
        tables = [table for table in (self.users, self.items_table) if table is not None]
        return {**super().requests, **{name: part for table in tables for name, part in table.requests.items()}}

    def generated(self, generator: np.random.Generator, count: int) -> dict[str, Any]:
        """Returns random known ids, histories of three items, and the features of random users and items."""
        found: dict[str, Any] = super().generated(generator, count)
        for table, known in ((self.users, self.user_ids), (self.items_table, self.item_ids)):
            if table is not None:
                found |= table.to_requests(generator.integers(1, len(known) + 1, count).tolist())
        return found

    @property
    def described_inputs(self) -> dict[str, str]:
        """How users, items and periods are numbered."""
        return {
            **super().described_inputs,
            "history": "numbers of the items chosen before, the latest first, then 0",
            "periods": "number of a period of the training split, from 1; 0 is now",
        }

    @property
    def limits(self) -> tuple[str, ...]:
        """What is known, and how new users and items are treated."""
        tables = [table for table in (self.users, self.items_table) if table is not None]
        return (
            *super().limits,
            f"The latest {self.history_length} items of a history count. Ratings do not count.",
            *(sentence for table in tables for group in table.groups for sentence in group.limits),
        )

    def encode(self, examples: Mapping[str, tf.Tensor]) -> Batch:
        """Turns a raw batch into the model's inputs, the target `item`, int32 (batch,), and its weights, 0 for an item that
        the training split does not have.

        The history of a training example holds the items that the user chose before; without times, all others of the user.
        An item that a user chose several times is at the place of the latest: earlier choices of it have that history too.
        Other examples have the whole history of the training split, and the period of now.
        """
        users, items = self._numbers("user_id", examples["user_id"]), self._numbers("item_id", examples["item_id"])
        seen = self.seen(users)
        padded = tf.concat([seen, tf.zeros_like(users)[:, tf.newaxis]], axis=1)
        matches = (padded == items[:, tf.newaxis]) & (items > 0)[:, tf.newaxis]
        found = tf.reduce_any(matches, axis=1)
        place = tf.where(found, tf.argmax(matches, axis=1, output_type=tf.int32), -1)
        count = tf.math.count_nonzero(seen, axis=1, dtype=tf.int32)
        timed = bool(self.period_starts)
        ends = tf.where(found, place, count) if timed else count - tf.cast(found, tf.int32)
        places = ends[:, tf.newaxis] - 1 - tf.range(self.history_length)
        if not timed:
            skipped = found[:, tf.newaxis] & (places >= place[:, tf.newaxis])
            places += tf.cast(skipped & (places >= 0), tf.int32)
        history = tf.where(places >= 0, tf.gather(padded, tf.maximum(places, 0), batch_dims=1), 0)
        periods = tf.zeros_like(users)
        if timed and "time" in examples:
            starts = tf.constant(self.period_starts, tf.float64)
            numbers = tf.searchsorted(starts, tf.cast(examples["time"], tf.float64), side="right", out_type=tf.int32)
            periods = tf.where(found, numbers, periods)
        inputs = {"user_ids": users, "item_ids": items, "history": history, "periods": periods}
        return inputs, {"item": items}, {"item": tf.cast(self._in_training(items), tf.float32)}

    def _in_training(self, items: tf.Tensor) -> tf.Tensor:
        """Returns which items, by their numbers, the training split has."""
        if "in_training" not in self._resources:
            marks = np.isin(np.arange(len(self.item_ids) + 1), self.seen_items)
            with tf.init_scope():
                self._resources["in_training"] = tf.constant(marks)
        return tf.gather(self._resources["in_training"], items)

    def serve(self, requests: Mapping[str, tf.Tensor]) -> tuple[Tensors, Tensors]:
        """Turns requests into model inputs and side tensors.

        As in the base for `user_id` or `history`. With features of a user, these too, such as {"user_numbers"}. With
        `item_id` and without a user, for the vector of an item: {"item_ids"}, 0 for a new one, and its features, such as
        {"item_numbers"}.
        """
        given = {
            of: table.serve(requests)
            for of, table in (("user", self.users), ("item", self.items_table))
            if table is not None and all(name in requests for name in table.requests)
        }
        if "item_id" in requests and "user_id" not in requests:
            return {"item_ids": self._numbers("item_id", requests["item_id"])}, given.get("item", {})
        inputs, extras = super().serve({name: requests[name] for name in ("user_id", "history") if name in requests})
        return inputs, {**extras, **given.get("user", {})}

    def to_requests(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Returns raw examples as a client sends them, with the features of their users and items."""
        found = super().to_requests(examples)
        for table, key in ((self.users, "user_id"), (self.items_table, "item_id")):
            if table is not None:
                ids = object_array([example[key] for example in examples])
                found |= table.to_requests(self._numbers(key, tf.constant(ids, tf.string)).numpy().tolist())
        return found

    def for_export(self, directory: Path) -> tuple[InteractionPreprocessor, list[Any]]:
        """Does the same as the base, and writes the categories of the features."""
        served, resources = super().for_export(directory)
        for name in ("users", "items_table"):
            if (table := getattr(self, name)) is not None:
                table, more = table.for_export(directory)
                served, resources = dataclasses.replace(served, **{name: table}), [*resources, *more]
        return served, resources

    def config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        tables = {"users": self.users, "items_table": self.items_table}
        return {
            **super().config(),
            **{name: None if table is None else table.config() for name, table in tables.items()},
            "period_starts": list(self.period_starts),
            "history_length": self.history_length,
        }


def _table(of: str, data: RawData, known: Sequence[str]) -> SideTable | None:
    """Returns the features of the known users or items, missing values for one that has no row."""
    about = data.about.get(_ABOUT[of])
    if not about or not about["kinds"]:
        return None
    rows = {text: row for row, text in enumerate(about["ids"])}
    places = np.array([rows.get(text, -1) for text in known])
    columns = {}
    for name, values in about["columns"].items():
        column = _array(about["kinds"][name], values)[np.maximum(places, 0)].copy()
        column[places < 0] = b"" if column.dtype == object else np.nan
        columns[name] = column
    return SideTable.fit(of, about["kinds"], columns, about.get("orders"))


def _array(kind: str, values: Any) -> np.ndarray:
    """Returns raw values as an array; the metadata of a prepared data set has lists."""
    if isinstance(values, np.ndarray):
        return values
    if kind in ("category", "list"):
        return object_array([value.encode() for value in values])
    return np.array(
        [np.nan if value is None else value for value in values], np.float64 if kind == "time" else np.float32
    )
