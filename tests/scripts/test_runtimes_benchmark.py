"""`zoo benchmark runtimes`: verdicts of other runtimes, written and printed."""

from __future__ import annotations

import pytest

import zoo
from zoo.export.runtimes import comparison
from zoo.scripts import cli
from zoo.scripts.benchmarks import runtimes


def row_of(family, data, runtime, verdict="agrees", difference="1.0e-07"):
    values = (family, data, runtime, "predict", verdict, difference, "1.2", "batches of 64 and 3")
    return dict(zip(runtimes.COLUMNS, values, strict=True))


def test_rows_replace_those_of_the_same_family_and_data(tmp_path):
    file = tmp_path / "runtimes.csv"
    runtimes.write([row_of("wide_deep", "pastimes", "openvino"), row_of("wide_deep", "pastimes", "litert")], file)
    runtimes.write([row_of("mlp", "digits", "openvino")], file)
    runtimes.write([row_of("wide_deep", "pastimes", "openvino", "cannot be converted", "")], file)
    assert runtimes.table(runtimes.read(file)).splitlines() == [
        "| family | data | signature | OpenVINO |",
        "|---|---|---|---|",
        "| `mlp` | digits | `predict` | agrees (1.0e-07) |",
        "| `wide_deep` | pastimes | `predict` | cannot be converted |",
    ]
    with pytest.raises(zoo.UsageError, match=r"none.csv does not exist. Call the benchmark with --output"):
        runtimes.read(tmp_path / "none.csv")


def test_unknown_families_are_rejected(capsys):
    assert cli.main(["benchmark", "runtimes", "--families", "mpl"]) == 2
    assert "--families has 'mpl'. Did you mean 'mlp'" in capsys.readouterr().err


@pytest.mark.slow
def test_every_installed_runtime_gets_a_verdict(tmp_path, capsys):
    file = tmp_path / "runtimes.csv"
    assert cli.main(["benchmark", "runtimes", "--data", "iris", "--families", "mlp", "--output", str(file)]) == 0
    installed = {name for name in ("openvino", "onnxruntime", "litert") if not comparison.missing(name)}
    found = {row["runtime"]: row for row in runtimes.read(file)}
    assert {*found} == installed
    for row in found.values():
        assert row["verdict"] == "agrees" and float(row["difference"]) < 1e-5 and row["version"]
    assert "| `mlp` | iris | `predict` | agrees (" in capsys.readouterr().out
