"""Fits the ranking part of a recommender to interactions: similar items, what is popular now, and how fast both change.

The score of an item for a user is the sum of its similarities to the items of the user's history, divided by a power of the
mean over all items, plus its popularity. Both can forget: an interaction counts less the older it is, and the latest items of
a history count most. How much is chosen on validation interactions, so that a data set without trends forgets nothing.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import scipy.sparse

TOP_K = 10
_SPANS = (math.inf, *(2.0**-power for power in range(1, 9)))
"""Half-lives of interactions, as parts of the time that the training split covers."""
_POWERS = ((0.8, 0.0), (0.5, 0.5), (0.8, 0.25), (0.5, 0.25), (1.0, 0.0))
_MEMORIES = (5.0, math.inf, 2.0)
_SHARES = (0.001, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Weights of the popularity; never 0, because it orders the items for users without a history."""
_MEAN_POWERS = (1.0, 0.5, 0.0)
LONGEST = 500
"""Items of a user that are counted, the latest ones: the number of pairs grows with the square."""
_CELLS = 25_000_000
"""Scores, users times items, on which the choice is made."""
_USERS = 32
_FEWEST = 20
"""Fewer validation users than this decide nothing."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """How interactions are counted.

    Attributes:
        half_life: age at which an interaction counts half as a similarity, in parts of the training split's time; infinite
            without times.
        popular_half_life: the same for the popularity.
        source_power, target_power: the count of a pair of items is divided by the users of the known item to the first
            power, and of the recommended item to the second. Both are 0.5 in the cosine.
        memory: how many items back in a history an item counts half; infinite if all count the same.
        popularity: weight of the popularity.
        active_power: an interaction is divided by the number of its user's items to this power.
        mean_power: the sums of similarities are divided by their mean over all items to this power. With 1 all users get the
            same mixture with the popularity; with 0 it weighs more for users with a short history.
    """

    half_life: float = math.inf
    popular_half_life: float = math.inf
    source_power: float = 0.8
    target_power: float = 0.0
    memory: float = math.inf
    popularity: float = 0.3
    active_power: float = 1.0
    mean_power: float = 1.0


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A fitted ranking.

    Attributes:
        neighbors: numbers of each item's most similar items, int32 (items, neighbors), 0 where there are fewer.
        similarities: their similarities, float32 of the same shape, divided by the usual mean of their sums.
        popularity: popularity of each item, float32 (items,), already multiplied by its weight.
        decay: factor by which an item of a history counts less than the next one.
        choice: how interactions were counted.
    """

    neighbors: np.ndarray
    similarities: np.ndarray
    popularity: np.ndarray
    decay: float
    choice: Choice


class Interactions:
    """The distinct pairs of known users and items, each with its latest time, ordered by user and then by time.

    Args:
        users: numbers from 1, 0 for unknown ones, which are left out.
        items: as users.
        times: numbers of any unit, or None.
        num_users: number of known users.
        num_items: number of known items.

    Example:
        >>> Interactions([1, 1, 1], [2, 1, 2], [5, 6, 7], 1, 2).items.tolist()
        [0, 1]
    """

    def __init__(self, users: Any, items: Any, times: Any, num_users: int, num_items: int) -> None:
        import numpy as np

        users, items = np.asarray(users, np.int64), np.asarray(items, np.int64)
        known = (users > 0) & (items > 0)
        users, items = users[known] - 1, items[known] - 1
        self.timed = times is not None
        times = np.asarray(times, np.float64)[known] if self.timed else np.zeros(len(users))
        order = np.lexsort((times, items, users))
        users, items, times = users[order], items[order], times[order]
        last = np.append((np.diff(users) != 0) | (np.diff(items) != 0), True)[: len(users)]
        users, items, times = users[last], items[last], times[last]
        order = np.lexsort((items, times, users))
        self.users, self.items, self.times = users[order], items[order], times[order]
        self.shape = num_users, num_items
        self.splits = np.searchsorted(self.users, np.arange(num_users + 1))
        self.age = self.splits[self.users + 1] - 1 - np.arange(len(self.users))
        """Number of later items of the same user."""

    def matrix(self, values: Any, most: int | None = None) -> scipy.sparse.csr_matrix:
        """Returns a matrix of users by items with a value for every pair, or for the latest `most` of each user."""
        import numpy as np
        import scipy.sparse

        kept = slice(None) if most is None else self.age < most
        values = np.broadcast_to(np.asarray(values, np.float32), self.users.shape)
        return scipy.sparse.csr_matrix((values[kept], (self.users[kept], self.items[kept])), self.shape)

    def weights(self, half_life: float) -> np.ndarray:
        """Returns the weight of each interaction for a half-life in parts of the covered time, relative to its end."""
        import numpy as np

        span = float(np.ptp(self.times)) if len(self.times) else 0.0
        if not self.timed or not span or math.isinf(half_life):
            return np.ones(len(self.users))
        return np.exp2((self.times - self.times.max()) / (half_life * span))


