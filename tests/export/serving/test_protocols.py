"""Golden examples through every protocol, compared with the outputs that the trained model had for them."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
import tensorflow as tf

import zoo
from served_models import QUICK, SERVERS, SMALL, assert_equal, golden, serving, version_of

DATATYPES = {"float32": "FP32", "int32": "INT32", "int64": "INT64", "object": "BYTES"}


def row_value(value, given):
    """Returns a golden input for JSON."""
    if given.is_bytes:
        return {"b64": base64.b64encode(value).decode()}
    return value.decode() if isinstance(value, bytes) else np.asarray(value).tolist()


@pytest.mark.parametrize(("server", "name"), SERVERS)
def test_golden_examples_through_the_rest_api(server, name, request):
    client = request.getfixturevalue(server)
    for signature, info, inputs, answers in golden(client, name):
        rows = [
            {key: row_value(values[row], info.inputs[key]) for key, values in inputs.items()}
            for row in range(len(next(iter(inputs.values()))))
        ]
        instances = rows if len(info.inputs) > 1 else [next(iter(row.values())) for row in rows]
        body = {"signature_name": signature, "instances": instances}
        status, content = client.post(f"/v1/models/{name}:predict", body)
        assert status == 200, content
        assert set(content) == {"predictions"} and len(content["predictions"]) == len(rows)
        for row, prediction in enumerate(content["predictions"]):
            found = prediction if len(info.outputs) > 1 else {next(iter(info.outputs)): prediction}
            assert found.keys() == answers.keys()
            for key, value in found.items():
                assert_equal([value], answers[key][row : row + 1])

        columns = {key: [row[key] for row in rows] for key in info.inputs}
        status, content = client.post(
            f"/v1/models/{name}/versions/1:predict", {"signature_name": signature, "inputs": columns}
        )
        assert status == 200, content
        found = content["outputs"] if len(info.outputs) > 1 else {next(iter(info.outputs)): content["outputs"]}
        for key, value in found.items():
            assert_equal(value, answers[key])


@pytest.mark.parametrize(("server", "name"), SERVERS)
def test_golden_examples_through_the_open_inference_protocol(server, name, request):
    client = request.getfixturevalue(server)
    for signature, info, inputs, answers in golden(client, name):
        tensors = []
        for key, values in inputs.items():
            data = [row_value(v, info.inputs[key]) for v in values]
            data = [part["b64"] if isinstance(part, dict) else part for part in data]
            flat = data if values.dtype == object else values.ravel().tolist()
            flat = [None if isinstance(v, float) and v != v else v for v in flat]
            tensors.append(
                {"name": key, "shape": list(values.shape), "datatype": DATATYPES[str(values.dtype)], "data": flat}
            )
        body = {"id": "7", "parameters": {"signature_name": signature}, "inputs": tensors}
        status, content = client.post(f"/v2/models/{name}/infer", body)
        assert status == 200, content
        assert (content["id"], content["model_name"], content["model_version"]) == ("7", name, "1")
        assert {output["name"] for output in content["outputs"]} == answers.keys()
        for output in content["outputs"]:
            assert_equal(np.array(output["data"], object).reshape(output["shape"]), answers[output["name"]])


def test_chosen_outputs_and_metadata_of_the_open_inference_protocol(client):
    body = {
        "inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["dim the lamp"]}],
        "outputs": [{"name": "class_name"}],
    }
    status, content = client.post("/v2/models/commands/infer", body)
    assert status == 200 and [output["name"] for output in content["outputs"]] == ["class_name"]
    facts = client.get("/v2/models/digits")
    assert facts["inputs"] == [{"name": "image_bytes", "datatype": "BYTES", "shape": [-1]}]
    assert client.get("/v2/health/ready") == {"ready": True}
    assert client.get("/v2/models/digits/ready")["ready"] is True


def test_status_and_metadata_of_the_rest_api(client):
    (state,) = client.get("/v1/models/digits")["model_version_status"]
    assert (state["version"], state["state"]) == ("1", "AVAILABLE")
    facts = client.get("/v1/models/digits/versions/1/metadata")
    signature = facts["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["image_bytes"]["dtype"] == "DT_STRING"
    assert signature["outputs"]["probabilities"]["tensor_shape"]["dim"][1]["size"] == "10"


def raw(client, name, body, media, query="", **headers):
    status, _, answer = client.send("POST", f"/predict/{name}{query}", body, Content_Type=media, **headers)
    return status, answer.decode()


def test_raw_bodies_are_answered_as_zoo_predict_answers(client, artifacts):
    png = version_of(client, "digits").signatures["serving_default"].golden["image_bytes"][0]
    model = zoo.export.load(artifacts["digits"])
    expected = model.describe(model.predict([png])[0], top=3)
    assert raw(client, "digits", png, "image/png", "?top=3") == (200, f"{expected}\n")

    model = zoo.export.load(artifacts["commands"])
    expected = model.describe(model.predict(["dim the lamp"])[0])
    assert raw(client, "commands", b"dim the lamp\n", "text/plain; charset=utf-8") == (200, f"{expected}\n")
    status, answer = raw(client, "commands", b"dim the lamp", "text/plain", Accept="application/json")
    assert status == 200
    np.testing.assert_allclose(
        json.loads(answer)["answers"][0]["probabilities"],
        model.predict(["dim the lamp"])[0]["probabilities"],
        rtol=1e-5,
    )

    model = zoo.export.load(artifacts["iris"])
    rows = [{"sepal length": 5, "sepal width": 3, "petal length": 1.5, "petal width": 0.25}, {"sepal length": None}]
    table = "petal width,petal length,sepal width,sepal length\n0.25,1.5,3,5\n,,,\n"
    expected = [model.describe(answer) for answer in model.predict([{**dict.fromkeys(rows[0]), **row} for row in rows])]
    assert raw(client, "iris", table.encode(), "text/csv") == (200, "".join(f"{line}\n" for line in expected))


@pytest.mark.slow
def test_a_series_as_a_table(more, more_artifacts):
    model = zoo.export.load(more_artifacts["seasons"])
    series = version_of(more, "seasons").signatures["serving_default"].golden["series"][0]
    table = "\n".join(",".join(f"{cell:.6g}" for cell in row) for row in series)
    status, answer = raw(more, "seasons", table.encode(), "text/csv", Accept="application/json")
    assert status == 200, answer
    rounded = np.array([[float(f"{cell:.6g}") for cell in row] for row in series], np.float32)
    np.testing.assert_allclose(
        json.loads(answer)["answers"][0]["forecast"], model.predict([rounded])[0]["forecast"], rtol=1e-5
    )


@pytest.mark.slow
def test_series_of_different_length_in_one_request(more, more_artifacts):
    golden_series = version_of(more, "seasons").signatures["serving_default"].golden["series"]
    parts = [golden_series[row][-length:] for row, length in enumerate((56, 20, 56, 33))]
    status, content = more.post("/v1/models/seasons:predict", {"instances": [part.tolist() for part in parts]})
    assert status == 200, content
    expected = [answer["forecast"] for answer in zoo.export.load(more_artifacts["seasons"]).predict(parts)]
    np.testing.assert_allclose(content["predictions"], expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["digits", "commands", "iris"])
def test_commands_of_the_model_card_work_on_this_server(client, artifacts, name, tmp_path):
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    image = tmp_path / "image.png"
    image.write_bytes(version_of(client, "digits").signatures["serving_default"].golden["image_bytes"][0])
    card = (artifacts[name] / "1" / "README.md").read_text()
    model = SMALL[name][0]
    server = f'tensorflow_model_server --rest_api_port=8501 --model_name={model} --model_base_path="$(realpath ..)" &'
    assert server in card
    commands = re.findall(r"^.*curl -d.*$", card, re.MULTILINE)
    assert commands
    for command in commands:
        command = command.replace(f"localhost:8501/v1/models/{model}", f"127.0.0.1:{client.port}/v1/models/{name}")
        command = command.replace("/path/to/image.png", str(image)).replace("curl -d", "curl -s -d")
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
        info = version_of(client, name).signatures[re.search(r'"signature_name": "(\w+)"', command)[1]]
        (prediction,) = json.loads(done.stdout)["predictions"]
        found = prediction if len(info.outputs) > 1 else {next(iter(info.outputs)): prediction}
        assert found.keys() == info.answers.keys()
        for key, value in found.items():  # the first golden example, its numbers rounded
            assert_equal([value], info.answers[key][:1], atol=1e-4)


def test_the_description_of_the_interface_names_every_model(client):
    document = client.get("/openapi.json")
    for name in QUICK:
        assert {f"/v1/models/{name}:predict", f"/v2/models/{name}/infer"} <= document["paths"].keys()
    digits = document["paths"]["/v1/models/digits:predict"]["post"]["requestBody"]["content"]["application/json"]
    assert digits["schema"]["oneOf"][0]["title"] == "serving_default"
    assert "image/*" in document["paths"]["/predict/digits"]["post"]["requestBody"]["content"]
    infer = document["paths"]["/v2/models/digits/infer"]["post"]["requestBody"]["content"]["application/json"]
    (tensor,) = infer["schema"]["oneOf"][0]["properties"]["inputs"]["items"]["oneOf"]
    assert tensor["properties"]["name"] == {"const": "image_bytes"}
    assert tensor["properties"]["datatype"] == {"const": "BYTES"}


def test_a_signature_name_is_a_text(client):
    for name in ({}, [], 0, False):
        status, answer = client.post("/v1/models/commands:predict", {"signature_name": name, "instances": ["off"]})
        assert status == 400 and answer["error"].startswith(f"There is no signature {name!r}.")
    assert client.post("/v1/models/commands:predict", {"signature_name": "", "instances": ["off"]})[0] == 200


def test_metrics_count_requests_and_batches(client):
    client.post("/v1/models/iris:predict", {})
    _, _, body = client.send("GET", "/metrics")
    lines = body.decode().splitlines()
    assert any(
        line.startswith('zoo_requests_total{model="iris",protocol="v1",signature="serving_default",status="400"')
        for line in lines
    )
    assert 'zoo_version_ready{model="digits",version="1"} 1.0' in lines
    assert any(line.startswith('zoo_batch_rows_count{model="digits"}') for line in lines)


def test_a_savedmodel_of_another_project(tmp_path):
    class Scale(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, "x"), tf.TensorSpec([], tf.int64, "by")])
        def scaled(self, x, by):
            return {"y": x * tf.cast(by, tf.float32), "sum": tf.reduce_sum(x)}

    module = Scale()
    tf.saved_model.save(module, str(tmp_path / "model"), signatures={"scaled": module.scaled})
    with serving({"other": tmp_path / "model"}) as client:
        columns = {"x": [[1, 2], [3, None]], "by": 3}
        status, content = client.post("/v1/models/other:predict", {"inputs": columns})
        assert status == 200 and content["outputs"]["y"][0] == [3.0, 6.0]
        assert np.isnan(content["outputs"]["y"][1][1]) and np.isnan(content["outputs"]["sum"])
        status, content = client.post("/v1/models/other:predict", {"instances": [{"x": [1, 2], "by": 3}]})
        assert status == 400 and "not one per example. Send inputs, the column format" in content["error"]
        tensors = [
            {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [[1.5, None]]},
            {"name": "by", "shape": [], "datatype": "INT64", "data": [2]},
        ]
        status, content = client.post("/v2/models/other/infer", {"inputs": tensors})
        assert status == 200 and {o["name"]: (o["shape"], o["data"]) for o in content["outputs"]} == {
            "sum": ([], [None]),
            "y": ([1, 2], [3.0, None]),
        }
        for by, message in ((1.5, "by is 1.5; expected one int64"), (True, "by is true"), (1 << 70, "by is 1.18")):
            status, content = client.post("/v1/models/other:predict", {"inputs": {**columns, "by": by}})
            assert status == 400 and message in content["error"], content
        status, content = client.post("/v1/models/other:predict", {"inputs": {**columns, "x": [[1e39, 1]]}})
        assert status == 400 and "beyond the range of float32" in content["error"]
        assert client.send("POST", "/predict/other", b"1,2", Content_Type="text/csv")[0] == 415
        status, _, page = client.send("GET", "/")
        assert status == 200 and b"a SavedModel without metadata" in page
        assert client.get("/openapi.json")["paths"]["/v1/models/other:predict"]
