"""The architectures of `keras.applications`: equal parameter counts, scaling, and outputs from the same file."""

from __future__ import annotations

import functools
from pathlib import Path

import keras
import numpy as np
import pytest

import zoo
from zoo import checkpoints
from zoo.layers.images import ImageNetScaling

applications = keras.applications

# name: (the model in keras.applications, its scaling of 0 to 255, other arguments of both)
FAMILIES = {
    "resnet50": (applications.ResNet50, applications.resnet50.preprocess_input, {}),
    "vgg16": (applications.VGG16, applications.vgg16.preprocess_input, {}),
    "mobilenet_v2": (applications.MobileNetV2, applications.mobilenet_v2.preprocess_input, {"alpha": 0.35}),
}
every_family = pytest.mark.parametrize("name", FAMILIES)
# ResNet-50 is large, and shares all code with the other two.
every_family_but_the_largest_slowly = pytest.mark.parametrize(
    "name", ["vgg16", "mobilenet_v2", pytest.param("resnet50", marks=pytest.mark.slow)]
)


@pytest.fixture(autouse=True)
def same_start():
    keras.utils.set_random_seed(0)


def theirs(name: str, size: int = 32, classes: int = 4, **changes) -> keras.Model:
    build, _, arguments = FAMILIES[name]
    return build(weights=None, input_shape=(size, size, 3), classes=classes, **arguments, **changes)


def settle(model: keras.Model, images: np.ndarray) -> None:
    """Sets the statistics of every normalization to those of the images; the initial ones suppress nearly all signal."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(images, training=True)


def ours(name: str, size: int = 32, num_classes: int = 4, channels: int = 3, **changes) -> keras.Model:
    arguments = {**FAMILIES[name][2], **changes}
    return zoo.build(name, input_shape=(size, size, channels), num_classes=num_classes, **arguments)


def levels(size: int = 32, channels: int = 3, batch: int = 3) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (batch, size, size, channels)).astype(np.float32)


@functools.cache
def grey(name: str) -> keras.Model:
    """Returns this package's model for grey images; tests must not change it. No other model has its seed."""
    keras.utils.set_random_seed(8)
    return ours(name, channels=1)


def scaled(name: str, images: np.ndarray) -> np.ndarray:
    return np.asarray(grey(name).get_layer("scaling")(images / 255))


@functools.cache
def source(name: str) -> keras.Model:
    """Returns Keras's model with the statistics of some images; tests must not change it. No other has its seed."""
    images = scaled(name, levels())
    keras.utils.set_random_seed(7)
    model = theirs(name)
    settle(model, images)
    return model


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """Returns a function that writes Keras's MobileNetV2 to a file, and this package's model with its weights."""
    folder = tmp_path_factory.mktemp("files")

    @functools.cache
    def load(suffix: str) -> tuple[str, keras.Model]:
        file = write(source("mobilenet_v2"), folder / f"theirs{suffix}")
        return file, ours("mobilenet_v2", weights=file)

    return load


def answers(model: keras.Model, images: np.ndarray) -> np.ndarray:
    return np.asarray(model(images, training=False))


def same_layer(a: keras.Model, b: keras.Model, name: str, other: str | None = None) -> bool:
    first, second = a.get_layer(name).get_weights(), b.get_layer(other or name).get_weights()
    return len(first) == len(second) and all(np.array_equal(x, y) for x, y in zip(first, second, strict=True))


# --- Scaling ----------------------------------------------------------------------------------------------------------

IMAGENET = applications.imagenet_utils.preprocess_input


