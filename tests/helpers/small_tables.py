"""Tables of scikit-learn as raw data, prepared for models of plain numbers."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import tensorflow as tf
from sklearn import datasets

from zoo import tasks
from zoo.datasets.data import Data
from zoo.datasets.prepared import Prepared
from zoo.datasets.preprocessing.targets import Targets
from zoo.datasets.raw import Feature, Split


@dataclasses.dataclass(frozen=True)
class NumbersPreprocessor:
    """Columns of numbers to one input, standardised; missing numbers become the mean."""

    kind = "numbers of a test"
    padding = 0.0
    columns: tuple[str, ...]
    center: tuple[float, ...]
    spread: tuple[float, ...]
    targets: Targets

    @property
    def input_shapes(self):
        return {"numbers": (len(self.columns),)}

    def encode(self, examples):
        numbers = tf.stack([tf.cast(examples[name], tf.float32) for name in self.columns], axis=-1)
        numbers = (numbers - self.center) / self.spread
        numbers = tf.where(tf.math.is_finite(numbers), numbers, 0.0)
        return {"numbers": numbers}, self.targets.encode(examples), {}

    def trim(self, inputs, targets, weights):
        return inputs, targets, weights

    def config(self):
        return dataclasses.asdict(self)


def table_data(columns, kinds, target, *, class_names=(), value_names=(), task="tests", share=0.7):
    """Returns rows as raw data: the first ones are the training split, the others the test split."""
    key = "label" if class_names else "value"
    columns = {name: np.asarray(column) for name, column in columns.items()}
    columns |= {key: np.asarray(target, np.int64) if class_names else np.asarray(target, np.float32)}
    rows = int(share * len(columns[key]))

    def split(part):
        some = {name: column[part] for name, column in columns.items()}
        return Split(lambda: tf.data.Dataset.from_tensor_slices(some), len(some[key]))

    features = {n: Feature(c.shape[1:], "string" if c.dtype == object else str(c.dtype)) for n, c in columns.items()}
    return Data(
        name="table",
        arguments={},
        tasks=(task,),
        splits={"train": split(slice(None, rows)), "test": split(slice(rows, None))},
        features=features,
        class_names=tuple(class_names),
        licence="",
        source="",
        about={"table": dict(kinds), **({"value_names": list(value_names)} if value_names else {})},
    )


def numbers_of(load, seed=0):
    """Returns columns, kinds and target of a table of scikit-learn, shuffled, with a few missing numbers."""
    x, y = load(return_X_y=True)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(x))
    x, y = x[order].astype(np.float32), y[order]
    x[rng.random(x.shape) < 0.02] = np.nan
    names = [f"column {j}" for j in range(x.shape[1])]
    return dict(zip(names, x.T, strict=True)), dict.fromkeys(names, "number"), y


def cancer(**options):
    """Returns the 569 tumours of scikit-learn as a table with two classes."""
    return table_data(*numbers_of(datasets.load_breast_cancer), class_names=("malignant", "benign"), **options)


def diabetes(**options):
    """Returns the 442 patients of scikit-learn as a table with one value, the progression of a disease."""
    columns, kinds, target = numbers_of(datasets.load_diabetes)
    return table_data(columns, kinds, target[:, np.newaxis], value_names=("progression",), **options)


def prepared_numbers(data, task):
    """Prepares a table of numbers for a task with the report `classification` or `values`."""
    data = dataclasses.replace(data, tasks=(task.name,))
    columns = tuple(data.about["table"])
    train = next(iter(data.train.batch(10_000)))
    table = np.stack([train[name].numpy() for name in columns], axis=1)
    table[~np.isfinite(table)] = np.nan
    center, spread = np.nanmean(table, axis=0).tolist(), (np.nanstd(table, axis=0) + 1e-6).tolist()
    preprocessor = NumbersPreprocessor(columns, tuple(center), tuple(spread), Targets.fit(data))
    return Prepared(data=data, model="mlp", task=task, preprocessor=preprocessor, requested={}, arguments={})


def linear_model(prepared, seed=0):
    """Returns a linear model of the table's numbers, not trained."""
    keras.utils.set_random_seed(seed)
    numbers = keras.Input(prepared.preprocessor.input_shapes["numbers"], name="numbers")
    if prepared.class_names:
        layer = keras.layers.Dense(len(prepared.class_names), activation="softmax", name="probabilities")
    else:
        layer = keras.layers.Dense(len(prepared.preprocessor.targets.mean), name="values")
    return keras.Model(numbers, layer(numbers))


def table_task(name, report, monkeypatch):
    """Registers a task on tables for one test, and returns it."""
    from zoo.tasks.registry import TASKS
    from zoo.tasks.shared import predicted_values, value_objective

    classes = tasks.get_task("image_classification")
    change = {"name": name, "report": report}
    if report == "values":
        change |= {"targets": ("value",), "objective": value_objective("value"), "prediction": predicted_values}
    task = dataclasses.replace(classes, **change)
    TASKS.names()
    entry = dataclasses.replace(TASKS.entries["image_classification"], value=task)
    monkeypatch.setitem(TASKS.entries, name, entry)
    return task
