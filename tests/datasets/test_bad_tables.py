"""Tables with mistakes: each is read as its writer means it, or rejected in a sentence that names the row."""

from __future__ import annotations

import numpy as np
import pytest

import zoo

ROWS = 60
X = np.random.default_rng(0).normal(size=(ROWS, 3)).round(3)
LABELS = ["ab"[int(value > 0)] for value in X[:, 2]]


def lines(head, row, end=LABELS):
    """Returns a CSV file: its header, and `row(i)` with the label at its end."""
    mark = ";" if ";" in head else ","
    return "\n".join([head, *(f"{row(i)}{mark}{end[i]}" for i in range(ROWS)), ""])


def load(folder, content, columns=None, **options):
    file = folder / "t.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return zoo.datasets.load(f"csv:{file}", columns=columns or {"label": "y"}, **options)


def kinds(data):
    return {name: facts["kind"] for name, facts in data.about["table_columns"].items()}


def number(i):
    return str(X[i, 0])


REJECTED = {
    "label column missing": (
        lines("a,inncome", number),
        {"label": "income"},
        r"no column 'income'. Did you mean 'inncome'\?",
    ),
    "one class": (lines("a,y", number, "k" * ROWS), None, r"column y has only one class, 'k'; expected two or more"),
    "all values missing": (lines("a,y", lambda i: ""), None, r"no column to learn from. a: no row has a value"),
    "words from a row on": (
        lines("a,y", lambda i: number(i) if i < 30 else f"w{i}"),
        None,
        r"row 31: a is 'w30', a word as in all rows from here on, and a number in all rows before. Correct the column",
    ),
    "one word for missing": (
        lines("a,y", lambda i: number(i) if i % 4 else "?"),
        None,
        r"row 1: a is '\?', and a number in 75.0% of the rows. Pass --data.missing",
    ),
    "one typing error": (
        lines("a,y", lambda i: "3.5x" if i == 33 else number(i)),
        None,
        r"row 34: a is '3.5x', and a number",
    ),
    "equal names": (lines("a,a,y", lambda i: f"{number(i)},1"), None, r"two columns named 'a'. Rename one"),
    "commas for thousands": (
        lines("a,y", lambda i: f'"1,{i * 13:03d}"'),
        None,
        r"row 1: a is '1,000'; expected a number with a decimal point. Pass --data.decimal , .*or --data.thousands ,",
    ),
    "commas for thousands between semicolons": (
        lines("a;y", lambda i: f"1,{i * 13:03d}" if i % 2 else i + 100),
        None,
        r"a has 1,013 and 100, so its commas seem to separate thousands. Remove these commas, or pass --data.thousands ,",
    ),
    "points for thousands": (
        lines("a,y", lambda i: f"1.{i * 13:03d}" if i % 2 else i + 100),
        None,
        r"a has 1.013 and 100, so its points seem to separate thousands",
    ),
    "points and commas": (
        lines("a;y", lambda i: f"1.{i + 100},5"),
        None,
        r"row 1: a is '1.100,5'; expected a number without points for thousands and with a decimal point",
    ),
    "decimal points and commas": (
        lines("a;y", lambda i: number(i).replace(".", ",") if i else "0.5"),
        None,
        r"row 2: a is '0,105'; expected a number with a decimal point. Pass --data.decimal ,",
    ),
    "percent": (lines("a,y", lambda i: f"{i} %"), None, r"row 1: a is '0 %'; expected a number"),
    "a mark that never closes": (
        lines("a,b,y", lambda i: f"{number(i)},{chr(34) * (i == 20)}w{i % 3}").replace("w1,b\n", "w1\n,b\n"),
        None,
        r"quotation mark that is not closed, or letters after a closing one, in the row that begins in line \d+",
    ),
    "dates of two forms": (
        lines("a,y", lambda i: "03.04.2024" if i == 40 else f"2024-01-{i % 28 + 1:02d}"),
        None,
        r"row 41: a is '03.04.2024', which is no date of the same form as '2024-01-01'. Convert all",
    ),
    "dates of two orders": (
        lines("a,y", lambda i: "02/27/2024" if i == 40 else f"{i % 28 + 1:02d}/02/2024"),
        None,
        r"row 41: a is '02/27/2024', which is no date of the same form as '13/02/2024'",
    ),
    "ambiguous dates": (
        lines("a,y", lambda i: f"{i % 12 + 1:02d}/02/2024"),
        None,
        r"""01/02/2024 may begin with the day or with the month. Pass --data.kinds '\{"a": "time_dmy"\}' if""",
    ),
    "an infinite value": (
        lines("a,y", lambda i: "inf" if i == 9 else number(i)),
        None,
        r"row 10: a is 'inf'; expected a number",
    ),
    "a target of words": (lines("a,y", number), {"value": "y"}, r"row 1: y is 'b'; expected a number"),
    "a feature named label": (lines("label,y", number), None, r"a feature named 'label', a key of examples. Rename"),
    "one column": ("y\n" + "\n".join(LABELS), None, r"no column to learn from. It has no other column"),
    "numbers of many digits": (
        lines("a,y", lambda i: 1_700_000_000 + i * 7 % 100),
        None,
        r"a is between 1700000000 and 17000000\d\d; a model reads it in steps of 128. Subtract 1700000000 from the column",
    ),
    "a line break in a category": (
        lines("a,y", lambda i: f'"w{i % 3}\nz"'),
        None,
        r"row 1: a is 'w0\\nz'; a category cannot",
    ),
    "too many cells": (lines("a,y", lambda i: "1,2" if i == 7 else "1"), None, r"Expected 2 fields in line 9, saw 3"),
}


