"""Artifacts on a server.

Over gRPC with TensorFlow Serving's client stubs, the warm-up requests that TensorFlow Serving replays, and the model card's
Python and C programs.

TensorFlow Serving has no Python package, so these tests run a small server over the loaded SavedModel. It implements
the same interface: the tests prove that the artifact accepts the requests of real clients.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import io
import re
import shutil
import subprocess
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    model_pb2,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.config import model_server_config_pb2

import zoo
from selection import slow
from zoo import storage
from zoo.errors import UsageError
from zoo.export import artifact, live
from zoo.export.extras import request_examples, warmup
from zoo.export.standalone import arrays

ROOT = Path(__file__).resolve().parents[2]
MODELS = {
    "digits": ("mlp", {"hidden_units": (8,), "input_shape": (8, 8, 1)}),
    "commands": ("attention", {"embedding_dim": 8}),
}


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    """A version folder for each model, keyed by data set name."""
    base, found = tmp_path_factory.mktemp("exports"), {}
    for data, (model, arguments) in MODELS.items():
        prepared = zoo.datasets.load(data).prepare(model, **arguments)
        network, found[data] = prepared.build(seed=0), base / data / "1"
        found[data].mkdir(parents=True)
        # Does all that `zoo.export.save` does, except the verification in another process.
        golden = live.golden(network, prepared.interface)
        artifact._write(found[data], network, prepared.interface, golden, {}, {})
    return found


@pytest.fixture(scope="module")
def loaded(versions):
    return {name: tf.saved_model.load(str(version)) for name, version in versions.items()}


@pytest.fixture(scope="module")
def goldens(versions):
    return {name: golden(version) for name, version in versions.items()}


def golden(version):
    return arrays.load(version / "assets.extra" / "golden.npz")


def part(golden, prefix):
    return {key.removeprefix(prefix): value for key, value in golden.items() if key.startswith(prefix)}


def golden_requests(golden, version, signature):
    facts = storage.read_json(version / "assets.extra" / "zoo.json")
    return arrays.examples(golden, facts["signatures"], signature)[0]


def tensor(array):
    return tf.constant(array.tolist(), tf.string) if array.dtype == object else tf.constant(array)


def assert_golden(answer, golden, signature, rows):
    """Compares outputs by name with the first golden rows, which may be padded."""
    expected = part(golden, f"answers/{signature.removesuffix('_portable')}/")
    assert set(answer) == set(expected)
    for name, got in answer.items():
        want = expected[name][:rows]
        if want.ndim > 1:
            want = want[:, : got.shape[1]]
        if want.dtype == object:
            assert got.tolist() == want.tolist()
        else:
            np.testing.assert_allclose(got, want, atol=1e-5)


# ---------------------------------------------------------------- gRPC


class Refused(Exception):
    """A rejected request with its gRPC status."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class Servicer(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Implements TensorFlow Serving's PredictionService over loaded SavedModels."""

    def __init__(self, versions, loaded):
        self.versions, self.loaded = versions, loaded

    def _answer(self, context, function, request):
        try:
            if request.model_spec.name not in self.loaded:
                raise Refused(grpc.StatusCode.NOT_FOUND, f"Servable not found: {request.model_spec.name}")
            return function(request)
        except Refused as error:
            context.abort(error.code, str(error))
        except tf.errors.InvalidArgumentError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.message)

    def Predict(self, request, context):
        return self._answer(context, self._predict, request)

    def _predict(self, request):
        model, name = self.loaded[request.model_spec.name], request.model_spec.signature_name or "serving_default"
        if name not in model.signatures:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"No signature was found with the name {name}")
        function = model.signatures[name]
        specs = function.structured_input_signature[1]
        if set(request.inputs) != set(specs):
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"Inputs {sorted(request.inputs)}, not {sorted(specs)}")
        inputs = {key: tf.make_ndarray(proto) for key, proto in request.inputs.items()}
        for key, value in inputs.items():
            kind = tf.as_dtype(request.inputs[key].dtype)
            if kind != specs[key].dtype or not specs[key].shape.is_compatible_with(value.shape):
                raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"{key} is {kind.name} {value.shape}, not {specs[key]}")
        answer = function(**{key: tf.constant(value, specs[key].dtype) for key, value in inputs.items()})
        response = predict_pb2.PredictResponse(model_spec=request.model_spec)
        for key, value in answer.items():
            response.outputs[key].CopyFrom(tf.make_tensor_proto(value.numpy()))
        return response

    def GetModelMetadata(self, request, context):
        return self._answer(context, self._metadata, request)

    def _metadata(self, request):
        proto = saved_model_pb2.SavedModel()
        proto.ParseFromString((self.versions[request.model_spec.name] / "saved_model.pb").read_bytes())
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for key, signature in proto.meta_graphs[0].signature_def.items():
            signatures.signature_def[key].CopyFrom(signature)
        response = get_model_metadata_pb2.GetModelMetadataResponse(model_spec=request.model_spec)
        response.metadata["signature_def"].Pack(signatures)
        return response


@pytest.fixture(scope="module")
def address(versions, loaded):
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Servicer(versions, loaded), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


