"""SavedModels and runs in MLflow, with a store of files: the schema, the answers, and what a run logs."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import zoo
from served_models import write_artifact
from zoo.errors import UsageError
from zoo.export.standalone import arrays as array_files

mlflow = pytest.importorskip("mlflow", reason="needs the extra `mlflow`")
pd = pytest.importorskip("pandas")

NAMES = ("commands", "iris", "digits", "seasons", "tagged_commands")


@pytest.fixture(scope="module", autouse=True)
def store(tmp_path_factory):
    """MLflow writes to a folder of this test, which it allows on request: its database needs further packages."""
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    mlflow.set_tracking_uri(tmp_path_factory.mktemp("mlflow").as_uri())
    mlflow.set_experiment("zoo")


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    base = tmp_path_factory.mktemp("artifacts")
    for name in NAMES:
        write_artifact(base / name / "1", name)
    return base


def golden_of(folder, signature="serving_default"):
    file = array_files.load(folder / "1" / "assets.extra" / "golden.npz")
    facts = json.loads((folder / "1" / "assets.extra" / "zoo.json").read_text())["signatures"]
    return array_files.examples(file, facts, signature)


def loaded(folder, output, **options):
    from zoo.export.serving.mlflow import save_model

    save_model(folder, output, **options)
    return mlflow.pyfunc.load_model(str(output))


def test_the_signature_is_the_schema(artifacts):
    from zoo.export.serving.mlflow import model_signature

    schema = model_signature(artifacts / "commands")
    assert schema.inputs.to_dict() == [{"type": "string", "name": "text", "required": True}]
    outputs = {one["name"]: one["type"] for one in schema.outputs.to_dict()}
    assert outputs["class_name"] == "string" and outputs["probabilities"] == "array"
    digits = model_signature(artifacts / "digits")
    assert [one["type"] for one in digits.inputs.to_dict()] == ["binary"]
    iris = model_signature(artifacts / "iris")
    assert {one["type"] for one in iris.inputs.to_dict()} == {"double"} and len(iris.inputs.to_dict()) == 4
    (series,) = model_signature(artifacts / "seasons").inputs.to_dict()
    spec = series["tensor-spec"]
    assert series["type"] == "tensor" and spec["dtype"] == "float32" and list(spec["shape"]) == [-1, -1, 3]
    with pytest.raises(UsageError, match=r"no signature 'feature'\. Did you mean 'features'"):
        model_signature(artifacts / "commands", "feature")


@pytest.mark.parametrize("name", NAMES)
def test_golden_examples_have_the_answers_of_the_trained_model(artifacts, name, tmp_path):
    model = loaded(artifacts / name, tmp_path / name)
    inputs, answers = golden_of(artifacts / name)
    texts = {key for key, value in inputs.items() if value.dtype == object and name != "digits"}
    columns = {
        key: [part.decode() for part in value] if key in texts else list(value) if value.ndim == 1 else value
        for key, value in inputs.items()
    }
    if all(np.ndim(value) == 1 for value in columns.values()):
        columns = pd.DataFrame(columns).astype({key: "float64" for key in columns if name == "iris"})
    found = model.predict(columns)
    assert set(found.columns) == set(answers) and len(found) == len(next(iter(answers.values())))
    for key, want in answers.items():
        for got, expected in zip(found[key], want, strict=True):
            part = np.asarray(got, object if want.dtype == object else want.dtype)
            cut = np.asarray(expected, part.dtype)[tuple(slice(0, size) for size in part.shape) or ...]
            if part.dtype == object:
                assert part.ravel().tolist() == [text.decode() for text in cut.ravel()]
            else:
                np.testing.assert_allclose(part, cut, rtol=2e-5, atol=2e-6, equal_nan=True)


def test_the_model_needs_neither_keras_nor_this_package(artifacts, tmp_path):
    from zoo.export.serving.mlflow import save_model

    save_model(artifacts / "commands", tmp_path / "model", signature_name="features")
    source = """
