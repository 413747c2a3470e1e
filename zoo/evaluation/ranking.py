"""Report of a recommender: rating errors next to mean and biases, ranking metrics next to the most popular items.

It works on NumPy arrays and a function that scores items, without the model. Users and items are numbers from 1; 0 is
unknown in training. Every metric has a baseline: two biases already predict ratings well, and "most popular" is hard to
beat as a prediction of the next choice. `zoo.evaluation.baselines.recommenders` adds further ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoo.errors import UsageError
from zoo.evaluation.intervals import bootstrap, mean, with_interval

TOP_K = 10
CURVE_LENGTH = 50
ERROR_BINS = 40
CELLS_AT_ONCE = 4_000_000
"""Maximum number of scores, users times items, that are computed at once: 32 MB."""

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]
Scores = Callable[[Numbers], ArrayLike]


def ranking_report(
    targets: ArrayLike,
    predictions: ArrayLike,
    *,
    user_ids: ArrayLike,
    item_ids: ArrayLike,
    train: Mapping[str, ArrayLike],
    scores: Scores,
    num_users: int,
    num_items: int,
    rating_range: Sequence[float] | None = None,
    bias_damping: float = 2.0,
    rated: bool = True,
) -> dict[str, Any]:
    """Evaluates predicted ratings, and rankings of unseen items, against held-out ratings.

    Rankings: the candidates of a user are all known items that are not among the user's training ratings. The relevant
    items are the user's held-out known items, whatever their rating. Unknown users and items cannot be ranked and are
    excluded from rankings, but not from rating errors. Ties go to the lower item number.

    Args:
        targets: the held-out ratings, shape `(n,)`.
        predictions: the ratings that the model predicts, shape `(n,)`.
        user_ids: whole numbers `(n,)`, 0 to num_users.
        item_ids: whole numbers `(n,)`, 0 to num_items.
        train: the training ratings, {"user_ids", "item_ids", "ratings"}, each `(m,)`.
        scores: function from user numbers `(b,)` to the scores `(b, num_items)` of items 1 to num_items, higher is
            better. It is called with enough users for a few million scores.
        num_users: number of known users.
        num_items: number of known items.
        rating_range: lowest and highest rating; the baselines' predictions are clipped to it.
        bias_damping: strength of the penalty on the baseline's biases, in ratings.
        rated: whether the ratings are real; without, the report has no errors of them.

    Returns:
        A dict of plain strings, numbers and lists that `json.dumps(report, allow_nan=False)` accepts:

        - `num_examples`; `unknown_users`, `unknown_items`: the number of examples with an unknown user or item;
        - `rmse`, `mae`: errors of the predicted ratings;
        - `num_users`, the number of ranked users, and `num_candidates`, the number of items;
        - `hit_rate`: the share of ranked users with a relevant item among their first 10;
        - `ndcg`: normalised discounted cumulative gain at 10, with binary relevance, mean over the ranked users;
        - `coverage`: the share of all items that are among the first 10 of any ranked user;
        - `baseline`: `global_mean` and `biases` (user's and item's, regularised, fitted on the training ratings), each with
          `rmse` and `mae`; `most_popular` (most training ratings, seen ones left out) with `hit_rate`, `ndcg`, `coverage`;
        - `hit_rate_by_k`: `k` from 1 to at most 50, and the hit rate of `model` and `most_popular`;
        - `errors`: a histogram of prediction minus target: `edges`, and the counts of `model` and `biases`.

        - `intervals`: 95 % bootstrap intervals of `rmse`, over ratings, and of `hit_rate` and `ndcg`, over users.

        Ranking metrics are None if there is no user to rank.

    Raises:
        UsageError: shapes do not fit, there are no ratings, numbers are out of range, or scores or ratings are not
            finite.

    NDCG: Järvelin and Kekäläinen, Cumulated gain-based evaluation of IR techniques, ACM TOIS 20(4), 2002. Biases: Koren,
    Factorization meets the neighborhood, KDD 2008, section 2.1.

    Example:
        >>> train = {"user_ids": [1, 1, 2], "item_ids": [1, 2, 1], "ratings": [8, 6, 10]}
        >>> report = ranking_report([7], [7.5], user_ids=[2], item_ids=[2], train=train, num_users=2, num_items=2,
        ...                         scores=lambda users: np.ones((len(users), 2)))
        >>> report["rmse"], report["hit_rate"], report["baseline"]["global_mean"]["rmse"]
        (0.5, 1.0, 1.0)
    """
    sizes = num_users, num_items
    users, items, true = _ratings("held-out", user_ids, item_ids, targets, sizes)
    known = _ratings("training", train["user_ids"], train["item_ids"], train["ratings"], sizes)
    guessed = np.asarray(predictions, np.float64)
    if guessed.shape != true.shape or not np.isfinite(guessed).all():
        raise UsageError(
            f"predictions have shape {guessed.shape}, targets {true.shape}; expected finite numbers of the same shape. "
            "Look for the first epoch whose loss is not finite."
        )

    popularity = np.bincount(known[1], minlength=num_items + 1)[1:].astype(np.float64)
    seen = known[0] * (num_items + 1) + known[1]  # a pair as one number
    held = np.unique((users * (num_items + 1) + items)[(users > 0) & (items > 0)])
    held = held[~np.isin(held, seen)]
    pairs = held // (num_items + 1), held % (num_items + 1)
    seen = np.unique(seen[(known[0] > 0) & (known[1] > 0)])
    model = rank_items(pairs, seen, scores, num_items)
    popular = rank_items(pairs, seen, lambda users: np.broadcast_to(popularity, (len(users), num_items)), num_items)
    curve = {"model": model.pop("curve"), "most_popular": popular.pop("curve")}
    per_user, _ = model.pop("per_user"), popular.pop("per_user")
    users_of = bootstrap(len(per_user["hit_rate"]), lambda counts: _means(counts, per_user)) if per_user else {}
    report = {
        "num_examples": len(true),
        "unknown_users": int(np.sum(users == 0)),
        "unknown_items": int(np.sum(items == 0)),
        "num_users": len(np.unique(pairs[0])),
        "num_candidates": num_items,
        **model,
        "intervals": users_of,
        "baseline": {"most_popular": popular},
        "hit_rate_by_k": {"k": list(range(1, len(curve["model"]) + 1)), **curve},
    }
    if not rated:
        return report
    errors = _rating_errors((users, items, true), guessed, known, sizes, rating_range, bias_damping)
    for name in ("intervals", "baseline"):
        errors[name] = {**errors[name], **report[name]}
    return {**report, **errors}


def _rating_errors(
    held_out: tuple[Numbers, Numbers, Array],
    guessed: Array,
    known: tuple[Numbers, Numbers, Array],
    sizes: tuple[int, int],
    rating_range: Sequence[float] | None,
    damping: float,
) -> dict[str, Any]:
    """Returns the part of the report about predicted ratings."""

    def clipped(ratings: Array) -> Array:
        return ratings if rating_range is None else np.clip(ratings, rating_range[0], rating_range[1])

    users, items, true = held_out
    center = known[2].mean()
    user_bias, item_bias = fit_biases(*known, sizes, damping)
    biased, error = clipped(center + user_bias[users] + item_bias[items]) - true, guessed - true
    return {
        **_errors(error),
        "intervals": bootstrap(len(error), lambda counts: {"rmse": np.sqrt(mean(counts, error**2))}),
        "baseline": {"global_mean": _errors(center - true), "biases": {**_errors(biased), "damping": damping}},
        "errors": _histogram({"model": error, "biases": biased}),
    }


def fit_biases(
    users: Numbers, items: Numbers, ratings: Array, sizes: tuple[int, int], damping: float
) -> tuple[Array, Array]:
    """Returns biases of users (users + 1,) and items (items + 1,) around the ratings' mean, 0 for the number 0.

    They minimise sum((rating - mean - user's - item's)^2) + damping * (sum of their squares). Users and items are fitted
    in turn until the biases converge.

    Example:
        >>> users, items = np.array([1, 2]), np.array([1, 1])
        >>> fit_biases(users, items, np.array([6.0, 8.0]), (2, 1), damping=1.0)
        (array([ 0. , -0.5,  0.5]), array([0., 0.]))
    """
    offsets = ratings - ratings.mean()
    biases = [np.zeros(sizes[0] + 1), np.zeros(sizes[1] + 1)]
    numbers = [users, items]
    weights = [np.bincount(part, minlength=size + 1) + damping for part, size in zip(numbers, sizes, strict=True)]
    for _ in range(1_000):
        moved = 0.0
        for side, other in ((1, 0), (0, 1)):
            sums = np.bincount(numbers[side], offsets - biases[other][numbers[other]], sizes[side] + 1)
            fitted = np.divide(sums, weights[side], out=np.zeros_like(sums), where=weights[side] > 0)
            fitted[0] = 0.0
            moved = max(moved, float(np.abs(fitted - biases[side]).max()))
            biases[side] = fitted
        if moved < 1e-9:
            break
    return biases[0], biases[1]


def summary(report: Mapping[str, Any]) -> str:
    """Returns the main metrics of a `ranking_report` as a few lines of text for the terminal.

    Example:
        >>> train = {"user_ids": [1, 1, 2], "item_ids": [1, 2, 1], "ratings": [8, 6, 10]}
        >>> report = ranking_report([7], [7.5], user_ids=[2], item_ids=[2], train=train, num_users=2, num_items=2,
        ...                         scores=lambda users: np.ones((len(users), 2)))
        >>> print(summary(report))
        hit rate@10  1.0000  (most popular 1.0000)
        NDCG@10      1.0000  (1.0000)
        coverage     0.5000  (0.5000)
        RMSE         0.5000  (user and item biases 1.0000, global mean 1.0000)
        MAE          0.5000  (1.0000, 1.0000)
        measured on  1 interaction; 1 user ranked over 2 items
    """
    base, lines = report["baseline"], []
    if report["num_users"]:
        popular = base["most_popular"]
        lines += [
            f"hit rate@10  {with_interval(report, 'hit_rate')}  (most popular {popular['hit_rate']:.4f})",
            f"NDCG@10      {with_interval(report, 'ndcg')}  ({popular['ndcg']:.4f})",
            f"coverage     {report['coverage']:.4f}  ({popular['coverage']:.4f})",
        ]
    if "rmse" in report:
        biases, center = base["biases"], base["global_mean"]
        lines += [
            f"RMSE         {with_interval(report, 'rmse')}  "
            f"(user and item biases {biases['rmse']:.4f}, global mean {center['rmse']:.4f})",
            f"MAE          {report['mae']:.4f}  ({biases['mae']:.4f}, {center['mae']:.4f})",
        ]
    count, ranked = report["num_examples"], report["num_users"]
    lines.append(
        f"measured on  {count:,} interaction{'s' * (count != 1)}; {ranked:,} user{'s' * (ranked != 1)} ranked over "
        f"{report['num_candidates']:,} items"
    )
    unknown = [f"{report[f'unknown_{of}']:,} of {of}" for of in ("users", "items") if report[f"unknown_{of}"]]
    if unknown:
        lines.append(f"not ranked   {' and '.join(unknown)} that the model does not know")
    return "\n".join(lines)


def _errors(error: Array) -> dict[str, float]:
    return {"rmse": float(np.sqrt(np.mean(error**2))), "mae": float(np.abs(error).mean())}


def _means(counts: Array, per_user: Mapping[str, Any]) -> dict[str, Any]:
    return {name: mean(counts, values) for name, values in per_user.items()}


def _histogram(errors: Mapping[str, Array]) -> dict[str, list[float]]:
    widest = max(float(np.abs(error).max()) for error in errors.values()) or 1.0
    edges = np.linspace(-widest, widest, ERROR_BINS + 1)
    counts = {name: np.histogram(error, edges)[0].tolist() for name, error in errors.items()}
    return {"edges": edges.tolist(), **counts}


def rank_items(pairs: tuple[Numbers, Numbers], seen: Numbers, scores: Scores, num_items: int) -> dict[str, Any]:
    """Returns hit rate, NDCG, coverage, the hit rate curve and the values per user.

    Args:
        pairs: users and their relevant items, sorted by user and then by item.
        seen: sorted numbers user * (num_items + 1) + item of the pairs that are left out.
        scores: see `ranking_report`.
        num_items: number of known items.
    """
    length = min(CURVE_LENGTH, num_items)
    ranked_users, first, relevant = np.unique(pairs[0], return_index=True, return_counts=True)
    if not len(ranked_users):
        return {"hit_rate": None, "ndcg": None, "coverage": None, "curve": [0.0] * length, "per_user": {}}
    ranks = np.empty(len(pairs[0]), np.int64)  # 0 is best
    recommended = np.zeros(num_items, bool)
    at_once = max(1, CELLS_AT_ONCE // num_items)
    for start in range(0, len(ranked_users), at_once):
        users = ranked_users[start : start + at_once]
        table = _scored(users, seen, scores, num_items)
        recommended |= _best(table, min(TOP_K, num_items)).any(axis=0)
        last = min(start + at_once, len(ranked_users)) - 1
        for place in range(first[start], first[last] + relevant[last]):
            row, column = table[np.searchsorted(users, pairs[0][place])], pairs[1][place] - 1
            ranks[place] = np.sum(row > row[column]) + np.sum(row[:column] == row[column])
    best = np.minimum.reduceat(ranks, first)
    hits = np.bincount(np.minimum(best, length), minlength=length + 1)[:length].cumsum() / len(ranked_users)
    gains = np.where(ranks < TOP_K, 1 / np.log2(ranks + 2), 0.0)
    ideal = np.cumsum(1 / np.log2(np.arange(TOP_K) + 2))[np.minimum(relevant, TOP_K) - 1]
    per_user = {"hit_rate": best < TOP_K, "ndcg": np.add.reduceat(gains, first) / ideal}
    return {
        **{name: float(np.mean(values)) for name, values in per_user.items()},
        "per_user": per_user,
        "coverage": float(recommended.mean()),
        "curve": [float(share) for share in hits],
    }


def _scored(users: Numbers, seen: Numbers, scores: Scores, num_items: int) -> Array:
    """Scores (users, items), minus infinity for items that the user has seen."""
    table = np.array(scores(users), np.float64)
    if table.shape != (len(users), num_items) or not np.isfinite(table).all():
        raise UsageError(
            f"The scores of {len(users)} users have shape {table.shape}; expected finite numbers of shape "
            f"{(len(users), num_items)}. Return a score for every item from 1."
        )
    width = num_items + 1
    for row, user in enumerate(users):
        begin, end = np.searchsorted(seen, [user * width, (user + 1) * width])
        table[row, seen[begin:end] % width - 1] = -np.inf
    return table


def _best(table: Array, k: int) -> NDArray[np.bool_]:
    """Marks the k largest values of each row, the first of equal values. Minus infinity is never marked."""
    least = np.partition(table, -k, axis=1)[:, -k, np.newaxis]
    above, level = table > least, table == least
    room = k - above.sum(axis=1)
    for row in np.flatnonzero(level.sum(axis=1) > room):
        level[row, np.flatnonzero(level[row])[room[row] :]] = False
    return (above | level) & (table > -np.inf)


def _ratings(
    what: str, user_ids: ArrayLike, item_ids: ArrayLike, ratings: ArrayLike, sizes: tuple[int, int]
) -> tuple[Numbers, Numbers, Array]:
    users, items, values = np.asarray(user_ids), np.asarray(item_ids), np.asarray(ratings, np.float64)
    if values.ndim != 1 or not values.size or users.shape != values.shape or items.shape != values.shape:
        raise UsageError(
            f"The {what} ratings have user_ids {users.shape}, item_ids {items.shape} and ratings {values.shape}; expected "
            "three arrays of the same length, at least 1. Check that the split has examples."
        )
    for name, numbers, most in (("user_ids", users, sizes[0]), ("item_ids", items, sizes[1])):
        if not np.issubdtype(numbers.dtype, np.integer) or numbers.min() < 0 or numbers.max() > most:
            raise UsageError(
                f"The {what} {name} run from {numbers.min()} to {numbers.max()} ({numbers.dtype}); expected whole numbers "
                f"from 0 to {most}. Pass the numbers from the preprocessor."
            )
    if not np.isfinite(values).all():
        raise UsageError(
            f"The {what} ratings hold {values[~np.isfinite(values)][0]}. Remove ratings that are not finite numbers."
        )
    return users.astype(np.int64), items.astype(np.int64), values