@pytest.fixture(scope="module")
def stub(address):
    with grpc.insecure_channel(address) as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


def request(model, inputs, signature=""):
    message = predict_pb2.PredictRequest(model_spec=model_pb2.ModelSpec(name=model, signature_name=signature))
    for key, value in inputs.items():
        message.inputs[key].CopyFrom(value if isinstance(value, tensor_pb2.TensorProto) else proto(value))
    return message


def proto(value):
    value = np.asarray(value)
    return tf.make_tensor_proto(value.tolist() if value.dtype == object else value, shape=value.shape)


def output_arrays(response):
    return {key: tf.make_ndarray(value) for key, value in response.outputs.items()}


@pytest.mark.parametrize("name", MODELS)
def test_every_signature_returns_golden_outputs_to_the_standard_client(stub, versions, goldens, name):
    facts = storage.read_json(versions[name] / "assets.extra" / "zoo.json")
    known = goldens[name]
    assert {"serving_default", "predict", "features"} <= set(facts["signatures"])
    for signature in facts["signatures"]:
        inputs = {key: value[:5] for key, value in golden_requests(known, versions[name], signature).items()}
        assert_golden(output_arrays(stub.Predict(request(name, inputs, signature))), known, signature, 5)


def test_raw_bytes_and_texts_are_labelled(stub, loaded):
    png = tf.io.encode_png(tf.fill([40, 30, 3], tf.constant(200, tf.uint8))).numpy()
    for model, inputs in (("digits", {"image_bytes": [png]}), ("commands", {"text": ["Turn the light on, café!"]})):
        got = output_arrays(stub.Predict(request(model, {k: np.array(v, object) for k, v in inputs.items()})))
        direct = loaded[model].signatures["serving_default"](**{k: tf.constant(v) for k, v in inputs.items()})
        assert got["class_name"].tolist() == direct["class_name"].numpy().tolist()
        np.testing.assert_allclose(got["probabilities"], direct["probabilities"].numpy(), atol=1e-6)


def test_metadata_lists_signatures_inputs_and_outputs(stub):
    asked = get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec=model_pb2.ModelSpec(name="digits"), metadata_field=["signature_def"]
    )
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert stub.GetModelMetadata(asked).metadata["signature_def"].Unpack(signatures)
    default = signatures.signature_def["serving_default"]
    assert default.method_name == "tensorflow/serving/predict"
    assert list(default.inputs) == ["image_bytes"] and sorted(default.outputs) == ["class_name", "probabilities"]
    assert default.inputs["image_bytes"].dtype == tf.string.as_datatype_enum
    assert [d.size for d in default.outputs["probabilities"].tensor_shape.dim] == [-1, 10]


def test_invalid_requests_fail_without_affecting_the_next_request(stub, goldens):
    image = goldens["digits"]["requests/image_bytes"][:1]
    pixels = goldens["digits"]["inputs/image"][:1]
    texts = np.array([b"\xff\xfe not UTF-8"], object)
    for wrong, message in (
        (request("digits", {"image_bytes": image}, "nothing"), "No signature was found with the name nothing"),
        (request("digits", {"image": image}), r"Inputs \['image'\], not \['image_bytes'\]"),
        (request("digits", {"image_bytes": pixels}), "image_bytes is float32"),
        (request("digits", {"image": pixels[:, :4]}, "predict"), r"image is float32 \(1, 4, 8, 1\), not"),
        (
            request("digits", {"image_bytes": np.array([b"nothing"], object)}),
            "this is not a PNG, JPEG, BMP or GIF file",
        ),
        (request("digits", {"image_bytes": np.array([image[0][:40]], object)}), ".+"),
        (request("digits", {"image_bytes": proto_of_none()}), "image_bytes is an empty batch; expected at least one"),
        (request("commands", {"text": proto_of_none()}), "text is an empty batch; expected at least one"),
    ):
        with pytest.raises(grpc.RpcError) as refused:
            stub.Predict(wrong)
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT, refused.value.details()
        assert re.search(message, refused.value.details())
        assert_golden(
            output_arrays(stub.Predict(request("digits", {"image_bytes": image}))),
            goldens["digits"],
            "serving_default",
            1,
        )
    assert output_arrays(stub.Predict(request("commands", {"text": texts})))["probabilities"].shape == (1, 4)
    with pytest.raises(grpc.RpcError) as refused:
        stub.Predict(request("nobody", {"text": texts}))
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND


def proto_of_none():
    return tf.make_tensor_proto([], tf.string, shape=[0])


# ---------------------------------------------------------------- warm-up