import sys
sys.modules.update(keras=None, zoo=None)
import mlflow, pandas
found = mlflow.pyfunc.load_model(sys.argv[1]).predict(pandas.DataFrame({"text": ["turn the light on", None]}))
print(len(found), [len(row) for row in found["features"]])
"""
    words = [sys.executable, "-P", "-c", source, str(tmp_path / "model")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split()[0] == "2"
    with pytest.raises(UsageError, match=r"exists already\. Remove it"):
        save_model(artifacts / "commands", tmp_path / "model")


def test_missing_and_unknown_inputs_are_rejected(artifacts, tmp_path):
    model = loaded(artifacts / "iris", tmp_path / "iris")
    inputs, _ = golden_of(artifacts / "iris")
    frame = pd.DataFrame({key: value.astype(float) for key, value in inputs.items()})
    with pytest.raises(Exception, match="missing inputs"):
        model.predict(frame.drop(columns=next(iter(inputs))))
    assert model.predict(frame.assign(more=1.0)).equals(model.predict(frame))  # MLflow drops other columns


def test_a_run_logs_settings_epochs_report_and_model(tmp_path):
    result = zoo.run(
        "bag_of_ngrams",
        "commands",
        config={"epochs": 2, "closed_form": False},
        run_directory=tmp_path / "run",
        callbacks=[zoo.MlflowCallback(registered_model_name="commands")],
        baselines="none",
        verbose=0,
    )
    runs = mlflow.search_runs(experiment_names=["zoo"], output_format="list")
    (run,) = [run for run in runs if run.data.params.get("model.name") == "bag_of_ngrams"]
    assert run.info.status == "FINISHED"
    assert run.data.params["model.name"] == "bag_of_ngrams" and run.data.params["config.epochs"] == "2"
    client = mlflow.MlflowClient()
    losses = client.get_metric_history(run.info.run_id, "val_loss")
    assert [(one.step, one.value) for one in losses] == [
        (row + 1, pytest.approx(figures["val_loss"])) for row, figures in enumerate(result.history)
    ]
    assert run.data.metrics["test/accuracy"] == pytest.approx(result.report["accuracy"])
    assert run.data.tags["zoo.run_id"] == json.loads((tmp_path / "run" / "lineage.json").read_text())["run_id"]
    assert {"run/evaluation.json", "run/plots"} <= {file.path for file in client.list_artifacts(run.info.run_id, "run")}
    model = mlflow.pyfunc.load_model("models:/commands/1")
    found = model.predict(pd.DataFrame({"text": ["turn the light on"]}))
    assert found["class_name"].tolist() == [
        zoo.load(result.run_directory).predict(["turn the light on"])[0]["class_name"]
    ]


def test_a_resumed_run_continues_its_run_in_mlflow(tmp_path):
    import keras

    class Leave(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    settings = {"config": {"epochs": 3}, "run_directory": tmp_path / "run", "baselines": "none", "verbose": 0}
    before = len(mlflow.search_runs(experiment_names=["zoo"], output_format="list"))
    with pytest.raises(KeyboardInterrupt):
        zoo.run("mlp", "iris", callbacks=[zoo.MlflowCallback(None), Leave()], **settings)
    zoo.run("mlp", "iris", callbacks=[zoo.MlflowCallback(None), keras.callbacks.Callback()], **settings)
    zoo.run("mlp", "iris", callbacks=[zoo.MlflowCallback(None), keras.callbacks.Callback()], **settings)
    runs = mlflow.search_runs(experiment_names=["zoo"], output_format="list")
    assert len(runs) == before + 1
    history = mlflow.MlflowClient().get_metric_history(runs[0].info.run_id, "loss")
    assert [one.step for one in history] == [1, 2, 3] and runs[0].info.status == "FINISHED"


def test_an_active_run_is_used_and_left_open(tmp_path):
    with mlflow.start_run() as active:
        zoo.run(
            "mlp",
            "iris",
            config={"epochs": 1},
            run_directory=tmp_path / "run",
            callbacks=zoo.MlflowCallback(None),
            baselines="none",
            verbose=0,
        )
        assert mlflow.get_run(active.info.run_id).info.status == "RUNNING"
    assert "val_accuracy" in mlflow.get_run(active.info.run_id).data.metrics
