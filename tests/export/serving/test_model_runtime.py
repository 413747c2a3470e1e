"""Artifacts whose model another runtime computes, between TensorFlow's preprocessing and labels."""

from __future__ import annotations

import numpy as np
import pytest

from served_models import serving
from zoo.errors import UsageError
from zoo.export.golden_questions import questions
from zoo.export.loading import LoadedModel
from zoo.export.serving import model_runtime
from zoo.export.serving.settings import Settings


def computed(artifacts, name, folder, change=lambda values: values):
    """Makes a function of Python compute the model: the artifact's own, changed."""
    path = artifacts[name] / "1"
    own, model = LoadedModel(path), LoadedModel(path)
    calls = []

    def answer(inputs):
        calls.append(len(next(iter(inputs.values()))))
        return {key: change(value) for key, value in own(inputs, "predict").items()}

    model_runtime.call(model, "openvino", answer, folder, questions(path))
    return model, calls


@pytest.mark.parametrize(
    "name", ["iris", *(pytest.param(name, marks=pytest.mark.slow) for name in ("digits", "commands"))]
)
def test_every_signature_calls_the_function_for_its_model(artifacts, name, tmp_path):
    model, calls = computed(artifacts, name, tmp_path)
    own = LoadedModel(artifacts[name] / "1")
    for signature, question in questions(artifacts[name] / "1").items():
        part = {key: value[:5] for key, value in question.inputs.items()}
        before = len(calls)
        got, want = model(part, signature), own(part, signature)
        uses_model = signature != "features"  # which ends before the model's outputs
        assert (len(calls) > before) == uses_model, signature
        for key, value in want.items():
            if value.dtype == object:
                assert got[key].tolist() == value.tolist()
            else:
                np.testing.assert_allclose(got[key], value, atol=1e-6)


def test_other_outputs_are_not_served(artifacts, tmp_path):
    message = r"is not served by OpenVINO, because its outputs differ from the trained model's: .*Leave --runtime out"
    with pytest.raises(UsageError, match=message):
        computed(artifacts, "iris", tmp_path, lambda values: values * 1.01)


def test_unknown_runtimes_are_rejected():
    with pytest.raises(UsageError, match=r"runtime is 'openvin'\. Did you mean 'openvino'"):
        Settings(runtime="openvin")


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_a_server_answers_with_another_runtime(artifacts, client, runtime):
    pytest.importorskip(runtime)
    with serving({name: artifacts[name] for name in ("digits", "commands", "iris")}, runtime=runtime) as other:
        for name in ("digits", "commands", "iris"):
            version = client.repository.model(name).version()
            for signature, info in version.signatures.items():
                batch = {key: value[:7] for key, value in info.golden.items()}
                want = version.model(batch, signature)
                got = other.repository.model(name).version().model(batch, signature)
                for key, value in want.items():
                    if value.dtype == object:
                        assert got[key].tolist() == value.tolist()
                    else:
                        np.testing.assert_allclose(got[key], value, atol=1e-5)
        body = {"instances": ["turn the light on"]}
        got, want = (one.post("/v1/models/commands:predict", body)[1]["predictions"] for one in (other, client))
        assert got[0]["class_name"] == want[0]["class_name"]
