"""A plugin: says which class an image is of, and where its ink lies.

    zoo train --plugin ink_boxes.py --model ink_boxes --data ink:digits
    zoo train --plugin ink_boxes.py --model ink_boxes --data ink:FOLDER    # FOLDER/CLASS/*.png, dark paper

It adds a data source, a preprocessor, a model with a layer of its own, a task with two outputs and two targets, and a report.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from ink_layers import InkProfile

import zoo
from zoo.datasets import Data, Feature, Split
from zoo.evaluation import Figure, ReportKind
from zoo.evaluation.prediction import predict_split
from zoo.metrics import AbsoluteError, SquaredError
from zoo.tasks import Measure, Objective, Request, Served, Signature, Task, Term, shared

SIZE = 8


def ink_box(image: tf.Tensor, threshold: int) -> tf.Tensor:
    """Returns top, left, bottom and right of what is brighter than a threshold, int64 (4,), all 0 where nothing is."""
    places = tf.where(tf.reduce_max(image, axis=-1) > tf.cast(threshold, image.dtype))  # (pixels, 2)
    empty = tf.zeros([4], tf.int64)
    return tf.cond(
        tf.shape(places)[0] > 0,
        lambda: tf.concat([tf.reduce_min(places, axis=0), tf.reduce_max(places, axis=0) + 1], axis=0),
        lambda: empty,
    )


@zoo.datasets.register_source("ink")
def read_ink(name: str, path: Path, memory_limit: int, threshold: int = 64) -> Data:
    """Images with the box around their ink: `ink:digits`, or `ink:FOLDER` with FOLDER/CLASS/*.png.

    Args:
        name: what `load` got.
        path: a folder; one called digits stands for the embedded set.
        memory_limit: see `zoo.datasets.load`.
        threshold: Levels above it are ink, 0 to 255.
    """
    images = zoo.datasets.load("digits" if path.name == "digits" else f"images:{path}", memory_limit=memory_limit)

    def boxed(split: Split) -> Split:
        def box(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            return {**example, "box": ink_box(example["image"], threshold), "extent": tf.shape(example["image"])[:2]}

        return Split(lambda: split.dataset().map(box), split.num_examples, split.content)

    return dataclasses.replace(
        images,
        name=name,
        arguments={},
        tasks=("ink_boxes",),
        splits={role: boxed(split) for role, split in images.splits.items()},
        features={**images.features, "box": Feature((4,), "int64"), "extent": Feature((2,), "int32")},
    )


@zoo.datasets.register_preprocessor
@dataclasses.dataclass(frozen=True)
class InkPreprocessor:
    """Images of any size to two inputs: `pixels`, grey from 0 to 1, and `amount`, the mean of them; boxes from 0 to 1."""

    kind = "ink"
    padding = 0.0
    size: int

    @classmethod
    def for_model(cls, data, needs, arguments):
        return cls(needs["image_size"][0]), {}

    @property
    def input_shapes(self):
        return {"pixels": (self.size, self.size, 1), "amount": (1,)}

    @property
    def requests(self):
        return {"image": Request("image", "file", "string", (), "a whole PNG file")}

    limits = ("PNG files of any size, resized; colour becomes grey.",)

    def _inputs(self, images):
        grey = tf.reduce_mean(tf.cast(images, tf.float32), axis=-1, keepdims=True) / 255.0
        pixels = tf.ensure_shape(tf.image.resize(grey, [self.size, self.size]), [None, self.size, self.size, 1])
        return {"pixels": pixels, "amount": tf.reduce_mean(pixels, axis=[1, 2])}

    def encode(self, examples):
        extent = tf.cast(tf.tile(examples["extent"], [1, 2]), tf.float32)  # height, width, height, width
        box = tf.cast(examples["box"], tf.float32) / extent
        known = tf.cast(tf.reduce_any(examples["box"] > 0, axis=-1), tf.float32)  # an empty image has no box
        return self._inputs(examples["image"]), {"label": examples["label"], "box": box}, {"box": known}

    def trim(self, inputs, targets, weights):
        return inputs, targets, weights

    def serve(self, requests):
        def one(content):
            image = tf.io.decode_png(content, channels=1)
            return tf.image.resize(tf.cast(image, tf.float32), [self.size, self.size])

        form = tf.TensorSpec([self.size, self.size, 1], tf.float32)
        return self._inputs(tf.map_fn(one, requests["image"], fn_output_signature=form)), {}

    def to_requests(self, examples):
        files = np.empty(len(examples), object)
        files[:] = [tf.io.encode_png(example["image"]).numpy() for example in examples]
        return {"image": files}

    def for_export(self, directory):
        return self, []

    def config(self):
        return {"size": self.size}


@zoo.register_model(
    tasks=("ink_boxes",),
    reference="this file",
    features_layer="features",
    preprocessing={"image_size": (SIZE, SIZE)},
    tiny={"num_classes": 2, "units": 4},
)
def build_ink_boxes_model(num_classes: int, units: int = 48) -> keras.Model:
    """Ink along rows and columns, and one hidden layer: a softmax for the class, four numbers for the box.

    Args:
        num_classes: Number of classes.
        units: Width of the hidden layer.
    """
    pixels, amount = keras.Input((SIZE, SIZE, 1), name="pixels"), keras.Input((1,), name="amount")
    profile = InkProfile(sharpness=12.0, name="profile")(pixels)
    x = keras.layers.Concatenate()([keras.layers.Flatten()(pixels), profile, amount])
    x = keras.layers.Dense(units, activation="relu", name="features")(x)
    label = keras.layers.Dense(num_classes, activation="softmax", name="probabilities")(x)
    corners = keras.layers.Dense(4, name="corners")(keras.layers.Concatenate()([x, profile]))
    return keras.Model([pixels, amount], [label, corners], name="ink_boxes")


def answer(served: Served) -> dict[str, tf.Tensor]:
    number = tf.argmax(served.outputs["probabilities"], axis=-1)
    return {"class_name": served.label(number), "box": served.outputs["corners"]}


zoo.register_task(
    Task(
        name="ink_boxes",
        targets=("label", "box"),
        preprocessor="ink",
        objective=Objective(
            loss=(
                Term("label", ("probabilities",), shared.cross_entropy),
                Term("box", ("corners",), lambda output, smoothing: SquaredError(reduction=None), weight=5.0),
            ),
            metrics=(
                Measure("label", ("probabilities",), shared.accuracy),
                Measure("box", ("corners",), lambda: [AbsoluteError(name="box_error")]),
            ),
            monitor=("val_accuracy", "max"),
            classes="label",
        ),
        prediction=lambda outputs: {"probabilities": outputs["probabilities"], "box": outputs["corners"]},
        report="ink_boxes",
        signatures={
            "serving_default": Signature(
                ("image",),
                answer,
                {"class_name": "the most probable label", "box": "top, left, bottom, right as fractions of the image"},
            )
        },
    )
)


def compute(model, data, split, batch_size):
    targets, predictions, weights = predict_split(model, data, split, batch_size)
    right = predictions["probabilities"].argmax(axis=-1) == targets["label"]
    off = np.abs(predictions["box"] - targets["box"]).mean(axis=-1)
    return {"accuracy": float(right.mean()), "box_error": float(np.average(off, weights=weights["box"]))}


zoo.evaluation.register_report(
    "ink_boxes",
    ReportKind(
        compute,
        lambda report: f"accuracy {report['accuracy']:.4f}, boxes {report['box_error']:.4f} off",
        lambda report: [Figure("accuracy", report["accuracy"]), Figure("box error", report["box_error"])],
    ),
)
