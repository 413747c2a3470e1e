"""Where data sets come from, against independent readings of the same files; nothing here reaches the network."""

from __future__ import annotations

import csv
import datetime
import io
import os
import re
import unicodedata
import zipfile
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import zoo
from zoo.datasets.raw import Feature
from zoo.datasets.sources import splitting
from zoo.datasets.sources.in_memory import split_of, texts, window_splits

SPLITS = ("train", "validation", "test")
MADE_UP = ["command_lines", "commands", "number_words", "seasons", "tagged_commands", "tastes"]


def rows(data, split=None) -> list[dict]:
    """All examples of a split, or of all."""
    return [e for s in ([split] if split else SPLITS) for e in data.splits[s].dataset().as_numpy_iterator()]


def sizes(data) -> list[int]:
    return [data.splits[s].num_examples for s in SPLITS]


def words(example, key="text") -> str:
    return example[key].decode()


def write(path: Path, content: str, encoding="utf-8") -> str:
    path.write_bytes(content.encode(encoding))
    return f"csv:{path}"


def message(name, **options) -> str:
    with pytest.raises(zoo.UsageError) as caught:
        zoo.datasets.load(str(name), **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- Division --------------------------------------------------------------------------------------------------------


def digests(count: int) -> list[bytes]:
    return [splitting.digest(str(i)) for i in range(count)]


def test_division_does_not_depend_on_the_order_of_rows():
    held, strata = digests(200), [i % 3 for i in range(200)]
    parts = splitting.divide(held, strata)
    order = np.random.default_rng(0).permutation(200)
    again = splitting.divide([held[i] for i in order], [strata[i] for i in order])
    np.testing.assert_array_equal(again, parts[order])
    for stratum in range(3):
        counts = np.bincount(parts[np.array(strata) == stratum])
        assert counts.tolist() in ([53, 7, 7], [52, 7, 7])


def test_equal_contents_stay_together():
    held = digests(30) * 4
    for parts in (splitting.divide(held, [i % 7 for i in range(120)]), splitting.deal(held, None, 5)):
        assert all(len({parts[i] for i in range(k, 120, 30)}) == 1 for k in range(30))


@pytest.mark.parametrize("count", [3, 4, 9, 10, 25])
def test_small_strata_are_in_every_part(count):
    assert set(splitting.divide(digests(count)).tolist()) == {0, 1, 2}


def test_digests_keep_parts_apart():
    assert splitting.digest("ab", "c") != splitting.digest("a", "bc") != splitting.digest("abc")
    assert splitting.digest("é") == splitting.digest("é".encode())


def test_users_are_divided_in_time():
    users = ["a"] * 20 + ["b"] * 4 + ["c"] * 5
    times = [*range(100, 80, -1), 1, 2, 3, 4, 7, 7, 7, 7, 7]
    parts = splitting.divide_users_by_time(users, times)
    assert parts[:20].tolist() == [2] * 4 + [1] * 2 + [0] * 14, "the file has the newest first"
    assert parts[20:24].tolist() == [0] * 4, "too few to divide"
    assert parts[24:].tolist() == [0, 0, 0, 1, 2], "in the same second the file's order counts"


def test_pairs_that_share_a_sentence_are_a_group():
    pairs = [("Go.", "Va !"), ("go", "Allez."), ("Leave!", "ALLEZ"), ("Stay.", "Reste."), ("?", "!"), ("!", "…")]
    groups = splitting.sentence_groups(pairs)
    assert groups[0] == groups[1] == groups[2]
    assert len({groups[i] for i in (0, 3, 4, 5)}) == 4, "marks alone are sentences too"
    assert splitting.sentence_groups(pairs[::-1]) == groups[::-1]


# --- Splits in memory ------------------------------------------------------------------------------------------------


def test_sequences_of_unequal_length_come_back_as_they_were():
    series = [np.arange(2 * n, dtype=np.float32).reshape(n, 2) for n in (3, 1, 0, 5)]
    tokens = [texts(["a"] * n) for n in (1, 2, 3, 4)]
    split = split_of(
        {"series": series, "label": np.arange(4), "tokens": tokens, "text": texts(["", "é", "\0x\0", "y"])}
    )
    spec = split.dataset().element_spec
    assert {k: (v.shape.as_list(), v.dtype.name) for k, v in spec.items()} == {
        "series": ([None, 2], "float32"),
        "label": ([], "int64"),
        "tokens": ([None], "string"),
        "text": ([], "string"),
    }
    for _ in range(2):
        found = list(split.dataset().as_numpy_iterator())
        for i, example in enumerate(found):
            np.testing.assert_array_equal(example["series"], series[i])
            assert example["tokens"].tolist() == tokens[i].tolist()
        assert [e["text"] for e in found] == [b"", "é".encode(), b"\0x\0", b"y"]
    assert split.num_examples == 4
    padded = split.dataset().padded_batch(4)
    assert next(iter(padded))["series"].shape == (4, 5, 2)


def test_windows_and_their_forecasts():
    values = np.stack([np.arange(100), -np.arange(100)], axis=1).astype(np.float32)
    splits = window_splits("s", values, 10, 4, bounds=(60, 75))
    times = {}
    for role, split in splits.items():
        found = list(split.dataset().as_numpy_iterator())
        assert len(found) == split.num_examples
        for example in found:
            start = int(example["forecast"][0])
            np.testing.assert_array_equal(example["series"], values[start - 10 : start])
            np.testing.assert_array_equal(example["forecast"], values[start : start + 4, 0])
        times[role] = {int(t) for e in found for t in e["forecast"]}
    assert times["train"] == set(range(10, 60))
    assert times["validation"] == set(range(60, 75))
    assert times["test"] == set(range(75, 100))
    assert splits["train"].dataset().element_spec["series"] == tf.TensorSpec((10, 2), tf.float32)


def test_windows_whose_forecast_is_missing_are_left_out():
    values = np.arange(100, dtype=np.float32)[:, np.newaxis].copy()
    values[[30, 80]] = np.nan
    splits = window_splits("s", values, 5, 3)
    forecasts = [e["forecast"] for s in splits.values() for e in s.dataset().as_numpy_iterator()]
    assert not np.isnan(forecasts).any()
    # What is left out: three forecasts of each, and the history that ends with it.
    assert sum(s.num_examples for s in splits.values()) == (65 - 2 - 3 - 1) + 8 + (20 - 2 - 1 - 1)


# --- Embedded sets ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(zoo.datasets.EMBEDDED))
def test_embedded_sets_hold_what_they_say(name):
    data, again = zoo.datasets.load(name), zoo.datasets.load(name)
    parts = [rows(data, s) for s in SPLITS]
    held = [e for part in parts for e in part]
    assert sizes(data) == [len(part) for part in parts]
    assert {k: Feature(tuple(v.shape), v.dtype.name) for k, v in data.train.element_spec.items()} == data.features
    for one, other in zip(held[::7], rows(again)[::7], strict=True):  # always the same, in the same order
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])
    numbers = [n for e in held for n in np.ravel(e.get("label", e.get("tags", [])))]
    assert set(numbers) == set(range(len(data.class_names)))
    assert ("made-up" in data.source) == (name in MADE_UP), "never evidence for a result"
    assert name in zoo.datasets.list_datasets()


