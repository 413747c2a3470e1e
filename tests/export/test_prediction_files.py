"""Predictions from folders and tables of texts, and categories that a model does not know."""

from __future__ import annotations

import unicodedata

import pandas as pd
import pytest
import tensorflow as tf

from zoo.errors import UsageError
from zoo.export.prediction_files import columns_of, items_of_path
from zoo.export.prediction_items import Input, items_of, rejected_row
from zoo.export.unknown_values import unknown_values, vocabularies_of

TEXT = {"text": Input("text", tf.TensorSpec([None], tf.string))}
IMAGE = {"image_bytes": Input("file", tf.TensorSpec([None], tf.string))}
DATA = {"name": "csv:Mails.csv", "columns": {"text": "Nachricht", "label": "Kategorie"}}
TRAINED_ON = {"text": "Nachricht"}


def test_the_column_of_the_training_is_found():
    assert columns_of(DATA, {}, TEXT) == TRAINED_ON
    assert columns_of({"columns": {"image": unicodedata.normalize("NFD", "Übersicht")}}, {}, IMAGE) == {
        "image_bytes": "Übersicht"
    }
    assert columns_of({"columns": {"text": ["a"]}}, {}, TEXT) == columns_of(None, {}, TEXT) == {}


def test_rows_of_a_table_of_texts_are_items(tmp_path):
    file = tmp_path / "neu.csv"
    file.write_text("Datum;Nachricht\n01.02.2024;Grüß Gott\n02.02.2024;Danke\n", encoding="utf-8")
    items, unused = items_of_path(str(file), TEXT, TRAINED_ON)
    assert items == [(f"{file} row 1", "Grüß Gott"), (f"{file} row 2", "Danke")] and unused == ["Datum"]
    with pytest.raises(
        UsageError, match=r"neu.csv has no column 'Text', which the model was trained on; its columns are D"
    ):
        items_of_path(str(file), TEXT, {"text": "Text"})
    with pytest.raises(
        UsageError, match=r"neu.csv has no column 'text', as the input .*\. Rename a column, or pass the t"
    ):
        items_of_path(str(file), TEXT, {})
    with pytest.raises(UsageError, match=r"Cannot read .*neue.csv: .*Did you mean 'neu.csv'"):
        items_of_path(str(tmp_path / "neue.csv"), TEXT, TRAINED_ON)
    assert (
        items_of_path("look at neue.csv", TEXT, TRAINED_ON) is None and items_of_path("Danke", TEXT, TRAINED_ON) is None
    )


def test_files_of_a_folder_are_items(tmp_path):
    for name, content in {"b/2.txt": "zwei\r\n", "a.TXT": "eins", ".c.txt": "hidden", "d.png": ""}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content.encode())
    items, _ = items_of_path(str(tmp_path), TEXT, {})
    assert items == [(str(tmp_path / "a.TXT"), "eins"), (str(tmp_path / "b/2.txt"), "zwei\n")]
    assert items_of_path(str(tmp_path), IMAGE, {})[0] == [(str(tmp_path / "d.png"),) * 2]
    with pytest.raises(UsageError, match=r"is a folder without .png, .jpg, .*files. Pass files, or another folder"):
        items_of_path(str(tmp_path / "b"), IMAGE, {})


def test_paths_of_a_table_start_at_its_folder(tmp_path):
    (tmp_path / "photos.csv").write_text("photo,size\nx/1.png,3\n", encoding="utf-8")
    items, _ = items_of_path(str(tmp_path / "photos.csv"), IMAGE, {"image_bytes": "photo"})
    assert items == [(f"{tmp_path / 'photos.csv'} row 1", str(tmp_path / "x/1.png"))]


def test_frames_give_the_column_of_the_training():
    frame = pd.DataFrame({"Datum": ["1.2.2024", "2.2.2024"], "Nachricht": ["Hallo", "Danke"]})
    assert items_of(frame, TEXT, "serving_default", TRAINED_ON) == (["Hallo", "Danke"], ["Datum"])
    with pytest.raises(
        UsageError, match=r"columns Datum, Text, not 'Nachricht', on which the model was trained\. Rename"
    ):
        items_of(frame.set_axis(["Datum", "Text"], axis=1), TEXT, "serving_default", TRAINED_ON)
    frame.loc[1, "Nachricht"] = None
    with pytest.raises(UsageError, match=r"Row 2 has no Nachricht\. Leave such rows out"):
        items_of(frame, TEXT, "serving_default", TRAINED_ON)


def test_unknown_categories_are_named_with_their_counts():
    groups = [
        {"kind": "number"},
        {"names": ["Stadt", "Art"], "inputs": ["Stadt", "Art"], "vocabularies": [["Köln"], ["a"]]},
    ]
    known = vocabularies_of({"preprocessor": {"groups": groups}})
    rows = [{"Stadt": stadt.encode(), "Art": b"a"} for stadt in ("Köln ", "Ulm", "Ulm", "", "Rom")]
    assert unknown_values(rows, known) == (
        "The model does not know Stadt 'Ulm' (2 rows), 'Rom' (1 row), and treats them as no information."
    )
    assert unknown_values(rows[:1], known) == unknown_values(rows, {}) == ""
    many = [{"Stadt": str(number).encode()} for number in range(9)]
    assert "and 4 other values" in unknown_values(many, known)
    assert vocabularies_of({}) == vocabularies_of({"preprocessor": {"groups": [{"vocabularies": 3}]}}) == {}


def test_rejected_rows_name_column_and_value():
    entries = {"column_1": {"columns": {"column": "日期"}}}
    error = ValueError("row 0: column_1 is no date of the data's form. Send 31.01.2024 13:00 or an empty text.")
    assert str(rejected_row(3, {"column_1": "gestern ö".encode()}, entries, error)) == (
        "Cannot predict for row 3: 日期 is 'gestern ö', which is no date of the data's form. Send 31.01.2024 13:00 or an "
        "empty text."
    )