def fit(train: Interactions, validation: Interactions, neighbors: int) -> Fitted:
    """Fits a ranking to training interactions. How they are counted is chosen on the validation interactions.

    A choice is best by the mean of hit rate and NDCG at 10. The settings are chosen one after the other, each together with
    the weight of the popularity. A setting changes only if that is better by more than the standard error. At the end, the
    weight of the popularity is the greatest that is not worse than the best one by more than the standard error: what is
    popular is the simpler method. With fewer than 20 validation users all keep their defaults.

    Args:
        train: the training interactions.
        validation: those of the validation split, with the same numbers.
        neighbors: maximum number of similar items that are kept for each item.

    Source: Karypis, Evaluation of item-based top-N recommendation algorithms, CIKM 2001 (powers of the counts); Ding and Li,
    Time weight collaborative filtering, CIKM 2005 (decay); Breiman and others, Classification and regression trees, 1984
    (the rule of one standard error).
    """
    import numpy as np

    judge, usual = _Judge(train, validation), 1.0
    choice = Choice(memory=5.0 if train.timed else math.inf)
    if judge.users >= _FEWEST:
        powers = [{"source_power": source, "target_power": target} for source, target in _POWERS]
        stages: list[list[dict[str, Any]]] = [powers, [{"active_power": power} for power in (1.0, 0.0)]]
        if train.timed:
            # Both half-lives together first, and then each alone: what is popular changes faster than what is similar.
            both = [{"half_life": span, "popular_half_life": span} for span in _SPANS]
            alone = [[{name: span} for span in _SPANS] for name in ("popular_half_life", "half_life")]
            stages = [both, *stages, [{"memory": memory} for memory in _MEMORIES], *alone]
        for stage in stages:
            others = [dataclasses.replace(choice, **part) for part in stage]
            choice = _best(train, judge, list(dict.fromkeys([choice, *others])), neighbors)
        choice, usual = _blend(train, judge, choice, neighbors)
    numbers, values = _nearest(_pruned(similarities(train, choice), neighbors), neighbors)
    decay = 1.0 if math.isinf(choice.memory) else 0.5 ** (1 / choice.memory)
    popularity = choice.popularity * recent_popularity(train, choice.popular_half_life)
    return Fitted(numbers, values / np.float32(usual), popularity, decay, choice)


def recent_popularity(train: Interactions, half_life: float) -> np.ndarray:
    """Returns how many users chose each item, weighted by recency, as a multiple of the mean, float32 (items,).

    Example:
        >>> recent_popularity(Interactions([1, 2, 3, 3], [1, 1, 1, 2], None, 3, 2), math.inf).round(3).tolist()
        [1.5, 0.5]
    """
    import numpy as np

    recent = np.bincount(train.items, train.weights(half_life), minlength=train.shape[1])
    # A tie of old items goes to the one that more users chose.
    counts = recent + 1e-9 * np.bincount(train.items, minlength=train.shape[1])
    return (counts / max(counts.mean(), 1e-30)).astype(np.float32)