def test_digit_rows_are_the_digits():
    images, series = zoo.datasets.load("digits"), zoo.datasets.load("digit_rows")
    for image, row in zip(rows(images), rows(series), strict=True):
        assert image["label"] == row["label"]
        np.testing.assert_array_equal(np.round(row["series"] * 255 / 16), image["image"][..., 0])
    assert series.about["channels"][0] == "column 1"
    assert series.features["series"] == Feature((8, 8), "float32")


def test_the_best_forecast_of_the_seasons_is_known():
    """The true pattern plus the fading deviation, worked out here from the formula, reaches best_rmse and no less."""
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


def test_windows_of_an_embedded_series_are_a_choice():
    data = zoo.datasets.load("seasons", window=12, horizon=3)
    assert data.features == {"series": Feature((12, 3), "float32"), "forecast": Feature((3,), "float32")}
    assert data.arguments == {"window": 12, "horizon": 3}
    assert data.about["naive"] == {"same step yesterday": 8}
    assert zoo.datasets.load("seasons", window=6, horizon=5).about["naive"] == {"the steps before": 5}


def test_tagged_commands_cannot_be_told_by_the_word_alone_but_by_its_neighbours():
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


def test_number_words_are_the_numbers():
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


def test_the_best_error_of_the_tastes_is_known():
    """A factorisation of as many dimensions, fitted by alternating least squares in NumPy, comes close to the noise."""
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
    for _ in range(30):
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


def test_options_that_a_set_does_not_take():
    assert message("digits", window=3) == "Data set 'digits' takes no window. Leave it out."
    assert message("seasons", columns={"text": "a"}) == "Data set 'seasons' takes no columns. Leave it out."
    assert message("seasons", window=0) == ("window is 0; expected a whole number of at least 1. Pass window=168, say.")
    assert message("seasons", horizon=2000).startswith(
        "Data set 'seasons' has 4032 steps, too few for window=56 and hor"
    )
    assert message("sms_spam", horizon=3) == "Data set 'sms_spam' takes no horizon. Leave it out."


# --- Folds -----------------------------------------------------------------------------------------------------------


def test_every_example_is_in_the_test_split_of_one_fold():
    whole = Counter(e["image"].tobytes() for e in rows(zoo.datasets.load("digits")))
    seen = Counter()
    for fold in range(3):
        data = zoo.datasets.load("digits", folds=3, fold=fold)
        parts = [rows(data, s) for s in SPLITS]
        assert sizes(data) == [len(part) for part in parts]
        assert Counter(e["image"].tobytes() for part in parts for e in part) == whole
        counts = [np.bincount([e["label"] for e in part], minlength=10) for part in parts]
        assert np.ptp(counts[2] / np.bincount([e["label"] for p in parts for e in p])) < 0.05
        assert len(parts[1]) == pytest.approx(0.1 * (len(parts[0]) + len(parts[1])), abs=2)
        seen += Counter(e["image"].tobytes() for e in parts[2])
    assert seen == whole
    assert data.arguments == {"folds": 3, "fold": 2}
    assert data.prepare("mlp").describe()["data"]["fold"] == 2


def test_equal_texts_are_in_one_fold(tmp_path):
    lines = "".join(f"text {i % 40},{'ab'[i % 2]}\n" for i in range(120))
    name = write(tmp_path / "t.csv", f"text,label\n{lines}")
    for fold in range(4):
        data = zoo.datasets.load(name, folds=4, fold=fold)
        held = [{words(e) for e in rows(data, s)} for s in SPLITS]
        assert sum(map(len, held)) == 40
        assert len(held[2]) == 10


def test_folds_of_other_tasks():
    for name in ("tagged_commands", "number_words", "digit_rows"):
        data = zoo.datasets.load(name, folds=3, fold=1)
        assert sum(sizes(data)) == sum(sizes(zoo.datasets.load(name)))
        assert len(rows(data, "test")) == data.splits["test"].num_examples


