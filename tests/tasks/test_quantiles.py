"""Quantiles of values: loss, metrics, predictions and served outputs compared with NumPy and scikit-learn."""

from __future__ import annotations

import dataclasses
import json

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from sklearn.metrics import mean_absolute_error, mean_pinball_loss, mean_squared_error

import zoo
from source_examples import rows
from zoo import checkpoints, copies
from zoo.datasets.preprocessing.targets import Targets
from zoo.export import live, metadata
from zoo.metrics import QuantileLoss
from zoo.predictions import predict_split
from zoo.tasks.quantiles import decided_shifts, quantile_name, quantile_scores, split_columns
from zoo.training.objective import ModelObjective, members_apart
from zoo.training.run_checks import closed_form_of

LEVELS = (0.025, 0.5, 0.9)
NAMES = ["price (EUR)", "age"]
SUFFIXES = ("", "_q2_5", "_q50", "_q90")
TINY = {
    "mlp": {"hidden_units": (6,), "members": 3},
    "wide_deep": {"hidden_units": (6,)},
    "ft_transformer": {"embedding_dim": 8, "num_heads": 2, "num_layers": 1, "attention_dropout": 0.0, "dropout": 0.0},
}


def table(rows: int = 120) -> pd.DataFrame:
    """Returns a table with two values, whose noise depends on a column."""
    rng = np.random.default_rng(0)
    size, city = rng.uniform(0, 10, rows), rng.choice(["Oslo", "Rome"], rows)
    price = 20 + 3 * size + rng.gamma(2.0, 1 + size / 5)
    return pd.DataFrame({"size": size, "city": city, "price (EUR)": price, "age": rng.gamma(3.0, 1.0, rows)})


def prepared_table(model: str = "mlp", quantiles=LEVELS, log: bool = False):
    data = zoo.datasets.from_frame(table(), {"values": NAMES}, log_values=log)
    return data.prepare(model, quantiles=quantiles, **TINY[model])


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "log"])
def prepared(request):
    return prepared_table("wide_deep", log=request.param)


def reference_loss(true, output, weights=None) -> float:
    """The mean loss of one member by scikit-learn: squared error, plus the mean pinball loss of the levels."""
    count = true.shape[1]
    rest = output[:, count:].reshape(len(true), count, len(LEVELS))
    pinball = [
        mean_pinball_loss(true, rest[..., k], alpha=level, sample_weight=weights) for k, level in enumerate(LEVELS)
    ]
    return mean_squared_error(true, output[:, :count], sample_weight=weights) + np.mean(pinball)


@pytest.mark.parametrize("count", [1, 2])
def test_the_loss_equals_scikit_learn_and_numpy(count):
    rng = np.random.default_rng(count)
    true, output = rng.normal(size=(50, count)), rng.normal(size=(50, 4 * count))
    with_float64 = QuantileLoss(LEVELS, reduction=None, dtype="float64")
    found = with_float64(true, output).numpy()
    assert found.shape == (50,)
    expected = np.mean((output[:, :count] - true) ** 2, axis=1)
    for value in range(count):
        for k, level in enumerate(LEVELS):
            gap = true[:, value] - output[:, count + value * len(LEVELS) + k]
            expected += np.where(gap >= 0, level * gap, (level - 1) * gap) / (count * len(LEVELS))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found.mean() == pytest.approx(reference_loss(true, output), rel=1e-6)
    again = QuantileLoss.from_config(with_float64.get_config())
    np.testing.assert_allclose(again(true, output), found, rtol=1e-6)  # in float32


def test_weights_of_examples_count():
    task = zoo.tasks.get_task("tabular_regression")
    task = task.with_quantiles(task, LEVELS)
    rng = np.random.default_rng(0)
    true, output = np.float32(rng.normal(size=(40, 2))), np.float32(rng.normal(size=(40, 8)))
    weights = np.float32(rng.integers(0, 4, 40))
    numbers = keras.Input((3,))
    model = keras.Model(numbers, keras.layers.Dense(8, name="values")(numbers))
    objective = ModelObjective(task.objective, model)
    total, count = objective.terms[0].sum({"value": true}, {"values": tf.constant(output)}, {"value": weights})
    assert count == np.count_nonzero(weights)
    assert float(total) / weights.sum() == pytest.approx(reference_loss(true, output, weights), rel=1e-5)
    mae, rmse = objective.metrics[1:]
    for metric in (mae, rmse):
        metric.update_state(true, output, sample_weight=weights)
    assert (mae.name, rmse.name) == ("mae", "rmse")
    assert float(mae.result()) == pytest.approx(
        mean_absolute_error(true, output[:, :2], sample_weight=weights), rel=1e-5
    )
    squared = mean_squared_error(true, output[:, :2], sample_weight=weights)
    assert float(rmse.result()) == pytest.approx(squared**0.5, rel=1e-5)


