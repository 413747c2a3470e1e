"""Values of texts and images: outputs in their own units, by name, in the served answer, the card and the report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import zoo
from source_examples import rows
from zoo import other_data
from zoo.export import accuracy, live, metadata
from zoo.export.graph.signatures import served_model
from zoo.tasks import Shown

TINY = {"lstm_units": 3, "embedding_dim": 4}
TEXTS = [f"{'very ' * (n % 7)}old number {n % 10}" for n in range(60)]
PRICES = np.array([[10.0 * (n % 7) + n % 10, 2.0 + n % 10] for n in range(60)])


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "log"])
def prepared(request):
    data = zoo.datasets.from_arrays(TEXTS, PRICES, value_names=["price (EUR)", "age"], log_values=request.param)
    return data.prepare("embedding_lstm", **TINY)


@pytest.fixture(scope="module")
def model(prepared):
    return prepared.build(seed=0)


def test_the_outputs_are_values_in_their_own_units(prepared, model):
    interface = prepared.interface
    signature = live.signatures(model, interface)["serving_default"]
    requests = {"text": tf.constant(interface.examples.requests["text"].tolist())}
    answer = signature(requests)
    assert list(answer) == ["price (EUR)", "age"]
    train = np.stack([example["value"] for example in rows(prepared.data, "train")]).astype(np.float64)
    train = np.log1p(train) if prepared.preprocessor.targets.log else train
    inputs = prepared.preprocessor.serve(requests)[0]["token_ids"]
    outputs = model(inputs).numpy() * train.std(axis=0) + train.mean(axis=0)
    expected = np.expm1(outputs) if prepared.preprocessor.targets.log else outputs
    np.testing.assert_allclose(np.stack(list(answer.values()), axis=1), expected, rtol=1e-4, atol=1e-4)


def test_the_metadata_describes_the_values(prepared, model, tmp_path):
    _, signatures = served_model(model, prepared.interface, tmp_path, None)
    described = metadata._describe("serving_default", signatures["serving_default"], prepared.interface)
    assert described["outputs"]["age"]["description"] == "the predicted age, in its own unit"
    assert described["shown"]["outputs"] == ("price (EUR)", "age"), "in the order of the data"
    answer = {"age": np.float32(3), "price (EUR)": np.float32(20.5), "tokens": np.array(["a"])}
    assert Shown(**described["shown"]).format(answer, []) == "price (EUR) 20.5, age 3"
    of_model = metadata._describe("predict", signatures["predict"], prepared.interface)["outputs"]["values"]
    mean, deviation = prepared.preprocessor.targets.mean, prepared.preprocessor.targets.deviation
    formula = f"age = {mean[1]:.9g} + {deviation[1]:.9g} x"
    assert formula in of_model["description"]
    assert ("which is the logarithm" in of_model["description"]) == prepared.preprocessor.targets.log


def test_the_report_is_in_the_values_own_units(prepared, model):
    report = zoo.evaluate(model, prepared)
    assert [target["name"] for target in report["targets"]] == ["price (EUR)", "age"]
    signature = live.signatures(model, prepared.interface)["serving_default"]
    examples = rows(prepared.data, "test")
    answer = signature({"text": tf.constant([example["text"] for example in examples])})
    for k, (name, found) in enumerate(answer.items()):
        true = np.array([example["value"][k] for example in examples])
        assert report["targets"][k]["mae"] == pytest.approx(np.abs(found.numpy() - true).mean(), rel=1e-4), name
    json.dumps(report, allow_nan=False)


def test_the_score_of_several_values_has_no_unit(prepared, model):
    """Each error is divided by the spread of its value; the score of one value is the report's mean absolute error."""
    measured = accuracy.measure(model, prepared.interface, {})
    signature = live.signatures(model, prepared.interface)["serving_default"]
    answer = signature({"text": tf.constant(measured.requests["text"].tolist())})
    gaps = np.abs(np.stack([part.numpy() for part in answer.values()], axis=1) - measured.targets)
    assert measured.figure == pytest.approx((gaps / measured.targets.std(axis=0)).mean(), rel=1e-4)
    assert measured.is_worse(measured.figure + 1.01 * measured.allowed, measured.figure)


def test_other_data_has_the_values_of_the_run_in_its_order(prepared):
    turned = zoo.datasets.from_arrays(TEXTS, PRICES[:, ::-1], value_names=["age", "price (EUR)"])
    said = (
        r"has the values age, price \(EUR\); the run in run predicts price \(EUR\), age, in this order. Pass columns="
    )
    with pytest.raises(zoo.UsageError, match=said):
        other_data._check_targets(turned, prepared.interface, Path("run"))
    other_data._check_targets(prepared.data, prepared.interface, Path("run"))
