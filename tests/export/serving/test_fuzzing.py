"""Thousands of damaged requests next to valid ones: every one gets an answer, and no neighbour a wrong one."""

from __future__ import annotations

import base64
import concurrent.futures
import json
import socket

import numpy as np
import pytest

V1 = "/v1/models/{}:predict"


def bodies(client):
    """Returns valid requests: address, content and the headers."""
    found = []
    for name in ("digits", "commands", "iris"):
        info = client.repository.model(name).version().signatures["serving_default"]
        row = {
            key: {"b64": base64.b64encode(values[0]).decode()}
            if info.inputs[key].is_bytes
            else values[0].decode()
            if isinstance(values[0], bytes)
            else float(values[0])
            for key, values in info.golden.items()
        }
        instance = row if len(row) > 1 else next(iter(row.values()))
        found.append((V1.format(name), json.dumps({"instances": [instance]}).encode(), {}))
    text = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["on"]}
    found.append(("/v2/models/commands/infer", json.dumps({"inputs": [text]}).encode(), {}))
    png = client.repository.model("digits").version().signatures["serving_default"].golden["image_bytes"][0]
    found.append(("/predict/digits", png, {"Content_Type": "image/png"}))
    found.append(
        ("/predict/iris", b"petal width,petal length,sepal width,sepal length\n1,2,3,4", {"Content_Type": "text/csv"})
    )
    return found


STRANGE = [
    b"null",
    b"-1",
    b"1e999",
    b"{}",
    b"[]",
    b'""',
    b"\x00",
    b"\xff",
    b"NaN",
    b"9" * 400,
    b'"' + b"a" * 999 + b'"',
    b"true",
]


def damaged(body, generator):
    """Returns a body with a few bytes changed, cut, doubled, or replaced by strange values."""
    body = bytearray(body)
    for _ in range(generator.integers(1, 4)):
        at = int(generator.integers(0, len(body) + 1))
        kind = generator.integers(0, 5)
        if kind == 0:
            body[at:] = b""
        elif kind == 1 and at < len(body):
            body[at] = int(generator.integers(0, 256))
        elif kind == 2:
            body[at : at + int(generator.integers(1, 9))] = STRANGE[generator.integers(0, len(STRANGE))]
        elif kind == 3:
            body[at:at] = body[: int(generator.integers(0, 60))]
        else:
            parts = bytes(body).split(b":")
            parts[generator.integers(0, len(parts))] = STRANGE[generator.integers(0, len(STRANGE))]
            body = bytearray(b":".join(parts))
    return bytes(body)


def run(client, count, workers):
    valid = bodies(client)
    expected = []
    for path, body, headers in valid:
        status, _, answer = client.send("POST", path, body, **headers)
        assert status == 200, answer
        expected.append(answer)
    seen = set()

    def ask(number):
        generator = np.random.default_rng(number)
        place = int(generator.integers(0, len(valid)))
        path, body, headers = valid[place]
        is_valid = number % 5 == 0
        status, _, answer = client.send("POST", path, body if is_valid else damaged(body, generator), **headers)
        return is_valid, place, status, answer

    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for is_valid, place, status, answer in pool.map(ask, range(count)):
            seen.add(status)
            if is_valid:
                assert status == 200 and same(answer, expected[place]), (valid[place][0], answer)
            else:
                assert status in (200, 400, 404, 413, 415), (status, answer)
                assert status == 200 or json.loads(answer)["error"]
    assert {200, 400} <= seen
    assert not [line for line in client.events if line["event"] == "error"]


def same(answer, expected):
    """Whether two answers are equal within rounding, which differs between sizes of batches."""
    if not answer.startswith(b"{"):
        return answer.split()[:-1] == expected.split()[:-1]

    def numbers(content):
        return [
            float(part)
            for part in json.dumps(content).replace("[", " ").replace("]", " ").replace(",", " ").split()
            if part[-1:].isdigit() and part[0] != '"'
        ]

    a, b = json.loads(answer), json.loads(expected)
    return np.allclose(numbers(a), numbers(b), atol=1e-6, rtol=1e-5)


def test_hundreds_of_damaged_requests(client):
    run(client, 300, 4)


@pytest.mark.slow
def test_ten_thousand_damaged_requests(client):
    run(client, 10_000, 8)


@pytest.mark.slow
def test_bytes_that_are_no_http(client):
    generator = np.random.default_rng(0)
    for _ in range(300):
        with socket.create_connection(("127.0.0.1", client.port), timeout=5) as opened:
            head = b"POST /v1/models/iris:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
            opened.sendall(damaged(head, generator))
            opened.shutdown(socket.SHUT_WR)
            opened.recv(1000)
    assert client.get("/v2/health/live") == {"live": True}
