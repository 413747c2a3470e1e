"""Time series from raw numbers to outputs: layers compared with NumPy and PyTorch, padding, missing values, units."""

from __future__ import annotations

from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from numpy_layers import numpy_gru, sigmoid, softmax
from selection import slow
from zoo.datasets.preprocessing.series import SeriesPreprocessor, lengths
from zoo.datasets.raw import Feature, Split
from zoo.layers import blocks, series

NAN = float("nan")
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]], bool)


@pytest.fixture(autouse=True)
def same_start():
    keras.utils.set_random_seed(0)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def random_weights(model: keras.Model) -> keras.Model:
    """Sets random weights, biases included: Keras's zero biases would hide a wrong order."""
    model.set_weights([0.5 * normal(*w.shape, seed=i) for i, w in enumerate(model.get_weights())])
    return model


# --- Layers ----------------------------------------------------------------------------------------------------------


def test_trailing_nan_is_padding_and_other_nan_is_missing():
    x = np.array([[[1, NAN], [NAN, NAN], [NAN, 2], [NAN, NAN]], [[NAN, NAN]] * 4, [[1, 1]] * 4], np.float32)
    filled = series.FillMissing()(x)
    np.testing.assert_array_equal(filled, np.nan_to_num(x))
    mask = series.FillMissing().compute_mask(tf.constant(x)).numpy()
    assert mask.tolist() == [[True, True, True, False], [True, False, False, False], [True] * 4]
    assert lengths(tf.constant(x)).numpy().tolist() == [3, 1, 4]


