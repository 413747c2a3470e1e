"""What results of training, evaluation and verification show of themselves in a terminal and in a notebook."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zoo
from zoo import display
from zoo.cross_validation import CrossValidation
from zoo.export.verdict import Check, Verification

NAMES = np.array(["<script>alert(1)</script>", "b & c"])


@pytest.fixture(scope="module")
def trained():
    """A data set whose class names are HTML, prepared, and the result of a short training."""
    images = np.random.default_rng(0).integers(0, 256, (60, 4, 4, 1)).astype(np.uint8)
    data = zoo.datasets.from_arrays(images, NAMES[np.arange(60) % 2])
    prepared = data.prepare("mlp", hidden_units=(4,))
    with zoo.strategy("one_device").scope():
        model = prepared.build(seed=0)
    return prepared, zoo.train(model, prepared, zoo.TrainConfig(epochs=2, batch_size=16), verbose=0)


def pictures(shown):
    return [
        Image.open(io.BytesIO(base64.b64decode(png))) for png in re.findall(r"data:image/png;base64,([^']+)'", shown)
    ]


def is_safe(shown):
    return "<script" not in shown and len(shown) < 300_000 and shown.count("<div") == shown.count("</div>")


def test_a_training_shows_its_last_epochs_and_curves(trained):
    _, result = trained
    first, second = repr(result).splitlines()
    assert first == "mlp after 2 epochs" and second.startswith(f"loss: {result.history[-1]['loss']:.4f}, accuracy: ")
    resumed = dataclasses.replace(result, resumed_at=(1, 3), run_directory=Path("runs/<b>"))
    assert repr(resumed).splitlines()[::2] == [
        "mlp after 2 epochs, resumed after 1 epochs and 3 steps",
        "Run in runs/<b>",
    ]
    assert "Run in runs/&lt;b&gt;" in resumed._repr_html_()
    shown = result._repr_html_()
    assert f"<td style='text-align:left'>{result.history[0]['val_loss']:.4f}</td>" in shown
    (curves,) = pictures(shown)
    assert curves.width > 2 * curves.height and is_safe(shown)


def test_a_report_is_a_dict_that_shows_metrics_and_plots(trained):
    prepared, result = trained
    report = zoo.evaluate(result.model, prepared, baselines="none")
    assert json.loads(json.dumps(report)) == report and dict(report) == report
    ends = {name: display.interval_text(report["intervals"][name]) for name in ("accuracy", "positive_f1", "roc_auc")}
    assert repr(report).splitlines() == [
        "Report on the test split of arrays, 6 examples",
        f"accuracy: {report['accuracy']:.4f} {ends['accuracy']} (baseline 0.5000 the most frequent class)",
        f"F1 of b & c: {report['per_class'][1]['f1']:.4f} {ends['positive_f1']} "
        f"(baseline {report['headline'][1]['baseline_value']:.4f} the most frequent class)",
        f"ROC AUC: {report['roc_auc']:.4f} {ends['roc_auc']} (baseline 0.5000 the most frequent class)",
    ]
    shown = report._repr_html_()
    assert is_safe(shown) and "F1 of b &amp; c" in shown and len(pictures(shown)) == 3
    without_plots = {**report, "confusion_matrix": "damaged", "reliability": None, "threshold_curves": None}
    shown = type(report)(without_plots)._repr_html_()
    assert is_safe(shown) and "measured on        6 examples" not in shown and not pictures(shown)


def test_data_with_html_in_class_names_is_shown_escaped(trained):
    prepared, _ = trained
    shown = prepared._repr_html_()
    assert is_safe(shown) and "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
    assert len(repr(prepared).splitlines()) <= 5


def test_data_without_a_training_split_is_shown(trained):
    data = trained[0].data
    shown = dataclasses.replace(data, splits={"test": data.splits["test"]})._repr_html_()
    assert is_safe(shown) and len(pictures(shown)) == 6 and "<td style='text-align:left'>60" not in shown


def test_folds_and_seeds_are_a_table():
    runs = {
        "fold-0": {"accuracy": 0.5, "accuracy, most <b>": 0.25},
        "fold-1": {"accuracy": 1.0, "accuracy, most <b>": 0.25},
    }
    result = CrossValidation(Path("runs/folds"), runs, passed=False)
    assert repr(result).splitlines() == [
        "2 folds in runs/folds, NOT ALL VERIFIED, mean and standard deviation",
        "accuracy: 0.7500 +- 0.2500 (baseline 0.2500 +- 0.0000 most <b>)",
    ]
    shown = result._repr_html_()
    for cells in (["standard deviation", "fold 0", "fold 1"], ["accuracy", "0.7500", "0.2500", "0.5000", "1.0000"]):
        assert re.search("".join(rf"<t[hd] style='text-align:left'>{cell}</t[hd]>" for cell in cells), shown)
    assert "<b>" not in shown.replace("<b>2 folds", "") and repr(CrossValidation(Path("a"), {}, passed=True))
    result = CrossValidation(Path("runs/seeds"), {"seed-7": runs["fold-0"], "seed-3": runs["fold-1"]}, True, (7, 3))
    assert repr(result).startswith("2 seeds in runs/seeds, mean and") and "seed 7" in result._repr_html_()
    assert result.table().splitlines()[0] == "2 seeds, mean and standard deviation"


def test_a_verdict_shows_all_checks_and_in_a_terminal_the_failed_ones():
    checks = (Check("weights", True), Check("ops", False, detail="<script>"), Check("openvino", None, detail="missing"))
    verdict = Verification(Path("exports/a/1"), checks, {"tensorflow": "2.21.0"})
    assert repr(verdict).splitlines() == [
        "exports/a/1: NOT VERIFIED (tensorflow 2.21.0)",
        "3 checks, failed:",
        "FAILED ops  <script>",
    ]
    shown = verdict._repr_html_()
    assert is_safe(shown) and shown.count("<tr>") == 4 and "&lt;script&gt;" in shown
    assert repr(Verification(Path("a"), checks[:1], {})).splitlines()[1] == "1 check"


def test_large_pictures_become_small():
    noise = np.random.default_rng(0).integers(0, 256, (900, 600, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    shown = display.picture(file.getvalue(), 64)
    assert len(shown) < 20_000 and pictures(shown)[0].size == (85, 128) and "width='43'" in shown
    images = zoo.datasets.load((noise.reshape(20, 180, 150, 3), np.arange(20) % 2))
    shown = images._repr_html_()
    assert is_safe(shown) and len(pictures(shown)) == 6
    part = io.BytesIO()
    Image.fromarray(noise[:290, :400]).save(part, "PNG")
    plots = display.plots([file.getvalue(), part.getvalue(), part.getvalue()])
    assert len(pictures(plots)) == 1 and len(plots) < 300_000
    assert list(display.drawn(lambda file: 1 / 0)) == []


def test_curves_have_gaps_and_few_points():
    shown = display.curve(np.array([[0.0, np.nan, 2.0, 1.0]]))
    assert "points='0.0,58.0 146.7,2.0 220.0,30.0'" in shown
    assert "points=''" in display.curve(np.full((1, 3), np.nan))
    long = display.curve(np.random.default_rng(0).normal(size=(20, 100_000)))
    assert len(long) < 40_000 and long.count("<polyline") == 8