def test_folds_that_are_none():
    assert message("digits", folds=5) == (
        "folds is 5 and fold is None; they go together. Pass folds=5 and fold=0 to 4, or leave both out."
    )
    assert message("digits", folds=1, fold=0).startswith("folds is 1; expected a whole number of at least 2. Pass")
    assert message("digits", folds=5, fold=5) == "fold is 5; expected 0 to 4. Pass fold=0 for the first."
    for name in ("seasons", "tastes"):
        assert message(name, folds=5, fold=0) == (
            f"Data set '{name}' is divided in time, and folds would train on what comes after the test. "
            "Leave folds and fold out."
        )


# --- CSV -------------------------------------------------------------------------------------------------------------

NASTY = [
    'say ""hi"", you',
    "two\nlines",
    "  spaced  ",
    "NA",
    "None",
    "naïve 😀",
    "a;b\tc",
    "=1+1",
    "'",
    "\u202f!",
    "1e5",
]


def nasty_csv(separator=",") -> tuple[str, list[str]]:
    held = [f"{text} {i}" for i in range(12) for text in NASTY]
    lines = [f'"{text}"{separator}{("spam", "ham")[i % 2]}' for i, text in enumerate(held)]
    return "\r\n".join([f"text{separator}label", *lines, ""]), [text.replace('""', '"') for text in held]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "BOM"])
def test_texts_of_a_csv_are_its_cells(tmp_path, separator, mark):
    content, expected = nasty_csv(separator)
    data = zoo.datasets.load(write(tmp_path / "ünï côde.csv", mark + content))
    assert data.task == "text_classification"
    assert sorted(words(e) for e in rows(data)) == sorted(expected)
    assert {words(e): data.class_names[e["label"]] for e in rows(data)} == {
        text: ("spam", "ham")[i % 2] for i, text in enumerate(expected)
    }
    assert data.class_names == ("ham", "spam")
    assert sizes(data) == [104, 14, 14]
    assert data.about["columns"] == {
        "text": {"dtype": "string", "missing": 0},
        "label": {"dtype": "string", "missing": 0},
    }
    assert data.about["duplicates"] == 0


def test_the_order_of_the_rows_does_not_matter(tmp_path):
    lines = [f"text {i},{'abc'[i % 3]}" for i in range(100)]
    one = zoo.datasets.load(write(tmp_path / "a.csv", "\n".join(["text,label", *lines])))
    two = zoo.datasets.load(write(tmp_path / "b.csv", "\n".join(["text,label", *lines[::-1]])))
    for split in SPLITS:
        assert {words(e) for e in rows(one, split)} == {words(e) for e in rows(two, split)}
        assert Counter(e["label"] for e in rows(one, split)).keys() == {0, 1, 2}


def test_equal_rows_are_in_one_split(tmp_path):
    data = zoo.datasets.load(
        write(tmp_path / "a.csv", "text,label\n" + "".join(f"t{i % 50},{'ab'[i % 2]}\n" for i in range(200)))
    )
    held = [{words(e) for e in rows(data, s)} for s in SPLITS]
    assert sum(map(len, held)) == 50
    assert data.about["duplicates"] == 150


def test_rows_without_a_value_are_left_out_and_counted(tmp_path, capsys):
    content = "id,message,kind\n" + "".join(f"{i},m{i},{'ab'[i % 2]}\n" for i in range(40)) + "40,,a\n41,x,\n42, ,\n"
    data = zoo.datasets.load(write(tmp_path / "a.csv", content), columns={"text": "message", "label": "kind"})
    assert sum(sizes(data)) == 40
    assert data.about["left_out"] == {"rows without message": 2, "rows without kind": 1}
    assert data.about["columns"]["id"] == {"dtype": "int64", "missing": 0}
    assert data.about["columns"]["message"]["missing"] == 2
    assert f"Left out of csv:{tmp_path}/a.csv: 2 rows without message\n" in capsys.readouterr().out


