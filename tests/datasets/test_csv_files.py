"""Data sets from CSV files, compared with independent readings of the same files."""

from __future__ import annotations

import bz2
import csv
import datetime
import io
import os
import re
from collections import Counter

import numpy as np
import pandas as pd
import pytest

import zoo
from selection import slow
from source_examples import SPLITS, message, picture, rows, sizes, words, write
from zoo.datasets.raw import Feature
from zoo.datasets.sources.splitting import with_validation_by_time

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
def test_texts_equal_the_cells_of_a_csv(tmp_path, separator, mark):
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


def test_the_order_of_rows_does_not_affect_the_splits(tmp_path):
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


def test_rows_with_missing_values_are_omitted_and_counted(tmp_path, capsys):
    content = "id,message,kind\n" + "".join(f"{i},m{i},{'ab'[i % 2]}\n" for i in range(40)) + "40,,a\n41,x,\n42, ,\n"
    data = zoo.datasets.load(write(tmp_path / "a.csv", content), columns={"text": "message", "label": "kind"})
    assert sum(sizes(data)) == 40
    assert data.about["left_out"] == {"rows without message": 2, "rows without kind": 1}
    assert data.about["columns"]["id"] == {"dtype": "int64", "missing": 0}
    assert data.about["columns"]["message"]["missing"] == 2
    assert f"Left out of csv:{tmp_path}/a.csv: 2 rows without message\n" in capsys.readouterr().out


def test_a_split_column_defines_the_splits(tmp_path):
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
        "has the splits test, validation; expected one named train. Rename one of them."
    )


def test_a_run_on_user_files_can_be_repeated_from_any_folder(tmp_path, monkeypatch):
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
    assert re.search(r"file a.csv \(SHA-256 [0-9a-f]{16}\)", data.source)
    absolute = zoo.datasets.load(f"csv:{tmp_path}/a.csv", columns=columns)
    assert absolute.arguments == {"columns": columns}


def test_translations_are_read_from_a_csv(tmp_path):
    pairs = [(f"English {i % 90}.", f"Français {i}\u202f!") for i in range(100)]
    held = io.StringIO()
    csv.writer(held).writerows([("en", "fr"), *pairs])
    data = zoo.datasets.load(write(tmp_path / "a.csv", held.getvalue()), columns={"text": "en", "translation": "fr"})
    assert data.task == "translation"
    assert sorted((words(e), words(e, "translation")) for e in rows(data)) == sorted(pairs)
    sentences = [{words(e) for e in rows(data, s)} for s in SPLITS]
    assert sum(map(len, sentences)) == 90


def test_ratings_are_read_from_a_csv(tmp_path):
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
        "if it stands for a missing value. Correct it or leave the cell empty if it is a mistake."
    )
    assert "which cannot be read as a time of the same form" in message(
        write(tmp_path / "c.csv", content.replace("2024-01-15", "once"))
    )


def test_titles_come_from_another_table(tmp_path):
    lines = [f"u{u},m{i},{(u + i) % 5 + 1}" for u in range(6) for i in range(10)]
    ratings = write(tmp_path / "ratings.csv", "\n".join(["user,movie,stars", *lines]))
    write(
        tmp_path / "movies.csv", "\n".join(["movie,title,year", *(f"m{i},Film {i},1999" for i in range(9)), "x,None,1"])
    )
    columns = {"user_id": "user", "item_id": "movie", "rating": "stars"}
    data = zoo.datasets.load(ratings, columns=columns, titles="movies.csv")
    assert data.about["titles"]["m3"] == "Film 3" and data.about["titles"]["m9"] == ""
    write(tmp_path / "twice.csv", "movie,title\nm1,One\nm1,Two")
    for titles, said in [
        ("ratings.csv", "There is no column 'title' in"),
        ("twice.csv", "Item 'm1' has two titles in"),
        ("none.csv", "Cannot read"),
    ]:
        with pytest.raises(zoo.UsageError, match=said):
            zoo.datasets.load(ratings, columns=columns, titles=titles)


def test_clicks_need_no_ratings(tmp_path):
    rows = [("ann", f"i{n}", 100 + n) for n in range(10)] + [("bob", "i1", 5), ("bob", "i1", 5), ("bob", "i2", 7)]
    file = tmp_path / "clicks.csv"
    file.write_text("user,item,when\n" + "".join(f"{u},{i},{t}\n" for u, i, t in rows))
    columns = {"user_id": "user", "item_id": "item", "time": "when"}
    data = zoo.datasets.load(f"csv:{file}", columns=columns)
    assert data.task == "recommendation" and "rating" not in data.features and "rating_range" not in data.about
    assert [[e["item_id"].decode() for e in part.as_numpy_iterator()] for part in (data.validation, data.test)] == [
        ["i7", "i1", "i2"][:1],
        ["i8", "i9"],
    ]


