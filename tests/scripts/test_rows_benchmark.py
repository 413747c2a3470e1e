"""`zoo benchmark rows`: signatures with different outputs are not measured. Timings are not tested."""

from __future__ import annotations

import csv
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo.scripts import cli
from zoo.scripts.benchmarks import rows


@pytest.mark.slow
def test_rows_are_measured(tmp_path):
    """Runs in a separate process, because it sets the number of TensorFlow's threads."""
    file = tmp_path / "figures.csv"
    words = ["benchmark", "rows", "--families", "mlp", "wide_deep", "--data", "pastimes", "--batch_sizes", "1", "200"]
    words += ["--seconds", "0.01", "--output", str(file)]
    source = "import sys; from zoo.scripts import cli; sys.exit(cli.main(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-P", "-c", source, *words], capture_output=True, text=True, check=True)
    assert (
        "| family | data | batch | an input per column | tf.Example | model inputs | Keras FeatureSpace" in done.stdout
    )
    assert re.search(r"^\| `mlp` \| pastimes \| 200 \| [\d,]+( \| [\d,]+ \(x[\d.]+\)){3} \|", done.stdout, re.MULTILINE)
    figures = list(csv.DictReader(file.open()))
    assert [(row["family"], row["batch"], row["contender"]) for row in figures] == [
        (family, batch, name)
        for family, names in (("mlp", rows.CONTENDERS), ("wide_deep", ("columns", "examples", "predict")))
        for batch in ("1", "200")
        for name in names
    ]
    for row in figures:
        seconds = float(row["milliseconds"]) / 1000
        assert float(row["rows_per_second"]) == pytest.approx(int(row["batch"]) / seconds, rel=1e-2)


def test_signatures_with_different_outputs_are_not_measured():
    x = np.linspace(0, 1, rows._ROWS, dtype=np.float32)
    found = {
        "columns": rows.Contender(lambda given: {"chance": given["x"], "name": tf.constant(["a"])}, {"x": x}),
        "examples": rows.Contender(lambda given: {"chance": given["x"] + 1e-6}, {"x": x}),
    }
    rows.check_alike(found)
    found["predict"] = rows.Contender(lambda given: {"chance": given["x"] + 1e-3}, {"x": x})
    with pytest.raises(zoo.UsageError, match=r"signature for model inputs differs by 0.001 in chance"):
        rows.check_alike(found)
    found["predict"] = rows.Contender(lambda given: {"other": given["x"]}, {"x": x})
    with pytest.raises(zoo.UsageError, match="model inputs has no output of chance, name"):
        rows.check_alike(found)


def test_calls_alternate_over_all_rows_and_are_compared_with_the_first():
    asked = {"columns": [], "predict": []}

    def call(name):
        def answer(given):
            asked[name].append(float(given["x"][0]))
            return {"x": given["x"]}

        return answer

    x = np.arange(rows._ROWS, dtype=np.float32)
    found = rows.measure({name: rows.Contender(call(name), {"x": x}) for name in asked}, 128, 0.0)
    assert [row.contender for row in found] == ["columns", "predict"] and found[0].ratio == 1.0
    assert asked["columns"] == asked["predict"] and {*asked["columns"]} == {0.0, 128.0, 256.0, 384.0}
    assert [len(row.seconds) for row in found] == [5, 5]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--families", "cnn"], "--families has 'cnn'. "),
        (["--batch_sizes", "0"], "--batch_sizes has 0; expected 1 to 512. Try --batch_sizes 1 256."),
    ],
)
def test_invalid_options_are_rejected(words, message, capsys):
    assert cli.main(["benchmark", "rows", *words]) == 2
    assert message in capsys.readouterr().err