@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
def test_windows_over_real_steps_equal_numpy(kernel):
    x = normal(4, 5, 2)
    layer = series.MaskedConv1D(3, kernel, padding="same", activation="relu")
    layer.build(x.shape)
    layer.set_weights([normal(kernel, 2, 3, seed=1), normal(3, seed=2)])
    weights, bias = layer.get_weights()
    outputs = layer(x, mask=tf.constant(MASK)).numpy()
    for row, real in enumerate(MASK.sum(1)):
        padded = np.pad(x[row, :real], [((kernel - 1) // 2, kernel // 2), (0, 0)])
        for step in range(real):
            expected = np.maximum((padded[step : step + kernel, :, None] * weights).sum((0, 1)) + bias, 0)
            np.testing.assert_allclose(outputs[row, step], expected, atol=1e-5)


def test_attention_equals_numpy():
    scores, values = 30 * normal(4, 5, 2), normal(4, 5, 3, seed=1)
    weights = series.AttentionWeights()(scores, mask=tf.constant(MASK)).numpy()
    pooled = series.WeightedSum()([values, tf.constant(weights)]).numpy()
    assert (weights[~MASK] == 0).all() and weights.dtype == np.float32
    for row, real in enumerate(MASK.sum(1)):
        powers = np.exp(scores[row, :real] - scores[row, :real].max(0, initial=-1e9))
        expected = powers / powers.sum(0)
        np.testing.assert_allclose(weights[row, :real], expected, atol=1e-6)
        np.testing.assert_allclose(pooled[row], (expected.T @ values[row, :real]).ravel(), atol=1e-5)
    whole = np.exp(scores) / np.exp(scores.astype(np.float64)).sum(1, keepdims=True)
    np.testing.assert_allclose(series.AttentionWeights()(scores), whole, atol=1e-6)


def test_max_pooling_uses_only_real_steps():
    x = normal(4, 5, 3) - 10
    outputs = series.MaskedMax()(x, mask=tf.constant(MASK)).numpy()
    np.testing.assert_array_equal(outputs, [x[0].max(0), x[1, :3].max(0), x[2, 0], np.zeros(3)])
    np.testing.assert_array_equal(series.MaskedMax()(x), x.max(1))


def test_linear_outputs_are_named_values():
    x = keras.Input((3,))
    assert blocks.classifier(x, 1, "linear").shape == (None, 1)
    assert keras.Model(x, blocks.classifier(x, 1, "linear")).output_names == ["values"]
    with pytest.raises(zoo.UsageError, match=r"num_classes is 1: the output would always be the same. Pass at least 2"):
        blocks.classifier(x, 1, "softmax")
    with pytest.raises(
        zoo.UsageError,
        match=r"is 'tanh'. Pass 'softmax' for probabilities, 'sigmoid' for those of several labels, None for",
    ):
        blocks.classifier(x, 2, "tanh")


# --- Recurrences -----------------------------------------------------------------------------------------------------


def numpy_lstm(x, kernel, recurrent, bias):
    """Processes one series; gates in Keras's order: input, forget, cell, output."""
    h = c = np.zeros(recurrent.shape[0])
    states = []
    for step in x:
        i, f, g, o = np.split(step @ kernel + h @ recurrent + bias, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        states.append(h)
    return np.array(states)


def padded_series(channels: int = 2) -> np.ndarray:
    x = normal(3, 6, channels)
    x[1, 4:] = x[2, 1:] = NAN
    x[0, 2] = NAN  # a missing value, not padding
    return x


def real_steps(x: np.ndarray) -> list[np.ndarray]:
    return [np.nan_to_num(row[:n]) for row, n in zip(x, lengths(tf.constant(x)).numpy(), strict=True)]


def test_stacked_lstm_equals_numpy():
    model = random_weights(zoo.build_lstm_model(input_shape=(None, 2), num_classes=3, units=(5, 4)))
    last = zoo.build_lstm_model(input_shape=(None, 2), num_classes=3, units=(5, 4), return_sequences=False)
    last.set_weights(model.get_weights())
    weights, x = model.get_weights(), padded_series()
    every, ends = model(x).numpy(), last(x).numpy()
    for row, steps in enumerate(real_steps(x)):
        expected = softmax(numpy_lstm(numpy_lstm(steps, *weights[:3]), *weights[3:6]) @ weights[6] + weights[7])
        np.testing.assert_allclose(every[row, : len(steps)], expected, atol=1e-5)
        np.testing.assert_allclose(ends[row], expected[-1], atol=1e-5)


def test_gru_in_both_directions_equals_numpy():
    model = random_weights(zoo.build_rnn_model(vocab_size=9, embedding_dim=3, rnn_units=4, num_classes=3))
    table, *rest, kernel, bias = model.get_weights()
    ids = np.array([[2, 3, 4, 8, 1], [5, 6, 0, 0, 0]], np.int32)
    outputs = model(ids).numpy()
    for row, n in ((0, 5), (1, 2)):
        x = table[ids[row, :n]]
        states = np.concatenate([numpy_gru(x, *rest[:3]), numpy_gru(x[::-1], *rest[3:])[::-1]], axis=1)
        np.testing.assert_allclose(outputs[row, :n], softmax(states @ kernel + bias), atol=1e-5)


def test_lstm_equals_pytorch():
    torch = pytest.importorskip("torch")
    model = random_weights(zoo.build_lstm_model(input_shape=(None, 2), num_classes=3, units=(5,)))
    kernel, recurrent, bias = model.get_layer("lstm_1").get_weights()
    theirs = torch.nn.LSTM(2, 5, batch_first=True)
    for name, value in (("weight_ih_l0", kernel.T), ("weight_hh_l0", recurrent.T), ("bias_ih_l0", bias)):
        getattr(theirs, name).data = torch.tensor(np.ascontiguousarray(value))
    theirs.bias_hh_l0.data.zero_()
    x = padded_series()
    features = keras.Model(model.input, model.get_layer("features").output)(x).numpy()
    for row, steps in enumerate(real_steps(x)):
        expected = theirs(torch.tensor(steps[None]))[0][0].detach().numpy()
        np.testing.assert_allclose(features[row, : len(steps)], expected, atol=1e-5)


def test_gru_equals_pytorch():
    torch = pytest.importorskip("torch")
    model = random_weights(
        zoo.build_rnn_model(vocab_size=9, embedding_dim=3, rnn_units=4, num_classes=3, bidirectional=False)
    )
    table, kernel, recurrent, biases = model.get_weights()[:4]

    def reordered(value):  # PyTorch orders the gates as reset, update, candidate
        z, r, h = np.split(value, 3, axis=-1)
        return torch.tensor(np.ascontiguousarray(np.concatenate([r, z, h], axis=-1).T))

    theirs = torch.nn.GRU(3, 4, batch_first=True)
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    for name, value in zip(names, (kernel, recurrent, *biases), strict=True):
        getattr(theirs, name).data = reordered(value)
    ids = np.array([[2, 3, 4, 8, 1], [5, 6, 0, 0, 0]], np.int32)
    features = keras.Model(model.input, model.get_layer("features").output)(ids).numpy()
    for row, n in ((0, 5), (1, 2)):
        expected = theirs(torch.tensor(table[ids[row, :n]][None]))[0][0].detach().numpy()
        np.testing.assert_allclose(features[row, :n], expected, atol=1e-5)


# --- Whole models ----------------------------------------------------------------------------------------------------

SERIES_MODELS = [
    ("lstm", {"units": (5, 4)}),
    ("lstm", {"units": (5, 4), "return_sequences": False}),
    ("lstm", {"units": (5, 4), "return_sequences": False, "bidirectional": True}),
    ("lstm", {"units": (5,), "return_sequences": False, "classifier_activation": "linear"}),
    ("attention", {"filters": 5, "num_heads": 2}),
    ("attention", {"filters": 5, "pooling": "max"}),
]
TOKEN_MODELS = [
    ("rnn", {"embedding_dim": 4, "rnn_units": 5}),
    ("rnn", {"embedding_dim": 4, "rnn_units": 5, "bidirectional": False, "recurrent_dropout": 0.0}),
    ("attention", {"embedding_dim": 4, "filters": 5}),
    ("attention", {"embedding_dim": 4, "filters": 5, "pooling": "max"}),
]
EVERY = [
    *((name, {"input_shape": (None, 2), **a}, NAN) for name, a in SERIES_MODELS),
    *((name, {"vocab_size": 9, **a}, 0) for name, a in TOKEN_MODELS),
]
# Each kind of layer and of padding once.
FEW = [case if number in (0, 2, 5, 6, 8) else slow(*case) for number, case in enumerate(EVERY)]


def ragged_inputs(padding: float) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    if padding == 0:
        return [rng.integers(1, 9, n).astype(np.int32) for n in (1, 3, 6)]
    return [rng.normal(size=(n, 2)).astype(np.float32) for n in (1, 3, 6)]


def padded(rows: list[np.ndarray], steps: int, padding: float) -> np.ndarray:
    batch = np.full((len(rows), steps, *rows[0].shape[1:]), padding, rows[0].dtype)
    for target, row in zip(batch, rows, strict=True):
        target[: len(row)] = row
    return batch


@pytest.mark.parametrize(("name", "arguments", "padding"), EVERY)
def test_padding_does_not_change_the_output(name, arguments, padding):
    model = random_weights(zoo.build(name, num_classes=3, **arguments))
    rows = ragged_inputs(padding)
    together = model(padded(rows, 9, padding)).numpy()
    for row, answer in zip(rows, together, strict=True):
        alone = model(row[None]).numpy()[0]
        np.testing.assert_allclose(answer[: len(alone)] if answer.ndim == 2 else answer, alone, atol=1e-6)


@pytest.mark.parametrize(("name", "arguments", "padding"), FEW)
def test_every_weight_gets_a_gradient_from_padded_batches(name, arguments, padding):
    model = zoo.build(name, num_classes=3, **arguments)
    with tf.GradientTape() as tape:
        outputs = model(padded(ragged_inputs(padding) * 3, 7, padding), training=True)
        value = tf.reduce_sum(outputs * normal(*outputs.shape))
    gradients = tape.gradient(value, [v.value for v in model.trainable_variables])
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        values = tf.convert_to_tensor(gradient).numpy()
        assert np.isfinite(values).all() and values.any(), variable.path


@pytest.mark.parametrize(("name", "arguments", "padding"), FEW)
def test_output_for_padding_only_is_finite(name, arguments, padding):
    model = random_weights(zoo.build(name, num_classes=3, **arguments))
    rows = padded(ragged_inputs(padding), 6, padding)
    rows[0] = padding
    assert np.isfinite(model(rows).numpy()).all()


def test_a_missing_value_is_replaced_by_the_mean():
    model = zoo.build_lstm_model(input_shape=(None, 2), num_classes=3)
    x = normal(1, 4, 2)
    x[0, 1] = 0
    missing = x.copy()
    missing[0, 1] = NAN
    np.testing.assert_array_equal(model(x), model(missing))


def test_attention_weights_cover_exactly_the_real_steps():
    model = zoo.build_attention_model(vocab_size=9, num_classes=3, num_heads=2, embedding_dim=4)
    ids = padded(ragged_inputs(0), 8, 0)
    inner = keras.Model(model.input, [model.get_layer(n).output for n in ("attention_weights", "head_weights")])
    weights, heads = (w.numpy() for w in inner(ids))
    assert weights.shape == ids.shape and weights.dtype == np.float32
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(weights, heads.mean(-1), atol=1e-7)
    assert (weights[ids == 0] == 0).all() and (weights[ids != 0] > 0).all()


def test_parameter_counts_equal_the_formulas():
    c, u, v, k = 3, 7, 5, 4
    lstm = 4 * ((c + u) * u + u) + 4 * ((u + v) * v + v) + v * k + k
    assert zoo.build_lstm_model((None, c), k, units=(u, v)).count_params() == lstm
    words, dim = 20, 6
    gru = 3 * ((dim + u) * u + 2 * u)
    rnn = words * dim + 2 * gru + 2 * u * k + k
    assert zoo.build_rnn_model(words, dim, u, k).count_params() == rnn
    filters, heads, dense = 5, 2, 8
    windows = 3 * dim * filters + filters
    scores = filters * filters + filters + filters * heads
    rest = (heads + 1) * filters * dense + dense + dense * k + k
    sizes = {"filters": filters, "num_heads": heads, "dense_units": dense}
    model = zoo.build_attention_model(None, k, words, embedding_dim=dim, **sizes)
    assert model.count_params() == words * dim + windows + scores + rest


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (
            "lstm",
            {"input_shape": (3,)},
            r"input_shape is \(3,\); expected \(steps or None, channels\). Pass input_shape=",
        ),
        ("lstm", {"input_shape": (None, None)}, r"input_shape is \(None, None\); expected"),
        ("lstm", {"input_shape": (4, 2), "units": ()}, "units is empty; expected one number per LSTM. Pass units="),
        ("lstm", {"input_shape": (4, 2), "units": 64}, "units is 64; expected whole numbers"),
        ("rnn", {"vocab_size": 9, "num_classes": 0}, "num_classes is 0; expected a whole number of at least 1"),
        ("rnn", {"vocab_size": 9, "recurrent_dropout": 1}, "recurrent_dropout is 1; expected a fraction"),
        ("attention", {}, "input_shape is None and vocab_size is None; expected one of them. Pass vocab_size="),
        ("attention", {"vocab_size": 9, "input_shape": (None, 2)}, "expected one of them"),
        ("attention", {"vocab_size": 9, "pooling": "mean"}, "pooling is 'mean'; expected 'attention' or 'max'"),
    ],
)
def test_error_messages_name_the_invalid_argument(name, arguments, message):
    with pytest.raises(zoo.UsageError, match=message):
        zoo.build(name, **{"num_classes": 3, **arguments})


# --- The preprocessor ------------------------------------------------------------------------------------------------


def some_data(examples: list[dict], task: str = "series_classification", **features: Feature) -> SimpleNamespace:
    shape = {"series": tf.TensorSpec([None, 3], tf.float32), "label": tf.TensorSpec([], tf.int64)}
    if task == "forecasting":
        shape = {"series": shape["series"], "forecast": tf.TensorSpec([2], tf.float32)}

    def dataset() -> tf.data.Dataset:
        return tf.data.Dataset.from_generator(lambda: iter(examples), output_signature=shape)

    return SimpleNamespace(
        name="made-up",
        task=task,
        features={k: Feature(tuple(v.shape), v.dtype.name) for k, v in shape.items()},
        splits={"train": Split(dataset, len(examples))},
        train=dataset(),
        about={"channels": ["a", "b", "c"]},
    )


def some_examples(task: str = "series_classification") -> list[dict]:
    rng = np.random.default_rng(0)
    examples = []
    for i in range(300):
        x = rng.normal([1e4, 5, 0], [1, 2, 3], (int(rng.integers(1, 6)), 3)).astype(np.float32)
        x[:, 1] = 0.1  # constant
        x[rng.uniform(size=x.shape) < 0.1] = NAN
        target = {"forecast": np.float32([1e4, 1e4 + i])} if task == "forecasting" else {"label": i % 3}
        examples.append({"series": x, **target})
    return examples


def test_channels_are_standardized_by_the_training_split():
    examples = some_examples()
    preprocess, fixed = SeriesPreprocessor.for_model(some_data(examples), {}, {"return_sequences": True})
    values = np.concatenate([e["series"] for e in examples]).astype(np.float64)
    np.testing.assert_allclose(preprocess.means, np.nanmean(values, 0), rtol=1e-9)
    np.testing.assert_allclose(preprocess.deviations, [np.nanstd(values[:, 0]), 1, np.nanstd(values[:, 2])], rtol=1e-9)
    assert fixed == {"input_shape": (None, 3), "length": 5} and preprocess.every_step
    assert preprocess.input_shapes == {"series": (5, 3)}
    assert SeriesPreprocessor(**preprocess.config()) == preprocess


def test_every_real_step_has_the_label_as_target():
    preprocess = SeriesPreprocessor((0.0,), (2.0,), longest=4, every_step=True)
    raw = tf.constant([[[2.0], [NAN], [4.0], [NAN]], [[NAN]] * 4])
    inputs, targets, weights = preprocess.encode({"series": raw, "label": tf.constant([1, 2], tf.int64)})
    np.testing.assert_array_equal(inputs["series"][0, :, 0], [1, NAN, 2, NAN])
    assert targets["label"].numpy().tolist() == [[1] * 4, [2] * 4] and targets["label"].dtype == tf.int64
    assert weights["label"].numpy().tolist() == [[1, 1, 1, 0], [1, 0, 0, 0]]
    shorter = preprocess.trim(inputs, targets, weights)
    assert [t.shape[1] for part in shorter for t in part.values()] == [3, 3, 3]
    whole = SeriesPreprocessor((0.0,), (2.0,), longest=4)
    inputs, targets, weights = whole.encode({"series": raw, "label": tf.constant([1, 2], tf.int64)})
    assert targets["label"].numpy().tolist() == [1, 2] and weights == {}
    assert whole.trim(inputs, targets, {})[0]["series"].shape == (2, 3, 1)


def test_forecasts_are_scaled_and_restored():
    examples = some_examples("forecasting")
    preprocess, fixed = SeriesPreprocessor.for_model(some_data(examples, "forecasting"), {}, {"return_sequences": True})
    assert fixed == {
        "input_shape": (None, 3),
        "num_classes": 2,
        "classifier_activation": "linear",
        "return_sequences": False,
        "length": 5,
    }
    assert not preprocess.every_step and SeriesPreprocessor(**preprocess.config()) == preprocess
    batch = {"series": np.float32([[[1, 2, 3]]]), "forecast": np.float32([[1e4, 1e4 + 7]])}
    _, targets, weights = preprocess.encode(batch)
    targets = targets["forecast"]
    assert weights == {}
    np.testing.assert_allclose(targets, (batch["forecast"] - preprocess.means[0]) / preprocess.deviations[0], rtol=1e-4)
    _, extras = preprocess.serve({"series": batch["series"]})
    np.testing.assert_allclose(preprocess.unscale(targets, extras), batch["forecast"], rtol=1e-6)


def test_inputs_relative_to_the_last_value_forget_the_level():
    preprocess = SeriesPreprocessor((10.0, 0.0), (2.0, 1.0), longest=4, horizon=2, season=1, relative=True)
    series = np.float32([[[5, 1], [NAN, 2], [9, 3], [NAN, 4], [NAN, NAN]]])
    batch = {"series": series, "forecast": np.float32([[11, 7]])}
    inputs, targets, _ = preprocess.encode(batch)
    np.testing.assert_allclose(inputs["series"][0, :4, 0], [-2, NAN, 0, NAN])
    np.testing.assert_allclose(inputs["series"][0, :4, 1], [1, 2, 3, 4])
    np.testing.assert_allclose(targets["forecast"], [[1, -1]])
    shifted = series + np.float32([100, 0])
    again = preprocess.encode({**batch, "series": shifted})[0]["series"]
    np.testing.assert_allclose(again, inputs["series"], atol=1e-5)
    _, extras = preprocess.serve({"series": shifted})
    np.testing.assert_allclose(preprocess.unscale(targets["forecast"], extras), [[111, 107]])


def test_seasonal_forecasts_are_restored_to_the_original_unit():
    preprocess = SeriesPreprocessor((10.0,), (2.0,), longest=5, horizon=2, season=3)
    series = np.float32([[[1], [2], [3], [4], [NAN]], [[7], [8], [9], [10], [11]], [[5], [NAN], [NAN], [NAN], [NAN]]])
    forecast = np.float32([[20, 30], [40, 50], [60, 70]])
    inputs, targets, _ = preprocess.encode({"series": series, "forecast": forecast})
    inputs, targets = inputs["series"], targets["forecast"]
    # By hand: the value three steps before each forecast, counted from the last real step; the mean if there is none.
    start = np.float32([[2, 3], [9, 10], [10, 10]])
    np.testing.assert_allclose(targets, (forecast - start) / 2)
    np.testing.assert_allclose(inputs[..., 0], (series[..., 0] - 10) / 2)
    np.testing.assert_allclose(inputs[:, :, 1], [[NAN] * 3 + [1.5, NAN], [NAN] * 3 + [1.5, 1.5], [NAN] * 5])
    served, extras = preprocess.serve({"series": series})
    np.testing.assert_array_equal(served["series"], inputs)
    np.testing.assert_allclose(extras["start"], start)
    np.testing.assert_allclose(preprocess.unscale(targets, extras), forecast)
    assert inputs.shape[1:] == preprocess.input_shapes["series"] and preprocess.requests["series"].shape[-1] == 1


def test_requests_are_padded_with_nan():
    preprocess = SeriesPreprocessor((0.0,), (1.0,), longest=4)
    rows = [{"series": np.ones((2, 1), np.float32)}, {"series": np.zeros((0, 1), np.float32)}]
    requests = preprocess.to_requests(rows)
    np.testing.assert_array_equal(requests["series"][..., 0], [[1, 1], [NAN, NAN]])
    inputs, extras = preprocess.serve(requests)
    assert extras["lengths"].numpy().tolist() == [2, 1] and inputs["series"].shape == (2, 2, 1)
    assert preprocess.to_requests([rows[1]])["series"].shape == (1, 1, 1)


class Served(tf.Module):
    def __init__(self, preprocess: SeriesPreprocessor, network: keras.Model):
        super().__init__()
        self.model_variables = [v.value for v in network.variables]
        spec = preprocess.requests["series"].spec

        @tf.function(input_signature=[spec])
        def serve(series):
            inputs, extras = preprocess.serve({"series": series})
            return {"values": network(inputs["series"], training=False), **extras}

        self.serve = serve


def test_a_reloaded_savedmodel_predicts_or_reports_the_fault(tmp_path):
    preprocess = SeriesPreprocessor((5.0, 0.0), (2.0, 1.0), longest=4)
    model = zoo.build_lstm_model((None, 2), 3, units=(4,), return_sequences=False, classifier_activation="linear")
    module = Served(preprocess, model)
    tf.saved_model.save(module, str(tmp_path / "m"), signatures={"serving_default": module.serve})
    served = tf.saved_model.load(str(tmp_path / "m")).signatures["serving_default"]
    x = padded_series()
    expected = model((x - np.float32([5, 0])) / np.float32([2, 1]))
    np.testing.assert_allclose(served(series=tf.constant(x))["values"], expected, atol=1e-6)
    assert np.isfinite(served(series=tf.fill([1, 3, 2], NAN))["values"]).all()
    for wrong, message in (
        (np.zeros((1, 0, 2)), "series has no steps; expected at least one"),
        (np.full((1, 2, 2), np.inf), "a value that is infinite or more than 1,000,000 standard deviations"),
        (np.full((1, 2, 2), 1e30), "units, NaN where one is missing"),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            served(series=tf.constant(wrong, tf.float32))


def test_a_request_with_other_channels_is_rejected():
    with pytest.raises(zoo.UsageError, match=r"shape \(1, 4, 2\); expected \(batch, steps, 1\). Pass one alone as"):
        SeriesPreprocessor((0.0,), (1.0,), longest=4).serve({"series": np.zeros((1, 4, 2), np.float32)})


def test_unusable_data_is_rejected():
    examples = some_examples()
    with pytest.raises(zoo.UsageError, match=r"input_shape=\(None, 4\) contradicts data set 'made-up'.*Leave input"):
        SeriesPreprocessor.for_model(some_data(examples), {}, {"input_shape": (None, 4)})
    with pytest.raises(zoo.UsageError, match=r"'linear' for the labels of data set 'made-up'. Leave it out"):
        SeriesPreprocessor.for_model(some_data(examples), {}, {"classifier_activation": "linear"})
    examples[7]["series"][0, 2] = np.inf
    with pytest.raises(zoo.UsageError, match=r"an infinite value in channel 2. Pass NaN where"):
        SeriesPreprocessor.for_model(some_data(examples), {}, {})


@pytest.mark.parametrize(("name", "arguments", "padding"), FEW)
def test_keras_file_restores_the_same_model(name, arguments, padding, tmp_path):
    model = zoo.build(name, num_classes=3, **arguments)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    rows = padded(ragged_inputs(padding), 7, padding)
    np.testing.assert_array_equal(model(rows), again(rows))
