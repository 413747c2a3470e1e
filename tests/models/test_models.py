"""Every registered model, tested against its spec; then the arithmetic of single families, in explicit NumPy.

The part above the line "Single families" names no model: a new family is tested once it is registered.
"""

from __future__ import annotations

import doctest
import functools
import inspect

import docstring_parser
import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from numpy_layers import softmax
from selection import slow
from zoo import registry, tasks

NAMES = zoo.list_models(variants=False)
every_model = pytest.mark.parametrize("name", NAMES)
# Tests of models without a small form are marked slow and need `--slow`.
HEAVY = {name for name in NAMES if zoo.get_spec(name).heavy}
every_model_but_heavy_ones_slowly = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in HEAVY else []) for name in NAMES]
)
# The other models of a task are trained by the same code, and the gradients of every model are tested. The loss of a task
# with a label per step is that of classification.
PER_STEP = ("tagging", "translation", "masked_language_modelling")
FIRST_OF_TASK = {zoo.get_spec(name).tasks[0]: name for name in reversed(NAMES) if name not in HEAVY}
one_model_per_task = pytest.mark.parametrize(
    "name",
    [
        name if name in FIRST_OF_TASK.values() and zoo.get_spec(name).tasks[0] not in PER_STEP else slow(name)
        for name in NAMES
    ],
)


@pytest.fixture(autouse=True)
def same_start():
    keras.utils.set_random_seed(0)


def tiny(name: str, **changes) -> keras.Model:
    return zoo.build(name, **{**zoo.get_spec(name).tiny, **changes})


@functools.cache
def built(name: str) -> keras.Model:
    """Returns the tiny model that tests share; they must not change it."""
    keras.utils.set_random_seed(0)
    return tiny(name)


@functools.cache
def second(name: str) -> keras.Model:
    """Returns a second model with the same seed, built with lists instead of tuples; tests must not change it."""
    arguments = {k: list(v) if isinstance(v, tuple) else v for k, v in zoo.get_spec(name).tiny.items()}
    before = repr(arguments)
    keras.utils.set_random_seed(0)
    model = zoo.build(name, **arguments)
    assert repr(arguments) == before, "the builder changed its arguments"
    return model


def some_inputs(name: str, model: keras.Model, batch: int) -> list[np.ndarray]:
    """Returns random inputs of the right shape and type; ids stay below the vocabulary size."""
    rng = np.random.default_rng(1)
    arrays = []
    sizes = [
        size
        for key, value in zoo.get_spec(name).tiny.items()
        if key.endswith("vocab_size") or key in ("num_users", "num_items", "category_sizes")
        for size in (value if isinstance(value, tuple) else (value,))
    ]
    for tensor in model.inputs:
        shape = (batch, *(7 if side is None else side for side in tensor.shape[1:]))
        if tensor.name == "positions":  # a permutation of the steps
            arrays.append(np.tile(np.arange(7, dtype=np.int32), (batch, 1)))
        elif keras.backend.is_int_dtype(tensor.dtype):
            arrays.append(rng.integers(1, min(sizes), shape).astype(tensor.dtype))
        else:
            arrays.append(rng.uniform(size=shape).astype(tensor.dtype))
    return arrays


def loss_of(model: keras.Model, task: tasks.Task) -> keras.losses.Loss:
    (term,) = task.objective.loss
    return term.loss(term.output_of(tasks.output_names(model), model.name), 0.0)


