"""A SavedModel on MLServer, over HTTP, as described in `scripts/serve_mlserver.md`.

MLServer runs in its own environment because of its many dependencies. The tests use the command `mlserver` of the path,
or the variable MLSERVER, and are skipped without them.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

import zoo
from served_models import write_artifact
from zoo.export.standalone import arrays as array_files

ROOT = Path(__file__).resolve().parents[2]
RUNTIME = ROOT / "scripts" / "mlserver_runtime"
MLSERVER = os.environ.get("MLSERVER") or shutil.which("mlserver")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not MLSERVER, reason="needs mlserver; see scripts/serve_mlserver.md"),
]


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for opened in sockets:
            opened.bind(("127.0.0.1", 0))
        return [opened.getsockname()[1] for opened in sockets]


@contextlib.contextmanager
def served(folder, name):
    """Starts the server on a folder; yields the address of the model."""
    http, grpc, metrics = free_ports(3)
    variables = {
        "MLSERVER_MODEL_URI": str(folder),
        "MLSERVER_MODEL_NAME": name,
        "MLSERVER_HTTP_PORT": str(http),
        "MLSERVER_GRPC_PORT": str(grpc),
        "MLSERVER_METRICS_PORT": str(metrics),
    }
    log = folder.parent / "mlserver.log"
    address = f"http://127.0.0.1:{http}/v2/models/{name}"
    with (
        log.open("w") as written,
        subprocess.Popen(
            [MLSERVER, "start", RUNTIME],
            env={**os.environ, **variables},
            cwd=folder.parent,
            stdout=written,
            stderr=written,
        ) as process,
    ):
        try:
            for _ in range(240):
                with contextlib.suppress(OSError):
                    if urllib.request.urlopen(f"{address}/ready").status == 200:
                        break
                assert process.poll() is None, log.read_text()[-3000:]
                time.sleep(0.5)
            else:
                pytest.fail(log.read_text()[-3000:])
            yield address
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two versions; both are served, and the second one is the newest."""
    base = tmp_path_factory.mktemp("exports") / "digits"
    for seed in range(2):
        write_artifact(base / str(seed + 1), "digits", seed)
    return base


@pytest.fixture(scope="module")
def address(folder):
    with served(folder, "digits") as address:
        yield address


@pytest.fixture(scope="module")
def golden(folder):
    return array_files.load(folder / "2" / "assets.extra" / "golden.npz")


