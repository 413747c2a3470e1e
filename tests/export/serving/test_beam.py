"""The handler for Apache Beam's RunInference, on the runner of one machine."""

import pickle
import re

import numpy as np
import pytest

import zoo
from zoo.errors import UsageError
from zoo.scripts import cli

beam = pytest.importorskip("apache_beam", reason="Apache Beam is not installed")


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    run = tmp_path_factory.mktemp("beam") / "commands"
    words = [
        "train",
        "--model",
        "bag_of_ngrams",
        "--data",
        "commands",
        "--config.epochs",
        "3",
        "--run_directory",
        str(run),
    ]
    assert cli.main([*words, "--quiet", "--baselines", "none"]) == 0
    return run


def _keep(results, file):
    file.write_bytes(pickle.dumps(results))


def _results(elements, handler, file):
    from apache_beam.ml.inference.base import RunInference

    with beam.Pipeline(runner="DirectRunner") as pipeline:
        results = pipeline | beam.Create(elements) | RunInference(handler)
        results | beam.combiners.ToList() | beam.Map(_keep, file)
    return {result.example: result for result in pickle.loads(file.read_bytes())}


TEXTS = ["turn the light on", "Turn the radio off, please", "radio on", "off", "", "light off"]


@pytest.mark.slow
def test_a_pipeline_answers_as_the_model_does(commands, tmp_path):
    from zoo.export.serving.beam import SavedModelHandler

    texts = [text for text in TEXTS if text]
    found = _results(texts, SavedModelHandler(commands, min_batch_size=2, max_batch_size=3), tmp_path / "a")
    expected = zoo.load(commands).predict(texts)
    assert found.keys() == set(texts)
    for text, answer in zip(texts, expected, strict=True):
        assert found[text].inference["class_name"] == answer["class_name"]
        np.testing.assert_allclose(found[text].inference["probabilities"], answer["probabilities"], atol=1e-6)
        assert found[text].model_id == "saved_model/1"
    features = _results(texts[:2], SavedModelHandler(commands / "saved_model" / "1", "features"), tmp_path / "b")
    wanted = zoo.load(commands).predict(texts[:1], "features")[0]["features"]
    np.testing.assert_allclose(features[texts[0]].inference["features"], wanted, atol=1e-6)


@pytest.mark.slow
def test_an_invalid_element_fails_alone_or_its_batch(commands, tmp_path):
    from zoo.export.serving.beam import SavedModelHandler

    elements = ["radio on", 3.5, "light off"]
    found = _results(elements, SavedModelHandler(commands, errors="return", min_batch_size=3), tmp_path / "a")
    assert "Cannot predict for 3.5" in found[3.5].inference["error"]
    assert found["radio on"].inference["class_name"] == zoo.load(commands).predict(["radio on"])[0]["class_name"]
    with pytest.raises(Exception, match=r"Cannot predict for 3\.5"):
        _results(elements, SavedModelHandler(commands, min_batch_size=3), tmp_path / "b")


def test_other_ways_to_handle_errors_are_rejected():
    from zoo.export.serving.beam import SavedModelHandler

    with pytest.raises(UsageError, match=re.escape("errors is 'skip'; expected 'raise' or 'return'")):
        SavedModelHandler("anywhere", errors="skip")