def some_targets(model: keras.Model, outputs: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(2)
    if tasks.output_names(model)[0] in ("probabilities", "logits"):
        return rng.integers(0, outputs.shape[-1], outputs.shape[:-1])
    if tasks.output_names(model)[0] == "embedding":  # two texts of each label
        return np.arange(len(outputs)) // 2
    if tasks.output_names(model)[0] == "log_probability":  # all items are certain
        return np.zeros(outputs.shape, np.float32)
    return rng.normal(size=outputs.shape).astype(np.float32)


def forward(model: keras.Model, arrays: list[np.ndarray], training: bool = False) -> np.ndarray:
    return np.asarray(model(arrays if len(arrays) > 1 else arrays[0], training=training))


@functools.cache
def outputs_of(name: str, rows: int) -> np.ndarray:
    """Returns the outputs of the shared model for the first rows of five."""
    return forward(built(name), [a[:rows] for a in some_inputs(name, built(name), 5)])


@every_model
def test_the_spec_is_complete(name):
    spec = zoo.get_spec(name)
    assert spec.summary.endswith("."), "the first line of the docstring is a sentence"
    assert spec.reference
    assert spec.tiny, (
        f"build_{name}_model has no tiny=. Write the smallest valid arguments: the tests build the model so."
    )
    assert spec.golden, (
        f"build_{name}_model has no golden=. Write golden=(({{...}}, N),) with N from model.count_params(). "
        "The table in zoo/models/README.md shows the first pair."
    )
    assert set(spec.data_arguments) <= set(spec.parameters)
    assert set(spec.tiny) <= set(spec.parameters)


@every_model_but_heavy_ones_slowly
def test_models_are_functional_with_explicit_names(name):
    """Users of a SavedModel call inputs, outputs and layers by name, even years later."""
    model = built(name)
    assert type(model).__name__ == "Functional", "a subclassed model cannot be rebuilt from its config"
    assert model.name == name
    for tensor in model.inputs:
        assert not tensor.name.startswith("keras_tensor")
        assert tensor.shape[0] is None, "the batch is dynamic"
    if (features := zoo.get_spec(name).features_layer) is not None:
        assert model.get_layer(features)


@every_model_but_heavy_ones_slowly
def test_a_second_model_has_the_same_layer_names(name):
    """Names that Keras generates contain a counter of the process, so the second model's names would differ."""
    assert [layer.name for layer in second(name).layers] == [layer.name for layer in built(name).layers]


@pytest.mark.parametrize(
    ("name", "batch"),
    [slow(n, b) if n in HEAVY else (n, b) for n in NAMES for b in (1, 5)],
)
def test_outputs_have_the_declared_shape_and_dtype(name, batch):
    model, outputs = built(name), outputs_of(name, batch)
    assert outputs.shape[0] == batch
    assert outputs.ndim == len(model.outputs[0].shape)
    assert all(said in (None, came) for said, came in zip(model.outputs[0].shape, outputs.shape, strict=True))
    assert outputs.dtype == np.float32
    assert np.isfinite(outputs).all()
    if tasks.output_names(model)[0] == "probabilities":
        np.testing.assert_allclose(outputs.sum(axis=-1), 1.0, atol=1e-6)
        assert (outputs >= 0).all()


@every_model_but_heavy_ones_slowly
def test_outputs_do_not_depend_on_the_batch(name):
    others = forward(built(name), [a[1:] for a in some_inputs(name, built(name), 5)])
    np.testing.assert_allclose(outputs_of(name, 5), np.concatenate([outputs_of(name, 1), others]), atol=1e-6)


@every_model_but_heavy_ones_slowly
def test_half_precision_models_return_float32(name):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = tiny(name)
    finally:
        keras.config.set_dtype_policy(before)
    outputs = forward(model, some_inputs(name, model, 3))
    assert outputs.dtype == np.float32, (
        f"with mixed_bfloat16, build_{name}_model returns {outputs.dtype}; expected float32. Make the last layer with "
        'zoo.layers.blocks.classifier, or pass it dtype="float32".'
    )
    if tasks.output_names(model)[0] == "probabilities":
        np.testing.assert_allclose(outputs.sum(axis=-1), 1.0, atol=1e-6)


@every_model_but_heavy_ones_slowly
def test_softmax_of_the_logits_equals_the_probabilities(name):
    if "classifier_activation" not in zoo.get_spec(name).parameters:
        pytest.skip("the builder has no classifier_activation")
    model, logits = tiny(name, classifier_activation="softmax"), tiny(name, classifier_activation=None)
    assert (tasks.output_names(model)[0], tasks.output_names(logits)[0]) == ("probabilities", "logits")
    logits.set_weights(model.get_weights())
    expected = np.exp(forward(logits, some_inputs(name, model, 5)))
    found = forward(model, some_inputs(name, model, 5))
    np.testing.assert_allclose(found, expected / expected.sum(-1, keepdims=True), atol=1e-6)


@every_model_but_heavy_ones_slowly
def test_one_step_changes_every_weight(name):
    model = tiny(name)
    arrays = some_inputs(name, model, 6)
    targets = some_targets(model, forward(model, arrays))
    loss = loss_of(model, tasks.get_task(zoo.get_spec(name).tasks[0]))
    with tf.GradientTape() as tape:
        outputs = model(arrays if len(arrays) > 1 else arrays[0], training=True)
        value = tf.reduce_mean(loss(targets, outputs))
    gradients = tape.gradient(value, [v.value for v in model.trainable_variables])
    assert gradients
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert gradient is not None, f"{variable.path} has no gradient"
        values = tf.convert_to_tensor(gradient).numpy()
        assert np.isfinite(values).all(), f"the gradient of {variable.path} is not finite"
        assert values.any(), f"the gradient of {variable.path} is zero everywhere"


@one_model_per_task
def test_models_can_overfit_a_small_batch(name):
    model = tiny(name)
    arrays = some_inputs(name, model, 6)
    targets = some_targets(model, forward(model, arrays))
    loss, variables = loss_of(model, tasks.get_task(zoo.get_spec(name).tasks[0])), model.trainable_variables
    slots = [[tf.Variable(tf.zeros(v.shape)) for _ in range(2)] for v in variables]
    rates = {"lr": 1e-4 if name in HEAVY else 0.02, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-7}

    @tf.function(autograph=False)
    def step(beta1_power, beta2_power):
        """One step of Adam, as one op per weight; the optimizers of Keras need a much larger graph."""
        with tf.GradientTape() as tape:
            outputs = model(arrays if len(arrays) > 1 else arrays[0], training=True)
            value = tf.reduce_mean(loss(targets, outputs))
        powers = {"beta1_power": beta1_power, "beta2_power": beta2_power}
        gradients = tape.gradient(value, [v.value for v in variables])
        for variable, (m, v), gradient in zip(variables, slots, gradients, strict=True):
            handles = {"var": variable.value.handle, "m": m.handle, "v": v.handle}
            tf.raw_ops.ResourceApplyAdam(**handles, **powers, **rates, grad=tf.convert_to_tensor(gradient))
        return value

    losses: list[float] = []
    for number in range(1, 402):
        losses.append(float(step(*(tf.constant(beta**number, tf.float32) for beta in (0.9, 0.999)))))
        if losses[-1] < 0.05 * losses[0]:
            break
    assert losses[-1] < 0.05 * losses[0], (
        f"the loss of six examples went from {losses[0]:.3f} to {losses[-1]:.3f} only. If the gradients are fine, make "
        "`tiny` wider."
    )
    # Moving statistics of normalization lag behind in such a short training.
    if tasks.output_names(model)[0] == "probabilities" and len(model.weights) == len(model.trainable_weights):
        assert (forward(model, arrays).argmax(-1) == targets).mean() > 0.9


@every_model_but_heavy_ones_slowly
def test_keras_file_restores_the_same_model(name, tmp_path):
    model = built(name)
    model.save(tmp_path / "model.keras")
    keras.utils.set_random_seed(1)  # or the new weights would be equal without the file
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(forward(again, some_inputs(name, model, 5)), outputs_of(name, 5))
    assert again.output_names == model.output_names
    assert [t.name for t in again.inputs] == [t.name for t in model.inputs]


def golden_counts():
    for name in NAMES:
        for arguments, count in zoo.get_spec(name).golden:
            yield pytest.param(name, arguments, count, id=f"{name}-{count}")


@pytest.mark.parametrize(("name", "arguments", "count"), golden_counts())
def test_parameter_counts_equal_the_golden_counts(name, arguments, count):
    with keras.StatelessScope(initialize_variables=False):  # counting needs no values
        found = zoo.build(name, **arguments).count_params()
    keras.utils.clear_session(free_memory=False)  # or Keras would create the values later
    assert found == count, (
        f"{name}{dict(arguments)} has {found:,} parameters, its spec says {count:,}. If the architecture changed on "
        f"purpose, write {found:_} into `golden=` of build_{name}_model and update README's table."
    )


@every_model_but_heavy_ones_slowly
def test_the_seed_determines_the_weights(name):
    first, again = built(name).get_weights(), second(name).get_weights()
    keras.utils.set_random_seed(1)
    other = tiny(name).get_weights()
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(first, other, strict=True))