def infer(address, inputs, **parameters):
    """Sends a request in the V2 inference protocol; returns the status and the response."""
    body = json.dumps({"inputs": inputs, "parameters": parameters}).encode()
    request = urllib.request.Request(f"{address}/infer", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def images(golden, count=3, **parameters):
    files = golden["requests/image_bytes"][:count]
    data = [base64.b64encode(file).decode() for file in files]
    extra = {"parameters": parameters} if parameters else {}
    return {"name": "image_bytes", "shape": [count], "datatype": "BYTES", "data": data, **extra}


def arrays(answer):
    return {o["name"]: np.array(o["data"]).reshape(o["shape"]) for o in answer["outputs"]}


def test_image_files_return_golden_outputs(address, golden):
    for parameters in ({}, {"content_type": "base64"}):
        status, answer = infer(address, [images(golden, **parameters)])
        assert status == 200 and answer["model_name"] == "digits"
        got = arrays(answer)
        np.testing.assert_allclose(got["probabilities"], golden["answers/serving_default/probabilities"][:3], atol=1e-5)
        assert [n.encode() for n in got["class_name"]] == golden["answers/serving_default/class_name"][:3].tolist()


def test_other_signatures_can_be_called_by_name(address, golden):
    status, answer = infer(address, [images(golden, 2)], signature_name="features")
    assert status == 200
    np.testing.assert_allclose(arrays(answer)["features"], golden["answers/features/features"][:2], atol=1e-5)
    pixels = golden["inputs/image"][:2]
    tensor = {"name": "image", "shape": list(pixels.shape), "datatype": "FP32", "data": pixels.ravel().tolist()}
    status, answer = infer(address, [tensor], signature_name="predict")
    assert status == 200
    np.testing.assert_allclose(arrays(answer)["probabilities"], golden["answers/predict/probabilities"][:2], atol=1e-5)


def test_metadata_describes_inputs_and_outputs(address):
    with urllib.request.urlopen(address) as answer:
        told = json.load(answer)
    assert told["versions"] == ["1", "2"]
    assert told["inputs"] == [{"name": "image_bytes", "datatype": "BYTES", "shape": [-1]}]
    assert {o["name"]: (o["datatype"], o["shape"]) for o in told["outputs"]} == {
        "class_name": ("BYTES", [-1]),
        "probabilities": ("FP32", [-1, 10]),
    }


def post(address, path, body=b"{}"):
    request = urllib.request.Request(
        f"http://{address.split('/')[2]}{path}", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        return answer.read()


def test_every_version_is_listed_and_served(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "digits")
    files = [array_files.load(folder / number / "assets.extra" / "golden.npz") for number in ("1", "2")]
    outputs = [file["answers/serving_default/probabilities"][:3] for file in files]
    assert np.abs(outputs[0] - outputs[1]).max() > 0.01
    with served(tmp_path / "digits", "digits") as address:
        for number, want in zip(("1", "2"), outputs, strict=True):
            status, answer = infer(f"{address}/versions/{number}", [images(files[0])])
            assert status == 200 and answer["model_version"] == number
            np.testing.assert_allclose(arrays(answer)["probabilities"], want, atol=1e-5)
        np.testing.assert_allclose(
            arrays(infer(address, [images(files[0])])[1])["probabilities"], outputs[1], atol=1e-5
        )
        index = json.loads(post(address, "/v2/repository/index"))
        assert sorted((one["name"], one["version"], one["state"]) for one in index) == [
            ("digits", "1", "READY"),
            ("digits", "2", "READY"),
        ]
        shutil.copytree(folder / "1", tmp_path / "digits" / "10")
        assert infer(address, [images(files[0])])[1]["model_version"] == "2"
        post(address, "/v2/repository/models/digits/load", b"")
        status, answer = infer(address, [images(files[0])])
        assert status == 200 and answer["model_version"] == "10"
        np.testing.assert_allclose(arrays(answer)["probabilities"], outputs[0], atol=1e-5)
        with urllib.request.urlopen(address) as answer:
            assert json.load(answer)["versions"] == ["1", "2", "10"]


def test_invalid_requests_fail_without_affecting_the_next_request(address, golden):
    image = images(golden, 1)
    for inputs, parameters, sentence in (
        ([{**image, "name": "image"}], {}, "serving_default takes image_bytes; received image. Send these names."),
        ([image], {"signature_name": "nothing"}, r"There is no signature 'nothing'; the SavedModel has .*serving_def"),
        ([{**image, "data": ["?"]}], {}, "image_bytes is not base64 at element 0 "),
        ([{**image, "data": [7]}], {}, "image_bytes has 7 as element 0, which is not a string. Send strings."),
        (
            [{**image, "shape": [2]}],
            {},
            r"image_bytes cannot be read: cannot reshape .* Send as many values as its shape requires",
        ),
        ([{**image, "shape": [1, 1]}], {}, r"image_bytes has the shape \[1, 1\]; expected \(None,\)"),
        ([{**image, "datatype": "FP32", "data": [1]}], {}, "image_bytes is FP32; expected BYTES"),
        (
            [{**image, "data": ["bm90aGluZw=="]}],
            {},
            "serving_default rejected the request: .*row 0: this is not a PNG, JPEG, BMP or GIF",
        ),
    ):
        status, answer = infer(address, inputs, **parameters)
        assert status == 400 and re.match(sentence, answer["error"]), answer
        assert infer(address, [image])[0] == 200


def test_texts_are_labelled(tmp_path):
    version = tmp_path / "commands" / "1"
    write_artifact(version, "commands")
    words = "turn the light on, café"
    expected = zoo.export.load(version).predict([words])[0]
    with served(version.parent, "commands") as address:
        status, answer = infer(address, [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [words]}])
    assert status == 200
    got = arrays(answer)
    assert got["class_name"].tolist() == [expected["class_name"]]
    assert got["tokens"][0].tolist() == ["turn", "the", "light", "on", ",", "café"]
    np.testing.assert_allclose(got["probabilities"][0], expected["probabilities"], atol=1e-5)


def test_the_request_in_the_instructions_works(address, golden, tmp_path):
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    text = (ROOT / "scripts" / "serve_mlserver.md").read_text(encoding="utf-8")
    command = next(block for block in re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S) if "image_bytes" in block)
    (tmp_path / "seven.png").write_bytes(golden["requests/image_bytes"][0])
    command = command.replace("localhost:8080", address.split("/")[2])
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert arrays(json.loads(done.stdout))["class_name"].tolist() == [
        golden["answers/serving_default/class_name"][0].decode()
    ]
