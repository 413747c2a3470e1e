"""The named architectures of `keras.applications`: outputs, parameters, files and hashes equal to Keras's."""

from __future__ import annotations

import inspect
import json
import sys

import keras
import numpy as np
import pytest

import zoo
from selection import slow
from zoo import checkpoints, model_archive
from zoo.models.keras_application import architectures

NAMES = list(architectures())
_QUICK = "mobilenet_v3_small"


@pytest.fixture(autouse=True)
def same_start():
    keras.utils.set_random_seed(0)


def builder(name: str):
    return getattr(keras.applications, architectures()[name].builder)


def preprocessed(name: str, images: np.ndarray) -> np.ndarray:
    module = sys.modules[inspect.unwrap(builder(name)).__module__]
    return module.preprocess_input(images.copy())


def theirs(name: str, images: np.ndarray) -> keras.Model:
    """Returns Keras's model with the statistics of the images, and of ImageNet where it scales by weights."""
    model = builder(name)(weights=None, input_shape=images.shape[1:], classes=4)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
        if isinstance(layer, keras.layers.Normalization) and layer.weights:
            layer.adapt_mean.assign([0.485, 0.456, 0.406])
            layer.adapt_variance.assign(np.square([0.229, 0.224, 0.225]))
            layer.finalize_state()
    model(preprocessed(name, images), training=True)
    last = model.layers[-1]
    if isinstance(
        last, keras.layers.Dense
    ):  # otherwise the softmax of deep untrained networks says 0 or 1 for every image
        logits = keras.Model(model.inputs, last.input)(preprocessed(name, images)) @ last.kernel
        deviation = keras.ops.std(logits, axis=0)
        last.kernel.assign(last.kernel / deviation)
        last.bias.assign(-keras.ops.mean(logits, axis=0) / deviation)
    return model


@pytest.mark.parametrize("name", [_QUICK, *(slow(name) for name in NAMES if name != _QUICK)])
def test_a_keras_file_gives_the_outputs_of_keras(name, tmp_path):
    size = max(64, architectures()[name].smallest)
    images = np.random.default_rng(0).integers(0, 256, (3, size, size, 3)).astype(np.float32)
    source = theirs(name, images)
    source.save(tmp_path / "theirs.h5")
    expected = np.asarray(source(preprocessed(name, images)))
    assert expected.std(axis=0).max() > 1e-3, "the outputs for different images differ"
    model = zoo.build(name, input_shape=images.shape[1:], num_classes=4, weights=str(tmp_path / "theirs.h5"))
    assert model.count_params() == source.count_params()
    # Untrained networks make much of rounding: the last bit of a pixel may move Keras's own outputs.
    nudged = np.asarray(source(preprocessed(name, np.nextafter(images, np.float32(1e9)))))
    np.testing.assert_allclose(model(images / 255), expected, atol=max(2e-5, 5 * np.abs(nudged - expected).max()))
    names = [layer.name for layer in model.layers]
    assert names == [layer.name for layer in zoo.build(name, input_shape=images.shape[1:], num_classes=4).layers]


@pytest.mark.parametrize("name", [_QUICK, *(slow(name) for name in NAMES if name != _QUICK)])
def test_parameters_and_published_files_equal_keras(name, monkeypatch):
    """No weights have values here, so that the largest need no memory."""
    each = architectures()[name]

    def asked(fname, origin=None, **options):
        raise RuntimeError(json.dumps([fname, origin, options.get("file_hash")]))

    monkeypatch.setattr(sys.modules["keras.src.utils.file_utils"], "get_file", asked)
    with model_archive.without_values():
        with pytest.raises(RuntimeError) as error:
            builder(name)(weights="imagenet")
        model = zoo.build(name, input_shape=(each.size, each.size, 3), num_classes=1000)
        assert model.count_params() == each.parameters
    file = each.published
    cached = file.cached_as or file.url.rpartition("/")[2]
    assert json.loads(str(error.value)) == [cached, file.url, file.hash]


def test_every_architecture_of_keras_has_a_name():
    known = {each.builder for each in architectures().values()} | {"ResNet50", "VGG16", "MobileNetV2"}
    assert known == {name for name in dir(keras.applications) if name[0].isupper()}
    assert all(zoo.get_spec(name).variant_of == "keras_application" for name in NAMES)


def test_invalid_names_sizes_and_files_are_rejected(tmp_path):
    with pytest.raises(zoo.UsageError, match=r"^architecture is 'mobilnet'\. Did you mean 'mobilenet'"):
        zoo.build("keras_application", input_shape=(96, 96, 3), num_classes=2, architecture="mobilnet")
    with pytest.raises(zoo.UsageError, match=r"^An image of 70x96 is too small: the model needs at least 71x71\. Pass"):
        zoo.build("xception", input_shape=(70, 96, 3), num_classes=2)
    with pytest.raises(zoo.UsageError, match=r"^weights: there is no file 'imagenetto'\. Pass 'imagenet' to download"):
        checkpoints.find("keras_application", "imagenetto").load(
            zoo.build(_QUICK, input_shape=(32, 32, 3), num_classes=2)
        )
