"""Requests that are refused: wrong, too large, too slow, too many, without the token, from other sites."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import re
import socket
import threading
import time

import pytest

from served_models import serving
from zoo.errors import UsageError
from zoo.export.serving import server
from zoo.export.serving.settings import Settings

V1, V2 = "/v1/models/{}:predict", "/v2/models/{}/infer"
TEXT = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["on"]}


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        (V1.format("commands"), b"{", 400, r"not JSON at character 1: it begins with '\{'. Send JSON"),
        (V1.format("commands"), b"", 400, "begins with an empty body. Send JSON"),
        (V1.format("commands"), b"\xff\xfe{}", 400, "The body is not JSON"),
        (V1.format("commands"), b"[" * 100_000, 400, "The body is not JSON"),
        (V1.format("commands"), b"[1]", 400, r"a JSON list; expected an object. Send \{...\}"),
        (V1.format("commands"), {}, 400, "neither or both of instances and inputs. Send instances"),
        (V1.format("commands"), {"instance": ["a"]}, 400, "has 'instance'; expected signature_name, instances, inputs"),
        (V1.format("commands"), {"instances": []}, 400, "instances is empty; expected a list of examples. Send"),
        (
            V1.format("commands"),
            {"instances": [1.5]},
            400,
            "Instance 1: text is 1.5; expected a text. Send a JSON string",
        ),
        (
            V1.format("commands"),
            {"instances": ["a", {"b": 1}]},
            400,
            "Instance 2 lacks text and has b; serving_default",
        ),
        (
            V1.format("commands"),
            {"signature_name": "topk", "instances": ["a"]},
            400,
            "no signature 'topk'. Did you mean 't",
        ),
        (V1.format("digits"), {"instances": ["abc"]}, 400, r"expected the bytes of a file .* Send the file in base64"),
        (
            V1.format("digits"),
            {"instances": [{"b64": "a*"}]},
            400,
            "not base64 .* Send the output of `base64 -w0 FILE`",
        ),
        (V1.format("digits"), {"instances": [{"b64": "YWJj"}]}, 400, "not a PNG, JPEG, BMP or GIF file. Send one of"),
        (
            V1.format("digits"),
            {"signature_name": "predict", "instances": [[[1, 2]]]},
            400,
            r"Instance 1: image has the shape \[1, 2, 1\]; expected \[8, 8, 1\]. Send float32",
        ),
        (
            V1.format("iris"),
            {"instances": [{"sepal_width": 1}]},
            400,
            "lacks petal_length, petal_width, sepal_length; .*Send exactly these names",
        ),
        (
            V1.format("iris"),
            {"inputs": {"petal_length": [1], "petal_width": [1, 2], "sepal_width": [1], "sepal_length": [1]}},
            400,
            "2 of petal_width.* Send as many of each",
        ),
        (V1.format("digit"), {}, 404, "no model 'digit'. Did you mean 'digits'"),
        ("/v1/models/digits/versions/7:predict", {}, 404, "Version 7 of 'digits' is not served. Choose one of 1"),
        ("/v1/models/digits/labels/stable:predict", {}, 404, "has no label 'stable'. There is none"),
        ("/v1/models/digits:classify", {}, 400, "classify is not served, only predict. Send"),
        (
            V2.format("commands"),
            {"inputs": [{**TEXT, "datatype": "FP32"}]},
            400,
            "text is 'FP32'; expected BYTES. Send",
        ),
        (
            V2.format("commands"),
            {"inputs": [{**TEXT, "shape": [2]}]},
            400,
            r"has 1 values; its shape \[2\] has 2. Send",
        ),
        (V2.format("commands"), {"inputs": [{**TEXT, "shape": [-1]}]}, 400, "Send a list of whole numbers"),
        (V2.format("commands"), {"inputs": [TEXT, TEXT]}, 400, "inputs has text twice. Send each name once"),
        (
            V2.format("commands"),
            {"inputs": [TEXT], "outputs": [{"name": "clas"}]},
            400,
            "no output 'clas'. Did you mean",
        ),
        ("/predict/commands", b"on", 415, "has no type; serving_default takes text/plain, text/csv. Send the header"),
        ("/predict/commands?top=0", b"on", 400, "top is '0'; expected a number of labels. Send top=3"),
        ("/predict", b"on", 404, "There are several models. Send /predict/NAME: digits, commands, iris"),
        ("/nothing", b"", 404, "nothing at '/nothing'. Open / for the page"),
    ],
)
def test_invalid_requests_say_what_was_expected(client, path, body, status, message):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    came, headers, content = client.send("POST", path, body)
    content = json.loads(content)
    assert came == status and headers["content-type"] == "application/json"
    assert re.search(message, content["error"]), content
    if (status == 400 and ":predict" in path) or (status == 400 and path.startswith("/v2")):  # the example works
        assert client.post(path, content["example"])[0] == 200


def test_other_types_and_methods(client):
    for media, body, message in (
        ("audio/wav", b"RIFF", "has the type 'audio/wav'; serving_default takes image/"),
        ("image/png", b"no image", "not a PNG"),
    ):
        status, _, content = client.send("POST", "/predict/digits", body, Content_Type=media)
        assert status in (400, 415) and message in json.loads(content)["error"]
    for method, path in (("GET", "/v1/models/digits:predict"), ("DELETE", "/metrics"), ("GET", "/predict/digits")):
        status, _, content = client.send(method, path)
        assert status == 405 and "Send a" in json.loads(content)["error"]
    status, _, content = client.send("POST", V1.format("digits"), b"x", Content_Encoding="gzip")
    assert status == 415 and "Send it without Content-Encoding" in json.loads(content)["error"]


def test_the_log_has_no_contents(client):
    client.post(V1.format("commands"), {"instances": ["a secret sentence"]})
    line = client.events[-1]
    assert line["event"] == "request" and (line["model"], line["signature"], line["rows"]) == (
        "commands",
        "serving_default",
        1,
    )
    assert "secret" not in json.dumps(client.events)


@pytest.fixture(scope="module")
def strict(artifacts):
    """A server with small limits, a token and one model that may be slowed down."""
    with serving({"iris": artifacts["iris"]}, token="key", max_body=3_000, max_queue=2, timeout=0.7) as found:
        yield found


KEY = {"Authorization": "Bearer key"}


def test_a_server_with_a_token_answers_nobody_else(strict):
    for headers in ({}, {"Authorization": "Bearer other"}, {"Authorization": "Bearer kéy".encode().decode("latin-1")}):
        status, answer, content = strict.send("GET", "/", **headers)
        assert status == 401 and answer["www-authenticate"] == "Bearer"
        assert "Send the header Authorization: Bearer TOKEN" in json.loads(content)["error"]
    assert strict.get("/v2/health/live") == {"live": True}
    assert strict.send("GET", "/?token=key")[0] == 200
    assert strict.get("/v1/models", **KEY) == {"iris": [1]}


def test_requests_of_other_sites_are_rejected(client, strict):
    status, _, content = client.send("GET", "/v1/models", Origin="http://evil.example")
    assert status == 403 and "Open the server's own page" in json.loads(content)["error"]
    status, _, content = client.send("GET", "/", Host="evil.example:8501")  # a name that resolves to this machine
    assert status == 403 and "not this machine" in json.loads(content)["error"]
    assert client.send("GET", "/v1/models", Origin=f"http://127.0.0.1:{client.port}")[0] == 200
    assert client.send("GET", "/v1/models", Origin="null")[0] == 403  # a sandboxed frame of any site sends it
    assert strict.send("GET", "/v1/models", Host="models.example", **KEY)[0] == 200


def test_large_bodies_are_rejected_before_they_are_read(strict):
    status, _, content = strict.send("POST", V1.format("iris"), b"x" * 3_001, **KEY)
    assert status == 413 and "more than 3,000 bytes. Send fewer examples" in json.loads(content)["error"]
    with socket.create_connection(("127.0.0.1", strict.port)) as opened:  # without a length
        opened.sendall(b"POST /v1/models/iris:predict HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer key\r\n")
        opened.sendall(b"Transfer-Encoding: chunked\r\n\r\n" + b"7d0\r\n" + b"x" * 2000 + b"\r\n7d0\r\n" + b"x" * 2000)
        assert opened.recv(100).startswith(b"HTTP/1.1 413")


def test_slow_clients_are_closed(strict):
    with socket.create_connection(("127.0.0.1", strict.port), timeout=5) as silent:
        silent.sendall(b"POST /v1/mod")
        assert silent.recv(100) == b""  # the head was not complete in time
    with socket.create_connection(("127.0.0.1", strict.port), timeout=5) as slow:
        slow.sendall(b"POST /v1/models/iris:predict HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer key\r\n")
        slow.sendall(b"Content-Length: 100\r\n\r\n{")
        assert slow.recv(100).startswith(b"HTTP/1.1 408")


@contextlib.contextmanager
def slowed(client, name):
    """Makes the model wait until the event is set."""
    version = client.repository.model(name).version()
    call, go = version.batcher._call, threading.Event()

    def waiting(signature, inputs):
        go.wait(10)
        return call(signature, inputs)

    version.batcher._call = waiting
    try:
        yield go
    finally:
        go.set()
        version.batcher._call = call


def test_too_many_and_too_long_requests(strict):
    row = dict.fromkeys(("petal_length", "petal_width", "sepal_length", "sepal_width"), 1.0)

    def ask(_):
        status, headers, content = strict.send("POST", V1.format("iris"), json.dumps({"instances": [row]}), **KEY)
        return status, headers.get("retry-after"), json.loads(content).get("error", "")

    with slowed(strict, "iris"), concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(ask, range(6)))
    assert sorted({status for status, _, _ in answers}) == [429, 504]
    for status, retry, error in answers:
        assert (retry, "Send the request again" in error) == (("1", True) if status == 429 else (None, False))
        assert status == 429 or "took more than 0.7 s. Send fewer examples" in error
    for _ in range(50):
        if ask(0)[0] == 200:
            return
        time.sleep(0.1)
    pytest.fail("the server does not recover")


def test_a_port_in_use_and_settings_out_of_range():
    with server.bound(Settings(port=0)) as first:
        port = first.getsockname()[1]
        with pytest.raises(UsageError, match=rf"Port {port} of 127.0.0.1 is in use. Pass another one, such as --port"):
            server.bound(Settings(port=port))
    with pytest.raises(UsageError, match="Pass another --host or --port"):
        server.bound(Settings(host="203.0.113.7", token="key"))
    for settings, message in (
        ({"host": "0.0.0.0"}, "Anyone who reaches 0.0.0.0 could use the models.* Pass a token"),
        ({"port": 70_000}, "port is 70000; expected at most 65535"),
        ({"max_queue": 0}, "max_queue is 0; expected at least 1. Pass"),
        ({"timeout": float("nan")}, "timeout is nan; expected at least 0.05"),
        ({"token": "a b"}, "token has spaces.* Choose another"),
        ({"versions": "newest"}, "versions is 'newest'. Pass latest, all, or numbers"),
    ):
        with pytest.raises(UsageError, match=message):
            Settings(**settings)
