"""A two-tower recommender: vectors of users and items from ids, features and histories, whose product ranks the items."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zoo import item_neighbors
from zoo.errors import UsageError
from zoo.registry import Situation, register_model

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

_MOST_ITEMS = 20_000
_SAMPLED = 4_096
_RECENT, _PAST = 0.9, 0.09
"""Shares of the recent and of all earlier interactions in the popularity; the rest is equal for all items."""

Function = Callable[[Mapping[str, Any], Mapping[str, Any]], "dict[str, tf.Tensor]"]


def make_scores(model: keras.Model) -> Function:
    """Returns a function that scores every item for users; higher is better.

    It takes `inputs` {"user_ids": int32 (batch,)} and `extras` {"seen_items": int32 (batch, n), numbers of the items of the
    history, oldest first, 0 for none}, and for users with features in the request `user_numbers` and `user_categories`. It
    returns {"score": float32 (batch, items)}, the first column for item 1.

    Args:
        model: a model from `build_two_tower_model`.

    Example:
        >>> scores = make_scores(zoo.build_two_tower_model(num_users=3, num_items=20))
        >>> scores({"user_ids": tf.constant([0, 2])}, {"seen_items": tf.constant([[0, 0], [3, 4]])})["score"].shape
        TensorShape([2, 20])
    """
    import tensorflow as tf

    towers = model.get_layer("log_probability")

    def scores(inputs: Mapping[str, Any], extras: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        users = _users(towers, inputs, extras)
        return {"score": towers.scores(users, towers.catalogue(), tf.zeros_like(inputs["user_ids"]))}

    return scores


def make_top_k(model: keras.Model) -> Function:
    """Returns a function that scores every item for a user in the graph and keeps the ten best.

    It takes the inputs and extras of `make_scores`. It returns {"item_ids": int32 (batch, 10), best first; "score": float32
    (batch, 10)}. Items of the history are left out. Ties go to the lower item number. If fewer than ten items are left, the
    rest is item 0 with score 0.

    Args:
        model: a model from `build_two_tower_model`.

    Example:
        >>> top_k = make_top_k(zoo.build_two_tower_model(num_users=3, num_items=20))
        >>> top_k({"user_ids": tf.constant([0])}, {"seen_items": tf.constant([[1, 3]])})["item_ids"].shape
        TensorShape([1, 10])
    """
    from zoo.layers.recommendation import best_unseen

    score_all = make_scores(model)
    return lambda inputs, extras: best_unseen(score_all(inputs, extras)["score"], extras["seen_items"])


def make_user_vectors(model: keras.Model) -> Function:
    """Returns a function that computes the vectors of users, {"vector": float32 (batch, embedding_dim + 1)}.

    It takes the inputs and extras of `make_scores`. The last element is 1: it is multiplied by the item's popularity.

    Args:
        model: a model from `build_two_tower_model`.

    Example:
        >>> vectors = make_user_vectors(zoo.build_two_tower_model(num_users=3, num_items=20))
        >>> vectors({"user_ids": tf.constant([2])}, {"seen_items": tf.constant([[3, 4]])})["vector"].shape
        TensorShape([1, 65])
    """
    import tensorflow as tf

    towers = model.get_layer("log_probability")

    def vectors(inputs: Mapping[str, Any], extras: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        users = tf.cast(_users(towers, inputs, extras), tf.float32)
        return {"vector": tf.concat([users, tf.ones_like(users[:, :1])], axis=1)}

    return vectors


def make_item_vectors(model: keras.Model) -> Function:
    """Returns a function that computes the vectors of items, {"vector": float32 (batch, embedding_dim + 1)}.

    It takes `inputs` {"item_ids": int32 (batch,), 0 for a new item} and `extras` with the features, `item_numbers` and
    `item_categories`, of a model that has any. The product with the vector of a user is the score of the item. A new item
    has the least popularity of all items.

    Args:
        model: a model from `build_two_tower_model`.

    Example:
        >>> vectors = make_item_vectors(zoo.build_two_tower_model(num_users=3, num_items=20))
        >>> vectors({"item_ids": tf.constant([0, 7])}, {})["vector"].shape
        TensorShape([2, 65])
    """
    import tensorflow as tf

    towers = model.get_layer("log_probability")

    def vectors(inputs: Mapping[str, Any], extras: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        numbers, now = inputs["item_ids"], towers.popularity[0]
        items = tf.cast(towers.items(numbers, **_features("item", extras)), tf.float32)
        known = tf.gather(now, tf.maximum(numbers - 1, 0))
        popularity = towers.power * tf.where(numbers > 0, known, tf.reduce_min(now))
        return {"vector": tf.concat([items, popularity[:, tf.newaxis]], axis=1)}

    return vectors


def _features(of: str, extras: Mapping[str, Any]) -> dict[str, Any]:
    names = {name: f"{of}_{name}" for name in ("numbers", "categories")}
    return {name: extras[key] for name, key in names.items() if key in extras}


def _users(towers: Any, inputs: Mapping[str, Any], extras: Mapping[str, Any]) -> Any:
    """Returns the vectors of users whose history is given with the oldest item first."""
    import tensorflow as tf

    none = tf.zeros_like(inputs["user_ids"])[:, tf.newaxis]
    seen = tf.concat([extras["seen_items"], none], axis=1)  # never without a column
    ends = tf.reduce_max(tf.where(seen > 0, tf.range(1, tf.shape(seen)[1] + 1), 0), axis=1, keepdims=True)
    places = ends - 1 - tf.range(towers.history_length)
    latest = tf.where(places >= 0, tf.gather(seen, tf.maximum(places, 0), batch_dims=1), 0)
    return towers.user_vectors(inputs["user_ids"], latest, **_features("user", extras))


def fit_towers(model: keras.Model, data: Any) -> None:
    """Sets what a new model takes from the data: features, the items and users of the training split, and popularity.

    The popularity of an item at a time counts the interactions before, weighted by recency. Their half-life is the one whose
    most popular items are the best recommendations on the validation split.

    Args:
        model: a model from `build_two_tower_model`.
        data: prepared data.
    """
    import numpy as np

    towers, preprocessor = model.get_layer("log_probability"), data.preprocessor
    shape = towers.users.count, towers.count
    train, validation = (
        item_neighbors.interactions(preprocessor.interactions(data.data.splits[split]), *shape)
        for split in ("train", "validation")
    )
    for tower, side, known in (
        (towers.users, preprocessor.users, train.users),
        (towers.items, preprocessor.items_table, train.items),
        (towers.past, preprocessor.items_table, train.items),
    ):
        tower.trained.assign(np.isin(np.arange(tower.count), known).astype(np.float32))
        for name, values in (side.encoded() if side is not None else {}).items():
            getattr(tower, name).assign(values)
    half_life = item_neighbors.best_half_life(train, validation)
    towers.popularity.assign(popularities(train, preprocessor.period_starts, half_life))


def popularities(train: item_neighbors.Interactions, starts: Sequence[float], half_life: float) -> Any:
    """Returns the logarithms of the items' popularity, float32 (periods + 1, items): at the end of the training split, and
    at the start of each period.

    Args:
        train: the training interactions.
        starts: times at which the periods begin, ascending.
        half_life: age at which an interaction counts half, in parts of the covered time; infinite for no decay.
    """
    import numpy as np

    span = float(np.ptp(train.times)) if len(train.times) else 0.0
    rate = 0.0 if np.isinf(half_life) or not span else 1 / (half_life * span)
    order = np.argsort(train.times, kind="stable")
    times, items = train.times[order], train.items[order]
    recent, past = np.zeros(train.shape[1]), np.zeros(train.shape[1])
    ends = [*starts, times.max() if len(times) else 0.0]
    rows, begin, now = [], 0, ends[0]
    for place, end in enumerate(ends):
        stop = len(times) if place == len(starts) else int(np.searchsorted(times, end))
        recent *= np.exp2(-rate * (end - now))
        recent += np.bincount(items[begin:stop], np.exp2(-rate * (end - times[begin:stop])), minlength=train.shape[1])
        past += np.bincount(items[begin:stop], minlength=train.shape[1])
        shares = [part / max(part.sum(), 1e-30) for part in (recent, past)]
        mixed = _RECENT * shares[0] + _PAST * shares[1] + (1 - _RECENT - _PAST) / train.shape[1]
        rows.append(np.log(mixed))
        begin, now = stop, end
    return np.stack([rows[-1], *rows[:-1]]).astype(np.float32)


def _options(situation: Situation) -> dict[str, Any]:
    """Recommends large batches and an end by the validation split: a few epochs learn what there is to learn."""
    return {"batch_size": 512, "epochs": 30, "learning_rate": 1e-3, "patience": 3}


@register_model(
    tasks=("recommendation",),
    reference="Yi et al., Sampling-bias-corrected neural modeling for large corpus item recommendations, RecSys 2019",
    preprocessing={"preprocessor": "side_features"},
    data_arguments=(
        *("num_users", "num_items", "num_periods"),
        *("user_numbers", "user_categories", "item_numbers", "item_categories"),
    ),
    search_space={
        "config.learning_rate": "1e-4:1e-2:log",
        "model.embedding_dim": "32,64,128",
        "model.id_dropout": "0:0.5",
    },
    tiny={"num_users": 7, "num_items": 6, "embedding_dim": 4, "num_periods": 6},
    # (1,000 users + 2 x 500 items) x (64 + the mark of the training split), 50 places, an offset of 64, 500 popularities and
    # a factor.
    golden=(({"num_users": 1_000, "num_items": 500}, 2_000 * 65 + 50 + 64 + 500 + 1),),
    functions={
        **{"scores": make_scores, "top_k": make_top_k},
        **{"user_vectors": make_user_vectors, "item_vectors": make_item_vectors},
    },
    adapt=fit_towers,
    jit_compile=True,
    recommended_options=_options,
)
def build_two_tower_model(
    num_users: int,
    num_items: int,
    embedding_dim: int = 64,
    hidden_units: Sequence[int] = (),
    history_length: int = 50,
    id_dropout: float = 0.2,
    sampled_items: int | None = None,
    num_periods: int = 0,
    user_numbers: int = 0,
    user_categories: Sequence[int] = (),
    item_numbers: int = 0,
    item_categories: Sequence[int] = (),
) -> keras.Model:
    """Items ranked by the product of a user's vector, from id, features and history, and an item's, from id and features.

    Use it for clicks, purchases or ratings with features of users or items: new items and users have vectors from their
    features. It learns which item a user chooses next, by a softmax over all items of the training split, or over sampled
    items with a correction for their popularity. Ratings do not count. The vectors can be put into a vector index.

    Inputs: `user_ids` and `item_ids`, int32 (batch,), numbers from 1, 0 for unknown ones; `history`, int32 (batch, n), the
    numbers of the items chosen before, the latest first, 0 for none; `periods`, int32 (batch,), the number of the period of
    the training split, 0 for now. Output `log_probability`: float32 (batch,), that the item is chosen next.

    Args:
        num_users: Number of known users.
        num_items: Number of known items.
        embedding_dim: Channels of a vector.
        hidden_units: Units of each residual block of the towers; none for vectors that are linear in the features.
        history_length: The latest items of a history that count.
        id_dropout: Share of ids that a training step leaves out, so that features are learned too.
        sampled_items: Items that are drawn for each batch in training; 0 for all; null for all of at most 20,000, otherwise
            4,096.
        num_periods: Number of periods of the training split, which a data set with times provides.
        user_numbers: How many numbers the features of a user have. A data set provides these four.
        user_categories: The sizes of a user's categories.
        item_numbers: How many numbers the features of an item have.
        item_categories: The sizes of an item's categories.

    Raises:
        UsageError: a size that is not positive, or a share that is not below 1.

    Example:
        >>> zoo.build_two_tower_model(num_users=1000, num_items=500).count_params()
        130615
    """
    import keras

    from zoo.layers import blocks
    from zoo.layers.towers import TwoTowers

    blocks.check_positive(num_users=num_users, num_items=num_items, embedding_dim=embedding_dim)
    blocks.check_positive(history_length=history_length)
    sizes = {"num_periods": num_periods, "user_numbers": user_numbers, "item_numbers": item_numbers}
    blocks.check_positive(**{name: size for name, size in sizes.items() if size != 0})
    blocks.check_each_positive(
        hidden_units=hidden_units, user_categories=user_categories, item_categories=item_categories
    )
    blocks.check_fraction(id_dropout=id_dropout)
    if sampled_items is None:
        sampled_items = 0 if num_items <= _MOST_ITEMS else _SAMPLED
    if isinstance(sampled_items, bool) or not isinstance(sampled_items, int) or sampled_items < 0:
        raise UsageError(f"sampled_items is {sampled_items!r}; expected a whole number of at least 0. Pass 4096, say.")
    shapes = {"user_ids": (), "item_ids": (), "history": (None,), "periods": ()}
    inputs = [keras.Input(shape, dtype="int32", name=name) for name, shape in shapes.items()]
    towers = TwoTowers(
        num_users=num_users,
        num_items=num_items,
        dim=embedding_dim,
        hidden_units=hidden_units,
        history_length=history_length,
        num_periods=num_periods,
        sampled=sampled_items,
        id_dropout=id_dropout,
        user_numbers=user_numbers,
        user_categories=user_categories,
        item_numbers=item_numbers,
        item_categories=item_categories,
        # Never half precision, as in the last layer of a classifier.
        dtype=blocks.output_dtype(),
        name="log_probability",
    )
    return keras.Model(inputs, towers(inputs), name="two_tower")