@pytest.mark.parametrize("shape", [(4, 2), (4, 5), (4, 7)])
def test_outputs_of_another_size_are_rejected(shape):
    with pytest.raises(
        zoo.UsageError, match=r"expected \(batch, n\) and \(batch, 4 n\), for n values.*Build the model"
    ):
        QuantileLoss(LEVELS, reduction=None)(np.zeros((4, 2)), np.zeros(shape))
    with pytest.raises(
        zoo.UsageError, match=r"expected \(batch, values x 4\), a value and 3 quantiles.*Build the model"
    ):
        split_columns(tf.zeros((4, 5)), LEVELS)


@pytest.mark.parametrize("model", ["mlp", *(pytest.param(name, marks=pytest.mark.slow) for name in list(TINY)[1:])])
def test_training_reports_the_loss_and_the_errors_of_the_values(model):
    """At a learning rate of about 0 the figures of the epoch are those of the first weights."""
    data = prepared_table(model)
    network = data.build(seed=0)
    assert network.output_shape == (None, 8) and data.arguments["num_classes"] == 8
    config = zoo.TrainConfig(epochs=1, batch_size=50, optimizer="sgd", learning_rate=1e-30, replicas=None)
    (row,) = zoo.train(network, data, config, verbose=0).history
    inputs, targets, _ = next(iter(data.batches("train", 10_000)))
    with members_apart(network):
        trained = np.asarray(network(inputs, training=True)).reshape(len(targets["value"]), -1, 8)
    assert trained.shape[1] == TINY[model].get("members", 1), "each member is trained by its own loss"
    losses = [reference_loss(targets["value"].numpy(), trained[:, k]) for k in range(trained.shape[1])]
    assert row["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    inputs, targets, _ = next(iter(data.batches("validation", 10_000)))
    output, true = np.asarray(network(inputs)), targets["value"].numpy()
    assert row["val_loss"] == pytest.approx(reference_loss(true, output), rel=1e-5)
    assert row["val_mae"] == pytest.approx(mean_absolute_error(true, output[:, :2]), rel=1e-5)
    assert row["val_rmse"] == pytest.approx(mean_squared_error(true, output[:, :2]) ** 0.5, rel=1e-5)


@pytest.mark.slow
def test_quantiles_are_learned_from_the_data():
    """Without columns that say anything, the trained quantiles are those of the training split."""
    rng = np.random.default_rng(0)
    value = rng.gamma(2.0, 10.0, 2_000)
    frame = pd.DataFrame({"nothing": rng.normal(size=2_000), "value": value})
    data = zoo.datasets.from_frame(frame, {"value": "value"}).prepare(
        "mlp", quantiles=LEVELS, hidden_units=(), number_embedding=None
    )
    config = zoo.TrainConfig(epochs=30, learning_rate=0.02, schedule="linear")
    result = zoo.train(data.build(seed=0), data, config, verbose=0)
    train = np.array([example["value"][0] for example in rows(data.data, "train")])
    found = data.preprocessor.targets.unscale(predict_split(result.model, data, "train", 500)[1]["quantiles"])
    below = (train[:, np.newaxis] <= found[:, 0]).mean(axis=0)
    np.testing.assert_allclose(below, LEVELS, atol=0.02)


def test_the_served_outputs_are_sorted_quantiles_in_the_values_own_units(prepared, tmp_path):
    model = prepared.build(seed=0)
    for i, weight in enumerate(model.trainable_weights):
        weight.assign(np.random.default_rng(i).normal(size=weight.shape) * 0.3)
    interface = prepared.interface
    interface.save(tmp_path / "interface")  # what is read back knows the quantiles, too
    interface = type(interface).load(tmp_path / "interface")
    assert interface.definition.objective.quantiles == LEVELS
    signature = live.signatures(model, interface)["serving_default"]
    requests = {name: tf.constant(part.tolist()) for name, part in interface.examples.requests.items()}
    answer = signature({name: requests[name] for name in signature.takes})
    assert list(answer) == [name + suffix for name in NAMES for suffix in SUFFIXES]
    train = np.stack([example["value"] for example in rows(prepared.data, "train")]).astype(np.float64)
    log = prepared.preprocessor.targets.log
    train = np.log1p(train) if log else train
    output = np.float64(model(prepared.preprocessor.serve({n: requests[n] for n in signature.takes})[0]))
    crossed = 0
    for v, name in enumerate(NAMES):
        raw = output[:, 2 + 3 * v : 5 + 3 * v]
        crossed += np.sum(np.diff(raw, axis=1) < 0)
        parts = np.concatenate([output[:, v : v + 1], np.sort(raw, axis=1)], axis=1)
        expected = parts * train.std(axis=0)[v] + train.mean(axis=0)[v]
        expected = np.expm1(expected) if log else expected
        for suffix, column in zip(SUFFIXES, expected.T, strict=True):
            np.testing.assert_allclose(answer[name + suffix], column, rtol=1e-4, atol=1e-4)
    assert crossed, "the quantiles of the model cross, those of the signature do not"
    described = metadata._describe("serving_default", _traced(signature, requests), interface)
    assert described["shown"]["outputs"] == tuple(answer)
    assert described["outputs"]["age_q2_5"]["description"] == "the 2.5 % quantile of age, in its own unit"
    assert (
        "quantiles of each value for 0.025, 0.5, 0.9, in the same scale, neither calibrated nor sorted"
        in (prepared.preprocessor.targets.described_outputs["values"])
    )


def _traced(signature, requests):
    given = {name: requests[name] for name in signature.takes}
    specs = {name: tf.TensorSpec([None], part.dtype, name) for name, part in given.items()}
    return tf.function(lambda **values: signature(values), autograph=False).get_concrete_function(**specs)


def test_the_shifts_are_quantiles_of_the_gaps():
    rng = np.random.default_rng(0)
    true, quantiles = rng.normal(size=(99, 2)), rng.normal(size=(99, 2, 3))
    found = decided_shifts(true, quantiles, (0.1, 0.5, 0.9))
    for v in range(2):
        for k, place in enumerate((10, 50, 90)):  # of 99 gaps the p (99 + 1)-th
            assert found[v][k] == pytest.approx(np.sort(true[:, v] - quantiles[:, v, k])[place - 1])
    few = decided_shifts(true[:8], quantiles[:8], (0.1, 0.5, 0.9))
    assert [[shift == 0 for shift in of_value] for of_value in few] == [[True, False, True]] * 2


def test_report_and_served_outputs_are_calibrated_on_the_validation_split(prepared):
    model = prepared.build(seed=0)
    decided = prepared.decide(model)
    copies.record_decided(model, decided)
    report = zoo.evaluate(model, prepared, split="validation", baselines="none")
    count = report["num_examples"]
    assert report["quantiles_from"] == "calibrated on the validation split"
    examples = rows(prepared.data, "validation")
    signature = live.signatures(model, prepared.interface)["serving_default"]
    given = prepared.preprocessor.to_requests(examples)
    answer = signature({name: tf.constant(given[name].tolist()) for name in signature.takes})
    assert decided["quantile_shifts"][0][0] == 0, "so few examples do not determine the level 0.025"
    for v, target in enumerate(report["targets"]):
        true = np.array([example["value"][v] for example in examples])
        for k, row in list(enumerate(target["quantiles"]))[1:]:
            assert abs(row["below"] - LEVELS[k]) <= 1.01 / count
            served = answer[NAMES[v] + SUFFIXES[k + 1]].numpy()
            assert row["below"] == pytest.approx(np.mean(true <= served), abs=1.01 / count)  # float32 may tie
            assert row["pinball"] == pytest.approx(mean_pinball_loss(true, served, alpha=LEVELS[k]), rel=1e-4)


def test_the_report_has_the_quantiles_of_the_predictions(prepared):
    model = prepared.build(seed=0)
    report = zoo.evaluate(model, prepared, baselines="none")
    targets = prepared.preprocessor.targets
    true, predictions, _ = predict_split(model, prepared, "test", 7)
    assert predictions["quantiles"].shape == (len(true["value"]), 2, 3)
    assert (np.diff(predictions["quantiles"], axis=-1) >= 0).all()
    quantiles, values = targets.unscale(predictions["quantiles"]), targets.unscale(true["value"])
    for v, found in enumerate(report["targets"]):
        expected = [mean_pinball_loss(values[:, v], quantiles[:, v, k], alpha=p) for k, p in enumerate(LEVELS)]
        assert [row["pinball"] for row in found["quantiles"]] == pytest.approx(expected, rel=1e-5)
        assert "coverage" not in found, "0.025, 0.5 and 0.9 make no symmetric interval"
    json.dumps(report, allow_nan=False)


@pytest.mark.parametrize(
    ("data", "model", "arguments"),
    [
        ("digit_ink", "cnn", {"filters": (2,), "dense_units": None}),
        ("texts", "transformer", {"embedding_dim": 8, "num_heads": 2, "feed_forward_dim": 8, "num_layers": 1}),
    ],
)
def test_images_and_texts_have_quantiles(data, model, arguments):
    if data == "texts":
        texts = [f"{'very ' * (n % 7)}old number {n % 10}" for n in range(60)]
        loaded = zoo.datasets.from_arrays(texts, np.arange(60.0)[:, np.newaxis] % 7 + 0.5)
    else:
        loaded = zoo.datasets.load(data)
    made = loaded.prepare(model, quantiles=[0.9, 0.1], **arguments)
    assert made.objective.quantiles == (0.1, 0.9)
    report = zoo.evaluate(made.build(seed=0), made)
    metrics = [figure["metric"] for figure in report["headline"]]
    assert {"pinball loss", "coverage, expected 0.8", "interval width"} <= {*metrics} or len(report["targets"]) > 1


# --- What is rejected ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quantiles", "message"),
    [
        ([0.1, 1.0], r"quantiles has 1\.0; expected numbers above 0 and below 1\. Pass quantiles=\[0\.1, 0\.5, 0\.9\]"),
        ([10, 90], r"quantiles has 10; expected numbers above 0 and below 1"),
        ([0.0], r"quantiles has 0\.0; expected"),
        ([float("nan")], r"quantiles has nan; expected"),
        ([True], r"quantiles has True; expected"),
        (["0.1"], r"quantiles has '0\.1'; expected"),
        ([0.1, 0.5, 0.1], r"quantiles has 0\.1 twice; expected it once\. Remove one"),
        (0.5, r"quantiles is 0\.5; expected a list of numbers\. Pass quantiles=\[0\.1, 0\.5, 0\.9\], say"),
        ("0.5", r"quantiles is '0\.5'; expected a list"),
    ],
)
def test_invalid_levels_are_rejected(quantiles, message):
    with pytest.raises(zoo.UsageError, match=message):
        zoo.TrainConfig(quantiles=quantiles)
    with pytest.raises(zoo.UsageError, match=message):
        zoo.datasets.load("diabetes").prepare("mlp", quantiles=quantiles)


