"""Encodings, marks of numbers, missing words and units of CSV files and DataFrames, compared with pandas."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

import zoo
from untrained_runs import untrained
from zoo.export import artifact, live
from zoo.scripts import cli
from zoo.tables import cells, faults, formats, json_rows, parsing
from zoo.tables.formats import TableFormat
from zoo.tasks.series_files import read_series

ROWS = 60
TOWNS = ("Köln", "Düsseldorf", "Großenhain")


def german(value: float, thousands: str = ".") -> str:
    return f"{value:,.2f}".replace(",", "x").replace(".", ",").replace("x", thousands)


def houses(rows: int = ROWS, thousands: str = ".", seed: int = 0) -> pd.DataFrame:
    """Returns a table as people in Germany write it."""
    draw = np.random.default_rng(seed)
    area, price = draw.uniform(40, 200, rows), draw.uniform(800, 900_000, rows)
    return pd.DataFrame(
        {
            "Ort": [TOWNS[i % 3] for i in range(rows)],
            "Fläche": [german(value, thousands) for value in area],
            "Baujahr": ["k. A." if i % 9 == 4 else str(1900 + 7 * i % 120) for i in range(rows)],
            "Preis": [german(value, thousands) for value in price],
        }
    )


def write(file: Path, frame: pd.DataFrame, encoding: str = "utf-8", sep: str = ";") -> str:
    frame.to_csv(file, sep=sep, index=False, encoding=encoding)
    return f"csv:{file}"


def raw(data: zoo.datasets.Data) -> pd.DataFrame:
    """Returns all raw examples, sorted."""
    whole = data.train.concatenate(data.validation).concatenate(data.test)
    return pd.DataFrame([*whole.map(lambda row: {**row}).as_numpy_iterator()])


def message(call, *arguments, **options) -> str:
    with pytest.raises(zoo.UsageError) as caught:
        call(*arguments, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1252", "Größe – 5 €"),
        ("iso-8859-1", "Größe"),
        ("cp1251", "Привет, №"),
        ("koi8-r", "Привет"),
        ("gb18030", "评论很好"),
        ("tis-620", "อาหารอร่อย"),
        ("cp1256", "الطعام لذيذ"),
        ("utf-16", "Größe 评论"),
        ("utf-16-le", "Größe 评论"),
        ("utf-8-sig", "Größe 评论"),
    ],
)
def test_encodings_are_read_as_pandas_reads_them(encoding, text, tmp_path):
    frame = pd.DataFrame({text: [f"{text}; {i}" for i in range(5)], "label": list("ababa")})
    write(tmp_path / "a.csv", frame, encoding, ",")
    content = (tmp_path / "a.csv").read_bytes()
    found = parsing.parse(Path("a.csv"), content, format=TableFormat(encoding=encoding))
    pd.testing.assert_frame_equal(found, pd.read_csv(tmp_path / "a.csv", encoding=encoding, dtype=str))
    if not encoding.startswith("utf-8"):
        assert "Pass --data.encoding " in message(parsing.parse, Path("a.csv"), content) or encoding == "utf-16-le"


def test_other_encodings_are_rejected_with_the_row(tmp_path):
    def said(content: bytes, **options) -> str:
        return message(parsing.parse, Path("a.csv"), content, format=TableFormat(**options))

    content = 'text,label\n"two\nlines",a\nGroß,b\n'.encode("cp1252")
    assert said(content).startswith(
        "a.csv row 2 (line 4), after 'Gro', byte 0xdf, is not UTF-8. Pass --data.encoding cp1252 (encoding='cp1252' in "
        "Python), or another one that reads its words rightly: cp1252 'Groß'"
    )
    assert said(content).endswith("; or save it as CSV UTF-8.")
    assert "a.csv line 1, after 'Gr', byte 0xf6, is not UTF-8" in said("Größe,b\n".encode("cp1252"))
    assert "byte 0x81, is not cp1252" in said(b"a,b\n\x81,x\n", encoding="cp1252")
    assert "a.csv is UTF-16, not cp1252. Pass --data.encoding utf-16" in said(
        "a,b\n".encode("utf-16"), encoding="cp1252"
    )
    umlauts = "a,b\näöüßäöüß,x\n".encode()
    assert "a.csv is UTF-8, not cp1252. Pass --data.encoding utf-8" in said(umlauts, encoding="cp1252")
    assert "line 2 has the control character 0x80 if it is latin-1" in said(
        "a,b\n5 €,x\n".encode("cp1252"), encoding="latin-1"
    )
    assert message(TableFormat, encoding="cp1253x").endswith(
        "Did you mean 'cp1253' or 'cp1258'? Pass --data.encoding cp1252, say."
    )
    assert "expected a text encoding of Python" in message(TableFormat, encoding="base64")


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("cp1256", "لم تصل الشحنة بعد"),
        ("cp1254", "çok geç şikayet"),
        ("cp1253", "κείμενο είδος"),
        ("cp1251", "Заказ пришел вовремя"),
        ("shift_jis", "配達が遅れました"),
        ("gb18030", "快递太慢了"),
        ("cp874", "ของมาช้ามาก"),
    ],
)
def test_a_message_shows_the_words_in_the_right_encoding(encoding, words):
    content = f"text,label\n{words},a\n{words},b\n".encode(encoding)
    said = message(parsing.parse, Path("a.csv"), content)
    assert f"{encoding} {words!r}" in said


@pytest.mark.parametrize(
    ("cells_", "options"),
    [
        (["1.234,56", "-12,5", "+7", "1.234.567", "0,5", ",5", "3,", "1,5e3"], {"decimal": ",", "thousands": "."}),
        (["1,234.5", "12", "1,234,567.25", "12,34,567", "-1,000"], {"decimal": ".", "thousands": ","}),
        (["1 234,5", "12,25", "-1 000 000"], {"decimal": ",", "thousands": " "}),
        (["1\u202f234,5", "12,25"], {"decimal": ",", "thousands": "\u202f"}),
        (["1'234.5", "12.25"], {"decimal": ".", "thousands": "'"}),
        (["1_234.5", "12"], {"decimal": ".", "thousands": "_"}),
        (["82,4", "1,125", "7"], {"decimal": ","}),
        (["428.055", "1.5"], {"decimal": "."}),
    ],
)
def test_numbers_equal_those_of_pandas(cells_, options, tmp_path):
    write(tmp_path / "a.csv", pd.DataFrame({"x": cells_, "y": "a"}))
    frame = parsing.parse(tmp_path / "a.csv", (tmp_path / "a.csv").read_bytes(), format=TableFormat(**options))
    theirs = {**options, "thousands": options.get("thousands", "").replace("\u202f", " ") or None}
    write(tmp_path / "b.csv", pd.DataFrame({"x": [cell.replace("\u202f", " ") for cell in cells_], "y": "a"}))
    expected = pd.read_csv(tmp_path / "b.csv", sep=";", **theirs)["x"]
    assert expected.dtype.kind in "if"
    np.testing.assert_array_equal(cells.numbers(Path("a.csv"), frame["x"]), expected)
    in_memory = zoo.tables.frames.as_texts(pd.DataFrame({"x": cells_}), format=TableFormat(**options))
    np.testing.assert_array_equal(cells.numbers(Path("a.csv"), in_memory["x"]), expected)


@pytest.mark.parametrize("cell", ["428.05", "1.23.456", "0.125", "12.3456", "1,234.5", "1 234", "12 €", "five"])
def test_marks_at_other_places_are_no_marks_of_thousands(cell):
    column = pd.Series([cell, "5"], name="x")
    column.attrs["format"] = TableFormat(decimal=",", thousands=".")
    assert f"row 1: x is {cell!r}; expected a number" in message(cells.numbers, Path("a.csv"), column)


@pytest.mark.parametrize(
    ("cell", "set_", "lacks", "hints"),
    [
        ("1.234,56", {}, "without points for thousands and with a decimal point", ["decimal , --data.thousands ."]),
        (
            *("264\u202f969,18 €", {}, "without spaces for thousands, with a decimal point and without the unit '€'"),
            ["--data.decimal , --data.thousands ' ' --data.units '[\"€\"]'", "to read it as 264969.18"],
        ),
        ("1,234.5", {}, "without commas for thousands", ["--data.thousands , ", "as 1234.5"]),
        ("1,234", {}, "with a decimal point", ["--data.decimal , ", "as 1.234; or --data.thousands , ", "as 1234."]),
        ("12 %", {}, "without the unit '%'", ["units=['%'] in Python", "as 12."]),
        (
            "1.300",
            {"decimal": ","},
            "with a decimal comma",
            ["decimal . ", "as 1.3; or --data.thousands . ", "as 1300"],
        ),
        ("1300.5", {"decimal": ",", "thousands": "."}, "without points, unless three", ["decimal . ", "as 1300.5."]),
        ("5,5 kg", {"units": ["€"]}, "the unit 'kg'", ['units \'["€", "kg"]\'', "as 5.5"]),
        ("k. A.", {"missing": ["?"]}, "", ['--data.missing \'["?", "k. A."]\'']),
        ("−5", {}, "", []),
        ("(1,234)", {}, "", []),
        ("12-14", {}, "", []),
    ],
)
def test_the_part_that_is_wrong_is_named_with_the_options_that_allow_it(cell, set_, lacks, hints):
    found, hint = faults.explain(cell, TableFormat(**set_), cells.as_numbers)
    assert lacks in found and all(text in hint for text in hints)


def test_points_between_thousands_are_decided_from_the_whole_file(tmp_path):
    """Each column alone could have points before fractions."""
    table = pd.DataFrame(
        {"Fläche": ["82,4", "163,2", "81,6", "90"] * 15, "Preis": ["428.055", "746.368", "567.575"] * 20}
    )
    name = write(tmp_path / "a.csv", table)
    columns = {"value": "Preis"}
    said = message(zoo.datasets.load, name, columns=columns)
    assert said.endswith(
        "a.csv row 1: Preis is '428.055', and Fläche has decimal commas, such as 82,4, so the points of Preis seem to "
        "separate thousands. Pass --data.thousands . (thousands='.' in Python) to read it as 428055; or write 428,055 if it "
        "is a fraction, in the whole column."
    )
    data = zoo.datasets.load(name, columns=columns, thousands=".")
    expected = pd.read_csv(tmp_path / "a.csv", sep=";", decimal=",", thousands=".")
    found = raw(data)
    assert sorted(np.concatenate(found["value"])) == sorted(expected["Preis"].astype(np.float32))
    assert sorted(found["Fläche"]) == sorted(expected["Fläche"].astype(np.float32))
    write(tmp_path / "a.csv", table.assign(Preis=["428.055", "746.36", "567.575"] * 20))  # 746.36 cannot be grouped
    assert max(np.concatenate(raw(zoo.datasets.load(name, columns=columns))["value"])) == np.float32(746.36)


def test_the_other_file_of_a_split_decides_too(tmp_path):
    write(tmp_path / "a.csv", pd.DataFrame({"x": ["82", "163"] * 20, "y": ["428.055", "746.368"] * 20}))
    write(tmp_path / "b.csv", pd.DataFrame({"x": ["82,4"] * 9, "y": ["428.055"] * 9}))
    said = message(zoo.datasets.load, f"csv:{tmp_path}/a.csv", columns={"value": "y"}, test="b.csv")
    assert "y is '428.055', and x has decimal commas, such as 82,4" in said


def test_few_marked_numbers_are_no_categories(tmp_path):
    table = houses().assign(Preis=["950", "1.300", "k. A."] * 20, label=["a", "b"] * 30)
    name = write(tmp_path / "a.csv", table)
    options = {"columns": {"label": "label"}, "decimal": ",", "missing": "k. A."}
    assert "Preis is '1.300'; expected a number with a decimal comma. Pass" in message(
        zoo.datasets.load, name, **options, leave_out=["Fläche"]
    )
    said = message(
        zoo.datasets.load, write(tmp_path / "b.csv", houses().assign(label=["a", "b"] * 30)), columns={"label": "label"}
    )
    assert "row 5: Baujahr is 'k. A.'" in said and "Pass --data.missing '[\"k. A.\"]'" in said
    said = message(
        zoo.datasets.load, f"csv:{tmp_path}/b.csv", columns={"label": "label"}, missing=["k. A."], leave_out=["Fläche"]
    )
    assert "Preis is '" in said and "Pass --data.decimal , --data.thousands . (" in said


def test_tables_and_frames_equal_pandas_with_the_same_options(tmp_path, capsys):
    table = houses()
    name = write(tmp_path / "a.csv", table, "cp1252")
    options = {"decimal": ",", "thousands": ".", "missing": ["k. A."]}
    data = zoo.datasets.load(name, columns={"value": "Preis"}, encoding="cp1252", **options)
    assert "Baujahr: number, 7 missing" in capsys.readouterr().out
    expected = pd.read_csv(
        tmp_path / "a.csv", sep=";", encoding="cp1252", decimal=",", thousands=".", na_values=["k. A."]
    )
    found = raw(data).assign(Preis=lambda frame: np.concatenate(frame["value"])).sort_values("Preis")
    expected = expected.sort_values("Preis")
    for column in ("Fläche", "Baujahr", "Preis"):
        np.testing.assert_array_equal(found[column], expected[column].astype(np.float32))
    assert [town.decode() for town in found["Ort"]] == expected["Ort"].tolist()
    assert {key: data.arguments[key] for key in options} == options and data.arguments["encoding"] == "cp1252"
    frame = zoo.datasets.load(table, columns={"value": "Preis"}, **options)
    assert raw(frame).sort_values("Fläche")["Fläche"].tolist() == sorted(expected["Fläche"].astype(np.float32))
    assert {key: frame.arguments[key] for key in options} == options
    pair = zoo.datasets.load((table.drop(columns="Preis"), np.arange(60) / 7), model="mlp", **options)
    assert sorted(raw(pair)["Fläche"]) == sorted(expected["Fläche"].astype(np.float32))
    assert "--data.decimal , " in message(zoo.datasets.load, table, columns={"value": "Preis"}, missing="k. A.")
    assert "x is no table and takes no decimal" in message(
        *(zoo.datasets.load, (np.zeros((9, 4, 4), np.uint8), [0, 1, 2] * 3)), model="cnn", decimal=","
    )


def test_numbers_of_a_frame_need_no_marks():
    mixed = pd.DataFrame({"x": pd.Series([1.125, "2,5", 3], dtype=object), "y": [1.125, 2.5, 3.0]})
    texts = zoo.tables.frames.as_texts(mixed, format=TableFormat(decimal=","))
    for name in mixed:
        assert cells.numbers(Path("a"), texts[name]).tolist() == [1.125, 2.5, 3]


def test_missing_words_are_missing_in_texts_labels_and_series(tmp_path):
    mails = pd.DataFrame({"text": [f"mail {i}" for i in range(30)], "label": ["a", "b", "k. A."] * 10})
    data = zoo.datasets.load(write(tmp_path / "a.csv", mails), missing="k. A.")
    assert data.class_names == ("a", "b") and data.about["left_out"] == {"rows without label": 10}
    sales = pd.DataFrame({"sold": [german(1000 + i) if i % 50 else "-" for i in range(300)]}).assign(day=range(300))
    options = {"decimal": ",", "thousands": ".", "missing": ["-"]}
    data = zoo.datasets.load(
        *(write(tmp_path / "b.csv", sales),), columns={"forecast": "sold"}, window=9, horizon=2, season=1, **options
    )
    assert next(iter(data.test.as_numpy_iterator()))["series"].min() > 1000
    found = read_series(tmp_path / "b.csv", {"series": ["sold"]}, TableFormat(**options))
    expected = pd.read_csv(tmp_path / "b.csv", sep=";", decimal=",", thousands=".", na_values=["-"])[["sold"]]
    np.testing.assert_array_equal(found, expected.astype(np.float32))
    assert "sold is '-'; expected" in message(read_series, tmp_path / "b.csv", {"series": ["sold"]})


def test_units_are_removed_if_all_cells_have_the_same():
    column = pd.Series(["1 200,50 €", "", "-3 €", "€ 7"], name="x")
    column.attrs["format"] = TableFormat(decimal=",", thousands=" ", units="€")
    np.testing.assert_array_equal(cells.numbers(Path("a"), column), [1200.5, np.nan, -3, 7])
    for mixed in (["12 %", "0,12"], ["5 %", "5 €"]):
        column = pd.Series(mixed, name="x")
        column.attrs["format"] = TableFormat(decimal=",", units=["€", "%"])
        assert "Convert the column to one unit" in message(cells.numbers, Path("a"), column)
    for wrong in ("-", "(", "5", "−", "'"):
        assert "without digits, signs or marks" in message(TableFormat, units=[wrong])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"decimal": ";"}, "decimal is ';'; expected '.' or ','. Pass one of them"),
        ({"thousands": "x"}, "thousands is 'x'; expected '.', "),
        (
            {"decimal": ",", "thousands": ","},
            "decimal and thousands are both ','; expected two marks. Leave thousands out",
        ),
        ({"missing": 5}, "missing is 5; expected a list of texts. Pass"),
        ({"missing": "[-999]"}, "expected a list of texts. Pass '[\"k. A.\"]', say"),
    ],
)
def test_invalid_options_are_rejected(options, said):
    assert said in message(TableFormat, **options)


def test_other_tables_inherit_what_is_not_given():
    recorded = {"encoding": "cp1252", "decimal": ",", "thousands": ".", "missing": ["-"]}
    assert formats.inherit(recorded, {}) == recorded
    assert formats.inherit(recorded, {"decimal": "."}) == {"encoding": "cp1252", "decimal": ".", "missing": ["-"]}
    assert formats.for_request(recorded, {"encoding": "utf-8"}).inherited is False
    assert formats.for_request({"decimal_commas": True}, {}).commas and formats.for_request(None, {}) == TableFormat(
        prefix="--"
    )


@pytest.fixture(scope="module", params=[False, True], ids=["cells decide", "options"])
def model(request, tmp_path_factory):
    """An untrained artifact of a table with decimal commas; the second knows the options of its training data."""
    folder = tmp_path_factory.mktemp("houses")
    options = {"encoding": "cp1252", "decimal": ",", "thousands": ".", "missing": ["k. A."]} if request.param else {}
    table = houses().replace({"k. A.": "" if not options else "k. A."})
    table = table if options else table.assign(Preis=table["Preis"].str.replace(".", ""))
    name = write(folder / "a.csv", table, options.get("encoding", "utf-8"))
    prepared = zoo.datasets.load(name, columns={"value": "Preis"}, **options).prepare("mlp", hidden_units=(4,))
    keras.utils.set_random_seed(1)
    network, interface = prepared.build(), prepared.interface
    (folder / "saved").mkdir()
    # Without the verification, which takes longer than all tests of this file.
    artifact._write(folder / "saved", network, interface, live.golden(network, interface), {}, {})
    return zoo.load(folder / "saved"), options


def answers(found) -> list[float]:
    return [float(row["Preis"]) for row in found]


def test_a_model_reads_other_files_as_its_own(model, tmp_path, capsys):
    loaded, options = model
    row = {"Ort": "Köln", "Fläche": 100.5, "Baujahr": 1300.0}
    wanted = answers(loaded.predict([row]))
    comma = {**row, "Fläche": "100,5", "Baujahr": "1300"}
    assert answers(loaded.predict([comma])) == answers(loaded.predict(pd.DataFrame([comma]))) == wanted
    assert answers(loaded.predict([{**comma, "Baujahr": "1.300"}], thousands=".")) == wanted
    assert answers(loaded.predict([{**row, "Fläche": "100.5"}], decimal=".")) == wanted
    write(tmp_path / "a.csv", pd.DataFrame([{**comma, "Baujahr": "1.300"}]), "cp1252")
    assert answers(loaded.predict(str(tmp_path / "a.csv"), encoding="cp1252", thousands=".")) == wanted
    write(tmp_path / "b.csv", pd.DataFrame([row]), sep=",")
    assert answers(loaded.predict(str(tmp_path / "b.csv"), encoding="utf-8", decimal=".")) == wanted
    command = ["predict", str(loaded.path), str(tmp_path / "a.csv"), "--encoding", "cp1252", "--thousands", "."]
    assert cli.main([*command, "--json"]) == 0 and '"Preis"' in capsys.readouterr().out
    if options:
        assert answers(loaded.predict(str(tmp_path / "a.csv"))) == wanted
        assert answers(loaded.predict([{**comma, "Baujahr": "1.300"}])) == wanted
        missing = answers(loaded.predict([{**row, "Baujahr": None}]))
        assert answers(loaded.predict([{**comma, "Baujahr": "k. A."}])) == missing != wanted
        assert "b.csv is UTF-8, not cp1252, the encoding of the training data. Pass --encoding utf-8" in message(
            loaded.predict, str(tmp_path / "b.csv")
        )
    else:
        said = (
            "the model was trained on decimal commas, so the points of Baujahr seem to separate thousands. Pass --thous"
        )
        assert said in message(loaded.predict, [{**row, "Baujahr": "1.300"}])
        assert "Fläche has decimal commas, such as 100,5" in message(
            loaded.predict, str(tmp_path / "a.csv"), encoding="cp1252"
        )
        assert "byte 0xe4, is not UTF-8. Pass --encoding cp1252" in message(loaded.predict, str(tmp_path / "a.csv"))
        assert "Pass --missing" in message(loaded.predict, [{**row, "Baujahr": "k. A."}])
    assert "takes no encodin. Did you mean 'encoding'?" in message(loaded.predict, [row], encodin="cp1252")
    assert "reads no CSV file, so it takes no decimal" in message(
        *(loaded.predict, [np.zeros(9, np.float32)], "predict"), decimal=","
    )


def test_a_run_evaluates_other_files_with_its_own_options(tmp_path):
    options = {"encoding": "cp1252", "decimal": ",", "thousands": ".", "missing": ["k. A."]}
    name = write(tmp_path / "a.csv", houses(), "cp1252")
    data = {"columns": {"value": "Preis"}, **options}
    untrained(tmp_path / "run", name, "mlp", data=data, hidden_units=(4,))
    other, english = houses(seed=1), houses(seed=1)
    for column in ("Fläche", "Preis"):
        english[column] = english[column].str.replace(".", "").str.replace(",", ".")
    one = zoo.evaluate(tmp_path / "run", write(tmp_path / "b.csv", other, "cp1252"))
    two = zoo.evaluate(
        *(tmp_path / "run", write(tmp_path / "c.csv", english, sep=",")), encoding="utf-8", decimal=".", missing="k. A."
    )
    assert one["rmse"] == two["rmse"] and one["num_examples"] == ROWS
    assert zoo.evaluate(tmp_path / "run", other)["rmse"] == one["rmse"]


def test_line_separators_in_json_strings_are_no_line_breaks():
    text = '{"text": "next\u2028line"}\r\n{"text": "next\u0085line"}\n\n{"text": "z"}\n'
    found = json_rows.parse(Path("a.jsonl"), text)
    assert found["text"].tolist() == ["next\u2028line", "next\u0085line", "z"]