@every_model_but_heavy_ones_slowly
def test_builders_have_no_side_effects(name):
    model = second(name)
    assert not model.compiled
    assert getattr(model, "optimizer", None) is None
    assert keras.config.dtype_policy().name == "float32"


@every_model_but_heavy_ones_slowly
def test_the_model_records_how_it_was_built(name):
    described = registry.describe_build(built(name))
    assert described["name"] == name
    assert list(described["arguments"]) == list(zoo.get_spec(name).parameters), "defaults are recorded too"
    again = zoo.build(described["name"], **described["arguments"])
    assert again.count_params() == built(name).count_params()


@every_model_but_heavy_ones_slowly
def test_dropout_changes_only_training(name):
    if "dropout" not in zoo.get_spec(name).parameters:
        pytest.skip("the builder has no dropout")
    dropping = tiny(name, dropout=0.5)
    dropping.set_weights(built(name).get_weights())
    arrays = some_inputs(name, dropping, 5)
    np.testing.assert_array_equal(forward(dropping, arrays), outputs_of(name, 5))
    # The same model without dropout computes nearly the same in training; larger differences are dropped values.
    assert np.abs(forward(dropping, arrays, training=True) - outputs_of(name, 5)).max() > 1e-3


def _docstring(name: str) -> str:
    return inspect.getdoc(zoo.get_spec(name).builder) or ""