def test_levels_are_sorted():
    assert zoo.TrainConfig(quantiles=np.array([0.9, 0.1])).quantiles == [0.1, 0.9]
    assert [quantile_name("x", level) for level in (0.1, 0.29, 0.001, 0.995)] == ["x_q10", "x_q29", "x_q0_1", "x_q99_5"]


@pytest.mark.parametrize(
    ("data", "model"),
    [
        ("iris", "mlp"),
        ("digits", "mlp"),
        ("tastes", "matrix_factorization"),
        ("digit_shapes", "cnn"),
    ],
)
def test_data_without_values_is_rejected(data, model):
    with pytest.raises(
        zoo.UsageError,
        match=rf"quantiles=\[0\.5\] needs values to predict; data set '{data}' is for \w+\. Leave quantiles out, or choose "
        "data for forecasting, image_regression, tabular_regression, text_regression",
    ):
        zoo.datasets.load(data).prepare(model, quantiles=[0.5])


def test_a_value_with_the_name_of_a_quantile_is_rejected():
    frame = table().rename(columns={"age": "price (EUR)_q50"})
    data = zoo.datasets.from_frame(frame, {"values": ["price (EUR)", "price (EUR)_q50"]})
    with pytest.raises(
        zoo.UsageError, match=r"has a value 'price \(EUR\)_q50', which is also the name .* 0\.5 of .*Rename the column"
    ):
        data.prepare("mlp", quantiles=LEVELS)
    data.prepare("mlp", quantiles=[0.1])


