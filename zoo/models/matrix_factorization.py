"""Matrix factorization: a rating from the biases and factors of a user and an item, and a ranking from similar items."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zoo import item_neighbors
from zoo.errors import UsageError
from zoo.registry import Situation, register_model

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

_RATINGS_PER_USER = 10
_DEVIATION = 0.1


Function = Callable[[Mapping[str, Any], Mapping[str, Any]], "dict[str, tf.Tensor]"]


def make_scores(model: keras.Model) -> Function:
    """Returns a function that scores every item for the history of a user; higher is better.

    It takes `inputs` {"user_ids": int32 (batch,)} and `extras` {"seen_items": int32 (batch, n), the numbers of the items of
    the history, oldest first, 0 for none}. It returns {"score": float32 (batch, items)}, the first column for item 1. A
    score is the sum of an item's similarities to the items of the history, divided by a power of the mean over all items,
    plus the item's popularity. Similarities to older items count less. The latest 500 items count.

    Args:
        model: a model from `build_matrix_factorization_model`.

    Example:
        >>> scores = make_scores(zoo.build_matrix_factorization_model(num_users=3, num_items=20))
        >>> scores({"user_ids": tf.constant([0, 2])}, {"seen_items": tf.constant([[0, 0], [3, 4]])})["score"].shape
        TensorShape([2, 20])
    """
    import tensorflow as tf

    layer = model.get_layer("similar_items")
    count = layer.count

    def scores(inputs: Mapping[str, Any], extras: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        history = _latest(extras["seen_items"])
        there = tf.cast(history > 0, tf.float32)
        later = tf.cumsum(there, axis=1, exclusive=True, reverse=True)
        weights = there * tf.pow(layer.decay.value, later)  # (batch, n)
        rows = tf.maximum(history - 1, 0)
        numbers = tf.gather(layer.numbers.value, rows)  # (batch, n, neighbors)
        values = tf.gather(layer.similarities.value, rows) * weights[..., tf.newaxis]
        batch = tf.shape(history)[0]
        # Column 0 receives the similarities of item 0, which is none.
        places = numbers + (count + 1) * tf.range(batch)[:, tf.newaxis, tf.newaxis]
        sums = tf.math.unsorted_segment_sum(tf.reshape(values, [-1]), tf.reshape(places, [-1]), batch * (count + 1))
        sums = tf.reshape(sums, [batch, count + 1])[:, 1:]
        means = tf.maximum(tf.reduce_mean(sums, axis=1, keepdims=True), 1e-30)
        return {"score": sums / tf.pow(means, layer.mean_power.value) + layer.popularity.value}

    return scores


def _latest(history: tf.Tensor) -> tf.Tensor:
    """Returns the latest items of histories (batch, n), which end with padding, at most 500 of each."""
    import tensorflow as tf

    length = tf.shape(history)[1]
    kept = tf.minimum(length, item_neighbors.LONGEST)
    ends = tf.reduce_max(tf.where(history > 0, tf.range(1, length + 1), 0), axis=1, keepdims=True)
    places = tf.maximum(ends - kept, 0) + tf.range(kept)
    return tf.gather(history, places, batch_dims=1)


def make_top_k(model: keras.Model) -> Function:
    """Returns a function that scores every item for a user in the graph and keeps the ten best.

    It takes the inputs and extras of `make_scores`. It returns {"item_ids": int32 (batch, 10), best first; "score": float32
    (batch, 10)}. Items of the history are left out. A user without a history gets the most popular items, weighted by
    recency. Ties go to the lower item number. If fewer than ten items are left, the rest is item 0 with score 0.

    Args:
        model: a model from `build_matrix_factorization_model`.

    Example:
        >>> top_k = make_top_k(zoo.build_matrix_factorization_model(num_users=3, num_items=20))
        >>> top_k({"user_ids": tf.constant([0])}, {"seen_items": tf.constant([[1, 3]])})["item_ids"].numpy()[0, :3].tolist()
        [2, 4, 5]
    """
    from zoo.layers.recommendation import best_unseen

    score_all = make_scores(model)
    return lambda inputs, extras: best_unseen(score_all(inputs, extras)["score"], extras["seen_items"])


def fit_ranking(model: keras.Model, data: Any) -> None:
    """Sets the similar items and the popularity by which a new model ranks; see `zoo.item_neighbors`.

    Args:
        model: a model from `build_matrix_factorization_model`.
        data: prepared data. The choices are made on its validation split, the rest is fitted to its training split.
    """
    layer, users = model.get_layer("similar_items"), model.get_layer("user_bias").count
    train, validation = (
        item_neighbors.interactions(data.preprocessor.interactions(data.data.splits[split]), users, layer.count)
        for split in ("train", "validation")
    )
    fitted = item_neighbors.fit(train, validation, layer.neighbors)
    layer.numbers.assign(fitted.neighbors)
    layer.similarities.assign(fitted.similarities)
    layer.popularity.assign(fitted.popularity)
    layer.decay.assign(fitted.decay)
    layer.mean_power.assign(fitted.choice.mean_power)


def _options(situation: Situation) -> dict[str, Any]:
    """Recommends the closed form, which takes seconds; with any option of gradient descent, that is used."""
    return {"closed_form": True}


def closed_form(model: keras.Model, inputs: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray]) -> None:
    """Sets the weights of a model without training: regularised biases, then the truncated SVD of the residuals.

    The mean is that of the ratings. The biases minimise the same penalised squared error as in training (solved jointly by
    LSQR). The matrix of users by items with the residual of each known rating, and 0 elsewhere, is reduced to its
    `embedding_dim` largest singular values, whose square roots are multiplied into both factors. Users and items with the
    number 0 are excluded. Several ratings of one pair are averaged. The result is the same in every run.

    Args:
        model: a model from `build_matrix_factorization_model`; its weights are set.
        inputs: {"user_ids": int (n,), "item_ids": int (n,)}, the training ratings' users and items.
        targets: {"rating": float (n,)}.

    Raises:
        UsageError: no ratings, ratings that are not finite, or shapes that differ.

    Source: Paterek, Improving regularized singular value decomposition for collaborative filtering, KDD Cup 2007.

    Example:
        >>> model = zoo.build_matrix_factorization_model(num_users=2, num_items=2, embedding_dim=1)
        >>> inputs = {"user_ids": np.array([1, 1, 2]), "item_ids": np.array([1, 2, 1])}
        >>> closed_form(model, inputs, {"rating": np.array([8.0, 6.0, 10.0])})
    """
    import numpy as np

    users, items = (np.asarray(inputs[name]).astype(np.int64) for name in ("user_ids", "item_ids"))
    ratings = np.asarray(targets["rating"], np.float64)
    if not ratings.size or ratings.ndim != 1 or users.shape != ratings.shape or items.shape != ratings.shape:
        raise UsageError(
            f"user_ids {users.shape}, item_ids {items.shape} and ratings {ratings.shape} do not fit. "
            "Pass three arrays of the same length, with one entry per rating."
        )
    if not np.isfinite(ratings).all():
        raise UsageError(f"A rating is {ratings[~np.isfinite(ratings)][0]}; expected numbers. Remove such ratings.")
    tables = {name: model.get_layer(name) for name in ("user_bias", "item_bias", "user_factors", "item_factors")}
    counts = tables["user_bias"].count, tables["item_bias"].count
    # Training adds l2 times the squares to the mean of the squared errors; here they are added to the sum.
    damping = [tables[name].l2 * len(ratings) for name in ("user_bias", "item_bias")]
    mean = ratings.mean()
    biases = _biases(users, items, ratings - mean, counts, damping)
    known = (users > 0) & (items > 0)
    residuals = (ratings - mean - biases[0][users] - biases[1][items])[known]
    left, right = _factors(users[known] - 1, items[known] - 1, residuals, counts, tables["user_factors"].dim)
    model.get_layer("rating").mean.assign(mean)
    tables["user_bias"].table.assign(biases[0][1:, np.newaxis])
    tables["item_bias"].table.assign(biases[1][1:, np.newaxis])
    tables["user_factors"].table.assign(left)
    tables["item_factors"].table.assign(right)


def _biases(
    users: np.ndarray, items: np.ndarray, offsets: np.ndarray, counts: tuple[int, int], damping: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Biases of users (users + 1,) and items (items + 1,), 0 for the number 0, that minimise
    sum((offset - user's - item's)^2) + damping[0] sum(user's^2) + damping[1] sum(item's^2)."""
    import numpy as np
    import scipy.sparse
    import scipy.sparse.linalg

    ones = []
    for numbers, count in ((users, counts[0]), (items, counts[1])):
        rows = np.flatnonzero(numbers)
        entries = (np.ones(len(rows)), (rows, numbers[rows] - 1))
        ones.append(scipy.sparse.csr_matrix(entries, shape=(len(offsets), count)))
    # The penalty is written as further equations: sqrt(damping) * bias = 0. Without it, LSQR finds the smallest solution.
    penalty = scipy.sparse.diags(np.sqrt(np.repeat(damping, counts)))
    system = scipy.sparse.vstack([scipy.sparse.hstack(ones), penalty]).tocsr()
    goal = np.concatenate([offsets, np.zeros(sum(counts))])
    solution = scipy.sparse.linalg.lsqr(system, goal, atol=1e-12, btol=1e-12, iter_lim=10_000)[0]
    user, item = np.split(solution, [counts[0]])
    return np.concatenate([[0.0], user]), np.concatenate([[0.0], item])


