"""The two towers of a recommender: vectors of users and of items, and the chance of an item among all others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

_NEVER = -1e9


def _falling(shape: Sequence[int], dtype: Any = None) -> Any:
    """Returns numbers that fall from 0 to -2: at first, the oldest item of a history counts a seventh of the latest."""
    return ops.linspace(0.0, -2.0, shape[0], dtype=dtype)


@keras.saving.register_keras_serializable("zoo")
class Tower(layers.Layer):
    """A vector of each user or item, from its number and its features: int32 (...) becomes (..., dim).

    The vector is the sum of a learned vector of the number, a linear map of the numbers among the features, a learned
    vector of every category, and `extra`. Residual blocks follow: x + W2 relu(W1 x). The number 0, and a number that
    the training split does not have, has no learned vector of its own: it has that of its features.

    Args:
        count: number of known users or items.
        dim: channels of a vector.
        hidden_units: units of each residual block.
        num_numbers: how many numbers the features have.
        category_sizes: for each column of categories, how many numbers it has, 0 (unknown) included.
        id_dropout: share of the learned vectors of numbers that a training step leaves out, so that features are learned.

    Example:
        >>> tower = Tower(count=3, dim=4)
        >>> tower(np.array([1, 3])).shape, tower.count_params()
        (TensorShape([2, 4]), 15)
    """

    def __init__(
        self,
        count: int,
        dim: int,
        hidden_units: Sequence[int] = (),
        num_numbers: int = 0,
        category_sizes: Sequence[int] = (),
        id_dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.count, self.dim, self.hidden_units = count, dim, [int(units) for units in hidden_units]
        self.num_numbers, self.category_sizes = num_numbers, [int(size) for size in category_sizes]
        self.id_dropout = id_dropout
        self.seed_generator = keras.random.SeedGenerator() if id_dropout else None

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the learned weights; and `trained`, 1 for the numbers of the training split, and the features, which are
        set from the data."""
        fixed: dict[str, Any] = {"trainable": False, "autocast": False}
        near = keras.initializers.RandomNormal(stddev=0.1)
        self.table = self.add_weight(shape=(self.count, self.dim), initializer=near, name="table")
        self.trained = self.add_weight(shape=(self.count,), initializer="ones", name="trained", **fixed)
        if self.num_numbers:
            shape = (self.count, self.num_numbers)
            self.numbers = self.add_weight(shape=shape, initializer="zeros", name="numbers", **fixed)
            self.kernel = self.add_weight(shape=(self.num_numbers, self.dim), initializer=near, name="kernel")
        if self.category_sizes:
            shape = (self.count, len(self.category_sizes))
            self.categories = self.add_weight(
                shape=shape, dtype="int32", initializer="zeros", name="categories", **fixed
            )
            known = sum(self.category_sizes)
            self.category_table = self.add_weight(shape=(known, self.dim), initializer=near, name="category_table")
        self.blocks = []
        for place, units in enumerate(self.hidden_units):
            up = self.add_weight(shape=(self.dim, units), initializer="glorot_uniform", name=f"up_{place}")
            bias = self.add_weight(shape=(units,), initializer="zeros", name=f"bias_{place}")
            down = self.add_weight(shape=(units, self.dim), initializer="glorot_uniform", name=f"down_{place}")
            self.blocks.append((up, bias, down))

    def features(self, ids: Any) -> dict[str, Any]:
        """Returns the features of known numbers, {"numbers": (..., n), "categories": (..., m)}, each only if there are any;
        those of the number 0 are unknown."""
        rows, known = ops.maximum(ids - 1, 0), ids > 0
        found = {}
        if self.num_numbers:
            found["numbers"] = ops.take(self.numbers, rows, axis=0) * ops.cast(known[..., None], "float32")
        if self.category_sizes:
            found["categories"] = ops.take(self.categories, rows, axis=0) * ops.cast(known[..., None], "int32")
        return found

    def call(
        self, ids: Any, numbers: Any = None, categories: Any = None, extra: Any = None, training: bool = False
    ) -> Any:
        """Returns the vectors, in the layer's compute dtype. Features that are not given are those of the numbers."""
        own = {} if numbers is not None or categories is not None else self.features(ids)
        numbers, categories = own.get("numbers", numbers), own.get("categories", categories)
        rows, dtype = ops.maximum(ids - 1, 0), self.compute_dtype
        kept = ops.cast(ids > 0, "float32") * ops.take(self.trained, rows, axis=0)
        if training and self.id_dropout:
            draws = keras.random.uniform(ops.shape(kept), seed=self.seed_generator)
            kept = kept * ops.cast(draws >= self.id_dropout, "float32")
        x = ops.take(ops.cast(self.table, dtype), rows, axis=0) * ops.cast(kept[..., None], dtype)
        if self.num_numbers:
            x = x + ops.matmul(ops.cast(numbers, dtype), ops.cast(self.kernel, dtype))
        if self.category_sizes:
            starts = [sum(self.category_sizes[:place]) for place in range(len(self.category_sizes))]
            held = ops.take(ops.cast(self.category_table, dtype), categories + ops.array(starts, "int32"), axis=0)
            x = x + ops.sum(held * ops.cast(categories > 0, dtype)[..., None], axis=-2)
        if extra is not None:
            x = x + extra
        for up, bias, down in self.blocks:
            inner = ops.relu(ops.matmul(x, ops.cast(up, dtype)) + ops.cast(bias, dtype))
            x = x + ops.matmul(inner, ops.cast(down, dtype))
        return x

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        names = ("count", "dim", "hidden_units", "num_numbers", "category_sizes", "id_dropout")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("zoo")
class TwoTowers(layers.Layer):
    """The logarithm of the probability that a user chooses an item next, float32 (batch,).

    The score of an item is the product of its vector with that of the user, plus a learned multiple of the logarithm of its
    popularity at that time. The probability is the softmax of the scores over all items of the training split without those
    of the history. Of many items, `sampled` are drawn for each batch in training, in proportion to their popularity. The
    logarithm of the expected number of draws is subtracted from their scores, so that popular items, which are drawn often,
    are not pushed down.

    Inputs: `user_ids` int32 (batch,), `item_ids` int32 (batch,), `history` int32 (batch, n), numbers of items, the latest
    first, 0 for none, and `periods` int32 (batch,), the number of a period of the training split, 0 for now.

    Args:
        num_users: number of known users.
        num_items: number of known items.
        dim: channels of a vector.
        hidden_units: units of each residual block of both towers.
        history_length: the latest items of a history that count.
        num_periods: number of periods.
        sampled: items that are drawn for each batch; 0 for all items.
        id_dropout: see `Tower`.
        user_numbers, user_categories, item_numbers, item_categories: the features, see `Tower`.

    Sources: Yi et al., Sampling-bias-corrected neural modeling for large corpus item recommendations, RecSys 2019; Covington,
    Adams and Sargin, Deep neural networks for YouTube recommendations, RecSys 2016 (the history); Volkovs, Yu and Poutanen,
    DropoutNet, NeurIPS 2017 (`id_dropout`).

    Example:
        >>> layer = TwoTowers(num_users=2, num_items=4, dim=3, history_length=5)
        >>> one = np.array([1])
        >>> layer([one, one, np.zeros([1, 5], "int32"), one * 0]).shape
        TensorShape([1])
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        dim: int,
        hidden_units: Sequence[int] = (),
        history_length: int = 50,
        num_periods: int = 0,
        sampled: int = 0,
        id_dropout: float = 0.0,
        user_numbers: int = 0,
        user_categories: Sequence[int] = (),
        item_numbers: int = 0,
        item_categories: Sequence[int] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.arguments: dict[str, Any] = {
            **{"num_users": num_users, "num_items": num_items, "dim": dim, "hidden_units": list(hidden_units)},
            **{"history_length": history_length, "num_periods": num_periods, "sampled": sampled},
            **{"id_dropout": id_dropout, "user_numbers": user_numbers, "user_categories": list(user_categories)},
            **{"item_numbers": item_numbers, "item_categories": list(item_categories)},
        }
        self.count, self.history_length, self.sampled = num_items, history_length, sampled
        of_users: dict[str, Any] = {"num_numbers": user_numbers, "category_sizes": user_categories}
        of_items: dict[str, Any] = {"num_numbers": item_numbers, "category_sizes": item_categories}
        deep: dict[str, Any] = {"hidden_units": hidden_units, "id_dropout": id_dropout, "dtype": self.dtype_policy}
        self.users = Tower(num_users, dim, **deep, **of_users, name="users")
        self.items = Tower(num_items, dim, **deep, **of_items, name="items")
        self.past = Tower(num_items, dim, **of_items, dtype=self.dtype_policy, name="past")
        self.seed_generator = keras.random.SeedGenerator() if sampled else None

    def build(self, input_shape: Any) -> None:
        """Creates the towers, the weights of a history's places, the logarithms of the popularity now and at the start of
        every period, (periods + 1, items), and their factor."""
        for tower in (self.users, self.items, self.past):
            tower.build((None,))
        self.places = self.add_weight(shape=(self.history_length,), initializer=_falling, name="places")
        self.offset = self.add_weight(shape=(self.arguments["dim"],), initializer="zeros", name="offset")
        shape = (self.arguments["num_periods"] + 1, self.count)
        near = keras.initializers.RandomNormal(stddev=0.1)  # until it is set; equal values would not train their factor
        self.popularity = self.add_weight(
            shape=shape, initializer=near, name="popularity", trainable=False, autocast=False
        )
        self.power = self.add_weight(shape=(), initializer="ones", name="power", autocast=False)

    def user_vectors(self, ids: Any, history: Any, training: bool = False, **features: Any) -> Any:
        """Returns the vectors of users, (batch, dim), from their numbers and their histories, the latest item first.

        Args:
            ids: int32 (batch,).
            history: int32 (batch, n); the first `history_length` count.
            training: whether vectors of numbers are left out.
            **features: `numbers` and `categories` of users that are not known.
        """
        history = history[:, : self.history_length]
        there = ops.cast(history > 0, "float32")
        weights = ops.exp(ops.cast(self.places, "float32")[: ops.shape(history)[1]]) * there
        weights = weights / ops.maximum(ops.sum(weights, axis=1, keepdims=True), 1e-9)
        held = self.past(history, training=training)
        pooled = ops.sum(held * ops.cast(weights, held.dtype)[..., None], axis=1)
        return self.users(ids, extra=pooled + ops.cast(self.offset, held.dtype), training=training, **features)

    def catalogue(self, training: bool = False) -> Any:
        """Returns the vectors of all known items, (items, dim)."""
        return self.items(ops.arange(1, self.count + 1, dtype="int32"), training=training)

    def scores(self, users: Any, items: Any, periods: Any) -> Any:
        """Returns the scores of all items, float32 (batch, items), from vectors of users, those of the catalogue, and
        periods."""
        scores = ops.cast(ops.matmul(users, ops.transpose(items)), "float32")
        return scores + self.power * ops.take(self.popularity, periods, axis=0)

    def call(self, inputs: Sequence[Any], training: bool = False) -> Any:
        """Returns the logarithms of the probabilities."""
        user_ids, item_ids, history, periods = inputs
        users = self.user_vectors(user_ids, history, training=training)
        if training and self.sampled:
            return self._sampled(users, item_ids, periods)
        scores = self.scores(users, self.catalogue(training), periods)
        chosen = ops.take_along_axis(scores, ops.maximum(item_ids - 1, 0)[:, None], axis=1)[:, 0]
        scores = ops.where(self.items.trained > 0, scores, _NEVER)
        return chosen - ops.logsumexp(scores + self._seen(history), axis=1)

    def _seen(self, history: Any) -> Any:
        """Returns a large negative number for each item of a history, (batch, items), otherwise 0."""
        marks = ops.zeros((ops.shape(history)[0], self.count + 1), "float32")
        rows = ops.broadcast_to(ops.arange(ops.shape(history)[0], dtype="int32")[:, None], ops.shape(history))
        places = ops.stack([ops.reshape(rows, (-1,)), ops.reshape(history, (-1,))], axis=1)
        seen = ops.scatter_update(marks, places, ops.cast(places[:, 0] * 0, marks.dtype) + _NEVER)
        return seen[:, 1:]

    def _sampled(self, users: Any, item_ids: Any, periods: Any) -> Any:
        """Returns the logarithms of the probabilities among the item and items that are drawn."""
        chances = self.popularity[0] + ops.where(self.items.trained > 0, 0.0, _NEVER)
        drawn = keras.random.categorical(chances[None], self.sampled, dtype="int32", seed=self.seed_generator)[0] + 1
        expected = ops.log(float(self.sampled)) + ops.log_softmax(chances)
        both = ops.concatenate([item_ids, drawn])
        vectors, size = self.items(both, training=True), ops.shape(item_ids)[0]
        rows, starts = ops.maximum(both - 1, 0), periods * self.count
        popularity = self.power * ops.take(ops.reshape(self.popularity, (-1,)), starts[:, None] + rows[None, size:])
        others = ops.cast(ops.matmul(users, ops.transpose(vectors[size:])), "float32") + popularity
        own = ops.cast(ops.sum(users * vectors[:size], axis=1), "float32")
        own = own + self.power * ops.take(ops.reshape(self.popularity, (-1,)), starts + rows[:size])
        corrected = others - ops.take(expected, rows[size:])
        corrected = ops.where(item_ids[:, None] == drawn[None, :], _NEVER, corrected)
        return own - ops.logsumexp(ops.concatenate([own[:, None], corrected], axis=1), axis=1)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Returns (batch,)."""
        return (input_shape[0][0],)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), **self.arguments}
