"""A task that the package does not define follows the contract: it has two outputs, and two targets of different shape.

A model, a task, a preprocessor and a report, registered in this file, go from raw images to a verified SavedModel.
"""

from __future__ import annotations

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo import registry, tasks
from zoo.datasets.data import Data
from zoo.datasets.preprocessing import base
from zoo.datasets.sources.in_memory import features_of, split_of
from zoo.evaluation import Figure, ReportKind, register_report, reports
from zoo.evaluation.prediction import predict_split
from zoo.export.verification import Verification
from zoo.metrics import AbsoluteError, SquaredError
from zoo.tasks import Measure, Objective, Request, Served, Shown, Signature, Task, Term, shared
from zoo.tasks import registry as task_registry

SIZE, SHAPES = 12, ("bar", "square")


def build_localizer_model(num_classes: int, units: int = 24):
    """Predicts the class of an image and the position of its object."""
    inputs = keras.Input((SIZE, SIZE), name="pixels")
    x = keras.layers.Flatten()(inputs)
    x = keras.layers.Dense(units, activation="relu", name="features")(x)
    label = keras.layers.Dense(num_classes, activation="softmax", name="probabilities")(x)
    return keras.Model(inputs, [label, keras.layers.Dense(4, name="corners")(x)], name="localizer")


@dataclasses.dataclass(frozen=True)
class PixelPreprocessor:
    """Scales grey levels to the range 0 to 1."""

    kind = "test_pixels"
    padding = 0
    size: int

    @classmethod
    def for_model(cls, data, needs, arguments):
        return cls(SIZE), {}

    @property
    def input_shapes(self):
        return {"pixels": (self.size, self.size)}

    @property
    def requests(self):
        shape = (self.size, self.size)
        return {"levels": Request("levels", "number", "int32", shape, "grey levels, 0 to 255")}

    limits = ("Images have one size.",)

    def _pixels(self, levels):
        return {"pixels": tf.cast(levels, tf.float32) / 255.0}

    def encode(self, examples):
        box = tf.cast(examples["box"], tf.float32) / self.size
        return self._pixels(examples["image"]), {"label": examples["label"], "box": box}, {"box": examples["sure"]}

    def trim(self, inputs, targets, weights):
        return inputs, targets, weights

    def serve(self, requests):
        return self._pixels(requests["levels"]), {}

    def to_requests(self, examples):
        return {"levels": np.stack([example["image"] for example in examples]).astype(np.int32)}

    def for_export(self, directory):
        return self, []

    def config(self):
        return {"size": self.size}


def _answer(served: Served):
    number = tf.argmax(served.outputs["probabilities"], axis=-1)
    return {"class_name": served.label(number), "box": served.outputs["corners"] * float(SIZE)}


TASK = Task(
    name="localization",
    targets=("label", "box"),
    preprocessor="test_pixels",
    objective=Objective(
        loss=(
            Term("label", ("probabilities",), shared.cross_entropy),
            Term("box", ("corners",), lambda output, smoothing: SquaredError(reduction=None), weight=5.0),
        ),
        metrics=(
            Measure("label", ("probabilities",), shared.accuracy),
            Measure("box", ("corners",), lambda: [AbsoluteError(name="box_error")]),
        ),
        classes="label",
    ),
    prediction=lambda outputs: {"probabilities": outputs["probabilities"], "box": outputs["corners"]},
    report="localization",
    signatures={
        "serving_default": Signature(
            ("levels",),
            _answer,
            {"class_name": "the most probable label", "box": "top, left, bottom, right in pixels"},
            shown=Shown("values"),
        )
    },
)


def _compute(model, data, split, batch_size):
    targets, predictions, weights = predict_split(model, data, split, batch_size)
    right = predictions["probabilities"].argmax(axis=-1) == targets["label"]
    error = np.abs(predictions["box"] - targets["box"]).mean(axis=-1)
    return {"accuracy": float(right.mean()), "box_error": float(np.average(error, weights=weights["box"]))}


REPORT = ReportKind(
    _compute,
    lambda report: f"accuracy {report['accuracy']:.2f}, boxes {report['box_error']:.3f} off",
    lambda report: [Figure("accuracy", report["accuracy"]), Figure("box error", report["box_error"])],
)


