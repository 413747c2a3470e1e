"""What a data set and a run show of themselves in a terminal and in a notebook."""

from __future__ import annotations

import base64
import re
import types

import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo import run_display
from zoo.datasets.sources.embedded import EMBEDDED


@pytest.mark.parametrize("name", sorted(EMBEDDED))
def test_a_data_set_is_shown_in_few_lines(name):
    data = zoo.datasets.load(name)
    lines = [line for line in repr(data).splitlines() if not line.startswith("  ")]
    columns = len(repr(data).splitlines()) - len(lines)
    assert columns == min(len(data.about.get("table_columns", ())), 40)
    assert 2 <= len(lines) <= 5 and lines[0].startswith(f"{name} (")
    shown = data._repr_html_()
    assert shown.count("<table>") == shown.count("</table>") >= 2
    assert f"<td style='text-align:left'>{data.splits['train'].num_examples:,}</td>" in shown


def test_examples_are_pictures_curves_and_escaped_texts():
    images = zoo.datasets.load("digits")
    (first, *_) = re.findall(r"data:image/png;base64,([^']+)'", images._repr_html_())
    np.testing.assert_array_equal(tf.io.decode_png(base64.b64decode(first)), next(iter(images.train))["image"])
    assert "<polyline points=" in zoo.datasets.load("seasons")._repr_html_()
    texts = [f"<script>{i}</script> &" for i in range(40)]
    shown = zoo.datasets.load((texts, ["<b>", "c"] * 20))._repr_html_()
    assert "<script>" not in shown and "&lt;script&gt;" in shown and "&lt;b&gt;" in shown
    assert "<td style='text-align:left'>&lt;b&gt;</td><td style='text-align:left'>16</td>" in shown, (
        "counts of the class"
    )


def test_prepared_data_shows_the_inputs_of_its_model():
    prepared = zoo.datasets.load("digits").prepare("mlp", input_shape=(8, 8, 1))
    assert repr(prepared).endswith("Prepared for mlp by image: image (8, 8, 1)")
    assert "input of mlp" in prepared._repr_html_()


def test_a_run_shows_figures_plots_and_files(tmp_path):
    plot = tmp_path / "history.png"
    plot.write_bytes(tf.io.encode_png(np.zeros((2, 2, 1), np.uint8)).numpy())
    figure = {"metric": "accuracy", "value": 0.9, "baseline": "always 1", "baseline_value": 0.25}
    result = types.SimpleNamespace(
        run_directory=tmp_path,
        history=[{}] * 3,
        report={"headline": [figure]},
        saved_model=tmp_path / "saved_model" / "1",
        verification=types.SimpleNamespace(passed=True),
        plots={"history": plot},
    )
    assert run_display.as_text(result).splitlines() == [
        f"Run in {tmp_path}, 3 epochs",
        "accuracy: 0.9000 (baseline 0.2500 always 1)",
        f"SavedModel: {tmp_path}/saved_model/1, verified",
    ]
    shown = run_display.as_html(result)
    assert "0.2500 always 1" in shown and "data:image/png;base64," in shown and "(verified)" in shown