def _factors(
    rows: np.ndarray, columns: np.ndarray, residuals: np.ndarray, shape: tuple[int, int], dim: int
) -> tuple[np.ndarray, np.ndarray]:
    """Factors (rows, dim) and (columns, dim) whose product is the best approximation of that rank of the matrix."""
    import numpy as np
    import scipy.sparse
    import scipy.sparse.linalg

    matrix = scipy.sparse.csr_matrix((residuals, (rows, columns)), shape=shape)  # adds duplicates
    times = scipy.sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=shape)
    matrix.data /= times.data
    rank = min(dim, *shape)
    if not matrix.data.any():
        left, values, right = np.zeros((shape[0], rank)), np.zeros(rank), np.zeros((rank, shape[1]))
    elif rank == min(shape):  # the iterative method cannot find so many; one side is at most dim
        left, values, right = np.linalg.svd(matrix.toarray(), full_matrices=False)
    else:
        start = np.random.default_rng(0).normal(size=min(shape))
        left, values, right = scipy.sparse.linalg.svds(matrix, k=rank, v0=start)
    largest_first = np.argsort(-values, kind="stable")
    left, values, right = left[:, largest_first], values[largest_first], right[largest_first]
    # The sign of a pair of singular vectors is arbitrary: the item's entry with the largest magnitude becomes positive.
    signs = np.sign(right[np.arange(rank), np.abs(right).argmax(axis=1)])
    scale = signs * np.sqrt(values), np.sqrt(values)
    pad = ((0, 0), (0, dim - rank))
    return np.pad(left * scale[0], pad), np.pad(right.T * signs * scale[1], pad)


