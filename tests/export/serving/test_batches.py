"""Requests that wait are computed together, and each gets its own answer or its own error."""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import threading

import numpy as np
import pytest

import zoo
from zoo.errors import UsageError
from zoo.export.serving.batching import Batcher, Drained
from zoo.export.serving.refusals import Refused


class Slow:
    """A function that waits, so that requests gather; it rejects negative numbers and records the sizes of batches."""

    def __init__(self):
        self.started, self.go, self.sizes = threading.Event(), threading.Event(), []

    def __call__(self, signature, inputs):
        self.started.set()
        self.go.wait(10)
        self.sizes.append(len(inputs["x"]))
        if (inputs["x"] < 0).any():
            raise UsageError("x is negative")
        return {"y": inputs["x"] * 2}


def gathered(batcher, slow, values):
    """Submits one request, and the others while it is computed."""
    first = batcher.submit("double", {"x": np.array([100.0])}, 1, "double")
    assert slow.started.wait(10)
    futures = [batcher.submit("double", {"x": np.array([value])}, 1, "double") for value in values]
    slow.go.set()
    assert first.result(10)["y"].tolist() == [200.0]
    return futures


def test_requests_that_wait_are_computed_together():
    slow, seen = Slow(), []
    batcher = Batcher(slow, max_rows=4, max_waiting=99, observe=lambda jobs, rows: seen.append((jobs, rows)))
    futures = gathered(batcher, slow, [float(n) for n in range(10)])
    assert [future.result(10)["y"].tolist() for future in futures] == [[2.0 * n] for n in range(10)]
    assert slow.sizes == [1, 4, 4, 2] and seen == [(1, 1), (4, 4), (4, 4), (2, 2)]


def test_an_invalid_request_fails_alone():
    slow = Slow()
    batcher = Batcher(slow, max_rows=64, max_waiting=99)
    values = [1.0, 2.0, -3.0, 4.0, 5.0, -6.0, 7.0]
    for value, future in zip(values, gathered(batcher, slow, values), strict=True):
        if value < 0:
            with pytest.raises(UsageError, match="x is negative"):
                future.result(10)
        else:
            assert future.result(10)["y"].tolist() == [2 * value]


def test_unlike_requests_are_not_joined_and_keep_their_order():
    slow = Slow()
    batcher = Batcher(slow, max_rows=64, max_waiting=99)
    first = batcher.submit("s", {"x": np.zeros(1)}, 1, "a")
    assert slow.started.wait(10)
    keys = ["a", "b", None, "a", None, "b"]
    futures = [batcher.submit("s", {"x": np.array([float(n)])}, 1, key) for n, key in enumerate(keys)]
    slow.go.set()
    assert [future.result(10)["y"].tolist() for future in (first, *futures)] == [[0.0], *([2.0 * n] for n in range(6))]
    assert slow.sizes == [1, 2, 2, 1, 1]


def test_a_full_queue_and_a_drained_version_accept_nothing():
    slow = Slow()
    batcher = Batcher(slow, max_rows=1, max_waiting=2)
    running = batcher.submit("s", {"x": np.zeros(1)}, 1, None)
    assert slow.started.wait(10)
    waiting = [batcher.submit("s", {"x": np.ones(1)}, 1, None) for _ in range(2)]
    with pytest.raises(Refused, match=r"2 requests wait .* Send the request again") as caught:
        batcher.submit("s", {"x": np.ones(1)}, 1, None)
    assert (caught.value.status, caught.value.headers) == (429, {"Retry-After": "1"})
    assert waiting[1].cancel()
    batcher.close()
    with pytest.raises(Drained):
        batcher.submit("s", {"x": np.ones(1)}, 1, None)
    slow.go.set()
    assert batcher.join(10) and running.done() and waiting[0].result(0)["y"].tolist() == [2.0]
    assert slow.sizes == [1, 1]  # without the one that was cancelled


