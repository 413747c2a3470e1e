"""A network in which rounding grows from layer to layer is exported with a tolerance that says so, or refused."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import zoo
from zoo import storage
from zoo.errors import UsageError
from zoo.export import live
from zoo.export.graph import forms
from zoo.export.keras_models.interface import interface_of
from zoo.export.verification import Verification

L = keras.layers
EXAMPLES = np.random.default_rng(0).normal(size=(64, 64)).astype("float32")


def growing(depth):
    """Each layer multiplies small differences."""
    keras.utils.set_random_seed(0)
    start = keras.initializers.RandomNormal(stddev=0.3)
    layers = [L.Dense(64, activation="tanh", kernel_initializer=start) for _ in range(depth)]
    return keras.Sequential([keras.Input((64,)), *layers, L.Dense(2)])


def test_the_effect_of_the_last_bit_of_the_weights_is_measured_and_the_weights_stay():
    found = {}
    for depth in (2, 20, 60):
        network, interface, _ = interface_of(growing(depth), EXAMPLES)
        before = network.get_weights()
        found[depth] = live.own_rounding(network, interface, live.golden(network, interface))
        assert all(np.array_equal(a, b) for a, b in zip(before, network.get_weights(), strict=True))
    assert found[2] < 2e-6 < 1e-5 < found[20] < forms.MOST_ROUNDING < found[60]

    assert forms.allowing(forms.FORMS, found[2]) == forms.allowing(forms.FORMS, found[60]) == ()
    assert forms.allowing(forms.FORMS, float("nan")) == ()
    (served, _) = forms.allowing(forms.FORMS, found[20])
    assert served.tolerance == forms.ROUNDING + 4 * found[20]
    assert served.reason.endswith(f"the trained model's own outputs by {found[20]:.1e}")


@pytest.mark.slow
def test_the_artifact_says_what_it_allows_and_why(tmp_path):
    path = zoo.export.save(growing(20), tmp_path / "deep", examples=EXAMPLES)
    form = storage.read_json(path / "assets.extra/zoo.json")["form"]
    assert form["name"] == "served" and 1e-5 < form["tolerance"] < 4e-4
    verification = Verification.read(path)
    (claim,) = [check for check in verification.checks if check.name == "form"]
    assert verification.passed and claim.detail.startswith(
        f"served allows outputs to differ by {form['tolerance']:g}: "
    )

    with pytest.raises(UsageError, match="last bit, so rounding alone decides its answers") as refused:
        zoo.export.save(growing(60), tmp_path / "deeper", examples=EXAMPLES)
    assert "Check the training: the model's own outputs change by" in str(refused.value)
    assert not (tmp_path / "deeper").exists()