@pytest.mark.parametrize("case", REJECTED)
def test_mistakes_are_rejected_in_a_sentence(case, tmp_path):
    content, columns, message = REJECTED[case]
    with pytest.raises(zoo.UsageError, match=message):
        load(tmp_path, content, columns)


READ = {
    "byte order mark": (b"\xef\xbb\xbf" + lines("a,y", number).encode(), {"a": "number"}),
    "decimal commas": (
        lines("a;b;y", lambda i: f"{number(i).replace('.', ',')};{'na' if i % 7 else i}"),
        {"a": "number", "b": "number"},
    ),
    "a mark and empty cells": (
        lines("a,b,y", lambda i: f"{number(i)},{'x' * (i % 2)}"),
        {"a": "number", "b": "category"},
    ),
    "an empty column": (lines("a,b,y", lambda i: f"{number(i)},"), {"a": "number", "b": "constant"}),
    "a constant": (lines("a,b,y", lambda i: f"{number(i)},7"), {"a": "number", "b": "constant"}),
    "identifiers": (
        lines("a,id,row,y", lambda i: f"{number(i)},u{i},{i + 5}"),
        {"a": "number", "id": "identifier", "row": "identifier"},
    ),
    "sentences": (
        lines("a,text,y", lambda i: f"{number(i)},customer {i} called and wanted to know about the bill"),
        {"a": "number", "text": "text"},
    ),
    "room numbers": (
        lines("a,room,y", lambda i: f"{number(i)},{i % 9}{'b' * (i % 2)}"),
        {"a": "number", "room": "category"},
    ),
    "a country NA": (
        lines("a,land,y", lambda i: f"{number(i)},{('NA', 'DE')[i % 2]}"),
        {"a": "number", "land": "category"},
    ),
}


@pytest.mark.parametrize("case", READ)
def test_columns_are_read_as_their_writers_mean_them(case, tmp_path):
    content, expected = READ[case]
    data = load(tmp_path, content)
    assert kinds(data) == expected
    if case == "decimal commas":
        found = {example["a"] for part in data.splits.values() for example in part.dataset().as_numpy_iterator()}
        assert found == set(X[:, 0].astype(np.float32))
    if case == "a country NA":
        assert data.about["table_columns"]["land"]["missing"] == 0


def test_columns_that_give_the_label_away_are_left_out_unless_kept(tmp_path):
    content = lines("a,b,c,y", lambda i: f"{number(i)},{X[i, 2]},{LABELS[i] * 2}")
    left = load(tmp_path, content)
    facts = left.about["table_columns"]
    assert {*left.about["table"]} == {"a"}
    assert all("gives 100.0% of the labels alone; keep it" in facts[name]["why"] for name in "bc")
    assert {*load(tmp_path, content, keep=["b", "c"]).about["table"]} == {"a", "b", "c"}
    double = "\n".join(["a,b,y", *(f"{a},{2 * b + 3},{b}" for a, b, _ in X), ""])
    assert {*load(tmp_path, double, {"value": "y"}).about["table"]} == {"a"}
    with pytest.raises(zoo.UsageError, match=r"no column 'd' for keep"):
        load(tmp_path, content, keep=["d"])


def test_rows_without_a_target_are_left_out_and_counted(tmp_path, capsys):
    for columns, end in (({"value": "y"}, [*map(str, X[:, 1])]), ({"label": "y"}, LABELS)):
        data = load(tmp_path, lines("a,y", number, ["" if i % 6 == 0 else end[i] for i in range(ROWS)]), columns)
        assert data.about["left_out"] == {"rows without y": 10} and "10 rows without y" in capsys.readouterr().out
        assert sum(part.num_examples for part in data.splits.values()) == 50


def test_rows_without_any_feature_are_left_out_and_counted(tmp_path):
    data = load(
        tmp_path, lines("a,b,y", lambda i: f"{'' if i % 6 == 0 else X[i, 0]},{'' if i % 4 == 0 else 'uv'[i % 2]}")
    )
    assert data.about["left_out"] == {"rows without a value of any feature": 5}
    assert sum(part.num_examples for part in data.splits.values()) == 55
    labels = {float(example["a"]): int(example["label"]) for example in data.train.as_numpy_iterator()}
    right = dict(zip(X[:, 0].astype(np.float32).tolist(), LABELS, strict=True))
    assert all("ab"[label] == right[a] for a, label in labels.items() if a == a)