@pytest.mark.parametrize(
    ("of_data", "of_config", "message"),
    [
        (
            (),
            (0.5,),
            r"quantiles=\[0\.5\], but the data was not prepared for quantiles\. Pass what data\.prepare\(MODEL, q",
        ),
        ((0.1, 0.9), (0.5,), r"quantiles=\[0\.5\], but the data was prepared for quantiles=\[0\.1, 0\.9\]\. Pass what"),
    ],
)
def test_a_config_with_other_quantiles_than_the_data_is_rejected(of_data, of_config, message):
    data = prepared_table(quantiles=of_data)
    with pytest.raises(zoo.UsageError, match=message):
        zoo.train(data.build(), data, zoo.TrainConfig(quantiles=list(of_config)))
    with pytest.raises(zoo.UsageError, match=r"was not prepared for quantiles"):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        zoo.train(model, (np.zeros((4, 2)), np.zeros((4, 1))), zoo.TrainConfig(quantiles=[0.5]))


def test_options_that_do_not_apply_are_rejected():
    with pytest.raises(zoo.UsageError, match=r"\[0\.5\] are not part of what closed_form solves.*Leave closed_form or"):
        closed_form_of(zoo.build_matrix_factorization_model(num_users=2, num_items=2), levels=(0.5,))
    data = prepared_table()
    with pytest.raises(zoo.UsageError, match=r"label_smoothing=0\.1 requires classes; .* Leave label_smoothing out"):
        zoo.train(data.build(), data, zoo.TrainConfig(label_smoothing=0.1))