@pytest.mark.parametrize("mode", ["caffe", "tf", "torch"])
@pytest.mark.parametrize("channels", [1, 3])
def test_scaling_equals_keras(mode, channels):
    images = levels(5, channels)
    expected = IMAGENET(np.repeat(images, 3 // channels, axis=-1), mode=mode)
    found = np.asarray(ImageNetScaling(mode)(images / 255))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=3e-5 if mode == "caffe" else 1e-6)


@every_family_but_the_largest_slowly
def test_every_family_scales_like_its_keras_preprocessing(name):
    images = levels(32)
    expected = FAMILIES[name][1](images.copy())
    np.testing.assert_allclose(scaled(name, images), expected, rtol=1e-6, atol=3e-5)


def test_scaling_is_restored_from_config_and_works_in_half_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        layer = ImageNetScaling("caffe", name="scaling")
    finally:
        keras.config.set_dtype_policy("float32")
    again = ImageNetScaling.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    images = levels(4)
    np.testing.assert_array_equal(np.asarray(layer(images / 255)), np.asarray(again(images / 255)))
    assert (
        len(np.unique(np.asarray(layer(np.arange(256, dtype=np.float32).reshape(1, 16, 16, 1) / 255))[..., 0])) == 256
    )


def test_unknown_modes_and_channels_are_rejected():
    with pytest.raises(zoo.UsageError, match=r"^mode is 'cafe'. Did you mean 'caffe' or 'half'\?$"):
        ImageNetScaling("cafe")
    with pytest.raises(zoo.UsageError, match=r"have 4 channels; expected 1 \(grey\) or 3 .* Pass one of them\.$"):
        ImageNetScaling("tf")(np.zeros((1, 8, 8, 4)))


# --- Equality of the models -------------------------------------------------------------------------------------------


@every_family_but_the_largest_slowly
def test_parameter_counts_equal_keras(name):
    model = grey(name)
    assert model.count_params() == source(name).count_params(), "grey is repeated, the architecture stays"
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert bool(norms) == ("batch_norm_momentum" in zoo.get_spec(name).parameters)
    assert all(norm.synchronized and norm.momentum == 0.9 for norm in norms)


# Common file formats: the weights, the whole model, and the whole model as written by Keras 2.
FILES = {
    "resnet50": "theirs.keras",
    "vgg16": "theirs.weights.h5",
    "mobilenet_v2": "theirs.h5",
}


def write(model: keras.Model, file: Path) -> str:
    (model.save_weights if file.name.endswith(".weights.h5") else model.save)(file)
    return str(file)


@every_family_but_the_largest_slowly
def test_a_keras_file_gives_the_outputs_of_keras(name, loaded, tmp_path):
    images = levels()
    # Both get exactly the same numbers: where a channel hardly varies, the last bit would change the output.
    expected = answers(source(name), scaled(name, images))
    assert expected.std(axis=0).max() > 0.001, "the answers to different images differ"
    found = loaded(".h5")[1] if name == "mobilenet_v2" else None
    model = found or ours(name, weights=write(source(name), tmp_path / FILES[name]))
    np.testing.assert_allclose(answers(model, images / 255), expected, atol=1e-4)


def test_grey_images_are_repeated_to_three_channels(loaded):
    file, model = loaded(".weights.h5")
    images = levels(channels=1) / 255
    expected = answers(model, np.repeat(images, 3, axis=-1))
    np.testing.assert_allclose(answers(ours("mobilenet_v2", channels=1, weights=file), images), expected, atol=1e-6)


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5", ".keras"])
def test_files_of_every_format_give_the_same_weights(suffix, loaded):
    _, model = loaded(suffix)
    assert same_layer(model, source("mobilenet_v2"), "Conv1")
    assert same_layer(model, source("mobilenet_v2"), "block_16_project_BN")
    assert same_layer(model, source("mobilenet_v2"), "probabilities", "predictions")


def test_another_number_of_classes_loads_all_but_the_last_layer(loaded, capsys):
    file, _ = loaded(".weights.h5")
    keras.utils.set_random_seed(3)
    fresh = ours("mobilenet_v2", num_classes=9)
    keras.utils.set_random_seed(3)
    model = ours("mobilenet_v2", num_classes=9, weights=file)
    layers = "Loaded 104 of 105 layers from {}, Conv1 to Conv_1_bn; probabilities starts from random weights.\n"
    assert capsys.readouterr().out.endswith(layers.format(file))
    assert model.output_shape == (None, 9)
    for layer in source("mobilenet_v2").layers[:-1]:
        if layer.weights:
            assert same_layer(source("mobilenet_v2"), model, layer.name), layer.name
    assert same_layer(fresh, model, "probabilities"), "drawn anew, by the seed"


@pytest.mark.parametrize("suffix", [".h5", pytest.param(".weights.h5", marks=pytest.mark.slow)])
def test_a_file_without_the_top_is_loaded(suffix, tmp_path, capsys):
    body = theirs("mobilenet_v2", include_top=False)
    model = ours("mobilenet_v2", weights=write(body, tmp_path / f"body{suffix}"))
    assert "; probabilities starts from random weights.\n" in capsys.readouterr().out
    assert all(same_layer(body, model, layer.name) for layer in body.layers if layer.weights)


def test_dense_layers_of_another_image_size_are_initialized_randomly(tmp_path, capsys):
    small = source("vgg16")
    model = ours("vgg16", size=64, weights=write(small, tmp_path / "small.weights.h5"))
    assert (
        "block1_conv1 to block5_conv3; fc1, fc2, probabilities start from random weights.\n" in capsys.readouterr().out
    )
    assert same_layer(small, model, "block1_conv1")
    assert same_layer(small, model, "block5_conv3")
    assert not same_layer(small, model, "fc2"), "what reads new features starts anew too"


def test_weights_can_be_loaded_from_a_model_of_this_package(tmp_path, capsys):
    first = grey("mobilenet_v2")
    first.save(tmp_path / "model.keras")
    capsys.readouterr()
    again = ours("mobilenet_v2", weights=str(tmp_path / "model.keras"))
    assert "Loaded 105 of 105 layers" in (said := capsys.readouterr().out) and "random" not in said
    assert all(np.array_equal(a, b) for a, b in zip(first.get_weights(), again.get_weights(), strict=True))


def load_again(name: str, weights) -> None:
    """Loads weights into the shared model, as its builder does; only for weights that are rejected."""
    checkpoints.find(name, weights).load(grey(name))


def test_invalid_weight_files_are_rejected(tmp_path):
    (tmp_path / "text.h5").write_text("no weights")
    with pytest.raises(zoo.UsageError, match=r"text.h5 is not a file of Keras weights \(.*\)\. Pass a \.weights\.h5"):
        load_again("mobilenet_v2", str(tmp_path / "text.h5"))
    with pytest.raises(
        zoo.UsageError,
        match=r"^weights: there is no file 'imagenetto'\. Pass 'imagenet' to download the weights of keras",
    ):
        ours("mobilenet_v2", weights="imagenetto")
    with pytest.raises(
        zoo.UsageError, match=r"^No weights are published for alpha=0\.1\. Choose one of 0\.35, 0\.5, .*1\.4,"
    ):
        ours("mobilenet_v2", alpha=0.1, weights="imagenet")
    with pytest.raises(zoo.UsageError, match=r"^weights is .*; expected the path of a file as text. Pass weights='"):
        load_again("mobilenet_v2", tmp_path / "text.h5")


def test_a_file_of_another_architecture_is_rejected(loaded):
    file, _ = loaded(".weights.h5")
    before = grey("vgg16").get_weights()
    with pytest.raises(
        zoo.UsageError, match=r"holds 105 layers of weights; vgg16 has 16, 13 without those on top. Pass a"
    ):
        load_again("vgg16", file)
    assert all(np.array_equal(a, b) for a, b in zip(before, grey("vgg16").get_weights(), strict=True))
    message = (
        r"theirs.weights.h5 does not fit mobilenet_v2: Conv1 is \[\(3, 3, 3, 16\)\], Conv1 is \[\(3, 3, 3, 24\)\]. Pass"
    )
    with pytest.raises(zoo.UsageError, match=message):
        ours("mobilenet_v2", weights=file, alpha=0.75)


# --- Settings ---------------------------------------------------------------------------------------------------------


@every_family
def test_too_small_images_are_rejected(name):
    message = (
        r"^An image of 32x31 is too small: it is halved five times, which needs at least 32x32\. "
        r"Pass input_shape=\[32, 32, 1\], say\.$"
    )
    with pytest.raises(zoo.UsageError, match=message):
        zoo.build(name, input_shape=(32, 31, 1), num_classes=3)
    with pytest.raises(zoo.UsageError, match="Images have 2 channels; expected 1"):
        zoo.build(name, input_shape=(32, 32, 2), num_classes=3)


@every_family
def test_the_smallest_image_size_equals_keras(name):
    with pytest.raises(ValueError, match="at least 32x32"):
        FAMILIES[name][0](weights=None, include_top=False, input_shape=(31, 31, 3))


@pytest.mark.parametrize("wrong", [0, -1.0, "wide", None, True])
def test_invalid_alpha_is_rejected(wrong):
    with pytest.raises(zoo.UsageError, match=r"^alpha is .*; expected a factor above 0\. Pass alpha=1\.0, say\.$"):
        ours("mobilenet_v2", alpha=wrong)


@pytest.mark.slow
def test_normalization_keeps_its_settings():
    model = ours("mobilenet_v2", batch_norm_momentum=0.8)
    again = type(model).from_config(model.get_config())
    norms = [layer for layer in again.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(norms) > 40
    assert all(norm.synchronized and norm.momentum == 0.8 for norm in norms)
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(answers(again, levels() / 255), answers(model, levels() / 255))


def test_invalid_momentum_is_rejected():
    with pytest.raises(zoo.UsageError, match=r"momentum is 1\.0; expected a fraction"):
        ours("mobilenet_v2", batch_norm_momentum=1.0)


SYNCHRONISED = """
import numpy as np
import keras
import tensorflow as tf
import zoo

strategy = zoo.strategy("mirrored", replicas=2)
images = np.random.default_rng(0).uniform(size=(8, 32, 32, 1)).astype("float32")


def statistics(strategy, parts):
    with strategy.scope():
        keras.utils.set_random_seed(0)
        model = zoo.build_mobilenet_v2_model((32, 32, 1), 3, alpha=0.1)
    each = strategy.experimental_distribute_values_from_function(lambda c: parts[c.replica_id_in_sync_group])
    tf.function(lambda: strategy.run(lambda x: model(x, training=True), (each,)))()
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    return [np.asarray(norm.moving_mean) for norm in norms]


two = statistics(strategy, [tf.constant(images[:4]), tf.constant(images[4:])])
one = statistics(tf.distribute.OneDeviceStrategy("/cpu:0"), [tf.constant(images)])
assert any(mean.any() for mean in one)
print(max(float(abs(a - b).max()) for a, b in zip(one, two, strict=True)))
"""


@pytest.mark.slow
def test_two_replicas_normalize_like_one_device(run_python):
    done = run_python(SYNCHRONISED, kind="zoo", TF_CPP_MIN_LOG_LEVEL="3")
    assert float(done.stdout.splitlines()[-1]) < 1e-5
