"""Several labels at once, from images to a verified SavedModel: thresholds, outputs, other data, new runs."""

from __future__ import annotations

import json
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from source_examples import rows
from zoo import copies, pipeline, scores
from zoo.errors import UsageError
from zoo.evaluation.prediction import predict_split
from zoo.finished_runs import load_model
from zoo.scripts import cli
from zoo.training.run_directory import decided

SMALL = {"filters": (3, 4), "dense_units": 8}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    config = zoo.TrainConfig(epochs=2, batch_size=1439, learning_rate=0.02)
    directory = tmp_path_factory.mktemp("labels") / "run"
    return zoo.run("cnn", "digit_shapes", config=config, model_arguments=SMALL, run_directory=directory, verbose=0)


@pytest.fixture(scope="module")
def served(run):
    return tf.saved_model.load(str(run.saved_model))


def test_the_thresholds_are_those_of_the_validation_split(run):
    targets, predictions, _ = predict_split(run.model, run.prepared, "validation", 64)
    expected = scores.best_thresholds(targets["labels"], predictions["probabilities"])
    assert copies.decided(run.model) == {"thresholds": expected}
    assert [row["threshold"] for row in run.report["per_label"]] == pytest.approx(expected)
    assert run.report["thresholds_from"] == "chosen for the best F1 on the validation split"
    loaded = load_model(run.run_directory / "model.keras")
    assert copies.decided(loaded) == {"thresholds": expected}, "the run keeps them with its model"
    assert json.loads((run.saved_model / "assets.extra" / "zoo.json").read_text())["decided"] == {
        "thresholds": expected
    }


@pytest.mark.parametrize(("content", "message"), [("{", "cannot be loaded: "), ("[0.5]", "is damaged: its content is")])
def test_a_damaged_record_of_thresholds_is_an_error(content, message, tmp_path):
    file = tmp_path / "model.keras"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("zoo_decided.json", content)
    with pytest.raises(UsageError, match=message):
        decided(file)


def test_the_served_labels_are_those_that_reach_their_threshold(run, served):
    images = run.prepared.interface.sample.requests["image_bytes"][:50].tolist()
    answer = served.signatures["serving_default"](image_bytes=tf.constant(images))
    probabilities = answer["probabilities"].numpy()
    levels = np.float32(copies.decided(run.model)["thresholds"])
    names = np.array(["even", "loop", "straight stroke"])
    expected = [names[row >= levels].tolist() for row in probabilities]
    found = [[name.decode() for name in row if name] for row in answer["labels"].numpy()]
    assert found == expected
    assert answer["labels"].shape[1] == max(1, *map(len, expected))
    single = served.signatures["serving_default"](image_bytes=tf.constant(images[:1]))
    assert single["labels"].shape[1] == max(1, len(expected[0]))


def test_the_report_and_the_artifact_have_the_same_score(run):
    (line,) = [check for check in run.verification.checks if check.name == "micro_f1 on raw test examples"]
    shown = f"{run.report['micro_f1']:.4g}"
    assert line.detail == f"179 examples: artifact {shown}, trained model {shown}, report {shown}"


def test_every_label_occurs_in_the_golden_examples(run):
    targets = run.prepared.interface.examples.targets["labels"]
    assert targets.shape == (64, 3) and targets.sum(axis=0).min() >= 3


@pytest.mark.slow  # `load_model` reads the same thresholds above
def test_an_exported_run_keeps_its_thresholds(run, tmp_path, served):
    path = pipeline.export_run(run.run_directory, tmp_path / "again")
    again = tf.saved_model.load(str(path)).signatures["serving_default"]
    images = tf.constant(run.prepared.interface.examples.requests["image_bytes"][:9].tolist())
    for name, expected in served.signatures["serving_default"](image_bytes=images).items():
        np.testing.assert_array_equal(again(image_bytes=images)[name], expected)


def test_predict_prints_labels_with_their_probabilities(run, served, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tf.saved_model, "load", {str(run.saved_model): served}.__getitem__)  # loads it once for all
    card = (run.saved_model / "README.md").read_text()
    assert (
        "| even | 91 | " in card
        and "reaches the label's threshold (chosen for the best F1 on the validation split)." in card
    )
    image = tmp_path / "digit.png"
    image.write_bytes(run.prepared.interface.examples.requests["image_bytes"][0])
    assert cli.main(["predict", str(run.run_directory), str(image), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert cli.main(["predict", str(run.run_directory), str(image)]) == 0
    line = capsys.readouterr().out.strip().removeprefix(f"{image}: ")
    probabilities = dict(zip(["even", "loop", "straight stroke"], answer["probabilities"], strict=True))
    names = sorted(filter(None, answer["labels"]), key=lambda name: -probabilities[name])
    best = max(probabilities, key=probabilities.get)
    expected = ", ".join(f"{name} {probabilities[name]:.4f}" for name in names)
    assert line == (expected or f"no label; most probable: {best} {probabilities[best]:.4f}")


def test_other_data_may_have_the_labels_in_another_order(run):
    examples = rows(run.prepared.data, "test")
    images, flags = (np.stack([e[key] for e in examples]) for key in ("image", "labels"))
    names = ["straight stroke", "even"]
    kept = flags[:, 1] == 0
    other = zoo.evaluate(
        run,
        zoo.datasets.from_arrays(
            images[kept], flags[kept][:, [2, 0]], class_names=names, test=(images, flags[:, [2, 0]])
        ),
    )
    same = zoo.evaluate(run, (images, flags), task="image_multilabel")
    assert same["micro_f1"] == pytest.approx(run.report["micro_f1"])
    for k in (0, 2):
        assert other["per_label"][k]["f1"] == pytest.approx(run.report["per_label"][k]["f1"])
    assert other["per_label"][1]["support"] == 0, "a label that the other data does not have"


@pytest.mark.parametrize(
    ("options", "arguments", "message"),
    [
        (
            {"class_weights": "balanced"},
            {},
            "class_weights is 'balanced', but this data has several labels at once. Leave",
        ),
        (
            {"augmentation": ["mixup"]},
            {},
            "takes one class number for each image.*the targets are float32 .None, 3.. Leave 'mixup' out",
        ),
        (
            {},
            {"classifier_activation": "linear"},
            "classifier_activation='linear' contradicts .* needs 'sigmoid'. Leave",
        ),
    ],
)
def test_options_for_one_class_per_example_are_rejected(options, arguments, message, tmp_path):
    config = zoo.TrainConfig(epochs=1, batch_size=1439, **options)
    with pytest.raises(UsageError, match=message):
        zoo.run(
            "cnn",
            "digit_shapes",
            config=config,
            model_arguments={**SMALL, **arguments},
            run_directory=tmp_path / "r",
            verbose=0,
        )


def test_a_sigmoid_is_rejected_for_one_class_per_example():
    with pytest.raises(UsageError, match=r"classifier_activation is 'sigmoid', for several labels.*Leave it out"):
        zoo.datasets.load("digits").prepare("cnn", classifier_activation="sigmoid")


def test_thresholds_of_earlier_weights_are_dropped(tmp_path):
    x = keras.Input((3,))
    model = keras.Model(x, keras.layers.Dense(2, activation="sigmoid")(x))
    model.compile(loss="binary_crossentropy")
    copies.record_decided(model, {"thresholds": [0.1, 0.9]})
    whole = np.eye(3, dtype=np.float32)
    trained = zoo.train(model, (whole, whole[:, :2]), {"epochs": 1}, verbose=0)
    assert copies.decided(trained.model) == copies.decided(model) == {}