def test_a_model_of_values_alone_is_rejected():
    data = prepared_table()
    inputs = {name: keras.Input(shape, name=name) for name, shape in data.preprocessor.input_shapes.items()}
    model = keras.Model(inputs, keras.layers.Dense(2, name="values")(keras.layers.Concatenate()([*inputs.values()])))
    with pytest.raises(
        zoo.UsageError,
        match=r"has 2 outputs; data set .* needs 8, for values and their quantiles .*, or leave quantiles",
    ):
        zoo.train(model, data, zoo.TrainConfig(epochs=1))


def test_folders_for_transformers_have_no_quantiles(tmp_path):
    targets = Targets("value", ("price",), (1.0,), (2.0,), quantiles=LEVELS)
    preprocessing = {"lower_case": True, "strip_accents": None, "split_chinese": True, **targets.described()}
    with pytest.raises(zoo.UsageError, match=r"predicts quantiles, which the format does not know\. Train it without"):
        checkpoints.writer("bert")(None, tmp_path / "model", preprocessing, None)
    assert not (tmp_path / "model").exists()


def test_a_preprocessor_that_ignores_quantiles_is_rejected(monkeypatch):
    fit = Targets.fit.__func__
    monkeypatch.setattr(Targets, "fit", classmethod(lambda cls, data, quantiles=(): fit(cls, data)))
    with pytest.raises(
        zoo.UsageError, match=r"'table' has no targets for quantiles=\[0\.5\]\. Leave quantiles out, or pass"
    ):
        zoo.datasets.load("diabetes").prepare("mlp", quantiles=[0.5])


def test_targets_without_quantiles_are_saved_as_before():
    targets = Targets("value", ("price",), (1.0,), (2.0,))
    assert "quantiles" not in targets.config()
    assert (
        Targets(**json.loads(json.dumps(dataclasses.replace(targets, quantiles=LEVELS).config()))).quantiles == LEVELS
    )


@pytest.mark.parametrize("names", [[], ["a", "b"]], ids=["forecast", "values"])
def test_comparisons_have_the_scores_of_quantiles(names):
    """Means over examples of the pinball loss, and of what is inside 10 to 90 %."""
    rng, levels, answers = np.random.default_rng(0), (0.1, 0.5, 0.9), {}
    true = rng.normal(size=(50, 2)) * [1, 100 if names else 1]
    quantiles = np.sort(rng.normal(size=(50, 2, 3)), axis=-1) * ([[1], [100]] if names else 1)
    for k, level in enumerate(levels):
        parts = quantiles[..., k].T if names else [quantiles[..., k]]
        answers |= {quantile_name(name, level): part for name, part in zip(names or ["forecast"], parts, strict=True)}
    answers["forecast"] = true
    scale = true.std(axis=0) if names else [1.0, 1.0]
    found = {part.figure: np.sum(part.sums(answers, true, names), axis=1) for part in quantile_scores(levels)}
    pinball = [
        mean_pinball_loss(true[:, i], quantiles[:, i, k], alpha=level) / scale[i]
        for i in range(2)
        for k, level in enumerate(levels)
    ]
    expected = {
        "pinball": np.mean(pinball),
        "coverage": np.mean((quantiles[..., 0] <= true) & (true <= quantiles[..., 2])),
        "interval_width": np.mean((quantiles[..., 2] - quantiles[..., 0]) / scale),
    }
    assert {name: total / count for name, (total, count) in found.items()} == pytest.approx(expected)
    assert [part.figure for part in quantile_scores((0.2, 0.5))] == ["pinball"]