@pytest.mark.parametrize("name", MODELS)
def test_warm_up_requests_cover_every_signature(versions, loaded, goldens, name):
    file = versions[name] / "assets.extra" / "tf_serving_warmup_requests"
    assert file.stat().st_size < 1_000_000
    facts = storage.read_json(versions[name] / "assets.extra" / "zoo.json")
    seen = []
    for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        assert log.WhichOneof("log_type") == "predict_log"
        message = log.predict_log.request
        assert message.model_spec.name == MODELS[name][0]
        signature = message.model_spec.signature_name
        seen.append(signature)
        inputs = {key: tf.make_ndarray(value) for key, value in message.inputs.items()}
        given = golden_requests(goldens[name], versions[name], signature)
        assert set(inputs) == set(given)
        rows = {len(value) for value in inputs.values()}
        assert rows == {4}
        for key, value in inputs.items():
            assert value.tolist() == given[key][:4].tolist()
        answer = loaded[name].signatures[signature](**{key: tensor(value) for key, value in inputs.items()})
        assert_golden({key: value.numpy() for key, value in answer.items()}, goldens[name], signature, 4)
    assert seen == list(facts["signatures"])
    assert sorted(seen) == sorted(loaded[name].signatures)


def test_warm_up_requests_are_small_but_not_empty(tmp_path):
    (tmp_path / "assets.extra").mkdir()
    strings = np.array([b"x" * 100_000] * 5, object)
    file = warmup.write_warmup(
        tmp_path,
        "m",
        {
            "large": {"image": np.zeros((3, 300, 300, 3), np.float32)},
            "middle": {"file": strings},
            "several": {"a": strings, "b": np.zeros((5, 20_000), np.float32)},
        },
    )
    logs = [prediction_log_pb2.PredictionLog.FromString(r.numpy()) for r in tf.data.TFRecordDataset(str(file))]
    inputs = [log.predict_log.request.inputs for log in logs]
    shapes = [{k: [d.size for d in v.tensor_shape.dim] for k, v in each.items()} for each in inputs]
    assert shapes == [{"image": [1, 300, 300, 3]}, {"file": [2]}, {"a": [1], "b": [1, 20_000]}]
    with pytest.raises(KeyError, match="no examples for 'other'; expected an array for each of its inputs"):
        warmup.write_warmup(tmp_path, "m", {"other": {}})


# ---------------------------------------------------------------- Python, as in the model card


def card_blocks(version, language):
    card = (version / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", card, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("name", ["digits", slow("commands")])
def test_python_code_of_the_card_calls_every_signature(versions, goldens, name, tmp_path):
    (source,) = card_blocks(versions[name], "python")
    facts = storage.read_json(versions[name] / "assets.extra" / "zoo.json")
    assert re.findall(r'ask\("(\w+)"', source) == list(facts["signatures"])
    file = tmp_path / "image.png"
    file.write_bytes(goldens["digits"]["requests/image_bytes"][0])
    printed = io.StringIO()
    with contextlib.chdir(versions[name]), contextlib.redirect_stdout(printed):
        exec(source.replace("/path/to/image.png", str(file)), {})
    expected = goldens[name]["answers/serving_default/class_name"][0]
    assert f"'class_name': array([{expected!r}]" in printed.getvalue()
    assert printed.getvalue().count("array(") >= len(facts["signatures"])


def test_no_c_program_is_written_for_unsupported_types(versions, tmp_path):
    copy = tmp_path / "1"
    shutil.copytree(versions["digits"], copy)
    file = copy / "assets.extra" / "zoo.json"
    facts = storage.read_json(file)
    facts["signatures"]["serving_default"]["inputs"] = {
        "image": {"dtype": "complex64", "shape": [None, 8, 8], "kind": "number"}
    }
    storage.write_json(file, facts)
    with pytest.raises(
        UsageError, match="Input image of serving_default is complex64; expected one of float32, float64"
    ):
        request_examples.c_program(copy)


# ---------------------------------------------------------------- README


def readme_blocks(language):
    text = (ROOT / "export" / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def test_grpc_client_of_the_readme_works(address, goldens, tmp_path, capsys):
    (source,) = (block for block in readme_blocks("py") if "import grpc" in block)
    (tmp_path / "seven.png").write_bytes(goldens["digits"]["requests/image_bytes"][0])
    with contextlib.chdir(tmp_path):
        exec(source.replace("localhost:8500", address), {})
    assert capsys.readouterr().out.strip() == f"[{goldens['digits']['answers/serving_default/class_name'][0]!r}]"


def test_model_config_of_the_readme_is_valid():
    (source,) = readme_blocks("proto")
    (config,) = text_format.Parse(source, model_server_config_pb2.ModelServerConfig()).model_config_list.config
    assert (config.name, config.base_path, config.model_platform) == ("digits", "/models/digits", "tensorflow")
    assert list(config.model_version_policy.specific.versions) == [1, 2]
    assert dict(config.version_labels) == {"stable": 1, "canary": 2}


# ---------------------------------------------------------------- C


def test_the_c_program_compiles_with_the_headers_of_the_wheel(versions):
    """Linking takes seconds: the slow tests of the model card compile and run the program."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    for version in versions.values():
        words = ["cc", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", f"-I{tf.sysconfig.get_include()}"]
        done = subprocess.run(
            [*words, version / "assets.extra" / "request.c"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    program = (versions["digits"] / "assets.extra" / "request.c").read_text()
    assert '{"image_bytes", "serving_default_image_bytes", 0}' in program and "file_tensor(next(" in program
    assert "$" not in program
