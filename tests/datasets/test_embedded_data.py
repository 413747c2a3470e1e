"""The content of the embedded data sets matches their description."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest

import zoo
from selection import slow
from source_examples import SPLITS, message, rows, sizes, words
from zoo.datasets.raw import Feature

MADE_UP = [
    "baskets",
    "command_lines",
    "commands",
    "number_words",
    "paraphrases",
    "seasons",
    "spoken_sums",
    "tagged_commands",
    "tastes",
    "wishes",
]


AGAIN = ["baskets", "breast_cancer", "command_lines", "digit_ink", "digit_rows", "pastimes", "wine", "wishes"]
"""Made by the code of others, or of the same kind."""


@pytest.mark.parametrize("name", [slow(name) if name in AGAIN else name for name in sorted(zoo.datasets.EMBEDDED)])
def test_embedded_sets_match_their_description(name):
    data, again = zoo.datasets.load(name), zoo.datasets.load(name)
    parts = [rows(data, s) for s in SPLITS]
    held = [e for part in parts for e in part]
    assert sizes(data) == [len(part) for part in parts]
    assert {k: Feature(tuple(v.shape), v.dtype.name) for k, v in data.train.element_spec.items()} == data.features
    for split in SPLITS:  # the same examples in the same order every time
        assert data.splits[split].sha256 == again.splits[split].sha256
    numbers = [n for e in held for n in np.ravel(e.get("label", e.get("tags", np.flatnonzero(e.get("labels", [])))))]
    groups = {240} if data.tasks == ("text_embedding",) else {len(data.class_names)}  # groups have no names
    assert {len(set(numbers))} == groups and set(numbers) == set(range(len(set(numbers))))
    assert ("synthetic" in data.source) == (name in MADE_UP), "never evidence for a result"
    assert name in zoo.datasets.list_datasets()


def test_digit_rows_equal_the_digits():
    images, series = zoo.datasets.load("digits"), zoo.datasets.load("digit_rows")
    for image, row in zip(rows(images), rows(series), strict=True):
        assert image["label"] == row["label"]
        np.testing.assert_array_equal(np.round(row["series"] * 255 / 16), image["image"][..., 0])
    assert series.about["channels"][0] == "column 1"
    assert series.features["series"] == Feature((8, 8), "float32")


def test_the_best_error_of_seasons_is_correct():
    """The error of a forecast from the formula, the pattern plus the fading deviation, is close to best_rmse."""
    data = zoo.datasets.load("seasons")
    assert sizes(data) == [2759, 396, 800]
    assert data.arguments == {"window": 56, "horizon": 8}
    step = np.arange(4032)
    pattern = 100 + 30 * np.sin(np.pi * step / 4) + 10 * np.cos(np.pi * step / 2) - 20 * (step // 8 % 7 > 4)
    errors, naive = [], defaultdict(list)
    first = int(0.8 * 4032)
    for start, example in enumerate(rows(data, "test"), first):
        deviation = example["series"][-1, 0] - pattern[start - 1]
        best = pattern[start : start + 8] + deviation * 0.7 ** np.arange(1, 9)
        errors.append(example["forecast"] - best)
        for name, lag in data.about["naive"].items():
            naive[name].append(example["forecast"] - example["series"][-lag:, 0][:8])
    found = np.sqrt(np.mean(np.square(errors)))
    assert found == pytest.approx(data.about["best_rmse"], rel=0.05)
    assert data.about["best_rmse"] == pytest.approx(5.2, abs=0.1)
    assert set(naive) == {"same step yesterday", "same step last week"}
    assert all(np.sqrt(np.mean(np.square(e))) > 1.3 * found for e in naive.values())


def test_window_and_horizon_of_an_embedded_series_can_be_set():
    data = zoo.datasets.load("seasons", window=12, horizon=3)
    assert data.features == {"series": Feature((12, 3), "float32"), "forecast": Feature((3,), "float32")}
    assert data.arguments == {"window": 12, "horizon": 3}
    assert data.about["naive"] == {"same step yesterday": 8}
    assert zoo.datasets.load("seasons", window=6, horizon=5).about["naive"] == {"the steps before": 5}


def test_tagged_commands_require_the_neighbouring_words():
    data = zoo.datasets.load("tagged_commands")
    assert sizes(data) == [960, 120, 120]
    alone, around = defaultdict(Counter), defaultdict(set)
    for example in rows(data):
        tokens = [t.decode() for t in example["tokens"]]
        assert words(example) == " ".join(tokens[:-1]) + tokens[-1]
        padded = ["", *tokens, ""]
        for i, tag in enumerate(example["tags"].tolist()):
            alone[tokens[i]][tag] += 1
            determiner = padded[i] in ("the", "a", "my")
            before_noun = padded[i + 2] in ("light", "watch", "paint", "door", "oven", "lamp")
            around[tokens[i], determiner, before_noun, padded[i] in ("is", "was"), i == 0].add(tag)
    assert all(len(tags) == 1 for tags in around.values()), "the context decides without doubt"
    total = sum(sum(c.values()) for c in alone.values())
    assert sum(max(c.values()) for c in alone.values()) / total < 0.95
    held = [{words(e) for e in rows(data, s)} for s in SPLITS]
    assert not held[0] & held[1]
    assert not held[0] & held[2]
    assert not held[1] & held[2]


def test_number_words_spell_the_numbers():
    data = zoo.datasets.load("number_words")
    assert sizes(data) == [640, 80, 80]
    found = {words(e): words(e, "translation") for e in rows(data)}
    assert len(found) == 800
    for english, french in {
        "I see zero cats.": "Je vois zéro chats.",
        "Twenty-one.": "Vingt et un.",
        "Forty-two!": "Quarante-deux\u202f!",
        "Why seventy-one?": "Pourquoi soixante et onze\u202f?",
        "Are seventy-seven enough?": "Est-ce que soixante-dix-sept suffisent\u202f?",
        "Why eighty?": "Pourquoi quatre-vingts\u202f?",
        "Tom has eighty-one dogs!": "Tom a quatre-vingt-un chiens\u202f!",
        "It is ninety-one, not more.": "C'est quatre-vingt-onze, pas plus.",
        "He said: “ninety-nine.”": "Il a dit\u00a0: «\u00a0quatre-vingt-dix-neuf.\u00a0»",
        "Sixty.": "Soixante.",
    }.items():
        assert found[english] == french
    assert len(set(found.values())) == 800


def test_the_best_error_of_tastes_is_correct():
    """A factorization of the true rank, fitted by alternating least squares in NumPy, has an error close to the noise."""
    data = zoo.datasets.load("tastes")
    assert sizes(data) == [3483, 425, 918]
    assert set(data.about["titles"]) == {e["item_id"].decode() for e in rows(data)}
    train = rows(data, "train") + rows(data, "validation")
    users = {u: i for i, u in enumerate(sorted({e["user_id"] for e in train}))}
    items = {u: i for i, u in enumerate(sorted({e["item_id"] for e in train}))}

    def triples(examples):
        return np.array(
            [(users[e["user_id"]], items[e["item_id"]], e["rating"] - 5) for e in examples if e["item_id"] in items]
        )

    u, i, r = triples(train).T
    left, right = np.random.default_rng(1).normal(0, 0.1, (len(users), 4)), np.zeros((len(items), 4))
    left[:, 0] = 1
    for _ in range(15):
        for own, other, mine, theirs, fixed in ((right, left, i, u, 1), (left, right, u, i, 0)):
            own[:, fixed] = 1
            free = [k for k in range(4) if k != fixed]
            for n in range(len(own)):
                at = mine == n
                features = other[theirs[at].astype(int)]
                wanted = r[at] - features[:, fixed]
                matrix = features[:, free].T @ features[:, free] + 0.3 * np.eye(3)
                own[n, free] = np.linalg.solve(matrix, features[:, free].T @ wanted)
    tu, ti, tr = triples(rows(data, "test")).T
    rmse = np.sqrt(np.mean((tr - np.einsum("nk,nk->n", left[tu.astype(int)], right[ti.astype(int)])) ** 2))
    assert data.about["best_rmse"] == 0.5
    assert 0.48 < rmse < 0.62
    assert np.std(tr) > 1.2


def test_unsupported_options_are_rejected():
    assert message("digits", window=3) == "Data set 'digits' takes no window. Leave it out."
    assert message("seasons", columns={"text": "a"}) == "Data set 'seasons' takes no columns. Leave it out."
    assert message("seasons", window=0) == ("window is 0; expected a whole number of at least 1. Pass window=168, say.")
    assert message("seasons", horizon=2000).startswith(
        "Data set 'seasons' has 4032 steps, too few for window=56 and hor"
    )
    assert message("sms_spam", horizon=3) == "Data set 'sms_spam' takes no horizon. Leave it out."