def test_a_constant_target_is_rejected(tmp_path):
    with pytest.raises(zoo.UsageError, match=r"y is 3 in all training examples .* so nothing can be learned"):
        load(tmp_path, lines("a,y", number, "3" * ROWS), {"value": "y"}).prepare("mlp")


def test_a_class_with_one_row_is_trained_on_and_counted(tmp_path):
    data = load(tmp_path, lines("a,y", number, ["once", *LABELS[1:]]))
    assert "'once' (1, 0, 0)" in repr(data)


def test_many_categories(tmp_path):
    rows = [f"c{n % 10_000},{'pq'[n % 2]}" for n in range(20_000)]
    data = load(tmp_path, "\n".join(["a,y", *rows, ""]), keep=["a"])
    preprocessor = data.prepare("mlp").preprocessor
    assert 7_500 < preprocessor.category_sizes[0] <= 10_001


@pytest.mark.parametrize("count", [60, pytest.param(3_000, marks=pytest.mark.slow)])
def test_many_columns_are_described_in_a_few_lines(count, tmp_path, capsys):
    names = [f"n{i}" for i in range(count)]
    table = np.random.default_rng(1).integers(0, 9, (30, count))
    content = "\n".join(
        [",".join([*names, "y"]), *(",".join(map(str, [*row, "pq"[i % 2]])) for i, row in enumerate(table)), ""]
    )
    data = load(tmp_path, content)
    said = capsys.readouterr().out.splitlines()
    assert len(data.about["table"]) == count and len(said) == 42 and said[-1] == f"  ... and {count - 40:,} more"
    assert repr(data).startswith(
        f"{data.name} (tabular_classification): {count:,} columns, label int64 ()\n  n0: number, such as"
    )
    assert data._repr_html_().count("<tr>") < 80


def test_words_that_are_no_pair_are_categories_and_so_are_numbers_with_leading_zeros(tmp_path):
    table = lines("news,sign,post,y", lambda i: f"{'nf'[i % 2]},{'yn'[i % 2]},{i % 7:05d}")
    assert kinds(load(tmp_path, table)) == {"news": "category", "sign": "yes_no", "post": "category"}


def test_commas_before_three_digits_alone_are_not_read_as_decimal_commas(tmp_path):
    with pytest.raises(
        zoo.UsageError,
        match=r"a has 45,000, as all of its commas precede three digits.*Pass --data.decimal , .* if it is 45000",
    ):
        load(tmp_path, lines("a;b;y", lambda i: f"{45 + 7 * i},000;{number(i)}"))
    read = load(tmp_path, lines("a;y", lambda i: f"{7 * i},125")).splits["train"]
    assert all(row["a"] % 1 == 0.125 for row in read.dataset().as_numpy_iterator())


def test_the_target_is_no_feature_and_options_are_checked(tmp_path):
    table = lines("a,y", number)
    with pytest.raises(zoo.UsageError, match=r"features has 'y', which has another meaning.*Leave it out of features"):
        load(tmp_path, table, {"label": "y", "features": ["a", "y"]})
    for option, message in (
        ({"scaling": "quantiles"}, "scaling is 'quantiles'. Did you mean 'quantile'"),
        ({"clip": "false"}, "clip is 'false'; expected true or false"),
        ({"min_count": 0}, "min_count is 0; expected a whole number"),
    ):
        with pytest.raises(zoo.UsageError, match=message):
            load(tmp_path, table, **option)


@pytest.mark.parametrize(
    ("row", "options", "message"),
    [
        (lambda i: 1_700_000_000 + i, {}, r"v is between 1700000000 and 1700000059; a model learns it in steps of 128"),
        (lambda i: "1e39" if i == 5 else i, {}, r"row 6: v is '1e39'; expected at most 3.4e38. Correct it"),
        (lambda i: i - 1, {"log_values": True}, r"has a v of -1; log_values takes none below 0. Leave log_values out"),
    ],
    ids=["precision", "range", "logarithm"],
)
def test_values_that_float32_or_the_logarithm_cannot_hold_are_rejected(row, options, message, tmp_path):
    table = "\n".join(["a,v", *(f"{number(i)},{row(i)}" for i in range(ROWS)), ""])
    with pytest.raises(zoo.UsageError, match=message):
        load(tmp_path, table, {"value": "v"}, **options)


def test_copies_of_rows_of_numbers_stay_in_one_split(tmp_path):
    rows = [f"{X[i, 0]},{X[i, 1]},{LABELS[i]}" for i in range(ROWS)] * 3
    data = load(tmp_path, "\n".join(["a,b,y", *rows, ""]))
    held = [{float(row["a"]) for row in split.dataset().as_numpy_iterator()} for split in data.splits.values()]
    assert not held[0] & held[1] and not held[0] & held[2] and not held[1] & held[2]