def test_a_missing_validation_split_of_ratings_is_the_end_of_train():
    users, times = ["a"] * 20 + ["b"] * 4, [*range(20), *range(20, 24)]
    later = with_validation_by_time(users, times, ["train"] * 20 + ["test"] * 4)
    assert [n for n, split in enumerate(later) if split == "validation"] == [18, 19]
    given = (["train"] * 16 + ["validation"] * 4) + ["train"] * 3 + ["validation"]
    each = with_validation_by_time(users, times, given)
    assert [n for n, split in enumerate(each) if split == "validation"] == [15, 22] and each[16] == each[23] == "test"
    assert with_validation_by_time(users, times, [*given[:-1], "test"]) == [*given[:-1], "test"]


def test_a_series_to_forecast_is_read_from_a_csv(tmp_path):
    start = datetime.datetime(2024, 3, 1)
    lines = [f"{start + datetime.timedelta(hours=h)};{h};{h / 10};{'' if h == 50 else h * 2}" for h in range(200)]
    name = write(tmp_path / "a.csv", "\n".join(["when;count;temp;wind", *lines[100:], *lines[:100]]))
    columns = {"forecast": "count", "series": ["temp", "count", "wind"], "time": "when"}
    data = zoo.datasets.load(name, columns=columns, window=10, horizon=5)
    assert data.task == "forecasting"
    assert data.about["channels"] == ["count", "temp", "wind"]
    assert data.arguments == {"columns": columns, "window": 10, "horizon": 5}
    assert data.about["naive"] == {"the last value": 1}, "a straight line has no season"
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
    assert "the time occurs twice" in message(twice, columns=columns, window=10, horizon=5)
    hole = write(tmp_path / "d.csv", "\n".join(["count", *(str(h) if h != 20 else "NaN" for h in range(200))]))
    data = zoo.datasets.load(hole, columns={"forecast": "count"}, window=10, horizon=5)
    assert data.about["left_out"] == {"missing values to forecast, and the windows with them": 1}
    assert data.splits["train"].num_examples == 126 - 5 - 1, "five windows forecast it, the history of one ends with it"


def test_labelled_series_are_read_from_a_csv(tmp_path):
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
    assert "the rows of sequence 's0' are not contiguous. Give" in message(
        write(tmp_path / "b.csv", torn), columns=columns
    )
    mixed = content.replace("down", "up", 1)
    assert message(write(tmp_path / "c.csv", mixed), columns=columns).endswith(
        "sequence 's0' has several labels. Give it one label."
    )


def test_tagged_sentences_are_read_from_a_csv(tmp_path):
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
            "column label has only one class, 'b'; expected two or more. Choose another column or folder.",
        ),
        (
            'text,label\na,"x\ny"\nc,b\n',
            None,
            "column label has the class 'x\\ny'; expected names that are not blank and have no line break. Rename it.",
        ),
        ("text,label\n,b\nc,\n", None, "rows without label': 1}. Choose a file with values in text, label."),
        ("text,label\na,b\nc,d,e\n", None, "Expected 2 fields in line 3, saw 3 Correct that line."),
        (
            "text,label\na,b,c\nc,d,e\n",
            None,
            "has rows with more cells than its header, which has 2. Correct the header.",
        ),
        ("text,text\na,b\n", None, "has two columns named 'text'. Rename one of them."),
        (
            "message,kind\na,b\n",
            None,
            "has the columns message, kind, which fit no task; its first line must name the columns. "
            "Pass columns={'text': 'message', 'label': 'kind'}, say; "
            "the keys are calendar, features, forecast, image, item_id, known, label, labels, rating, sentence, separator, "
            "sequence, series, split, steps, tags, text, text_pair, time, title, tokens, translation, user_id, value.",
        ),
        (
            "text,label,translation\na,b,c\n",
            None,
            "has columns for text_classification and translation. Pass columns with the keys of one of them: text, "
            "label, say.",
        ),
        ("message,kind\na,b\n", {"text": "mesage", "label": "kind"}, "has no column 'mesage'. Did you mean 'message'?"),
        ("a,b\na,b\n", {"text": "a", "lable": "b"}, "columns has the key 'lable'. Did you mean 'label' or 'labels'?"),
        (
            "a,b\na,b\n",
            {"text": "a"},
            "text_classification needs text, label, and may have split, text_pair. Pass these.",
        ),
        ("a,b\na,b\n", {"text": ["a", "b"], "label": "b"}, "takes one text. Pass one of them, or join them"),
        ("a,b\na,b\n", {}, "columns is {}; expected a dict of keys and columns. Pass columns={'text': 'a'}, say."),
        (
            "text,label\na,b\nc,d\n",
            None,
            "is too small to split: {'train': 2, 'validation': 0, 'test': 0}. Choose one with m",
        ),
        ('text,label\n"a, b,c\nc,d\n', None, "Write two marks for one inside a cell, or correct that line."),
        (
            '{"text": "a", "label": "b"}\n{"text": "a", "label": ["b"]}\n',
            None,
            "row 2: label is ['b']; expected one value. Write a key for each value",
        ),
        (
            "text,label\n" + "".join(f"text {i},{i}.5\n" for i in range(40)),
            None,
            "column label has 40 different labels in 40 rows, '0.5' for example; expected several rows of every label.",
        ),
    ],
)
def test_invalid_csv_files_are_rejected(tmp_path, content, columns, end):
    found = message(write(tmp_path / "a.csv", content), columns=columns)
    assert end in found
    assert found.endswith((".", "?"))