def test_short_calls_of_the_only_client_are_computed_in_its_thread():
    threads = []

    def call(signature, inputs):
        threads.append(threading.current_thread())
        slow.wait(0.01 if signature == "slow" else 0)
        return {"y": inputs["x"] * 2}

    slow = threading.Event()
    batcher = Batcher(call, max_rows=4, max_waiting=9)
    one, large = {"x": np.ones(1)}, {"x": np.full(1, b"x" * 5000, object)}
    for name in ("fast", "slow"):
        assert batcher.answer_now(name, one) is None  # it is not known yet how long they take
        batcher.submit(name, one, 1, None).result(10)
    assert batcher.answer_now("fast", one)["y"].tolist() == [2.0]
    assert threads[-1] is threading.current_thread() and threads[0] is not threads[-1]
    assert batcher.answer_now("slow", one) is None and batcher.answer_now("fast", large) is None
    batcher.close()
    with pytest.raises(Drained):
        batcher.answer_now("fast", one)


def test_answers_under_load_equal_those_alone_and_invalid_neighbours_change_nothing(client, artifacts):
    """Texts and files of 12 clients at once, a third of them invalid."""
    model = zoo.export.load(artifacts["commands"])
    texts = [f"turn the {thing} {way}, please" for thing in ("lamp", "radio", "door") for way in ("on", "off")] * 10
    alone = dict(zip(texts, model.predict(texts), strict=True))

    def ask(number):
        text = texts[number % len(texts)]
        if number % 3:
            return text, *client.post("/v1/models/commands:predict", {"instances": [text]})
        bad = {"instances": [{"b64": "bm8gaW1hZ2U="}]}
        return None, *client.post("/v1/models/digits:predict", bad)

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        for text, status, content in pool.map(ask, range(240)):
            if text is None:
                assert status == 400 and "not a PNG" in content["error"] and "example" in content
                continue
            assert status == 200, content
            np.testing.assert_allclose(
                content["predictions"][0]["probabilities"], alone[text]["probabilities"], rtol=1e-5, atol=1e-7
            )
            assert content["predictions"][0]["class_name"] == alone[text]["class_name"]


def test_files_next_to_files_that_are_no_images(client, artifacts):
    """All requests are for one signature, so that valid and invalid ones meet in a batch."""
    files = list(client.repository.model("digits").version().signatures["serving_default"].golden["image_bytes"][:8])
    model = zoo.export.load(artifacts["digits"])
    alone = [answer["probabilities"] for answer in model.predict(files)]

    def ask(number):
        body = files[number % 8] if number % 4 else b"no image"
        return number, *client.send(
            "POST", "/predict/digits", body, Content_Type="image/png", Accept="application/json"
        )

    import json

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        for number, status, _, body in pool.map(ask, range(160)):
            assert status == (200 if number % 4 else 400), body
            if number % 4:
                answer = json.loads(body)["answers"][0]
                np.testing.assert_allclose(answer["probabilities"], alone[number % 8], rtol=1e-5, atol=1e-7)


def test_the_invalid_row_of_a_request_is_named(client):
    files = client.repository.model("digits").version().signatures["serving_default"].golden["image_bytes"]
    import base64

    rows = [{"b64": base64.b64encode(file).decode()} for file in files[:7]]
    rows[4] = {"b64": "bm8gaW1hZ2U="}
    status, content = client.post("/v1/models/digits:predict", {"instances": rows})
    assert status == 400 and content["error"].startswith("Row 5 of the request: serving_default rejected")
    assert "image_bytes: this is not a PNG" in content["error"]


@pytest.mark.parametrize(
    "changes",
    [{"is_joined": False}, {"defaults": {"max_new_tokens": 8}}, {"entry": {"generates": True}}],
)
def test_calls_whose_time_depends_on_their_values_never_run_in_the_event_loop(client, monkeypatch, changes):
    version = client.repository.model("iris").version()
    info = version.signatures["serving_default"]
    row = {name: values[:1] for name, values in info.golden.items()}
    threads = []
    call = version.batcher._call
    monkeypatch.setattr(
        version.batcher, "_call", lambda *given: threads.append(threading.current_thread()) or call(*given)
    )
    monkeypatch.setitem(version.batcher._seconds, "serving_default", 0.0)
    with version.batcher._computing:  # its thread holds the lock until just after its answer
        pass
    asyncio.run(version.answer("serving_default", row, alone=True))
    assert threads.pop() is threading.current_thread()
    monkeypatch.setitem(version.signatures, "serving_default", dataclasses.replace(info, **changes))
    asyncio.run(version.answer("serving_default", row, alone=True))
    assert threads.pop() is not threading.current_thread()
