"""`head_first`: the last layer is solved for from features that are computed once, then all weights are trained."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import zoo
from zoo.recommended.images import fine_tuning_of_images
from zoo.registry import Situation

SIZES = {"patch_size": 8, "hidden_size": 12, "num_layers": 1, "num_heads": 2, "intermediate_size": 16}
STILL = 1e-12
"""A learning rate that changes no float32 weight of this size."""


@pytest.fixture(scope="module")
def prepared():
    return zoo.datasets.load("digits", examples_per_class=6).prepare("vit", input_shape=[16, 16, 1], **SIZES)


def test_the_last_layer_is_that_of_scikit_learn_and_the_body_stays(prepared, capsys):
    model = prepared.build(seed=0)
    before = {layer.name: layer.get_weights() for layer in model.layers}
    zoo.train(model, prepared, zoo.TrainConfig(epochs=1, head_first=True, learning_rate=STILL))
    said = capsys.readouterr().out
    assert "Phase 1 of 2: solves for the last layer, from the features of 60 examples.\n" in said
    assert f"Phase 2 of 2: trains {model.count_params():,} parameters.\n" in said
    for layer in model.layers[:-1]:
        for old, new in zip(before[layer.name], layer.get_weights(), strict=True):
            np.testing.assert_allclose(old, new, atol=1e-6)
    inputs, targets, _ = next(iter(prepared.batches("train", 60)))
    body = keras.Model(model.input, model.get_layer("features").output)
    features = np.asarray(body(inputs["image"]), np.float64)
    features -= features.mean(axis=0)
    features /= np.sqrt((features**2).sum(axis=1).mean())
    reference = LogisticRegression(C=100.0, max_iter=1_000).fit(features, targets["label"])
    np.testing.assert_allclose(model(inputs["image"]), reference.predict_proba(features), atol=0.02)


def test_phases_run_once_in_a_run_that_is_resumed(prepared, tmp_path, capsys):
    config = zoo.TrainConfig(epochs=1, head_first=True)
    zoo.train(prepared.build(seed=0), prepared, config, run_directory=tmp_path / "run")
    assert "Phase 1 of 2" in capsys.readouterr().out
    zoo.train(prepared.build(seed=0), prepared, config, run_directory=tmp_path / "run")
    assert "training is done" in (said := capsys.readouterr().out) and "Phase 1 of 2" not in said


def test_models_without_a_closed_form_are_rejected():
    data = zoo.datasets.load("digits").prepare("mlp")
    with pytest.raises(zoo.UsageError, match=r"^Model 'mlp' has no closed form; only .*vit.* Leave head_first out\.$"):
        zoo.train(data.build(), data, zoo.TrainConfig(epochs=1, head_first=True))
    with pytest.raises(zoo.UsageError, match=r"^head_first=True has no effect with closed_form=true, which does not"):
        zoo.TrainConfig(closed_form=True, head_first=True)


def test_a_class_of_layers_is_frozen():
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3), keras.layers.BatchNormalization(), keras.layers.Dense(2, "softmax")]
    )
    x, y = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32), np.arange(32) % 2
    model.compile("sgd", "sparse_categorical_crossentropy")
    before = [w.copy() for w in model.layers[1].get_weights()]
    first = model.layers[0].get_weights()[0].copy()
    zoo.train(model, (x, y), zoo.TrainConfig(epochs=1, freeze=["BatchNormalization"]), verbose=0)
    for old, new in zip(before, model.layers[1].get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert not np.array_equal(first, model.layers[0].get_weights()[0])


def test_settings_are_recommended_for_published_weights_alone():
    recommend = fine_tuning_of_images("BatchNormalization")
    assert recommend(Situation("image_classification", 200, {"weights": None})) == {}
    found = recommend(Situation("image_classification", 200, {"weights": "imagenet"}))
    assert (found["head_first"], found["freeze"]) == (True, ["BatchNormalization"])
    for name in ("vit", "vgg16", "vgg19", "convnext_tiny"):
        options = zoo.get_spec(name).recommended_options(Situation("image_classification", 9, {"weights": "imagenet"}))
        assert options["freeze"] == [], "it has no batch normalisation, and a pattern that matches nothing is an error"