def test_unreadable_files_and_options_are_rejected(tmp_path):
    write(tmp_path / "reviews.csv", "a,b\n")
    assert message(f"csv:{tmp_path}/review.csv") == (
        f"Cannot read {tmp_path}/review.csv: No such file or directory. Did you mean 'reviews.csv'? Pass csv:FILE."
    )
    assert "Is a directory" in message(f"csv:{tmp_path}")
    assert message("csv:") == "Data set 'csv:' has no path. Pass csv:PATH."
    (tmp_path / "latin.csv").write_bytes("text,label\né,a\n".encode("latin-1"))
    assert message(f"csv:{tmp_path}/latin.csv").endswith(
        "or another one that reads its words rightly: cp1252 'é', cp1251 'й', cp1253 'ι'; or save it as CSV UTF-8."
    )
    (tmp_path / "wide.csv").write_bytes("text,label\na,a\n".encode("utf-16"))
    assert (
        "is UTF-16, not UTF-8. Pass --data.encoding utf-16 (encoding='utf-16' in Python), or save it as CSV"
        in message(f"csv:{tmp_path}/wide.csv")
    )
    (tmp_path / "packed.csv").write_bytes(bz2.compress(b"text,label\na,a\n"))
    assert "is compressed with bzip2. Unpack it" in message(f"csv:{tmp_path}/packed.csv")
    name = write(tmp_path / "ok.csv", "text,label\n" + "".join(f"t{i},{'ab'[i % 2]}\n" for i in range(40)))
    assert message(name, window=3) == f"Data set '{name}' is for text_classification and takes no window. Leave it out."
    assert message(name, manual_dir=str(tmp_path / "none")).startswith(f"manual_dir {tmp_path}/none is not a folder.")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("text|label\n", "|"),
        ("sep=;\ntext;label\n", ";"),
        ("text;label\r", ";"),
        ("text,label\n", ","),
    ],
)
def test_separators_and_line_breaks_of_other_programs_are_read(tmp_path, before, after):
    end = before[-1]
    lines = [
        f"bad, or; not {i}{after}{'ab'[i % 2]}" if after == "|" else f"bad {i}{after}{'ab'[i % 2]}" for i in range(40)
    ]
    (tmp_path / "a.csv").write_bytes((before + end.join(lines)).encode())
    found = sorted(words(e) for e in rows(zoo.datasets.load(f"csv:{tmp_path}/a.csv")))
    assert found == sorted(line.split(after)[0] for line in lines)


def test_the_separator_is_the_one_that_all_rows_have(tmp_path):
    lines = "".join(f"film {i},{'ab'[i % 2]}\n" for i in range(40))
    name = write(tmp_path / "a.csv", "text (a; b; c),label\n" + lines)
    data = zoo.datasets.load(name, columns={"text": "text (a; b; c)", "label": "label"})
    assert sum(sizes(data)) == 40


def test_a_quotation_mark_that_is_not_closed_is_a_letter_or_an_error(tmp_path):
    lines = [f"{chr(34) if i % 30 == 0 else ''}film {i}\t{'ab'[i % 2]}" for i in range(120)]
    data = zoo.datasets.load(write(tmp_path / "a.tsv", "text\tlabel\n" + "\n".join(lines)))
    assert sorted(words(e) for e in rows(data)) == sorted(line.split("\t")[0] for line in lines)
    lines[7] = "film\t7\ta"
    assert "has a quotation mark that is not closed" in message(
        write(tmp_path / "b.tsv", "text\tlabel\n" + "\n".join(lines))
    )