def test_a_column_says_the_split(tmp_path):
    content = "text,label,split\n" + "".join(
        f"t{i},{'ab'[i % 2]},{['train', 'Train ', 'dev', 'test'][i // 2 % 4]}\n" for i in range(80)
    )
    data = zoo.datasets.load(write(tmp_path / "a.csv", content))
    assert sizes(data) == [40, 20, 20]
    assert {words(e) for e in rows(data, "test")} == {f"t{i}" for i in range(80) if i // 2 % 4 == 3}
    data = zoo.datasets.load(write(tmp_path / "b.csv", content.replace("dev", "train")))
    assert sizes(data) == [54, 6, 20], "what is missing is cut from train"
    data = zoo.datasets.load(write(tmp_path / "c.csv", content.replace("test", "train")))
    assert sizes(data) == [54, 6, 20], "one that is held out is our test"
    assert {words(e) for e in rows(data, "test")} == {f"t{i}" for i in range(80) if i // 2 % 4 == 2}
    assert message(write(tmp_path / "d.csv", content.replace("dev", "tset"))).endswith(
        "d.csv row 5: the split is 'tset'. Did you mean 'test' or 'testing'?"
    )
    assert message(write(tmp_path / "e.csv", content.lower().replace("train", "test"))).endswith(
        "has the splits test, validation; expected one called train. Rename one of them."
    )


def test_a_run_on_own_files_can_be_repeated_from_anywhere(tmp_path, monkeypatch):
    write(tmp_path / "a.csv", "m,k\n" + "".join(f"m{i},{'ab'[i % 2]}\n" for i in range(40)))
    monkeypatch.chdir(tmp_path)
    columns = {"text": "m", "label": "k"}
    data = zoo.datasets.load("csv:a.csv", columns=columns)
    assert data.name == "csv:a.csv"
    assert data.arguments == {"manual_dir": str(tmp_path), "columns": columns}
    monkeypatch.chdir("/")
    again = zoo.datasets.load(data.name, **data.arguments)
    assert repr(rows(again)) == repr(rows(data))
    assert again.arguments == data.arguments
    assert re.search(r"own file a.csv \(SHA-256 [0-9a-f]{16}\)", data.source)
    absolute = zoo.datasets.load(f"csv:{tmp_path}/a.csv", columns=columns)
    assert absolute.arguments == {"columns": columns}


def test_translations_of_a_csv(tmp_path):
    pairs = [(f"English {i % 90}.", f"Français {i}\u202f!") for i in range(100)]
    held = io.StringIO()
    csv.writer(held).writerows([("en", "fr"), *pairs])
    data = zoo.datasets.load(write(tmp_path / "a.csv", held.getvalue()), columns={"text": "en", "translation": "fr"})
    assert data.task == "translation"
    assert sorted((words(e), words(e, "translation")) for e in rows(data)) == sorted(pairs)
    sentences = [{words(e) for e in rows(data, s)} for s in SPLITS]
    assert sum(map(len, sentences)) == 90


def test_ratings_of_a_csv(tmp_path):
    lines = [f"{u:03},i{i},{(u + i) % 5 + 1},2024-01-{20 - i:02} 10:00,Film {i}" for u in range(6) for i in range(10)]
    content = "\n".join(["user_id,item_id,rating,time,title", *lines, "007,i1,,2024-01-01 10:00,Film 1"])
    data = zoo.datasets.load(write(tmp_path / "a.csv", content))
    assert data.task == "recommendation"
    assert sizes(data) == [42, 6, 12]
    assert {(e["user_id"], e["item_id"]) for e in rows(data, "test")} == {
        (f"{u:03}".encode(), f"i{i}".encode()) for u in range(6) for i in (0, 1)
    }, "the newest of every user; ids keep their zeros"
    one = next(e for e in rows(data) if e["user_id"] == b"001" and e["item_id"] == b"i2")
    assert one["rating"] == 4.0
    assert one["time"] == datetime.datetime(2024, 1, 18, 10, tzinfo=datetime.UTC).timestamp()
    assert data.about["titles"]["i3"] == "Film 3"
    assert data.about["rating_range"] == [1, 5]
    assert data.about["left_out"] == {"rows without rating": 1}
    chosen = {k: k for k in ("user_id", "item_id", "rating")}
    data = zoo.datasets.load(write(tmp_path / "a.csv", content), columns=chosen)
    assert sizes(data) == [48, 6, 6]
    assert "time" not in data.features
    wrong = content.replace("i3,5", "i3,good", 1)
    assert message(write(tmp_path / "b.csv", wrong)).endswith(
        "b.csv row 14: rating is 'good'; expected a rating in numbers. Correct it, or leave the cell empty."
    )
    assert "time cannot be read as times" in message(write(tmp_path / "c.csv", content.replace("2024-01-15", "once")))


def test_a_series_to_forecast_of_a_csv(tmp_path):
    start = datetime.datetime(2024, 3, 1)
    lines = [f"{start + datetime.timedelta(hours=h)};{h};{h / 10};{'' if h == 50 else h * 2}" for h in range(200)]
    name = write(tmp_path / "a.csv", "\n".join(["when;count;temp;wind", *lines[100:], *lines[:100]]))
    columns = {"forecast": "count", "series": ["temp", "count", "wind"], "time": "when"}
    data = zoo.datasets.load(name, columns=columns, window=10, horizon=5)
    assert data.task == "forecasting"
    assert data.about["channels"] == ["count", "temp", "wind"]
    assert data.arguments == {"columns": columns, "window": 10, "horizon": 5}
    assert data.about["naive"] == {"the steps before": 5}
    assert sizes(data) == [126, 16, 36]
    times = [{int(t) for e in rows(data, s) for t in e["forecast"]} for s in SPLITS]
    assert times == [set(range(10, 140)), set(range(140, 160)), set(range(160, 200))]
    for example in rows(data):
        first = int(example["forecast"][0])
        np.testing.assert_allclose(example["series"][:, 0], np.arange(first - 10, first))
        np.testing.assert_allclose(example["series"][:, 1], np.arange(first - 10, first) / 10, rtol=1e-5)
    assert np.isnan(np.concatenate([e["series"][:, 2] for e in rows(data)])).sum() == 10, (
        "a missing value stays missing"
    )
    assert message(name, columns=columns, window=10).startswith(
        f"Data set '{name}' needs horizon, a number of rows. Pass"
    )
    assert message(name, columns={"forecast": "cuont"}, window=4, horizon=2).endswith(
        "has no column 'cuont'. Did you mean 'count'?"
    )
    gap = write(tmp_path / "b.csv", "\n".join(["when;count;temp;wind", *lines[:20], *lines[25:]]))
    assert zoo.datasets.load(gap, columns=columns, window=10, horizon=5).about["gaps"] == 1
    twice = write(tmp_path / "c.csv", "\n".join(["when;count;temp;wind", *lines, lines[3]]))
    assert "the time is there twice" in message(twice, columns=columns, window=10, horizon=5)
    hole = write(tmp_path / "d.csv", "\n".join(["count", *(str(h) if h != 20 else "NaN" for h in range(200))]))
    data = zoo.datasets.load(hole, columns={"forecast": "count"}, window=10, horizon=5)
    assert data.about["left_out"] == {"missing values to forecast, and the windows with them": 1}
    assert data.splits["train"].num_examples == 126 - 5 - 1, "five windows forecast it, the history of one ends with it"


def test_series_with_a_label_of_a_csv(tmp_path):
    generator = np.random.default_rng(0)
    series = {f"s{n}": generator.normal(size=(3 + n % 4, 2)).round(3) for n in range(40)}
    lines = [
        f"{key},{row[0]},{row[1] if step else ''},{'up' if int(key[1:]) % 2 else 'down'}"
        for key, values in series.items()
        for step, row in enumerate(values)
    ]
    columns = {"sequence": "id", "series": ["x", "y"], "label": "kind"}
    content = "\n".join(["id,x,y,kind", *lines])
    data = zoo.datasets.load(write(tmp_path / "a.csv", content), columns=columns)
    assert data.task == "series_classification"
    assert data.class_names == ("down", "up")
    assert sizes(data) == [32, 4, 4]
    assert data.features["series"] == Feature((None, 2), "float32")
    found = {round(float(e["series"][0, 0]), 3): e for e in rows(data)}
    for key, values in series.items():
        example = found[values[0, 0]]
        assert example["label"] == int(key[1:]) % 2
        np.testing.assert_allclose(example["series"][1:], values[1:], rtol=1e-6)
        assert np.isnan(example["series"][0, 1])
    torn = "\n".join(["id,x,y,kind", *lines, lines[0]])
    assert "sequence 's0' was there before another one. Give" in message(
        write(tmp_path / "b.csv", torn), columns=columns
    )
    mixed = content.replace("down", "up", 1)
    assert message(write(tmp_path / "c.csv", mixed), columns=columns).endswith(
        "sequence 's0' has several labels. Give it one label."
    )


def test_tagged_sentences_of_a_csv(tmp_path):
    held = io.StringIO()
    sentences = [(["Say", ",", 'a "b"', str(n)], ["VERB", "PUNCT", "X", "NUM"]) for n in range(30)]
    lines = [(n, token, tag) for n, pair in enumerate(sentences) for token, tag in zip(*pair, strict=True)]
    csv.writer(held).writerows([("sentence", "tokens", "tags"), *lines, (99, "x", ""), (99, "y", "X")])
    data = zoo.datasets.load(write(tmp_path / "a.csv", held.getvalue()))
    assert data.task == "tagging"
    assert data.class_names == ("NUM", "PUNCT", "VERB", "X")
    assert sizes(data) == [24, 3, 3]
    assert data.about["left_out"] == {"sentences with a token or tag missing": 1}
    found = sorted(([t.decode() for t in e["tokens"]], [data.class_names[t] for t in e["tags"]]) for e in rows(data))
    assert found == sorted(sentences)


@pytest.mark.parametrize(
    ("content", "columns", "end"),
    [
        ("", None, "is empty. Choose a file with a header and rows."),
        ("text,label\n", None, "has a header and no rows. Choose a file with rows."),
        (
            "text,label\na,b\nc,b\n",
            None,
            "column label has one class only, 'b'; expected two or more. Choose another column or folder.",
        ),
        ("text,label\n,b\nc,\n", None, "rows without label': 1}. Choose a file with values in text, label."),
        ("text,label\na,b\nc,d,e\n", None, "Expected 2 fields in line 3, saw 3 Correct that line."),
        ("text,label\na,b,c\nc,d,e\n", None, "has rows of more cells than its header of 2. Correct the header."),
        ("text,text\na,b\n", None, "has two columns called 'text'. Rename one of them."),
        (
            "message,kind\na,b\n",
            None,
            "has the columns message, kind; which are text and label, say? Pass columns={'text': 'message', 'label': "
            "'kind'}; the keys are forecast, image, item_id, label, rating, sentence, sequence, series, split, tags, text, "
            "text_pair, time, title, tokens, translation, user_id.",
        ),
        (
            "text,label,translation\na,b,c\n",
            None,
            "has columns for text_classification and translation. Pass columns with the keys of one of them: text, "
            "label, say.",
        ),
        ("message,kind\na,b\n", {"text": "mesage", "label": "kind"}, "has no column 'mesage'. Did you mean 'message'?"),
        ("a,b\na,b\n", {"text": "a", "lable": "b"}, "columns has the key 'lable'. Did you mean 'label'?"),
        (
            "a,b\na,b\n",
            {"text": "a"},
            "text_classification takes text, label, and may take split, text_pair. Pass these.",
        ),
        ("a,b\na,b\n", {"text": ["a", "b"], "label": "b"}, "expected one column. Pass one of them."),
        ("a,b\na,b\n", {}, "columns is {}; expected keys and columns. Pass columns={'text': 'a'}, say."),
        (
            "text,label\na,b\nc,d\n",
            None,
            "is too small to divide: {'train': 2, 'validation': 0, 'test': 0}. Choose one with m",
        ),
        ('text,label\n"a,b\nc,d\n', None, "Correct that line."),
    ],
)
def test_what_is_wrong_with_a_csv(tmp_path, content, columns, end):
    found = message(write(tmp_path / "a.csv", content), columns=columns)
    assert end in found
    assert found.endswith((".", "?"))


def test_files_that_are_not_there(tmp_path):
    write(tmp_path / "reviews.csv", "a,b\n")
    assert message(f"csv:{tmp_path}/review.csv") == (
        f"Cannot read {tmp_path}/review.csv: No such file or directory. Did you mean 'reviews.csv'? Pass csv:FILE."
    )
    assert "Is a directory" in message(f"csv:{tmp_path}")
    assert message("csv:") == "Data set 'csv:' has no path. Pass csv:PATH."
    (tmp_path / "latin.csv").write_bytes("text,label\né,a\n".encode("latin-1"))
    assert message(f"csv:{tmp_path}/latin.csv").endswith("latin.csv is not UTF-8 at byte 11. Convert it to UTF-8.")
    (tmp_path / "wide.csv").write_bytes("text,label\na,a\n".encode("utf-16"))
    assert message(f"csv:{tmp_path}/wide.csv").endswith("is not UTF-8 at byte 0. Convert it to UTF-8.")
    name = write(tmp_path / "ok.csv", "text,label\n" + "".join(f"t{i},{'ab'[i % 2]}\n" for i in range(40)))
    assert message(name, window=3) == f"Data set '{name}' is for text_classification and takes no window. Leave it out."
    assert message(name, manual_dir=str(tmp_path / "none")).startswith(f"manual_dir {tmp_path}/none is not a folder.")


def test_random_cells_come_back(tmp_path):
    """Whatever csv.writer can write: what comes out is what went in."""
    generator = np.random.default_rng(0)
    alphabet = list("ab ,;\t\"'\n\réЖ漢😀\u2028\x0b\x1f|#\\")
    cells = sorted({"".join(generator.choice(alphabet, generator.integers(1, 12))) + str(i) for i in range(300)})
    held = io.StringIO()
    csv.writer(held, quoting=csv.QUOTE_ALL).writerows(
        [("text", "label"), *((c, "ab"[i % 2]) for i, c in enumerate(cells))]
    )
    data = zoo.datasets.load(write(tmp_path / "a.csv", held.getvalue()))
    assert sorted(words(e) for e in rows(data)) == cells


# --- Folders ---------------------------------------------------------------------------------------------------------


def picture(path: Path, level: int, size=(5, 4), mode="L", **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, level if mode == "L" else (level,) * 3).save(path, **options)
    return path


def test_images_of_folders(tmp_path, capsys):
    for i in range(60):
        picture(
            tmp_path / "Bilder" / ("ü b", "a")[i % 2] / f"{i:02} ß.{('png', 'BMP', 'gif')[i % 3]}", 4 * i, mode="RGB"
        )
    (tmp_path / "Bilder" / "a" / "notes.doc").write_text("no image")
    (tmp_path / "Bilder" / "a" / ".DS_Store").write_text("hidden")
    (tmp_path / "Bilder" / ".git").mkdir()
    picture(tmp_path / "Bilder" / "stray.png", 1)
    data = zoo.datasets.load(f"images:{tmp_path}/Bilder")
    assert data.task == "image_classification"
    assert data.class_names == ("a", "ü b")
    assert data.features == {"image": Feature((4, 5, 3), "uint8"), "label": Feature((), "int64")}
    assert sizes(data) == [48, 6, 6]
    levels = {int(e["image"][0, 0, 0]): data.class_names[e["label"]] for e in rows(data)}
    assert levels == {4 * i: ("ü b", "a")[i % 2] for i in range(60)}
    assert data.about["left_out"] == {
        "files of another kind than .png, .jpg, .jpeg, .bmp, .gif": 1,
        "files that are in no class's folder": 1,
    }
    assert "Left out of images:" in capsys.readouterr().out
    prepared = data.prepare("cnn", filters=(2,))
    assert prepared.build()(next(iter(prepared.keras_batches("train", 8)))[0]).shape == (8, 2)


def test_images_of_many_sizes_in_split_folders(tmp_path, monkeypatch):
    for role, count in (("train", 20), ("val", 6), ("Test", 8)):
        for i in range(count):
            path = tmp_path / "p" / role / ("cat", "dog")[i % 2] / f"{i}.png"
            picture(path, 10 * i, size=(5 + i % 3, 4), mode=("L", "RGB")[i % 2])
    monkeypatch.chdir(tmp_path)
    data = zoo.datasets.load("images:p")
    assert sizes(data) == [20, 6, 8]
    assert data.arguments == {"manual_dir": str(tmp_path)}
    assert data.features["image"].shape == (4, None, None)
    found = sorted(e["image"].shape for e in rows(data, "test"))
    assert found == sorted((4, 5 + i % 3, (1, 3)[i % 2]) for i in range(8))
    assert data.prepare("mlp").arguments["input_shape"][2] == 3
    assert data.about["duplicates"] > 0, "the same pictures are in several splits, and that is said"


def test_images_that_cannot_be_read_are_named(tmp_path):
    for i in range(20):
        picture(tmp_path / ("a", "b")[i % 2] / f"{i}.png", i)
    broken = tmp_path / "b" / "99.png"
    broken.write_bytes(picture(tmp_path / "x" / "x.png", 3).read_bytes()[:60])
    assert message(f"images:{tmp_path}").startswith(f"Image {broken} cannot be decoded: ")
    broken.write_bytes(b"")
    assert message(f"images:{tmp_path}").endswith("Replace it, or remove it.")
    broken.write_text("<html>not found</html>")
    assert f"Image {broken} cannot be decoded: " in message(f"images:{tmp_path}")
    broken.unlink()
    Image.new("P", (4, 4)).save(tmp_path / "b" / "p.bmp")
    assert message(f"images:{tmp_path}").endswith("p.bmp is a BMP file with a palette of colours. Convert it to PNG.")


def test_folders_that_are_none(tmp_path):
    assert message(f"images:{tmp_path}/none").startswith(f"{tmp_path}/none is not a folder. ")
    assert message(f"images:{tmp_path}") == (
        f"{tmp_path} holds no image files. Put them there as {tmp_path}/CLASS/FILE.png."
    )
    picture(tmp_path / "one" / "1.png", 1)
    assert message(f"images:{tmp_path}") == (
        f"{tmp_path} has one class only, 'one'; expected two or more. Choose another column or folder."
    )
    assert message(f"text:{tmp_path}").startswith(f"{tmp_path} holds no text files. Put them")
    assert message(f"images:{tmp_path}", columns={"a": "b"}).endswith("takes no columns. Leave it out.")


def test_images_of_a_csv(tmp_path):
    lines = [f"{picture(tmp_path / 'i' / f'{i}.png', i).relative_to(tmp_path)},{'ab'[i % 2]}" for i in range(40)]
    data = zoo.datasets.load(
        write(tmp_path / "a.csv", "\n".join(["path,label", *lines])), columns={"image": "path", "label": "label"}
    )
    assert {int(e["image"][0, 0, 0]): e["label"] for e in rows(data)} == {i: i % 2 for i in range(40)}
    (tmp_path / "i" / "7.png").unlink()
    assert message(f"csv:{tmp_path}/a.csv", columns={"image": "path", "label": "label"}) == (
        f"Cannot read image {tmp_path}/i/7.png: No such file or directory. Check the file."
    )


def test_texts_of_folders(tmp_path):
    for i in range(40):
        path = tmp_path / ("neg", "pos")[i % 2] / f"ü{i}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(("\ufeff" if i == 3 else "").encode() + f"Text\r\n“{i}”, 😀\n".encode())
    (tmp_path / "neg" / "empty.txt").write_text(" \n")
    data = zoo.datasets.load(f"text:{tmp_path}")
    assert data.class_names == ("neg", "pos")
    assert sizes(data) == [32, 4, 4]
    assert {re.search(r"“(\d+)”", words(e))[1]: int(e["label"]) for e in rows(data)} == {
        str(i): i % 2 for i in range(40)
    }
    assert not any(words(e).startswith("\ufeff") for e in rows(data))
    assert data.about["left_out"] == {"empty files": 1}
    (tmp_path / "pos" / "latin.txt").write_bytes("é".encode("latin-1"))
    assert message(f"text:{tmp_path}") == f"{tmp_path}/pos/latin.txt is not UTF-8 at byte 0. Convert it to UTF-8."


# --- Our builders, on small files of the same form --------------------------------------------------------------------

BUILDERS = {
    "indoor_movement": "IndoorMovement.zip",
    "bike_sharing": "hour.csv",
    "fra_eng": "fra-eng.zip",
    "movietweetings_100k": "ratings.dat and movies.dat",
}


@pytest.mark.parametrize("name", BUILDERS)
def test_builders_name_the_files_they_need(tmp_path, name):
    found = message(name, data_dir=str(tmp_path / "data"), manual_dir=str(tmp_path))
    assert found.startswith(
        f"Data set '{name}' needs files that are downloaded by hand: {BUILDERS[name]}, from https://"
    )
    assert found.endswith("Pass their folder with --data.manual_dir FOLDER.")
    assert name in zoo.datasets.list_datasets()


def test_a_small_file_of_hours(tmp_path):
    """Hours that are left out are filled with no rental and the weather before."""
    header = "dteday,hr,workingday,temp,hum,windspeed,cnt"
    start = datetime.datetime(2011, 1, 1)
    hours = [start + datetime.timedelta(hours=h) for h in range(24 * 40)]
    left_out = {5, 6, 100, 959}
    lines = [f"{t:%Y-%m-%d},{t.hour},{int(t.weekday() < 5)},{h / 1000},0.5,0.1,{h + 1}" for h, t in enumerate(hours)]
    content = [header, *(line for h, line in enumerate(lines) if h not in left_out)]
    (tmp_path / "hour.csv").write_text("\n".join(content))
    data = zoo.datasets.load(
        "bike_sharing", data_dir=str(tmp_path / "data"), manual_dir=str(tmp_path), window=48, horizon=12
    )
    assert data.about["filled_hours"] == 4
    series = {}
    for e in rows(data, "train"):
        series.setdefault(round(float(e["series"][0, 1] / 0.041)), e["series"][0])
    np.testing.assert_allclose(series[4], [5, 41 * 0.004, 50, 6.7, 0, np.sin(np.pi / 3), 0.5], rtol=1e-5)
    first = next(e["series"] for e in rows(data, "train"))
    np.testing.assert_allclose(first[4:8, 0], [5, 0, 0, 8])
    np.testing.assert_allclose(first[4:8, 1], 41 * np.array([0.004, 0.004, 0.004, 0.007]), rtol=1e-5)
    np.testing.assert_allclose(first[5:7, 5], np.sin(2 * np.pi * np.array([5, 6]) / 24), rtol=1e-5)
    again = zoo.datasets.load("bike_sharing", **data.arguments)
    assert again.about == data.about, "what the files said is kept with the prepared data"
    assert data.arguments["window"] == 48
    assert sizes(again) == [672 - 48 - 11, 96 - 11, 192 - 11]


# --- The original files ----------------------------------------------------------------------------------------------

MANUAL_DIR = Path(os.environ.get("ZOO_MANUAL_DIR") or "/nowhere")


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Loads a set from its original files, prepared once; $ZOO_DATA_DIR may name a folder with prepared ones."""
    data_dir = os.environ.get("ZOO_DATA_DIR") or str(tmp_path_factory.mktemp("prepared"))

    def load(name, **options):
        folder = MANUAL_DIR / name.replace("/", "_")
        if not folder.is_dir():
            pytest.skip(f"ZOO_MANUAL_DIR names no folder with the original files in {folder.name}/")
        return zoo.datasets.load(name, data_dir=data_dir, manual_dir=str(folder), **options)

    return load


@pytest.mark.slow
def test_walks_are_those_of_the_archive(originals):
    data = originals("indoor_movement")
    assert sizes(data) == [222, 30, 62]
    with zipfile.ZipFile(MANUAL_DIR / "indoor_movement" / "IndoorMovement.zip") as archive:
        targets = archive.read("dataset/MovementAAL_target.csv").decode().split("\n")[1:]
        expected = Counter()
        for number, label in (line.split(",") for line in targets if line):
            lines = archive.read(f"dataset/MovementAAL_RSS_{int(number)}.csv").decode().split("\n")[1:]
            values = np.array([[float(v) for v in line.split(",")] for line in lines if line], np.float32)
            expected[values.tobytes(), "changes room" if int(label) == 1 else "stays"] += 1
    found = Counter((e["series"].tobytes(), data.class_names[e["label"]]) for e in rows(data))
    assert found == expected
    assert sum(len(e["series"]) for e in rows(data)) == 13197, "as the source's description says"
    held = [{e["series"].tobytes() for e in rows(data, s)} for s in SPLITS]
    assert not held[0] & held[1]
    assert not held[0] & held[2]
    assert not held[1] & held[2]
    shares = [np.mean([e["label"] for e in rows(data, s)]) for s in SPLITS]
    assert np.ptp(shares) < 0.03


@pytest.mark.slow
def test_hours_are_those_of_the_file(originals):
    data = originals("bike_sharing")
    assert sizes(data) == [12089, 1732, 3486]
    assert data.about["filled_hours"] == 17544 - 17379
    with open(MANUAL_DIR / "bike_sharing" / "hour.csv") as file:
        known = {f"{r['dteday']} {int(r['hr']):02}": r for r in csv.DictReader(file)}
    start = datetime.datetime(2011, 1, 1)
    hours = [f"{start + datetime.timedelta(hours=h):%Y-%m-%d %H}" for h in range(17544)]
    counts = np.array([float(known[h]["cnt"]) if h in known else 0 for h in hours])
    position = 168
    for split, (first, last) in zip(SPLITS, [(168, 12280), (12280, 14035), (14035, 17544)], strict=True):
        position = first
        for example in data.splits[split].dataset().as_numpy_iterator():
            np.testing.assert_array_equal(example["forecast"], counts[position : position + 24])
            np.testing.assert_array_equal(example["series"][:, 0], counts[position - 168 : position])
            position += 1
        assert position + 23 == last, "forecasts of a split end before those of the next begin"
    for i, hour in enumerate(hours[position - 169 : position - 1]):
        if hour in known:
            row = known[hour]
            expected = [
                41 * float(row["temp"]),
                100 * float(row["hum"]),
                67 * float(row["windspeed"]),
                int(row["workingday"]),
            ]
            np.testing.assert_allclose(example["series"][i, 1:5], expected, rtol=1e-5)
    shorter = originals("bike_sharing", window=24, horizon=1)
    assert sizes(shorter) == [12280 - 24, 1755, 3509]


def plain(sentence: str) -> str:
    kept = (" " if unicodedata.category(c)[0] in "PSZC" else c for c in unicodedata.normalize("NFKC", sentence).lower())
    return " ".join("".join(kept).split())


@pytest.mark.slow
def test_pairs_are_those_of_the_archive_and_no_sentence_is_in_two_splits(originals):
    data = originals("fra_eng")
    assert sizes(data) == [134080, 4470, 4237]
    with zipfile.ZipFile(MANUAL_DIR / "fra_eng" / "fra-eng.zip") as archive:
        lines = archive.read("fra.txt").decode("utf-8").split("\n")
    assert Counter((words(e), words(e, "translation")) for e in rows(data)) == Counter(
        tuple(line.split("\t")) for line in lines if line
    )
    for key in ("text", "translation"):
        held = [{plain(words(e, key)) for e in rows(data, s)} for s in SPLITS]
        assert not held[0] & held[1]
        assert not held[0] & held[2]
        assert not held[1] & held[2]


@pytest.mark.slow
def test_ratings_are_those_of_the_file_in_the_order_of_time(originals):
    data = originals("movietweetings_100k")
    assert sizes(data) == [58420, 7846, 14588]
    lines = (MANUAL_DIR / "movietweetings_100k" / "ratings.dat").read_text().splitlines()
    ratings = [tuple(line.split("::")) for line in lines]
    counts = Counter(r[0] for r in ratings)
    found = {
        s: [(words(e, "user_id"), words(e, "item_id"), float(e["rating"]), int(e["time"])) for e in rows(data, s)]
        for s in SPLITS
    }
    assert Counter(r for part in found.values() for r in part) == Counter(
        (u, i, float(r), int(t)) for u, i, r, t in ratings if counts[u] >= 5
    )
    assert len({r[0] for r in found["test"]}) == len({r[0] for r in found["validation"]}) == 4692
    latest, earliest = defaultdict(lambda: defaultdict(int)), defaultdict(lambda: defaultdict(lambda: 1 << 40))
    for split, part in found.items():
        for user, _, _, time in part:
            latest[split][user] = max(latest[split][user], time)
            earliest[split][user] = min(earliest[split][user], time)
    for user in latest["train"]:
        assert latest["train"][user] <= earliest["validation"][user]
        assert latest["validation"][user] <= earliest["test"][user]
    assert data.about["titles"]["0002844"] == "Fantômas - À l'ombre de la guillotine (1913)"
    assert len(data.about["titles"]) == 10506
    assert {i for part in found.values() for _, i, _, _ in part} <= set(data.about["titles"])


@pytest.mark.slow
def test_sentences_are_those_of_the_treebank(originals):
    data = originals("universal_dependencies/en_ewt")
    assert sizes(data) == [12543, 2001, 2077]
    assert "_" not in data.class_names
    assert len(data.class_names) == 17
    for split, part in zip(SPLITS, ("train", "dev", "test"), strict=True):
        file = MANUAL_DIR / "universal_dependencies_en_ewt" / f"en_ewt-ud-{part}.conllu"
        expected = Counter()
        for block in file.read_text(encoding="utf-8").strip().split("\n\n"):
            text = next(line[9:] for line in block.split("\n") if line.startswith("# text = "))
            cells = [line.split("\t") for line in block.split("\n") if not line.startswith("#")]
            cells = [c for c in cells if "-" not in c[0] and c[3] != "_"]
            expected[text, tuple(c[1] for c in cells), tuple(c[3] for c in cells)] += 1
        found = Counter(
            (words(e), tuple(t.decode() for t in e["tokens"]), tuple(data.class_names[t] for t in e["tags"]))
            for e in rows(data, split)
        )
        assert found == expected