@every_model
def test_docstrings_describe_every_parameter(name):
    told = {p.arg_name: p.description for p in docstring_parser.parse(_docstring(name)).params}
    assert list(told) == list(zoo.get_spec(name).parameters), (
        f"`Args:` of build_{name}_model must describe every argument, in the order of the signature"
    )
    assert all(told.values())


@every_model_but_heavy_ones_slowly
def test_docstring_examples_run(name):
    test = doctest.DocTestParser().get_doctest(_docstring(name), {"zoo": zoo}, name, None, None)
    assert test.examples, f"build_{name}_model has no example"
    report: list[str] = []
    results = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=report.append)
    assert not results.failed, "".join(report)


@every_model_but_heavy_ones_slowly
def test_invalid_sizes_are_rejected(name):
    """None, zero, a text and a fraction: each message names the argument, instead of an error from an inner layer."""
    spec = zoo.get_spec(name)
    for argument in {*spec.data_arguments, *(a for a in spec.tiny if "size" in a or "units" in a or "dim" in a)}:
        absent = spec.parameters[argument].default  # where 0 is the default, it stands for a model without that input
        for wrong in (-1, "ten", 2.5) if absent == 0 else (0, -1, "ten", 2.5):
            with pytest.raises(zoo.UsageError, match=rf"^{argument} is {wrong!r}; expected"):
                tiny(name, **{argument: wrong})


# --- Single families ------------------------------------------------------------------------------------------------