def test_a_long_first_line_is_read(tmp_path):
    lines = [f"{'x' * 200_000}{i},{'ab'[i % 2]}" for i in range(40)]
    assert sum(sizes(zoo.datasets.load(write(tmp_path / "a.csv", "text,label\n" + "\n".join(lines))))) == 40
    assert "has the columns" in message(write(tmp_path / "b.csv", "\n".join(lines)))


def test_rows_that_run_backwards_in_time_are_rejected(tmp_path):
    days = pd.date_range("2024-01-01", periods=80).strftime("%d.%m.%Y")[::-1]
    content = "Datum,sold\n" + "".join(f"{day},{i}\n" for i, day in enumerate(days))
    name, columns = write(tmp_path / "a.csv", content), {"forecast": "sold"}
    options = {"window": 8, "horizon": 2}
    assert 'run backwards in time, as Datum says. Add "time": "Datum" to the columns' in message(
        name, columns=columns, **options
    )
    data = zoo.datasets.load(name, columns={**columns, "time": "Datum"}, **options)
    assert data.about["left_out"] == {}


def test_uneven_times_are_no_gaps(tmp_path):
    months = pd.period_range("2020-01", periods=40, freq="M")
    days = sorted(month.start_time + pd.Timedelta(days=d) for month in months for d in (0, 9))
    content = "time,sold\n" + "".join(f"{day:%Y-%m-%d},{i}\n" for i, day in enumerate(days))
    columns = {"forecast": "sold", "time": "time"}
    data = zoo.datasets.load(write(tmp_path / "a.csv", content), columns=columns, window=8, horizon=2)
    assert data.about["left_out"] == {}


def test_random_cells_survive_a_round_trip(tmp_path):
    """For everything that csv.writer can write, the loaded cells equal the written cells."""
    generator = np.random.default_rng(0)
    alphabet = list("ab ,;\t\"'\n\réЖ漢😀\u2028\x0b\x1f|#\\")
    cells = sorted({"".join(generator.choice(alphabet, generator.integers(1, 12))) + str(i) for i in range(300)})
    held = io.StringIO()
    csv.writer(held, quoting=csv.QUOTE_ALL).writerows(
        [("text", "label"), *((c, "ab"[i % 2]) for i, c in enumerate(cells))]
    )
    data = zoo.datasets.load(write(tmp_path / "a.csv", held.getvalue()))
    assert sorted(words(e) for e in rows(data)) == cells


# --- Images ----------------------------------------------------------------------------------------------------------


