"""Models of tables compared with NumPy and PyTorch: numbers, categories, crosses, and attention over columns."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import zoo
from numpy_layers import dense, f64, norm, numpy_attention, softmax
from zoo import tasks
from zoo.export.verification import Verification
from zoo.layers.feature_tokens import FeatureBlock
from zoo.layers.tabular import CategoryCrosses, CategoryEmbedding, NumberEmbedding

EDGES = ((0.0, 1.0, 3.0), (), (-1.0, 0.0, 0.5, 2.0))
SIZES = (4, 1, 5)  # the second column has no known category
NUMBERS = np.float32([[0.5, 7.0, -3.0], [2.0, -1.0, 0.25], [9.0, 0.0, 1.0], [-1.0, 2.5, 2.0]])
CATEGORIES = np.int32([[3, 0, 4], [0, 0, 1], [1, 0, 0], [2, 0, 3]])
ROW = {"numbers": NUMBERS, "categories": CATEGORIES}


def wild(made):
    """Returns a model or layer with large random weights."""
    for i, weight in enumerate(made.weights):
        weight.assign(np.random.default_rng(i).normal(size=weight.shape) * 0.5)
    return made


def binned(numbers: np.ndarray) -> np.ndarray:
    """Returns (batch, numbers, 3), the part of each bin that lies below the number."""
    found = np.zeros((*numbers.shape, 3))
    for row, column in np.ndindex(numbers.shape):
        number, edges = float(numbers[row, column]), EDGES[column]
        if not edges:
            found[row, column, 0] = number
        for i in range(len(edges) - 1):
            found[row, column, i] = np.clip((number - edges[i]) / (edges[i + 1] - edges[i]), 0, 1)
    return found


def looked_up(table: np.ndarray, categories: np.ndarray, sizes) -> np.ndarray:
    """Returns the vectors of categories, (batch, columns, dim); zeros for unknown ones."""
    found = np.zeros((*categories.shape, table.shape[-1]))
    starts = np.cumsum([0, *(size - 1 for size in sizes)])
    for row, column in np.ndindex(categories.shape):
        if categories[row, column]:
            found[row, column] = table[starts[column] + categories[row, column] - 1]
    return found


@pytest.mark.parametrize("use_bias", [True, False])
def test_vectors_of_numbers_equal_numpy(use_bias):
    layer = NumberEmbedding(5, EDGES, activation="relu", use_bias=use_bias)
    layer.build((None, 3))
    kernel, *bias = f64(wild(layer))
    expected = np.einsum("bnk,nkd->bnd", binned(NUMBERS), kernel) + sum(bias)
    np.testing.assert_allclose(layer(NUMBERS), np.maximum(expected, 0), atol=1e-5)


def test_vectors_of_waves_equal_numpy():
    layer = NumberEmbedding(5, frequencies=2)
    layer.build((None, 3))
    waves, kernel, bias = f64(wild(layer))
    angles = 2 * np.pi * NUMBERS[..., None].astype(np.float64) * waves
    parts = np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)
    np.testing.assert_allclose(layer(NUMBERS), np.einsum("bnk,nkd->bnd", parts, kernel) + bias, atol=1e-5)


@pytest.mark.parametrize("use_bias", [True, False])
def test_vectors_of_categories_equal_numpy(use_bias):
    layer = CategoryEmbedding(SIZES, 2, use_bias=use_bias)
    layer.build((None, 3))
    table, *bias = f64(wild(layer))
    np.testing.assert_allclose(layer(CATEGORIES), looked_up(table, CATEGORIES, SIZES) + sum(bias), atol=1e-6)


def test_each_combination_of_known_categories_has_its_own_number():
    sizes, pairs = (3, 4, 5), [(0, 1), (2, 1)]
    rows = np.stack(np.meshgrid(*map(range, sizes), indexing="ij"), axis=-1).reshape(-1, 3).astype(np.int32)
    layer = CategoryCrosses(sizes, pairs)
    found = layer(rows).numpy()
    np.testing.assert_array_equal(found[:, :3], rows)
    assert layer.all_sizes == [3, 4, 5, 2 * 3 + 1, 4 * 3 + 1]
    for place, (a, b) in enumerate(pairs, start=3):
        known = (rows[:, a] > 0) & (rows[:, b] > 0)
        assert not found[~known, place].any()
        numbers = {tuple(row[[a, b]]): number for row, number in zip(rows[known], found[known, place], strict=True)}
        assert sorted(numbers.values()) == list(range(1, layer.all_sizes[place]))


@pytest.mark.parametrize("classifier_activation", ["softmax", "sigmoid", "linear"])
def test_wide_deep_equals_numpy(classifier_activation):
    arguments = {"category_sizes": SIZES, "bin_edges": EDGES, "crosses": [[0, 2]], "hidden_units": (6,)}
    model = wild(zoo.build_wide_deep_model((3,), 2, classifier_activation=classifier_activation, **arguments))
    layer = model.get_layer
    numbers, number_bias = f64(layer("number_vectors"))
    vectors = np.maximum(np.einsum("bnk,nkd->bnd", binned(NUMBERS), numbers) + number_bias, 0)
    categories = looked_up(*f64(layer("category_vectors")), CATEGORIES, SIZES)
    x = np.concatenate([NUMBERS, vectors.reshape(4, -1), categories.reshape(4, -1)], axis=1)
    expected = dense(np.maximum(dense(x, layer("hidden_1")), 0), layer("deep"))
    expected += np.einsum("bnk,nkd->bd", binned(NUMBERS), *f64(layer("wide_number_weights")))
    (table,) = f64(layer("wide_category_weights"))
    expected += looked_up(table[:7], CATEGORIES, SIZES).sum(axis=1)
    for row, (a, _, b) in enumerate(CATEGORIES):  # 4 known categories in the last column
        expected[row] += table[7 + (a - 1) * 4 + b - 1] if a and b else 0
    assert len(table) == 7 + 3 * 4
    activate = {"softmax": softmax, "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "linear": lambda x: x}
    np.testing.assert_allclose(model(ROW), activate[classifier_activation](expected), atol=1e-4)


@pytest.mark.parametrize(
    ("crosses", "message"),
    [
        (
            [[0, 3]],
            r"crosses is \[\[0, 3\]\]; expected pairs of different category columns, .* from 0 to 2\. Pass crosses=",
        ),
        ([[1, 1]], r"crosses is \[\[1, 1\]\]; expected pairs"),
        ([0, 1], r"crosses is \[0, 1\]; expected pairs"),
        ("all", r"crosses is 'all'; expected pairs"),
        (
            [[0, 2]],
            r"The pair \[0, 2\] of crosses has 12 combinations, more than max_cross_size=11\. Leave the pair out",
        ),
    ],
)
def test_invalid_crosses_are_rejected(crosses, message):
    with pytest.raises(zoo.UsageError, match=message):
        zoo.build_wide_deep_model((3,), 2, SIZES, crosses=crosses, max_cross_size=11)


@pytest.mark.parametrize("name", ["mlp", "wide_deep", "ft_transformer"])
def test_invalid_columns_are_rejected(name):
    for change, message in (
        ({"input_shape": (0,)}, r"A row has no columns\. Pass input_shape="),
        ({"input_shape": (2, 3)}, r"input_shape is \(2, 3\); expected \(numbers,\) for a table\. Pass input_shape="),
        ({"bin_edges": ((1, 0), ())}, r"bin_edges is \(\(1, 0\), \(\)\); expected a list of ascending edges"),
        ({"number_embedding": "bin"}, r"number_embedding is 'bin'\. Pass '"),
    ):
        with pytest.raises(zoo.UsageError, match=message):
            zoo.build(name, **{"input_shape": (2,), "num_classes": 2, "category_sizes": (), **change})


# --- Attention over columns ------------------------------------------------------------------------------------------


def small_transformer(**arguments) -> keras.Model:
    sizes = {"embedding_dim": 8, "num_heads": 2, "num_layers": 2, "feed_forward_dim": 5}
    arguments = {"classifier_activation": None, "attention_dropout": 0.3, "dropout": 0.3, **sizes, **arguments}
    return wild(zoo.build_ft_transformer_model((3,), 2, SIZES, **arguments))


def numpy_block(block: FeatureBlock, x: np.ndarray) -> np.ndarray:
    read = norm(x, block.norms[1]) if block.attention_norm else x
    x = x + numpy_attention(block.attention, read, read, np.ones((len(x), x.shape[1], x.shape[1]), bool))
    values, gates = np.split(dense(norm(x, block.norms[0]), block.inner), 2, axis=-1)
    return x + dense(values * np.maximum(gates, 0), block.outer)


@pytest.mark.parametrize("number_embedding", ["linear", "bins"])
def test_ft_transformer_equals_numpy(number_embedding):
    model = small_transformer(number_embedding=number_embedding, bin_edges=EDGES)
    layer = model.get_layer
    kernel, bias = f64(layer("number_tokens"))
    parts = binned(NUMBERS) if number_embedding == "bins" else NUMBERS[..., None]
    table, category_bias = f64(layer("category_tokens"))
    (first,) = f64(layer("tokens"))
    columns = [np.einsum("bnk,nkd->bnd", parts, kernel) + bias, looked_up(table, CATEGORIES, SIZES) + category_bias]
    x = np.concatenate([np.tile(first, (4, 1, 1)), *columns], axis=1)
    for name in ("block_1", "block_2"):
        x = numpy_block(layer(name), x)
    expected = dense(np.maximum(norm(x[:, 0], layer("norm")), 0), layer("logits"))
    np.testing.assert_allclose(model(ROW), expected, atol=1e-4)


def torch_python():
    """Returns a Python that has torch. It runs as a process without TensorFlow."""
    return sys.executable if importlib.util.find_spec("torch") else os.environ.get("ZOO_TORCH_PYTHON")


@pytest.mark.slow
@pytest.mark.skipif(torch_python() is None, reason="torch is not installed here; type export ZOO_TORCH_PYTHON=PYTHON")
def test_ft_transformer_and_its_gradients_equal_pytorch(tmp_path):
    model, labels = small_transformer(attention_dropout=0.0, dropout=0.0, num_layers=3), np.int64([0, 1, 1, 0])
    with tf.GradientTape() as tape:
        logits = model(ROW, training=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    gradients = [tf.convert_to_tensor(g) for g in tape.gradient(loss, [v.value for v in model.trainable_variables])]
    weights = {variable.path: variable.numpy() for variable in model.trainable_variables}
    np.savez(tmp_path / "in.npz", **ROW, sizes=SIZES, heads=2, labels=labels, **weights)
    script = Path(__file__).parents[1] / "references" / "ft_transformer_reference.py"
    command = [torch_python(), str(script), str(tmp_path / "in.npz"), str(tmp_path / "out.npz")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(tmp_path / "out.npz") as expected:
        np.testing.assert_allclose(logits, expected["logits"], atol=1e-5)
        np.testing.assert_allclose(loss, expected["loss"], atol=1e-5)
        for path, gradient in zip(weights, gradients, strict=True):
            np.testing.assert_allclose(gradient, expected[path], atol=2e-5, err_msg=path)


# --- Members of one network ------------------------------------------------------------------------------------------

MEMBER_TASKS = {
    "softmax": (tasks.get_task("tabular_classification"), np.int64([0, 1, 2, 1])),
    "sigmoid": (tasks.get_task("tabular_multilabel"), np.float32([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]])),
    "linear": (tasks.get_task("tabular_regression"), NUMBERS / 3),
}


@pytest.mark.parametrize("classifier_activation", MEMBER_TASKS)
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_the_loss_of_an_ensemble_is_the_mean_of_its_members_losses(classifier_activation, label_smoothing):
    task, targets = MEMBER_TASKS[classifier_activation]
    smoothing = label_smoothing * (classifier_activation != "linear")
    options = {"hidden_units": (6,), "classifier_activation": classifier_activation, "category_sizes": SIZES}
    model = wild(zoo.build_mlp_model((3,), 3, members=4, **options))
    (term,) = task.objective.loss
    loss = term.loss(model.output_names[0], smoothing)
    found = np.mean(loss(targets, model(ROW, training=True))) + np.sum(model.losses)
    single, each, outputs = zoo.build_mlp_model((3,), 3, **options), [], []
    (kernel, bias), (factors,) = f64(model.get_layer("member_mean")), f64(model.get_layer("members"))
    row, rest = keras.Model(model.inputs, model.get_layer("row").output)(ROW), keras.Sequential(single.layers[-3:])
    for member in range(4):
        single.get_layer("hidden_1").set_weights(model.get_layer("hidden_1").get_weights())
        single.layers[-1].set_weights([kernel[member], bias[member]])
        outputs.append(np.asarray(rest(row * factors[member])))
        each.append(np.mean(loss(targets, outputs[-1])))
    assert np.ptp(each) > 0.05
    np.testing.assert_allclose(found, np.mean(each), rtol=1e-4)
    made = {"softmax": lambda p: softmax(np.log(p).mean(axis=0)), "linear": lambda p: p.mean(axis=0)}
    made["sigmoid"] = lambda p: 1 / (1 + np.exp(-np.log(p / (1 - p)).mean(axis=0)))
    np.testing.assert_allclose(model(ROW), made[classifier_activation](np.float64(outputs)), atol=1e-4)
    assert not model.losses, "the validation loss is that of the ensemble"


@pytest.mark.parametrize("activation", ["softmax", "linear"])
def test_the_training_loop_weighs_the_loss_of_every_member(activation):
    task, targets = MEMBER_TASKS[activation]
    rows = [np.tile(part, (3,) + (1,) * (part.ndim - 1)) for part in (*ROW.values(), targets)][:-1]
    rows, targets = dict(zip(ROW, rows, strict=True)), np.tile(targets, (3,) + (1,) * (targets.ndim - 1))
    shares = np.float32(np.random.default_rng(0).uniform(0.2, 3, len(targets)))
    options = {"hidden_units": (6,), "classifier_activation": activation, "category_sizes": SIZES}
    with zoo.strategy("one_device").scope():
        model = wild(zoo.build_mlp_model((3,), 3, members=4, **options))
    before, last = model.get_weights(), model.get_layer("member_mean")
    (term,) = task.objective.loss
    loss = term.loss(model.output_names[0], 0.0)
    inner = keras.Model(model.inputs, last.input)
    with tf.GradientTape() as tape:
        made = [inner(rows)[:, k] @ last.kernel[k] + last.bias[k] for k in range(4)]
        each = [loss(targets, keras.activations.get(activation)(part)) for part in made]
        total = tf.reduce_mean(shares * tf.reduce_mean(each, axis=0))
    gradients = tape.gradient(total, [variable.value for variable in model.trainable_variables])
    config = zoo.TrainConfig(epochs=1, batch_size=len(targets), optimizer="sgd", learning_rate=0.5)
    history = zoo.train(model, (rows, targets, shares), config, verbose=0).history
    assert history[0]["loss"] == pytest.approx(float(total), rel=1e-5)
    for old, new, gradient in zip(before, model.get_weights(), gradients, strict=True):
        np.testing.assert_allclose(new, old - 0.5 * tf.convert_to_tensor(gradient), atol=2e-5)
    assert not last.members_apart, "Keras's fit takes the mean of the members"


def test_members_need_an_activation():
    with pytest.raises(zoo.UsageError, match=r"classifier_activation is None, which leaves .* or members=1\."):
        zoo.build_mlp_model((4,), 2, members=2, classifier_activation=None)


# --- Exports ---------------------------------------------------------------------------------------------------------


def people() -> pd.DataFrame:
    """Returns a table with numbers, categories, an empty cell in each, and three kinds of targets."""
    rng = np.random.default_rng(0)
    age, city = rng.normal(40, 10, 60).round(1), rng.choice(["Oslo", "Rome", "Lima", ""], 60)
    age[3] = np.nan
    columns = {"age": age, "height": rng.normal(170, 9, 60).round(), "city": city, "size": rng.choice(["s", "l"], 60)}
    targets = {"tall": rng.choice(["no", "yes"], 60), "tags": rng.choice(["a|b", "b", "a", ""], 60)}
    return pd.DataFrame({**columns, **targets, "income": rng.normal(50, 5, 60)})


TARGETS = {"tabular_classification": "tall", "tabular_multilabel": "tags", "tabular_regression": "income"}
KEYS = {"tall": {"label": "tall"}, "tags": {"labels": "tags", "separator": "|"}, "income": {"value": "income"}}
TINY = {
    "mlp": {"members": 3},
    "ft_transformer": {"embedding_dim": 8, "num_heads": 2, "num_layers": 2},
    "wide_deep": {"crosses": [[0, 1]]},
}


@pytest.mark.parametrize(
    ("name", "task", "runtimes"),
    [
        ("ft_transformer", "tabular_multilabel", ()),
        *(
            pytest.param(name, task, ("openvino", "onnxruntime", "litert"), marks=pytest.mark.slow)
            for name in TINY
            for task in TARGETS
        ),
    ],
)
def test_exports_of_tables_are_verified(name, task, runtimes, tmp_path):
    target = TARGETS[task]
    frame = people().drop(columns=[other for other in KEYS if other != target])
    prepared = zoo.datasets.from_frame(frame, KEYS[target]).prepare(name, **TINY[name])
    assert prepared.task.name == task and set(prepared.preprocessor.input_shapes) == {"numbers", "categories"}
    model = prepared.build(seed=0)
    path = zoo.export.save(model, tmp_path / "people", interface=prepared.interface, runtimes=runtimes)
    verdict = Verification.read(path)
    assert verdict.passed, verdict.table()
    assert verdict.runtimes == dict.fromkeys(runtimes, "agrees")


def test_bins_are_computed_in_float32_whatever_the_precision():
    edges = [[1000.0 + i / 8 for i in range(9)]]
    numbers = np.float32([[1000.0], [1000.3], [1001.0], [1200.0]])
    exact = NumberEmbedding(4, edges=edges)
    expected = exact(numbers).numpy()
    for dtype in ("mixed_bfloat16", "mixed_float16"):
        layer = NumberEmbedding(4, edges=edges, dtype=dtype)
        layer.build((None, 1))
        layer.set_weights(exact.get_weights())
        made = layer(numbers)
        assert made.dtype == layer.compute_dtype
        np.testing.assert_allclose(np.asarray(made, np.float32), expected, atol=0.05)


def test_every_number_needs_a_list_of_edges():
    with pytest.raises(
        zoo.UsageError, match=r"bin_edges has 1 lists for 2 numbers. Pass one for each, \[\] for a number"
    ):
        zoo.build_mlp_model((2,), 3, category_sizes=(), bin_edges=[[0.0, 1.0, 2.0]])
