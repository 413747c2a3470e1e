"""The small residual network, compared with explicit windows in NumPy, and its recommended options."""

from __future__ import annotations

import numpy as np
import pytest

import zoo
from zoo.errors import UsageError
from zoo.registry import Situation


def convolved(x: np.ndarray, layer) -> np.ndarray:
    """Every window times the kernel, with zeros around the image as TensorFlow's padding `same` adds them."""
    kernel, strides = layer.get_weights()[0].astype(np.float64), layer.strides[0]
    size = len(kernel)
    outputs = [-(-side // strides) for side in x.shape[1:3]]
    pads = [max((n - 1) * strides + size - side, 0) for n, side in zip(outputs, x.shape[1:3], strict=True)]
    x = np.pad(x, [(0, 0), *((pad // 2, pad - pad // 2) for pad in pads), (0, 0)])
    result = np.empty((len(x), *outputs, kernel.shape[-1]))
    for row in range(outputs[0]):
        for column in range(outputs[1]):
            window = x[:, row * strides : row * strides + size, column * strides : column * strides + size]
            result[:, row, column] = np.tensordot(window, kernel, 3)
    return result


def normalised(x: np.ndarray, layer) -> np.ndarray:
    gamma, beta, mean, variance = (weight.astype(np.float64) for weight in layer.get_weights())
    return (x - mean) / np.sqrt(variance + layer.epsilon) * gamma + beta


@pytest.mark.parametrize("shape", [(9, 12, 1), (21, 14, 3)])
def test_the_network_equals_numpy(shape):
    model = zoo.build("resnet_small", input_shape=shape, num_classes=3, filters=(4, 6), dropout=0.0)
    random = np.random.default_rng(0)
    for layer in model.layers:
        if layer.name.endswith("_norm"):
            layer.set_weights([random.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])

    def both(x, name):
        return normalised(convolved(x, model.get_layer(f"{name}_conv")), model.get_layer(f"{name}_norm"))

    images = random.uniform(size=(2, *shape))
    x = np.maximum(both(images, "stem"), 0)
    assert x.shape[1] == (shape[0] if max(shape) <= 16 else -(-shape[0] // 2)), "larger images are halved at once"
    y = both(np.maximum(both(x, "block_1_1"), 0), "block_1_2")
    x = np.maximum(x + y, 0)
    y = both(np.maximum(both(x, "block_2_1"), 0), "block_2_2")
    x = np.maximum(both(x[:, ::2, ::2], "block_2_shortcut") + y, 0).mean(axis=(1, 2))
    kernel, bias = model.get_layer("probabilities").get_weights()
    scores = np.exp(x @ kernel + bias)
    expected = scores / scores.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.predict(images, verbose=0), expected, rtol=1e-4, atol=1e-6)


def test_a_network_without_blocks_is_rejected():
    with pytest.raises(
        UsageError, match=r"filters is empty; expected one number per block\. Pass filters=\[32, 64\]\."
    ):
        zoo.build("resnet_small", input_shape=(8, 8, 1), num_classes=2, filters=[])


def test_epochs_follow_the_pixels_and_few_images_are_augmented():
    recommend = zoo.get_spec("resnet_small").recommended_options

    def options(examples, side, task="image_classification", **facts):
        return recommend(Situation(task, examples, {"input_shape": (side, side, 3)}, facts))

    assert [options(n, 28)["epochs"] for n in (100, 1_300, 10_000, 54_000, 10**6)] == [60, 60, 30, 10, 10]
    assert [options(n, 96)["epochs"] for n in (100, 1_300, 2_800, 9_000)] == [60, 20, 12, 12]
    assert options(9_999, 28)["augmentation"] == ["crop"] and "augmentation" not in options(10_000, 28)
    assert options(500, 96, mirrored=True)["augmentation"] == ["flip", "crop"]
    assert "augmentation" not in options(500, 28, task="image_regression")


def test_larger_images_than_those_of_cnn_are_read(tmp_path):
    x = [np.full((150, 200, 3), n, np.uint8) for n in range(60)]
    data = zoo.datasets.load((np.stack(x), np.arange(60) % 2))
    for model, size in (("resnet_small", (72, 96, 3)), ("cnn", (48, 64, 3))):
        preprocessor = data.prepare(model).preprocessor
        assert preprocessor.shape == size
        assert preprocessor.choices.notes[0] == (
            f"The images have 150 x 200 pixels. The model's input has {size[0]} x {size[1]}: pass --model.input_shape to "
            "choose another size"
        )