def weights_of(model: keras.Model) -> dict[str, list[np.ndarray]]:
    return {layer.name: [w.astype(np.float64) for w in layer.get_weights()] for layer in model.layers}


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def conv3x3(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Convolves (batch, h, w, in) with (3, 3, in, out) without padding; each output is a sum over its window."""
    batch, height, width, _ = x.shape
    out = np.zeros((batch, height - 2, width - 2, kernel.shape[-1]))
    for row in range(height - 2):
        for column in range(width - 2):
            window = x[:, row : row + 3, column : column + 3, :]
            out[:, row, column] = np.einsum("bhwi,hwio->bo", window, kernel) + bias
    return out


def max_pool2x2(x: np.ndarray) -> np.ndarray:
    """Pools without the last odd row or column."""
    batch, height, width, channels = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).max((2, 4))


@pytest.mark.parametrize("shape", [(6, 5, 3), (6, 5), (30,)])
@pytest.mark.parametrize("hidden_units", [(), (7,), (9, 5, 4)])
def test_mlp_equals_numpy(hidden_units, shape):
    model = zoo.build_mlp_model(shape, 4, hidden_units)
    for weight in model.weights:  # initial biases of zero would hide an error
        weight.assign(np.random.default_rng(3).normal(size=weight.shape) * 0.3)
    w = weights_of(model)
    images = np.random.default_rng(4).uniform(size=(3, *shape)).astype(np.float32)
    x = images.astype(np.float64).reshape(3, -1)
    for i in range(1, len(hidden_units) + 1):
        x = relu(x @ w[f"hidden_{i}"][0] + w[f"hidden_{i}"][1])
    expected = softmax(x @ w["probabilities"][0] + w["probabilities"][1])
    np.testing.assert_allclose(forward(model, [images]), expected, atol=1e-5)


def test_mlp_uses_the_given_activation():
    model = zoo.build_mlp_model(input_shape=(2, 2, 1), num_classes=2, hidden_units=(3,), activation="tanh")
    w = weights_of(model)
    images = np.random.default_rng(4).uniform(size=(3, 2, 2, 1)).astype(np.float32)
    hidden = np.tanh(images.reshape(3, -1) @ w["hidden_1"][0])
    np.testing.assert_allclose(forward(model, [images]), softmax(hidden @ w["probabilities"][0]), atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "filters", "dense_units"),
    [((12, 11, 2), (3, 4), 5), ((3, 4, 1), (2,), None), ((25, 23, 1), (2, 3, 4), 6)],
)
def test_cnn_equals_numpy(shape, filters, dense_units):
    model = zoo.build_cnn_model(input_shape=shape, num_classes=3, filters=filters, dense_units=dense_units)
    for weight in model.weights:
        weight.assign(np.random.default_rng(3).normal(size=weight.shape) * 0.3)
    w = weights_of(model)
    images = np.random.default_rng(4).uniform(size=(3, *shape)).astype(np.float32)
    x = images.astype(np.float64)
    for i in range(1, len(filters) + 1):
        x = relu(conv3x3(x, *w[f"conv_{i}"]))
        if i < len(filters):
            x = max_pool2x2(x)
    x = x.reshape(3, -1)
    if dense_units is not None:
        x = relu(x @ w["dense"][0] + w["dense"][1])
    expected = softmax(x @ w["probabilities"][0] + w["probabilities"][1])
    np.testing.assert_allclose(forward(model, [images]), expected, atol=1e-5)
    features = keras.Model(model.input, model.get_layer("features").output)
    np.testing.assert_allclose(forward(features, [images]), x, atol=1e-4)


@pytest.mark.parametrize("side", [3, 8, 18, 38])
def test_cnn_accepts_the_smallest_image_that_the_message_names(side):
    filters = (2,) * (1 + [3, 8, 18, 38].index(side))
    assert zoo.build_cnn_model(input_shape=(side, side, 1), num_classes=2, filters=filters).count_params()
    with pytest.raises(zoo.UsageError, match=f"need at least {side}x{side}"):
        zoo.build_cnn_model(input_shape=(side, side - 1, 1), num_classes=2, filters=filters)


def test_cnn_with_too_many_filters_is_rejected():
    message = (
        r"^An image of 28x28 is too small for filters=\[2, 4, 8, 16, 32\]: 5 convolutions with 4 pooling stages between "
        r"them need at least 78x78\. Pass larger images, input_shape=\[78, 78, 1\], or at most 3 filters\.$"
    )
    with pytest.raises(zoo.UsageError, match=message):
        zoo.build_cnn_model(input_shape=(28, 28, 1), num_classes=10, filters=(2, 4, 8, 16, 32))
    with pytest.raises(
        zoo.UsageError, match=r"of 2x9 is too small.* 3x3. Pass larger images, input_shape=\[3, 3, 1\]\.$"
    ):
        zoo.build_cnn_model(input_shape=(2, 9, 1), num_classes=10, filters=(2,))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("mlp", {"num_classes": None}, "num_classes is None; expected a whole number of at least 1. Pass num_classes="),
        ("mlp", {"num_classes": True}, "num_classes is True; expected"),
        ("mlp", {"num_classes": np.int64(10)}, r"num_classes is .*int\(...\) of a NumPy number"),
        ("mlp", {"num_classes": 1}, "num_classes is 1: the output would always be the same. Pass at least 2."),
        ("cnn", {"num_classes": (3,)}, r"num_classes is \(3,\); expected"),
        ("cnn", {"input_shape": None}, r"input_shape is None; expected \(height, width, channels\). Pass input_shape="),
        ("cnn", {"input_shape": 28}, "input_shape is 28; expected"),
        ("cnn", {"input_shape": (28, 28)}, r"input_shape is \(28, 28\); expected \(height, width, channels\)"),
        ("cnn", {"input_shape": (784,)}, r"input_shape is \(784,\); expected \(height, width, channels\)"),
        ("lstm", {"input_shape": (28, 28, 1)}, r"input_shape is \(28, 28, 1\); expected .*channels"),
        ("mlp", {"input_shape": 784}, r"input_shape is 784; expected the fixed sizes .* Pass input_shape=\(784,\)"),
        ("mlp", {"input_shape": ()}, r"input_shape is \(\); expected"),
        ("mlp", {"input_shape": (784.0,)}, r"input_shape is \(784\.0,\); expected"),
        ("mlp", {"input_shape": (None, None, 1)}, r"input_shape is \(None, None, 1\); expected"),
        ("cnn", {"input_shape": (28, 0, 1)}, r"input_shape is \(28, 0, 1\); expected"),
        ("cnn", {"filters": ()}, "filters is empty; expected one number per convolution. Pass filters="),
        ("cnn", {"filters": 32}, "filters is 32; expected whole numbers of at least 1. Pass a list, filters="),
        ("cnn", {"filters": (32, None)}, r"filters is \(32, None\); expected"),
        ("cnn", {"dense_units": 0}, "dense_units is 0; expected"),
        ("mlp", {"hidden_units": (64, 0)}, r"hidden_units is \(64, 0\); expected"),
        ("mlp", {"activation": "rleu"}, "activation is 'rleu'. Did you mean 'relu"),
        ("mlp", {"activation": None}, "activation is None. Valid: .*relu"),
        ("mlp", {"dropout": 1.0}, "dropout is 1.0; expected a fraction. Pass at least 0 and less than 1."),
        ("cnn", {"dropout": -0.1}, "dropout is -0.1; expected a fraction"),
        ("cnn", {"dropout": "half"}, "dropout is 'half'; expected a fraction"),
        ("cnn", {"classifier_activation": "tanh"}, "classifier_activation is 'tanh'. Pass 'softmax' for prob"),
    ],
)
def test_messages_name_the_invalid_argument(name, arguments, message):
    with pytest.raises(zoo.UsageError, match=message):
        zoo.build(name, **{"input_shape": (28, 28, 1), "num_classes": 10, **arguments})