def test_special_files_are_rejected_without_reading_them(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(5 << 30)  # without using space on the disk
    (tmp_path / "link.png").symlink_to("/dev/zero")
    paths = ["/dev/zero", "pipe.png", "link.png", "huge.png"]
    lines = [f"{path},{'ab'[i % 2]}" for i, path in enumerate(paths)]
    assert (
        "4 of 4 images of a.csv cannot be read: /dev/zero (is not a regular file); pipe.png (is not a regular file); "
        "link.png (is not a regular file); huge.png (has 5,368,709,120 bytes; expected at most 536,870,912). Convert"
    ) in message(write(tmp_path / "a.csv", "\n".join(["image,label", *lines]))).replace(f"{tmp_path}/", "")
    os.mkfifo(tmp_path / "pipe.csv")
    assert message(f"csv:{tmp_path}/pipe.csv").endswith("pipe.csv is not a regular file. Pass a file.")


def test_files_without_a_header_have_numbered_columns(tmp_path):
    name = write(tmp_path / "a.csv", "\n".join(f"{'ab'[i % 2]};text {i};{i}" for i in range(40)))
    options = {"columns": {"text": 1, "label": 0}, "header": False}
    data = zoo.datasets.load(name, **options)
    assert sorted((words(e), int(e["label"])) for e in rows(data)) == sorted((f"text {i}", i % 2) for i in range(40))
    assert data.arguments == options
    assert "If the first line has data, pass header=False" in message(name)
    assert message(name, columns={"text": 3, "label": 0}, header=False).endswith(
        "has no column 3; expected 0 to 2. Pass one of these."
    )
    named = write(tmp_path / "b.csv", "\n".join(["kind,body", *(f"{'ab'[i % 2]},text {i}" for i in range(40))]))
    assert sum(sizes(zoo.datasets.load(named, columns={"text": 1, "label": "kind"}))) == 40
    series = write(tmp_path / "c.csv", "\n".join(f"{i},{i * 2}" for i in range(100)))
    data = zoo.datasets.load(series, columns={"forecast": 1}, header=False, window=5, horizon=2)
    assert data.about["request_columns"] == {"series": ["1"]}


def test_splits_are_read_from_several_files(tmp_path):
    def lines(first, last, head="text,label"):
        return "\n".join([head, *(f"text {i},{'ab'[i % 2]}" for i in range(first, last))])

    name = write(tmp_path / "train.csv", lines(0, 40))
    write(tmp_path / "dev.csv", lines(40, 50))
    write(tmp_path / "test.csv", lines(50, 70))
    data = zoo.datasets.load(name, validation="dev.csv", test="test.csv")
    assert sizes(data) == [40, 10, 20]
    assert {words(e) for e in rows(data, "test")} == {f"text {i}" for i in range(50, 70)}
    assert data.arguments == {"validation": "dev.csv", "test": "test.csv"}
    assert sizes(zoo.datasets.load(name, test="test.csv")) == [36, 4, 20]
    write(tmp_path / "other.csv", lines(50, 70, "text,kind"))
    assert "other.csv has the columns text, kind; expected those of" in message(name, test="other.csv")
    write(tmp_path / "numbers.csv", "sold\n1\n2")
    assert "is split by time and takes no test file" in message(
        f"csv:{tmp_path}/numbers.csv", columns={"forecast": "sold"}, window=2, horizon=1, test="numbers.csv"
    )


@pytest.mark.parametrize(("period", "horizon", "season"), [(24, 30, 24), (0, 6, 1), slow(7, 14, 7), slow(168, 24, 168)])
def test_the_season_of_a_series_is_that_of_its_data(tmp_path, period, horizon, season):
    """Whatever the horizon: forecasts were once compared with the values one horizon earlier."""
    rng = np.random.default_rng(0)
    steps, window = (1500, 200) if period == 168 else (600, 60)
    hours = np.arange(steps)
    pattern = (
        rng.normal(size=period)[hours % period] * 3 + np.sin(hours / 24 * 2 * np.pi) * (period == 168) if period else 0
    )
    values = rng.normal(size=steps) * 0.3 + (pattern if period else np.cumsum(rng.normal(size=steps)))
    name = write(tmp_path / "a.csv", "\n".join(["sold", *(f"{value:.4f}" for value in values)]))
    options = {"columns": {"forecast": "sold"}, "window": window, "horizon": horizon}
    data = zoo.datasets.load(name, **options)
    assert data.about["naive"] == {"the last value": 1} | ({f"{season} steps before": season} if period else {})
    chosen = data.prepare("lstm", units=[2]).preprocessor
    assert chosen.note.startswith("Forecasts are differences from") and "on the validation split" in chosen.note
    assert chosen.season in (0, 1, season) and (period or (chosen.season, chosen.relative) == (1, True))
    prepared = zoo.datasets.load(name, **options, season=season).prepare("lstm", units=[2])
    assert prepared.preprocessor.season == season
    without = zoo.datasets.load(name, **options, season="none")
    assert without.about["naive"] == {"the last value": 1} and without.prepare("lstm").preprocessor.season in (0, 1)
    assert zoo.datasets.load(name, **options, season="auto").about["naive"] == data.about["naive"]
    assert "season is 'weekly'; expected a number of steps, 'none' or 'auto'" in message(
        name, **options, season="weekly"
    )
    example = rows(data, "test")[0]
    start = prepared.preprocessor.serve({"series": example["series"][None]})[1]["start"].numpy()[0]
    repeated = [example["series"][window - season + step % season, 0] for step in range(horizon)]
    np.testing.assert_array_equal(start, repeated)
    assert zoo.datasets.load(name, **options, season=12).about["naive"]["12 steps before"] == 12
    assert f"season is {window + 1}; expected at most window={window}" in message(name, **options, season=window + 1)


def test_images_are_read_from_a_csv(tmp_path):
    lines = [f"{picture(tmp_path / 'i' / f'{i}.png', i).relative_to(tmp_path)},{'ab'[i % 2]}" for i in range(40)]
    data = zoo.datasets.load(
        write(tmp_path / "a.csv", "\n".join(["path,label", *lines])), columns={"image": "path", "label": "label"}
    )
    assert {int(e["image"][0, 0, 0]): e["label"] for e in rows(data)} == {i: i % 2 for i in range(40)}
    (tmp_path / "i" / "7.png").unlink()
    assert message(f"csv:{tmp_path}/a.csv", columns={"image": "path", "label": "label"}) == (
        f"1 of 40 images of {tmp_path}/a.csv cannot be read: i/7.png (No such file or directory). Convert or remove them, "
        "or pass --data.skip_broken true, which leaves them out."
    )