def best_half_life(train: Interactions, validation: Interactions) -> float:
    """Returns the half-life whose popular items are the best recommendations for the users of the validation split; infinite
    without times or with fewer than 20 such users."""
    import numpy as np

    judge = _Judge(train, validation)
    if judge.users < _FEWEST or not train.timed:
        return math.inf
    table = np.zeros((judge.users, train.shape[1]), np.float32)
    table[judge.seen] = -np.inf
    return max(_SPANS, key=lambda span: judge.score(table, recent_popularity(train, span)).mean())


def similarities(train: Interactions, choice: Choice, longest: int | None = LONGEST) -> scipy.sparse.csr_matrix:
    """Returns the similarities of items, (known item, recommended item), 0 between an item and itself.

    Args:
        train: the training interactions.
        choice: how they are counted.
        longest: items of a user that are counted, the latest ones; None for all.
    """
    import numpy as np
    import scipy.sparse

    counts = np.maximum(np.bincount(train.items, minlength=train.shape[1]), 1).astype(np.float64)
    active = np.diff(train.splits)[train.users] ** (-choice.active_power / 2)
    left = train.matrix(active, longest)
    right = train.matrix(active * train.weights(choice.half_life), longest)
    together = (left.T @ right).tocsr()
    together.setdiag(0)
    together.eliminate_zeros()
    rows = scipy.sparse.diags(counts**-choice.source_power)
    return (rows @ together @ scipy.sparse.diags(counts**-choice.target_power)).tocsr().astype(np.float32)


def _pruned(similar: scipy.sparse.csr_matrix, most: int) -> scipy.sparse.csr_matrix:
    """Returns a matrix with the largest `most` entries of every row, of equal ones those with the lowest columns."""
    import numpy as np

    similar.sort_indices()
    values, ends = similar.data, similar.indptr
    kept = np.ones(len(values), bool)
    for row in np.flatnonzero(np.diff(ends) > most):
        part = values[ends[row] : ends[row + 1]]
        least = np.partition(part, -most)[-most]
        above, level = part > least, np.flatnonzero(part == least)
        above[level[: most - np.count_nonzero(above)]] = True
        kept[ends[row] : ends[row + 1]] = above
    similar.data = np.where(kept, values, 0)
    similar.eliminate_zeros()
    return similar