@pytest.fixture(scope="module", autouse=True)
def registered():
    """Registers the parts for this file only: other files of the same process test the built-in parts."""
    known = registry.MODELS, task_registry.TASKS, base.PREPROCESSORS, reports.REPORTS
    before = [set(names.names()) for names in known]  # `names` scans the package first
    register = zoo.register_model(tasks=("localization",), reference="none", features_layer="features")
    register(build_localizer_model)
    zoo.datasets.register_preprocessor(PixelPreprocessor)
    zoo.register_task(TASK)
    register_report("localization", REPORT)
    yield
    for names, old in zip(known, before, strict=True):
        for name in set(names.names()) - old:
            del names.entries[name]


def drawn(count: int, seed: int):
    """Draws bars and squares at random places in noise; a third of the boxes is unknown."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 60, (count, SIZE, SIZE)).astype(np.uint8)
    labels, boxes = rng.integers(0, 2, count), np.zeros((count, 4), np.int64)
    for image, label, box in zip(images, labels, boxes, strict=True):
        height, width = (2, 6) if label == 0 else (4, 4)
        top, left = rng.integers(0, SIZE - height), rng.integers(0, SIZE - width)
        image[top : top + height, left : left + width] = 220
        box[:] = top, left, top + height, left + width
    sure = (np.arange(count) % 3 > 0).astype(np.float32)
    return split_of({"image": images, "label": labels, "box": boxes, "sure": sure})


@pytest.fixture(scope="module")
def data():
    splits = {"train": drawn(600, 0), "validation": drawn(100, 1), "test": drawn(100, 2)}
    return Data(
        name="drawn",
        arguments={},
        tasks=("localization",),
        splits=splits,
        features=features_of(splits["train"]),
        class_names=SHAPES,
        licence="none",
        source="this test",
    )


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    directory = tmp_path_factory.mktemp("run")
    prepared = data.prepare("localizer")
    model = prepared.build(seed=0)
    config = zoo.TrainConfig(epochs=20, batch_size=32, learning_rate=0.005, keep_best=1)
    result = zoo.train(model, prepared, config, run_directory=directory / "run", verbose=0)
    report = zoo.evaluate(result.model, prepared, directory=directory / "run")
    return (
        prepared,
        result,
        report,
        zoo.export.save(result.model, directory / "saved", interface=prepared.interface, report=report),
    )


def test_both_outputs_are_trained_and_evaluated(run):
    _, result, report, _ = run
    last = result.history[-1]
    assert {"loss", "probabilities_loss", "corners_loss", "accuracy", "box_error", "val_box_error"} <= set(last)
    mean = last["probabilities_loss"] + 5.0 * last["corners_loss"]
    assert last["loss"] == pytest.approx(mean, rel=1e-5)
    assert report["accuracy"] > 0.8 and report["box_error"] < 0.12
    assert report["headline"][1]["metric"] == "box error" and zoo.evaluation.summarize(report).startswith("accuracy")


def test_targets_can_have_different_shapes(run, tmp_path):
    prepared = run[0]
    inputs, targets, weights = next(iter(prepared.batches("train", 5)))
    assert {name: part.shape.as_list() for name, part in targets.items()} == {"label": [5], "box": [5, 4]}
    assert list(inputs) == ["pixels"] and weights["box"].shape == (5,) and "label" not in weights
    examples = prepared.interface.examples
    assert examples.targets["label"].shape == (64,) and examples.targets["box"].shape == (64, 4)
    prepared.interface.save(tmp_path)
    again = type(prepared.interface).load(tmp_path)
    np.testing.assert_array_equal(again.examples.targets["box"], examples.targets["box"])
    assert prepared.target_counts("train").sum() == 600


def test_the_savedmodel_is_verified_and_returns_both_outputs(run):
    *_, path = run
    verdict = Verification.read(path)
    assert verdict.passed, verdict.table()
    names = {check.name for check in verdict.checks}
    assert {"serving_default box, batch 64", "predict corners, batch 64", "serving_default, accuracy"} <= names
    facts = json.loads((path / "assets.extra" / "zoo.json").read_text())
    asked = facts["signatures"]["serving_default"]["inputs"]["levels"]
    assert (asked["kind"], asked["description"]) == ("number", "grey levels, 0 to 255")
    loaded = zoo.export.load(path)
    image = next(iter(drawn(1, 9).dataset().as_numpy_iterator()))
    answer = loaded({"levels": image["image"][np.newaxis].astype(np.int32)})
    assert answer["class_name"][0].decode() in SHAPES and answer["box"].shape == (1, 4)
    card = (path / "README.md").read_text()
    assert "top, left, bottom, right in pixels" in card and "grey levels, 0 to 255" in card


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_weights(data, tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 0:
                raise KeyboardInterrupt

    prepared, config = data.prepare("localizer"), zoo.TrainConfig(epochs=2, batch_size=32, accumulation_steps=2)
    whole = prepared.build(seed=0)
    zoo.train(whole, prepared, config, verbose=0)
    with pytest.raises(KeyboardInterrupt):
        zoo.train(
            prepared.build(seed=0), prepared, config, run_directory=tmp_path / "run", verbose=0, callbacks=[Stop()]
        )
    again = prepared.build(seed=0)
    zoo.train(again, prepared, config, run_directory=tmp_path / "run", verbose=0)
    for one, two in zip(whole.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_class_weights_affect_only_the_class_loss(data):
    prepared = data.prepare("localizer")
    config = zoo.TrainConfig(epochs=1, batch_size=32, class_weights={"bar": 0.0, "square": 0.0}, optimizer="sgd")
    model = prepared.build(seed=0)
    before = {layer: [w.copy() for w in model.get_layer(layer).get_weights()] for layer in ("probabilities", "corners")}
    zoo.train(model, prepared, config, verbose=0)
    for one, two in zip(before["probabilities"], model.get_layer("probabilities").get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    assert any(
        (one != two).any() for one, two in zip(before["corners"], model.get_layer("corners").get_weights(), strict=True)
    )


def test_augmentation_of_images_with_boxes_is_rejected(data):
    config = zoo.TrainConfig(epochs=1, augmentation=["flip"])
    prepared = data.prepare("localizer")
    with pytest.raises(zoo.UsageError, match="augmentation is for images, floating-point"):
        zoo.train(prepared.build(), prepared, config, verbose=0)


def test_a_model_with_a_missing_output_is_rejected(run):
    _, result, *_ = run
    lone = keras.Model(result.model.inputs, result.model.outputs[0])
    with pytest.raises(zoo.UsageError, match=r"ends with a layer named 'probabilities'; expected 'corners'"):
        tasks.get_task("localization").objective.check_outputs(lone)
    third = keras.Model(result.model.inputs, [*result.model.outputs, result.model.get_layer("features").output])
    with pytest.raises(
        zoo.UsageError, match=r"of which this task uses \['corners', 'probabilities'\]. Build it without"
    ):
        tasks.get_task("localization").objective.check_outputs(third)


def test_data_for_several_tasks_require_a_task_argument(data):
    twice = dataclasses.replace(data, tasks=("localization", "image_classification"))
    assert twice.prepare("localizer").task.name == "localization", "the model decides"
    with pytest.raises(zoo.UsageError, match=r"serves localization and image_classification. Choose one: pass task="):
        _ = twice.task
    assert twice.for_task("localization").task == "localization"
    with pytest.raises(zoo.UsageError, match=r"does not serve the task 'localisation'. Did you mean 'localization'"):
        twice.for_task("localisation")


def test_duplicate_and_invalid_registrations_are_rejected():
    task = tasks.get_task("localization")
    assert zoo.register_task(task) is task, "the same module again is a reload"
    with pytest.raises(
        ValueError, match=r"Task 'tagging' is registered twice: by zoo.tasks.tagging and by .*test_contract"
    ):
        zoo.register_task(dataclasses.replace(task, name="tagging"))
    with pytest.raises(ValueError, match=r"expected one named serving_default. Add it"):
        zoo.register_task(dataclasses.replace(task, name="other", signatures={}))
    with pytest.raises(ValueError, match=r"Unknown kind of request 'txt'. Did you mean 'text'"):
        Request("x", "txt", "string", (), "")
