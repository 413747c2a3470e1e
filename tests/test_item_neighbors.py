"""Similar items and popularity compared with sums over pairs, and what is chosen on validation interactions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from recommendation_reference import dense_similarities
from zoo.item_neighbors import Choice, Fitted, Interactions, best_half_life, fit, recent_popularity, similarities


def random_interactions(users=12, items=9, count=60, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, users + 1, count), rng.integers(0, items + 1, count), rng.integers(0, 1000, count)


def test_pairs_are_distinct_and_ordered_by_time():
    users, items, times = random_interactions()
    found = Interactions(users, items, times, 12, 9)
    latest: dict = {}
    for user, item, time in zip(users, items, times, strict=True):
        if user and item:
            latest[user - 1, item - 1] = max(time, latest.get((user - 1, item - 1), -1))
    expected = sorted((user, time, item) for (user, item), time in latest.items())
    assert list(zip(found.users, found.times, found.items, strict=True)) == expected
    assert found.age.tolist() == [
        sum(u == user for u, *_ in expected[place + 1 :]) for place, (user, *_) in enumerate(expected)
    ]


@pytest.mark.parametrize("powers", [(0.5, 0.5, 0.0), (0.8, 0.25, 1.0)])
def test_similarities_equal_sums_over_pairs(powers):
    users, items, times = random_interactions()
    found = Interactions(users, items, times, 12, 9)
    choice = Choice(half_life=0.25, source_power=powers[0], target_power=powers[1], active_power=powers[2])
    ages = (found.times.max() - found.times) / np.ptp(found.times)
    expected = dense_similarities(found.users, found.items, 0.5 ** (ages / 0.25), *powers, 9)
    np.testing.assert_allclose(similarities(found, choice).toarray(), expected, rtol=1e-5)
    popularity = np.bincount(found.items, 0.5 ** (ages / 0.25), minlength=9)
    np.testing.assert_allclose(recent_popularity(found, 0.25), popularity / popularity.mean(), rtol=1e-5)


def drifting(groups=2, users=80, items=40, seed=0):
    """Users who choose items of their group, of which the later ones are popular later."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(1, users + 1):
        for time in rng.uniform(0, 1, 12):
            place = int(np.clip(rng.normal(time, 0.05), 0, 0.999) * items / groups)
            rows.append((user, place * groups + user % groups + 1, time))
    columns = [np.array(column) for column in zip(*sorted(rows, key=lambda row: row[2]), strict=True)]
    return columns, columns[2] < 0.8, (columns[2] >= 0.8) & (columns[2] < 0.9)


def test_trends_and_groups_are_found_on_the_validation_split():
    columns, train, held = drifting()
    train, held = (Interactions(*(column[part] for column in columns), 80, 40) for part in (train, held))
    fitted = fit(train, held, neighbors=15)
    assert fitted.choice.popular_half_life < 0.5 or fitted.choice.half_life < 0.5
    assert best_half_life(train, held) < 0.5
    groups = (fitted.neighbors - 1) % 2 == np.arange(40)[:, np.newaxis] % 2
    assert (groups | (fitted.neighbors == 0))[:, 0].all(), "the most similar item is of the same group"
    assert (np.diff(fitted.similarities, axis=1) <= 0).all() and (fitted.popularity > 0).any()


def ranking_scores(table, train, held):
    """Returns the mean of hit rate and NDCG at 10 of every user with held-out items, by sorting each row."""
    found = []
    for user in np.unique(held.users):
        seen = set(train.items[train.users == user].tolist())
        wanted = set(held.items[held.users == user].tolist()) - seen
        best = [item for item in np.argsort(-table[user], kind="stable").tolist() if item not in seen][:10]
        gain = sum(1 / np.log2(place + 2) for place, item in enumerate(best) if item in wanted)
        ideal = sum(1 / np.log2(place + 2) for place in range(min(10, len(wanted))))
        if wanted:
            found.append(((gain > 0) + gain / ideal) / 2)
    return np.array(found)


def test_the_mixture_has_the_most_popularity_that_is_not_worse():
    columns, early, late = drifting()
    train, held = (Interactions(*(column[part] for column in columns), 80, 40) for part in (early, late))
    fitted = fit(train, held, neighbors=15)
    sums = np.zeros((80, 41))
    for user, item, later in zip(train.users, train.items, train.age, strict=True):
        np.add.at(sums[user], fitted.neighbors[item], fitted.similarities[item] * fitted.decay**later)
    sums = sums[:, 1:]
    assert np.median(sums[np.unique(held.users)].mean(axis=1)) == pytest.approx(1, rel=1e-3)
    popularity, scores = fitted.popularity / fitted.choice.popularity, {}
    for power in (1.0, 0.5, 0.0):
        for share in (0.001, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0):
            table = sums / sums.mean(axis=1, keepdims=True) ** power + share * popularity
            scores[power, share] = ranking_scores(table, train, held)
    best = max(scores.values(), key=np.mean)
    near = {key for key, score in scores.items() if np.mean(best - score) <= np.std(best - score) / len(best) ** 0.5}
    chosen = fitted.choice.mean_power, fitted.choice.popularity
    assert chosen in near and chosen[1] == max(share for _, share in near)


def test_without_times_or_validation_users_nothing_is_forgotten():
    columns, train, _ = drifting()
    pairs = [column[train] for column in columns[:2]]
    known = Interactions(*pairs, None, 80, 40)
    nobody = Interactions([], [], None, 80, 40)
    fitted = fit(known, nobody, neighbors=3)
    assert isinstance(fitted, Fitted) and fitted.decay == 1.0 and fitted.choice == Choice()
    assert best_half_life(known, nobody) == math.inf
    assert np.argmax(fitted.popularity) == np.argmax(np.bincount(known.items))


def test_one_interaction_per_user_has_no_similar_items():
    known = Interactions([1, 2, 3], [1, 1, 2], [5, 6, 7], 3, 3)
    fitted = fit(known, Interactions([], [], [], 3, 3), neighbors=2)
    assert not fitted.neighbors.any() and not fitted.similarities.any()
    assert np.isfinite(fitted.popularity).all() and np.argmax(fitted.popularity) == 0
