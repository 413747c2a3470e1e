"""Interactions: ids of users and items to numbers and back, and the items that each user has seen, with core TensorFlow
ops."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import tensorflow as tf

from zoo import lookup
from zoo.datasets.preprocessing.base import object_array, register_preprocessor
from zoo.errors import UsageError
from zoo.item_neighbors import Interactions
from zoo.tasks import Request

if TYPE_CHECKING:
    from zoo.datasets.preprocessing.base import Batch
    from zoo.datasets.raw import RawData, Split

UNKNOWN = 0
_USERS_FILE, _ITEMS_FILE, _TITLES_FILE = "users.txt", "items.txt", "titles.txt"
_LONGEST_SHOWN_ID = 60
_BLANK = " "
"""An empty entry in a file: TensorFlow does not accept empty lines. No id is equal to it."""

_RESOURCES = ("user_numbers", "item_numbers", "item_names", "item_titles", "seen_splits", "seen_items")
"""Names of the tables and tensors that an export saves."""

Tensors = dict[str, tf.Tensor]


@register_preprocessor
@dataclasses.dataclass(frozen=True)
class InteractionPreprocessor:
    """String ids of users and items to int32 numbers: 0 is an unknown id, known ids are numbered from 1 in sorted order.

    The users and items of the training split are known. Seen items come only from the training split. Ids are compared byte
    by byte.

    Attributes:
        user_ids: ids of the known users; user number n is `user_ids[n - 1]`.
        item_ids: ids of the known items.
        titles: a title for every item, "" if it has none.
        seen_splits: bounds of each user's seen items, users + 1 numbers. Those of user n are
            `seen_items[seen_splits[n - 1]:seen_splits[n]]`.
        seen_items: numbers of the seen items, user after user, each once, in the order of their latest times; in the order
            of their ids without times.
        rated: whether the data has ratings. Without, every interaction counts as the rating 1.

    Example:
        >>> preprocessor = InteractionPreprocessor(("ann", "bob"), ("a", "b"), ("Alien", "Brazil"), (0, 1, 3), (2, 1, 2))
        >>> inputs, extras = preprocessor.serve({"user_id": tf.constant(["bob", "nobody"])})
        >>> inputs["user_ids"].numpy().tolist(), extras["seen_items"].numpy().tolist()
        ([2, 0], [[1, 2], [0, 0]])
    """

    kind: ClassVar[str] = "interactions"
    padding: ClassVar[float] = 0
    ranks: ClassVar[bool] = False
    """Whether models learn which item a user chooses next, and no ratings."""
    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    titles: tuple[str, ...]
    seen_splits: tuple[int, ...]
    seen_items: tuple[int, ...]
    rated: bool = True
    _directory: Path | None = dataclasses.field(default=None, compare=False, repr=False)
    _resources: dict[str, Any] = dataclasses.field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        for field in ("user_ids", "item_ids", "titles", "seen_splits", "seen_items"):
            object.__setattr__(self, field, tuple(getattr(self, field)))  # it is a list if it was read from a file

    @classmethod
    def for_model(
        cls, data: RawData, needs: Mapping[str, Any], arguments: Mapping[str, Any]
    ) -> tuple[InteractionPreprocessor, dict[str, Any]]:
        """Numbers the users and items of the training split, and records the items that each user has seen.

        Returns:
            The preprocessor, and the builder's arguments: `num_users`, `num_items`, and `num_ratings`, `rating_mean` and
            `rating_range` if the builder has them and the user does not set them.

        Raises:
            UsageError: the training split is empty, an id cannot be a line of a file, or a rating is not a number.
        """
        columns = _columns(data)
        ratings = columns["rating"]
        further = cls.further_ids(data)
        users, user_numbers = _numbered(columns["user_id"], further.get("user_id", ()))
        items, item_numbers = _numbered(columns["item_id"], further.get("item_id", ()))
        pairs = Interactions(user_numbers + 1, item_numbers + 1, columns.get("time"), len(users), len(items))
        titles = data.about.get("titles", {})
        names = {"user_id": _texts("user_id", users), "item_id": _texts("item_id", items)}
        _check_sizes(data, users[np.unique(user_numbers)], items[np.unique(item_numbers)])
        preprocessor = cls(
            user_ids=names["user_id"],
            item_ids=names["item_id"],
            titles=tuple(" ".join(str(titles.get(item, "")).split()) for item in names["item_id"]),
            seen_splits=tuple(pairs.splits.tolist()),
            seen_items=tuple((pairs.items + 1).tolist()),
            rated="rating" in data.train.element_spec,
        )
        limits = data.about.get("rating_range")
        found = {
            "num_ratings": len(ratings),
            "rating_mean": float(ratings.mean(dtype=np.float64)),
            "rating_range": None if limits is None else tuple(float(limit) for limit in limits),
        }
        open_ = {name: value for name, value in found.items() if name in arguments and arguments[name] is None}
        return preprocessor, {"num_users": len(users), "num_items": len(items), **open_}

    @classmethod
    def further_ids(cls, data: RawData) -> Mapping[str, Sequence[bytes]]:
        """Returns ids of users and items by key that are known although the training split does not have them."""
        return {}

    @property
    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """One number for each input: shape ()."""
        return {"user_ids": (), "item_ids": ()}

    @property
    def requests(self) -> dict[str, Request]:
        """`user_id` and `item_id`: string (batch,); `history`: string (batch, n), ids of items, oldest first, "" for none."""
        return {
            "user_id": Request("user_id", "id", "string", (), "as in the data"),
            "item_id": Request("item_id", "id", "string", (), "as in the data; an unknown id is rejected"),
            "history": Request(
                "history",
                "ids",
                "string",
                (None,),
                "ids of items, the oldest first, at most 1,000; unknown ones are ignored",
            ),
        }

    def generated(self, generator: np.random.Generator, count: int) -> dict[str, list[str]]:
        """Returns random pairs of known ids, and histories of three items."""
        ids = {"user_id": self.user_ids, "item_id": self.item_ids}
        found = {name: [known[i] for i in generator.integers(0, len(known), count)] for name, known in ids.items()}
        history = generator.integers(0, len(self.item_ids), (count, 3)).tolist()
        return {**found, "history": [[self.item_ids[i] for i in row] for row in history]}

    @property
    def described_inputs(self) -> dict[str, str]:
        """How users and items are numbered."""
        files = {"user_ids": _USERS_FILE, "item_ids": _ITEMS_FILE}
        return {name: f"line numbers of `assets/{file}`, from 0; 0 is unknown" for name, file in files.items()}

    @property
    def limits(self) -> tuple[str, ...]:
        """Which users and items are known, and how unknown ones are treated."""
        return (
            f"The model knows {len(self.user_ids):,} users and {len(self.item_ids):,} items. Ids must match exactly.",
            "An unknown user is treated as a user without a history. A rating of an unknown item is rejected. The model does "
            "not know interactions from after training; the signature `history` takes them from the client.",
        )

    def _made(self, name: str) -> Any:
        """A table or tensor by name, created on first access. With a directory, tables read files."""
        if name not in self._resources:
            with tf.init_scope():  # needed if the first access is in a traced tf.data function
                self._resources[name] = self._make(name)
        return self._resources[name]

    def _make(self, name: str) -> Any:
        arrays = {"seen_splits": self.seen_splits, "seen_items": self.seen_items}
        if name in arrays:
            value = np.asarray(arrays[name], np.int32)
            # A variable is saved next to the graph and not in it, so it may be large.
            return tf.constant(value) if self._directory is None else tf.Variable(value, trainable=False, name=name)
        strings, file, to_number = {
            "user_numbers": (self.user_ids, _USERS_FILE, True),
            "item_numbers": (self.item_ids, _ITEMS_FILE, True),
            "item_names": (self.item_ids, _ITEMS_FILE, False),
            "item_titles": (self.titles, _TITLES_FILE, False),
        }[name]
        if self._directory is not None:
            path = self._directory / file
            return lookup.numbers_of_lines(path, UNKNOWN) if to_number else lookup.lines_by_number(path, "")
        numbers = tf.range(1, len(strings) + 1, dtype=tf.int64)
        texts = tf.constant(strings, tf.string, shape=[len(strings)])
        both = (texts, numbers, UNKNOWN) if to_number else (numbers, texts, "")
        return lookup.in_memory(*both)

    def _numbers(self, name: str, ids: tf.Tensor, rank: int = 1) -> tf.Tensor:
        """Ids, string (batch,) or of rank 2, to int32 of the same shape."""
        ids = tf.convert_to_tensor(ids)
        if ids.dtype != tf.string or ids.shape.rank != rank:
            shape, hint = (
                ("(batch,)", "a list of strings") if rank == 1 else ("(batch, n)", "a list of strings for each user")
            )
            raise UsageError(f"{name} is {ids.dtype.name} of shape {ids.shape}; expected string {shape}. Pass {hint}.")
        return tf.cast(self._made("user_numbers" if name == "user_id" else "item_numbers").lookup(ids), tf.int32)

    def encode(self, examples: Mapping[str, tf.Tensor]) -> Batch:
        """Turns a raw batch into inputs `user_ids` and `item_ids`, int32 (batch,), and the target `rating`, float32
        (batch,), 1 without ratings. Unknown users and items get the number 0."""
        inputs = {
            "user_ids": self._numbers("user_id", examples["user_id"]),
            "item_ids": self._numbers("item_id", examples["item_id"]),
        }
        if self.rated and "rating" not in examples:
            raise UsageError(
                f"The data has {', '.join(sorted(examples))}; the model was trained on ratings too. Pass data with a rating."
            )
        if not self.rated:
            return inputs, {"rating": tf.ones_like(inputs["user_ids"], tf.float32)}, {}
        return inputs, {"rating": tf.cast(examples["rating"], tf.float32)}, {}

    def interactions(self, split: Split) -> dict[str, np.ndarray | None]:
        """Returns the interactions of a raw split, see `numbered`."""
        return self.numbered(read_interactions(split.dataset()))

    def numbered(self, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray | None]:
        """Returns columns of raw interactions as `user_ids` and `item_ids`, int64 (n,), 0 for unknown ones, and `times`,
        (n,), or None without times."""
        found: dict[str, np.ndarray | None] = {"times": columns.get("time")}
        for name, known in (("user_id", self.user_ids), ("item_id", self.item_ids)):
            numbers = {text.encode(): number for number, text in enumerate(known, 1)}
            values = [numbers.get(value, UNKNOWN) for value in columns[name].tolist()]
            found[f"{name}s"] = np.array(values, np.int64)
        return found

    def seen(self, users: tf.Tensor) -> tf.Tensor:
        """Returns the numbers of the items that users have seen, oldest first, int32 (batch, most seen), padded with 0, from
        the numbers of the users, int32 (batch,)."""
        splits, values = self._made("seen_splits"), self._made("seen_items")
        start = tf.gather(splits, tf.maximum(users - 1, 0))
        places = tf.ragged.range(start, tf.where(users > 0, tf.gather(splits, users), start))
        return places.with_flat_values(tf.gather(values, places.flat_values)).to_tensor(UNKNOWN)

    def serve(self, requests: Mapping[str, tf.Tensor]) -> tuple[Tensors, Tensors]:
        """Turns requests into model inputs and side tensors.

        With only `user_id`, for a list of items: {"user_ids"}, and {"seen_items"}, see `seen`. With `item_id`, too, for a
        rating: {"user_ids", "item_ids"} and no side tensors. An unknown user gets the number 0. An unknown item has no
        rating, so it raises InvalidArgumentError. With `history`, for a list of items: that of a user with this history;
        unknown items in it get the number 0.
        """
        if "user_id" not in requests:
            seen = _latest(self._numbers("history", requests["history"], rank=2)[:, -_LONGEST_HISTORY:])
            return {"user_ids": tf.zeros_like(seen[:, 0])}, {"seen_items": seen}
        users = self._numbers("user_id", requests["user_id"])
        if "item_id" not in requests:
            return {"user_ids": users}, {"seen_items": self.seen(users)}
        items = self._numbers("item_id", requests["item_id"])
        return {"user_ids": users, "item_ids": _known(requests["item_id"], items, len(self.item_ids))}, {}

    def items(self, numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Turns item numbers of any shape into their ids and titles, strings. Number 0 becomes ""."""
        numbers = tf.cast(numbers, tf.int64)
        ids = tf.where(numbers > UNKNOWN, self._made("item_names").lookup(numbers), "")
        return ids, tf.strings.strip(self._made("item_titles").lookup(numbers))

    def trim(self, inputs: Tensors, targets: Tensors, weights: Tensors) -> Batch:
        """Returns the batch unchanged, because nothing is padded."""
        return inputs, targets, weights

    def accepts(self, example: Mapping[str, Any]) -> bool:
        """Whether a raw example is a valid request: whether its item is known."""
        if "known" not in self._resources:
            self._resources["known"] = frozenset(item.encode() for item in self.item_ids)
        return bytes(example["item_id"]) in self._resources["known"]

    def to_requests(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Returns raw examples as a client sends them: `user_id` and `item_id`, object arrays of bytes, and the item as a
        history, (examples, 1)."""
        found = {name: object_array([example[name] for example in examples]) for name in ("user_id", "item_id")}
        return {**found, "history": found["item_id"][:, np.newaxis]}

    def for_export(self, directory: Path) -> tuple[InteractionPreprocessor, list[Any]]:
        """Returns an equal preprocessor whose ids and titles are files in `directory`, and the objects to save with it.

        Line 0 of each file stands for an unknown id, so the number of a line is the number of the user or item.
        """
        for file, lines in ((_USERS_FILE, self.user_ids), (_ITEMS_FILE, self.item_ids), (_TITLES_FILE, self.titles)):
            text = "".join(f"{line or _BLANK}\n" for line in ("", *lines))
            (directory / file).write_text(text, encoding="utf-8", newline="\n")
        served = dataclasses.replace(self, _directory=directory, _resources={})
        return served, [served._made(name) for name in _RESOURCES]

    def config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        fields = ("user_ids", "item_ids", "titles", "seen_splits", "seen_items")
        return {**{field: list(getattr(self, field)) for field in fields}, "rated": self.rated}


def _numbered(ids: np.ndarray, further: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the different ids of a column and further ones, sorted, and the place of each cell of the column in them."""
    # Python's bytes, because NumPy's byte strings lose NULs at the end.
    known, numbers = np.unique(
        np.concatenate([ids.astype(object), object_array(further)]) if further else ids.astype(object),
        return_inverse=True,
    )
    return known, numbers[: len(ids)]


def _texts(name: str, ids: np.ndarray) -> tuple[str, ...]:
    """Ids as text. An id that cannot be a line of a file is an error."""
    texts = []
    for value in ids.tolist():
        try:
            text = value.decode()
        except UnicodeDecodeError:
            text = ""
        if not text.strip() or any(c in text for c in "\n\r\0"):
            raise UsageError(
                f"The training split holds the {name} {value[:_LONGEST_SHOWN_ID]!r}; expected UTF-8 text that is not blank "
                "and has no line breaks or NUL. Rename it."
            )
        texts.append(text)
    return tuple(texts)


def read_interactions(dataset: tf.data.Dataset) -> dict[str, np.ndarray]:
    """Returns the columns of interactions, those that there are of user_id, item_id, rating and time."""
    spec = dataset.element_spec
    names = [name for name in ("user_id", "item_id", "rating", "time") if name in spec]
    parts = list(dataset.batch(4096).as_numpy_iterator())
    empty = {name: np.zeros(0, spec[name].dtype.as_numpy_dtype) for name in names}
    return {name: np.concatenate([empty[name], *(part[name] for part in parts)]) for name in names}


def _columns(data: RawData) -> dict[str, np.ndarray]:
    """The columns of the training split, checked. Ratings are 1 where there are none."""
    columns = read_interactions(data.train)
    if not len(columns["user_id"]):
        raise UsageError(f"The training split of {data.name!r} holds no ratings. Choose another data set.")
    ratings = columns.setdefault("rating", np.ones(len(columns["user_id"]), np.float32))
    if not np.isfinite(ratings).all():
        wrong = int(np.flatnonzero(~np.isfinite(ratings))[0])
        raise UsageError(
            f"Rating {wrong} of {data.name!r} is {ratings[wrong]}. Remove ratings that are not finite numbers."
        )
    return columns


def _check_sizes(data: RawData, users: np.ndarray, items: np.ndarray) -> None:
    for name, ids in (("user", users), ("item", items)):
        if len(ids) < 2:
            raise UsageError(
                f"The training split of {data.name!r} has one {name}, {ids[0][:_LONGEST_SHOWN_ID]!r}; expected at least two, "
                f"which a recommender compares. Pass interactions of more {name}s."
            )


_LONGEST_HISTORY = 1_000


def _latest(items: tf.Tensor) -> tf.Tensor:
    """Returns histories, (batch, n), in which each item stands once, at its last place, with 0 at the others, as training has
    each once."""
    equal = items[:, :, tf.newaxis] == items[:, tf.newaxis, :]
    later = tf.linalg.band_part(tf.cast(equal, tf.int32), 0, -1) - tf.linalg.band_part(tf.cast(equal, tf.int32), 0, 0)
    return tf.where(tf.reduce_any(later > 0, axis=2), 0, items)


def _known(ids: tf.Tensor, numbers: tf.Tensor, count: int) -> tf.Tensor:
    """Returns the numbers, or raises an error with the first unknown id, shortened, if one of them is 0."""
    # No quotation marks, because TensorFlow prints them with a backslash.
    wrong = tf.concat([tf.boolean_mask(ids, numbers == UNKNOWN), [""]], axis=0)[0]
    shown = tf.strings.unicode_transcode(wrong, "UTF-8", "UTF-8", errors="replace", replace_control_characters=True)
    shown = tf.strings.substr(shown, 0, _LONGEST_SHOWN_ID, unit="UTF8_CHAR")
    ending = f"> is not one of the {count} known items. Send an id of {_ITEMS_FILE}."
    message = tf.strings.join(["item_id <", shown, ending])
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(numbers != UNKNOWN), [message])]):
        return tf.identity(numbers)
