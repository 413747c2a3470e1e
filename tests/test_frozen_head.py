"""The last layer that is solved at once: equal to scikit-learn on the features of the model's own body."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, RidgeCV

import zoo
from zoo.frozen_head import solve_head


def small(num_classes: int, activation: str | None = "softmax"):
    keras.utils.set_random_seed(0)
    sizes = {
        "hidden_size": 8,
        "num_layers": 1,
        "num_heads": 2,
        "intermediate_size": 8,
        "max_length": 12,
        "pooling": "mean",
    }
    model = zoo.build("bert", vocab_size=30, num_classes=num_classes, classifier_activation=activation, **sizes)
    for weight in model.weights:
        weight.assign_add(np.random.default_rng(5).normal(size=weight.shape) * 0.2)
    rng = np.random.default_rng(0)
    mask = (np.arange(9) < rng.integers(2, 10, (150, 1))).astype(np.int32)
    inputs = {
        "token_ids": rng.integers(1, 30, (150, 9)).astype(np.int32),
        "token_type_ids": 0 * mask,
        "padding_mask": mask,
    }
    body = keras.Model(model.inputs, model.layers[-1].input)
    return model, inputs, body.predict(inputs, verbose=0).astype(np.float64), rng


def scaled(features):
    features = features - features.mean(axis=0)
    return features / np.sqrt((features**2).sum(axis=1).mean())


def test_one_label_is_logistic_regression():
    model, inputs, features, rng = small(4)
    labels = rng.integers(0, 4, 150)
    before = [np.array(weight) for weight in model.weights[:-2]]
    solve_head(model, inputs, {"label": labels})
    reference = LogisticRegression(C=100.0, max_iter=500).fit(scaled(features), labels)
    np.testing.assert_allclose(model.predict(inputs, verbose=0), reference.predict_proba(scaled(features)), atol=2e-3)
    for old, new in zip(before, model.weights[:-2], strict=True):
        np.testing.assert_array_equal(old, new)


def test_two_labels_and_labels_without_examples():
    model, inputs, features, rng = small(3, None)
    labels = 2 * rng.integers(0, 2, 150)
    solve_head(model, inputs, {"label": labels})
    logits = model.predict(inputs, verbose=0)
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    reference = LogisticRegression(C=100.0, max_iter=500).fit(scaled(features), labels)
    np.testing.assert_allclose(chances[:, [0, 2]], reference.predict_proba(scaled(features)), atol=2e-3)
    assert chances[:, 1].max() < 1e-6
    with pytest.raises(
        zoo.UsageError, match=r"^All training examples have the same label, so nothing can be solved\. Pass"
    ):
        solve_head(model, inputs, {"label": np.ones(150, int)})


def test_several_labels_are_a_regression_each():
    model, inputs, features, rng = small(3, "sigmoid")
    labels = rng.integers(0, 2, (150, 3)).astype(np.float32)
    labels[:, 2] = 0
    solve_head(model, inputs, {"labels": labels})
    chances = model.predict(inputs, verbose=0)
    for number in range(2):
        reference = LogisticRegression(C=100.0, max_iter=500).fit(scaled(features), labels[:, number])
        np.testing.assert_allclose(chances[:, number], reference.predict_proba(scaled(features))[:, 1], atol=2e-3)
    assert chances[:, 2].max() < 1e-6


def test_values_are_ridge_regression():
    model, inputs, features, rng = small(2, "linear")
    values = (features[:, :2] @ rng.normal(size=(2, 2)) + 0.1 * rng.normal(size=(150, 2))).astype(np.float32)
    solve_head(model, inputs, {"value": values})
    reference = RidgeCV(alphas=np.logspace(-4, 6, 31), alpha_per_target=True).fit(scaled(features), values)
    np.testing.assert_allclose(model.predict(inputs, verbose=0), reference.predict(scaled(features)), atol=1e-3)


def test_a_run_solves_the_head_and_keeps_the_body(tmp_path):
    sizes = {
        "hidden_size": 16,
        "num_layers": 1,
        "num_heads": 2,
        "intermediate_size": 16,
        "max_length": 20,
        "pooling": "mean",
    }
    config = {"closed_form": True}
    directory = tmp_path / "run"
    result = zoo.run(
        "bert", "commands", config=config, model_arguments=sizes, run_directory=directory, export=False, verbose=0
    )
    assert result.report["accuracy"] > 2 * result.report["baseline"]["accuracy"]
    with zoo.strategy("one_device").scope():
        fresh = result.prepared.build(seed=0)
    for old, new in zip(fresh.weights[:-2], result.model.weights[:-2], strict=True):
        np.testing.assert_array_equal(old, new)
    with pytest.raises(zoo.UsageError, match=r"^class_weights='balanced' has no effect with closed_form=true"):
        zoo.TrainConfig(closed_form=True, class_weights="balanced")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.Softmax(name="end")])
    with pytest.raises(zoo.UsageError, match=r"ends with the layer 'end'; expected a dense layer with a bias"):
        solve_head(model, {"x": np.ones((4, 3), np.float32)}, {"label": np.arange(4) % 2})