@register_model(
    tasks=("recommendation",),
    reference="Koren, Bell and Volinsky, Matrix factorization techniques for recommender systems, Computer 42(8), 2009",
    preprocessing={},
    data_arguments=("num_users", "num_items"),
    search_space={"config.learning_rate": "1e-4:1e-2:log", "model.embedding_dim": "16,32,64,128"},
    tiny={"num_users": 7, "num_items": 6, "embedding_dim": 4},
    # (1,000 + 500) x (50 factors + 1 bias), the mean; 500 items with 100 similar ones and a popularity; decay and power.
    golden=(({"num_users": 1_000, "num_items": 500}, 1_500 * 51 + 1 + 500 * 201 + 2),),
    functions={"scores": make_scores, "top_k": make_top_k},
    closed_form=closed_form,
    adapt=fit_ranking,
    recommended_options=_options,
)
def build_matrix_factorization_model(
    num_users: int,
    num_items: int,
    embedding_dim: int = 50,
    bias_regularization: float = 2.0,
    factor_regularization: float = 22.0,
    neighbors: int = 100,
    num_ratings: int | None = None,
    rating_mean: float | None = None,
    rating_range: Sequence[float] | None = None,
) -> keras.Model:
    """Items ranked by similar items and popularity; ratings from mean, biases and the product of user's and item's factors.

    Use it for ratings, clicks or purchases. The ranking says which items a user chooses next. It is fitted to who chose what
    and when, not to how items were rated, before training begins. The rating says how an item would be rated.

    Inputs `user_ids` and `item_ids`: int32 (batch,), numbers from 1. The number 0 is an unknown user or item, whose bias and
    factors are zero. Output `rating`: float32 (batch,). Regularization is a penalty on all weights except the mean, in units
    of ratings: 2.0 pulls a bias toward zero as much as two ratings without any bias. So users and items with few ratings
    stay near the mean.

    Args:
        num_users: Number of known users.
        num_items: Number of known items.
        embedding_dim: Factors of a user and of an item.
        bias_regularization: Strength of the penalty on biases, in ratings.
        factor_regularization: Strength of the penalty on factors, in ratings.
        neighbors: Similar items that are kept for each item, for the ranking.
        num_ratings: Number of training ratings, by which the penalty and the loss are divided. A data set provides it; null
            assumes ten per user.
        rating_mean: Initial value of the learned mean of all ratings. A data set provides it; null means 0.
        rating_range: Lowest and highest rating, to which outputs are clipped (not in training); null for no limits.

    Raises:
        UsageError: a size that is not positive, a negative regularization, or an invalid range.

    Example:
        >>> zoo.build_matrix_factorization_model(num_users=1000, num_items=500).count_params()
        177003
    """
    import keras
    from keras import layers

    from zoo.layers import blocks, recommendation

    blocks.check_positive(num_users=num_users, num_items=num_items, embedding_dim=embedding_dim, neighbors=neighbors)
    ratings = _RATINGS_PER_USER * num_users if num_ratings is None else num_ratings
    blocks.check_positive(num_ratings=ratings)
    _check_numbers(bias_regularization, factor_regularization, rating_mean, rating_range)
    users = keras.Input((), dtype="int32", name="user_ids")
    items = keras.Input((), dtype="int32", name="item_ids")
    chosen = recommendation.SimilarItems(num_items, min(neighbors, num_items), name="similar_items")(items)
    l2 = factor_regularization / ratings
    user_factors = recommendation.KnownEmbedding(num_users, embedding_dim, _DEVIATION, l2, name="user_factors")(users)
    item_factors = recommendation.KnownEmbedding(num_items, embedding_dim, _DEVIATION, l2, name="item_factors")(chosen)
    l2 = bias_regularization / ratings
    parts = [
        recommendation.KnownEmbedding(num_users, 1, l2=l2, name="user_bias")(users),
        recommendation.KnownEmbedding(num_items, 1, l2=l2, name="item_bias")(chosen),
        layers.Dot(axes=1, name="interaction")([user_factors, item_factors]),
    ]
    # Never half precision, as in the last layer of a classifier.
    dtype = "float64" if keras.config.floatx() == "float64" else "float32"
    outputs = recommendation.Rating(rating_mean or 0.0, rating_range, dtype=dtype, name="rating")(parts)
    return keras.Model([users, items], outputs, name="matrix_factorization")


def _check_numbers(bias: Any, factor: Any, mean: Any, limits: Any) -> None:
    for name, value in {"bias_regularization": bias, "factor_regularization": factor}.items():
        if not _is_number(value) or value < 0:
            raise UsageError(f"{name} is {value!r}; expected a number of at least 0. Pass {name}=5.0, say.")
    if mean is not None and not _is_number(mean):
        raise UsageError(f"rating_mean is {mean!r}; expected a number. Pass the mean of the training ratings.")
    if limits is None:
        return
    pair = isinstance(limits, (list, tuple)) and len(limits) == 2 and all(map(_is_number, limits))
    if not pair or limits[0] >= limits[1]:
        raise UsageError(f"rating_range is {limits!r}; expected [lowest, highest]. Pass rating_range=[1, 5], say.")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
