"""Batch norm is fused into the preceding kernels: the outputs, names and types stay the same with fewer operations."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import zoo
from selection import slow
from zoo.export import artifact
from zoo.export.graph import batch_norm_fusion, forms, signatures
from zoo.export.inspection import operations

rng = np.random.default_rng


def trained(model):
    """Sets statistics and weights that differ from their initial values."""
    random = rng(1)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([random.uniform(0.05, 2.0, w.shape) for w in layer.get_weights()])
    return model


def fused(model):
    return signatures.served_copy(model, forms.with_batch_norm_fused(model, ()))


def unchanged(model):
    return signatures.served_copy(model, forms.as_trained(model, ()))


def functional(block, shape):
    inputs = keras.Input(shape, name="x")
    return trained(keras.Model(inputs, block(inputs)))


KERNELS = {
    "Conv1D": (lambda: layers.Conv1D(4, 3, name="kernel"), (9, 3)),
    "Conv2D": (lambda: layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False, name="kernel"), (8, 8, 3)),
    "Conv2D of groups": (lambda: layers.Conv2D(4, 3, groups=2, name="kernel"), (8, 8, 6)),
    "Conv3D": (lambda: layers.Conv3D(4, 2, name="kernel"), (4, 4, 4, 3)),
    "DepthwiseConv1D": (lambda: layers.DepthwiseConv1D(3, depth_multiplier=2, name="kernel"), (9, 3)),
    "DepthwiseConv2D": (
        lambda: layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False, name="kernel"),
        (8, 8, 3),
    ),
    "Dense": (lambda: layers.Dense(4, name="kernel"), (5,)),
}


@pytest.mark.parametrize("kind", KERNELS)
@pytest.mark.parametrize("options", [{}, {"center": False}, {"scale": False, "epsilon": 0.1}])
@pytest.mark.parametrize("sequential", [False, True])
def test_fusion_keeps_the_outputs(kind, options, sequential):
    make, shape = KERNELS[kind]
    kernel, norm = make(), layers.BatchNormalization(name="norm", **options)
    if sequential:
        model = trained(keras.Sequential([keras.Input(shape), kernel, norm]))
    else:
        model = functional(lambda x: layers.ReLU()(norm(kernel(x))), shape)
    pairs = batch_norm_fusion.plan(model)
    assert pairs == {"kernel": "norm"}
    copy = fused(model)
    x = rng(2).normal(size=(6, *shape)).astype("float32")
    np.testing.assert_allclose(copy(x), model(x, training=False), atol=1e-5, rtol=1e-5)
    assert [layer.name for layer in copy.layers] == [layer.name for layer in model.layers]
    assert len(copy.weights) == 2 and not any(isinstance(layer, layers.BatchNormalization) for layer in copy.layers)
    for have, want in zip(copy.get_weights(), batch_norm_fusion.weights(model, pairs), strict=True):
        np.testing.assert_array_equal(have, want)


def _shared(x):
    conv = layers.Conv2D(3, 1, name="kernel")
    return layers.BatchNormalization()(conv(conv(x)))


def _read_twice(x):
    y = layers.Conv2D(3, 1, name="kernel")(x)
    return layers.Add()([y, layers.BatchNormalization()(y)])


def _norm_used_twice(x):
    norm = layers.BatchNormalization()
    return norm(layers.Conv2D(3, 1)(norm(layers.Conv2D(3, 1, name="kernel")(x))))


NOT_FUSED = {
    "an activation between": lambda x: layers.BatchNormalization()(layers.Conv2D(3, 1, activation="relu")(x)),
    "another axis": lambda x: layers.BatchNormalization(axis=1)(layers.Conv2D(3, 1)(x)),
    "a kernel that is used twice": _shared,
    "a kernel that two read": _read_twice,
    "a normalization that is used twice": _norm_used_twice,
    "a kernel of another layout": lambda x: layers.BatchNormalization()(layers.Conv2DTranspose(3, 1)(x)),
    "half precision": lambda x: layers.BatchNormalization()(layers.Conv2D(3, 1, dtype="mixed_bfloat16")(x)),
    "nothing before it": layers.BatchNormalization(),
}


@pytest.mark.parametrize("case", NOT_FUSED)
def test_unsupported_structures_are_not_fused(case):
    model = functional(NOT_FUSED[case], (6, 6, 3))
    assert batch_norm_fusion.plan(model) == {}
    x = rng(2).normal(size=(2, 6, 6, 3)).astype("float32")
    np.testing.assert_array_equal(unchanged(model)(x), model(x, training=False))


def test_layers_whose_output_is_needed_are_not_fused():
    make, shape = KERNELS["Conv2D"]
    inputs = keras.Input(shape)
    y = make()(inputs)
    both = keras.Model(inputs, [y, layers.BatchNormalization()(y)])
    assert batch_norm_fusion.plan(both) == {}, "the kernel's answer is an output"
    model = functional(lambda x: layers.BatchNormalization(name="norm")(make()(x)), shape)
    assert batch_norm_fusion.plan(model, kept={"kernel", None}) == {}
    assert batch_norm_fusion.plan(model, kept={"norm"}) == {"kernel": "norm"}, "the normalization's answer is the same"


def test_a_mean_far_from_zero_is_not_fused():
    """When fused, the kernel output of 1000 and the bias of -1000 would lose four digits."""
    model = functional(lambda x: layers.BatchNormalization(name="norm")(layers.Dense(2, name="kernel")(x)), (3,))
    norm = model.get_layer("norm")
    norm.moving_variance.assign([1.0, 1.0])
    for mean, pairs in ((1000.0, {}), (-21.0, {}), (19.0, {"kernel": "norm"})):
        norm.moving_mean.assign([0.0, mean])
        model.get_layer("kernel").bias.assign([0.0, 0.0])
        assert batch_norm_fusion.plan(model) == pairs
    norm.moving_mean.assign([0.0, 1000.0])
    model.get_layer("kernel").bias.assign([0.0, 1001.0])
    assert batch_norm_fusion.plan(model) == {"kernel": "norm"}, "what the inputs make is near"


def test_other_kinds_of_models_are_copied_unchanged():
    class Own(keras.Model):
        def call(self, x):
            return x

    class WithItsOwnConfig(keras.Model):
        def __init__(self, units, **kwargs):
            inputs = keras.Input((3,))
            super().__init__(inputs, layers.BatchNormalization()(layers.Dense(units)(inputs)), **kwargs)
            self.units = units

        def get_config(self):
            return {"units": self.units, "name": self.name}

    model, x = WithItsOwnConfig(4), np.ones((2, 3), "float32")
    assert (
        batch_norm_fusion.plan(Own())
        == batch_norm_fusion.plan(model)
        == batch_norm_fusion.plan(keras.Sequential([layers.Dense(2)]))
        == {}
    )
    np.testing.assert_array_equal(unchanged(model)(x), model(x))


def test_batch_norm_called_with_a_keyword_is_fused():
    model = functional(lambda x: layers.BatchNormalization(name="norm")(inputs=layers.Dense(2, name="kernel")(x)), (3,))
    x = np.ones((2, 3), "float32")
    copy = fused(model)
    assert len(copy.weights) == 2
    np.testing.assert_allclose(copy(x), model(x, training=False), atol=1e-5)


@pytest.mark.parametrize("name", ["mobilenet_v2", slow("resnet50")])
def test_served_deep_networks_contain_no_batch_norm(name):
    model = trained(zoo.build(name, input_shape=(32, 32, 3), num_classes=4))
    norms = [layer.name for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    pairs = batch_norm_fusion.plan(model)
    assert sorted(pairs.values()) == sorted(norms) and len(norms) > 50
    copy = fused(model)
    x = tf.constant(rng(3).uniform(0, 255, (2, 32, 32, 3)).astype("float32"))
    ours, theirs = copy(x), model(x, training=False)
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * float(tf.reduce_max(tf.abs(theirs))))


@pytest.fixture(scope="module")
def normalized():
    """A model with batch norm after a kernel, and its interface."""
    prepared = zoo.datasets.load("digits").prepare("mlp")
    inputs = keras.Input(prepared.arguments["input_shape"], name="image")
    x = layers.BatchNormalization(name="norm")(layers.Conv2D(3, 5, strides=3, name="kernel")(inputs))
    features = layers.Dense(6, name="features")(layers.Flatten()(layers.ReLU()(x)))
    outputs = layers.Dense(10, activation="softmax", name="probabilities")(features)
    return trained(keras.Model(inputs, outputs)), prepared.interface


def saved(normalized, path):
    """Returns the facts in zoo.json, the weights check in verification.json, and the ops of the graph."""
    path = zoo.export.save(normalized[0], path, interface=normalized[1])
    facts, verdict = (json.loads((path / "assets.extra" / n).read_text()) for n in ("zoo.json", "verification.json"))
    (weights,) = (check["detail"] for check in verdict["checks"] if check["name"] == "weights")
    ops = operations.scan(operations.read(path)).counts
    assert [p.name for p in path.parent.iterdir()] == ["1"]
    return facts, weights, ops


def test_verification_covers_the_fused_weights(normalized, tmp_path):
    facts, weights, ops = saved(normalized, tmp_path / "saved")
    assert facts["weights_sha256"] == artifact.weights_hash(normalized[0]) != facts["served_weights_sha256"]
    assert weights == "6 tensors, identical to the trained model's with batch norm fused"
    assert facts["form"]["name"] == "served" and "Rsqrt" not in ops


@pytest.mark.slow
def test_a_model_that_fusion_would_change_is_saved_unfused(normalized, tmp_path, monkeypatch):
    """Each rounding error is small, but together they can exceed the tolerance."""
    together = batch_norm_fusion._together
    monkeypatch.setattr(batch_norm_fusion, "_together", lambda *pair: [w * 1.01 for w in together(*pair)])
    facts, weights, ops = saved(normalized, tmp_path / "saved")
    assert facts["served_weights_sha256"] == facts["weights_sha256"]
    assert weights == "10 tensors, identical to the trained model's"
    assert facts["form"]["name"] == "unfused" and "Rsqrt" in ops


@pytest.mark.slow
def test_messages_name_the_fault_of_a_user_model(tmp_path):
    """The message reports a missing name of the last layer, and names the layer whose weights are not finite."""
    prepared = zoo.datasets.load("digits").prepare("mlp")

    def own(name=None):
        inputs = keras.Input(prepared.arguments["input_shape"])
        x = layers.Dense(4, name="features")(layers.Flatten()(inputs))
        return keras.Model(
            inputs, layers.Dense(10, activation="softmax", name=name)(layers.BatchNormalization(name="norm")(x))
        )

    with pytest.raises(
        zoo.UsageError, match=r"ends with a layer named 'dense.*'; expected 'probabilities' or 'logits'"
    ):
        zoo.export.save(own(), tmp_path / "saved", interface=prepared.interface)
    model = own("probabilities")
    model.get_layer("norm").moving_mean.assign([np.nan] * 4)
    with pytest.raises(zoo.UsageError, match="Check the training: weights of the layer 'norm' are NaN or infinite"):
        zoo.export.save(model, tmp_path / "saved", interface=prepared.interface)