def _nearest(similar: scipy.sparse.csr_matrix, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the numbers and similarities of each item's entries, at most `most`, the most similar first."""
    import numpy as np

    rows = np.repeat(np.arange(similar.shape[0]), np.diff(similar.indptr))
    order = np.lexsort((similar.indices, -similar.data, rows))
    place = np.arange(len(rows)) - similar.indptr[rows]
    numbers, values = (np.zeros((similar.shape[0], most), dtype) for dtype in (np.int32, np.float32))
    numbers[rows, place] = similar.indices[order] + 1
    values[rows, place] = similar.data[order]
    return numbers, values


class _Judge:
    """Scores rankings on the validation interactions of some users."""

    def __init__(self, train: Interactions, validation: Interactions) -> None:
        import numpy as np

        width = train.shape[1]
        held = validation.users * width + validation.items
        held = held[~np.isin(held, train.users * width + train.items)]
        users = np.unique(held // width) if width else held
        most = max(_FEWEST, _CELLS // max(width, 1))
        if len(users) > most:
            users = np.sort(np.random.default_rng(0).choice(users, most, replace=False))
            held = held[np.isin(held // width, users)]
        held = np.sort(held)
        self.users, self.chosen = len(users), users
        self.rows, self.columns = np.searchsorted(users, held // max(width, 1)), held % max(width, 1)
        self.seen = train.matrix(1.0)[users].nonzero() if len(users) else None

    def score(self, table: np.ndarray, popularity: np.ndarray) -> np.ndarray:
        """Returns the mean of hit rate and NDCG at 10 of each user, for scores (users, items) without seen items, to which
        the popularity (items,) is added."""
        import numpy as np

        ranks = np.empty(len(self.rows), np.int64)
        for first in range(0, self.users, _USERS):  # few users at a time stay in the processor's cache
            scores = table[first : first + _USERS] + popularity
            begin, end = np.searchsorted(self.rows, [first, first + _USERS])
            rows, columns = self.rows[begin:end] - first, self.columns[begin:end]
            above = np.count_nonzero(scores[rows] >= scores[rows, columns, np.newaxis], axis=1)
            ranks[begin:end] = (
                above - 1
            )  # the worst of equal scores: one that is the same for all items must not be a hit
        relevant = np.bincount(self.rows, minlength=self.users)
        gains = np.bincount(self.rows, np.where(ranks < TOP_K, 1 / np.log2(ranks + 2), 0.0), self.users)
        ideal = np.cumsum(1 / np.log2(np.arange(TOP_K) + 2))[np.minimum(relevant, TOP_K) - 1]
        return ((gains > 0) + gains / ideal) / 2


def _best(train: Interactions, judge: _Judge, choices: Sequence[Choice], neighbors: int) -> Choice:
    """Returns the best of several choices, each with the best weight of the popularity. Another choice than the first must be
    better by more than the standard error of the difference."""
    import numpy as np

    scored = []
    earlier = None
    for choice in choices:
        similar = dataclasses.replace(choice, popular_half_life=0.0, popularity=0.0)
        if similar != earlier:  # otherwise the sums are the same
            earlier, table = similar, _sums(train, judge, choice, neighbors)
            table /= np.maximum(table.mean(axis=1, keepdims=True), 1e-30)
            table[judge.seen] = -np.inf
        popularity = recent_popularity(train, choice.popular_half_life)
        for share in _SHARES:
            found = judge.score(table, np.float32(share) * popularity)
            scored.append((found, dataclasses.replace(choice, popularity=share)))
    first = max(scored[: len(_SHARES)], key=lambda pair: pair[0].mean())
    best = max(scored, key=lambda pair: pair[0].mean())
    gain = best[0] - first[0]
    return best[1] if gain.mean() > gain.std() / math.sqrt(len(gain)) else first[1]


def _sums(train: Interactions, judge: _Judge, choice: Choice, neighbors: int) -> np.ndarray:
    """Returns the sums of similarities to the histories of the judged users, (users, items)."""
    import numpy as np

    memory = 1.0 if math.isinf(choice.memory) else np.exp2(-train.age / choice.memory)
    found: np.ndarray = (train.matrix(memory)[judge.chosen] @ _pruned(similarities(train, choice), neighbors)).toarray()
    return found


def _blend(train: Interactions, judge: _Judge, choice: Choice, neighbors: int) -> tuple[Choice, float]:
    """Returns a choice with its mixture of similarities and popularity, and the median over the users of the mean of the
    sums. Of the mixtures that are not worse than the best one by more than the standard error of the difference, it is the
    one with the most popularity."""
    import numpy as np

    sums = _sums(train, judge, choice, neighbors)
    means = sums.mean(axis=1, keepdims=True)
    usual = float(np.median(means[means > 0])) if (means > 0).any() else 1.0
    sums, means = sums / usual, np.maximum(means / usual, 1e-30)
    popularity = recent_popularity(train, choice.popular_half_life)
    scored = []
    for power in _MEAN_POWERS:
        table = sums / means**power
        table[judge.seen] = -np.inf
        for share in _SHARES:
            found = dataclasses.replace(choice, mean_power=power, popularity=share)
            scored.append((judge.score(table, np.float32(share) * popularity), found))
    best = max(scored, key=lambda pair: pair[0].mean())[0]
    near = [
        (found.popularity, score.mean(), found)
        for score, found in scored
        if (best - score).mean() <= (best - score).std() / math.sqrt(len(best))
    ]
    return max(near, key=lambda one: one[:2])[2], usual


def interactions(columns: Mapping[str, Any], num_users: int, num_items: int) -> Interactions:
    """Returns the interactions of columns `user_ids`, `item_ids` and `times`, which may be None."""
    return Interactions(columns["user_ids"], columns["item_ids"], columns["times"], num_users, num_items)
