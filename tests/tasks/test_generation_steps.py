"""Texts that are generated token by token, and stop strings, against plain Python and against `sample`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo import stop_strings
from zoo.export import live
from zoo.scripts import cli

PARTS = [
    b"a",
    b"b",
    b"ab",
    b"\n",
    "中".encode(),
    b"\xe4",
    b"\xb8",
    "😀".encode(),
    b"\xf0\x9f",
    b"\xed\xa0",
    b"\xe0\x80",
]
STOPS = [b"", b"ab", b"b", b"aab", b"\n", "中".encode(), b"a\n"]
PROMPTS = ["turn", "", "one and two makes", "naïve 中文 😀"]


def plain_cut(text, stops):
    """The text before the stop string that ends first; of several, the longest."""
    for end in range(len(text) + 1):
        starts = [end - len(stop) for stop in stops if stop and text[:end].endswith(stop)]
        if starts:
            return text[: min(starts)]
    return text


def random_texts(random, count, most):
    return [b"".join(PARTS[i] for i in random.integers(0, len(PARTS), random.integers(0, most))) for _ in range(count)]


def test_texts_end_before_the_first_stop_string():
    random = np.random.default_rng(0)
    texts = random_texts(random, 2000, 10)
    stops = [[STOPS[i] for i in random.integers(0, len(STOPS), 3)] for _ in texts]
    found = stop_strings.before(tf.constant(texts), tf.constant(stops)).numpy().tolist()
    assert found == [plain_cut(text, row) for text, row in zip(texts, stops, strict=True)]


def test_parts_of_a_text_that_grows_make_the_text_before_its_stop_string():
    random = np.random.default_rng(1)
    count, steps = 2000, 6
    added = np.array([random_texts(random, count, 3) for _ in range(steps)], object)
    stops = tf.constant([[STOPS[i] for i in random.integers(0, len(STOPS), 2)] for _ in range(count)])
    waiting, ended, texts = tf.fill([count], ""), tf.zeros([count], tf.bool), [""] * count

    def decoded(values):
        return [
            value.decode("utf-8", "strict") for value in tf.strings.unicode_transcode(values, "UTF-8", "UTF-8").numpy()
        ]

    for row in added:
        new = tf.where(ended, "", tf.constant(row.tolist()))
        certain, waiting, stopped = stop_strings.advance(waiting, new, stops)
        ended |= stopped
        texts = [text + part for text, part in zip(texts, decoded(certain), strict=True)]
    texts = [text + part for text, part in zip(texts, decoded(waiting), strict=True)]
    whole = tf.constant([b"".join(parts) for parts in added.T])
    assert texts == decoded(stop_strings.before(whole, stops)) and 0.2 < ended.numpy().mean() < 0.8


@pytest.fixture(scope="module")
def trained():
    """A model of random weights that are large enough to write different texts, and its data."""
    prepared = zoo.datasets.load("spoken_sums").prepare("gpt", max_length=32, hidden_size=16, num_layers=1, num_heads=2)
    model = prepared.build(seed=0)
    for weight in model.weights:
        if len(weight.shape) == 2:
            weight.assign(weight * 6)
    return prepared, model


def requests(stops):
    count = len(PROMPTS)
    given = {"seed": np.arange(count), "temperature": np.float32([0.8, 1.0, 0.0, 1.2]), "top_k": np.int32([0, 5, 0, 0])}
    given |= {"top_p": np.float32([1, 1, 1, 0.9]), "repetition_penalty": np.float32([1, 1.3, 1.1, 1])}
    given |= {"max_new_tokens": np.int32([12, 5, 9, 12])}
    return {"text": tf.constant(PROMPTS), "stop": tf.constant(stops), **{k: tf.constant(v) for k, v in given.items()}}


def in_parts(functions, given):
    """Calls `prefill` and `step` until all texts have ended; returns the texts and the last outputs."""
    outputs = functions["prefill"](given)
    texts = outputs["text"].numpy()
    while not outputs["is_last"].numpy().all():
        outputs = functions["step"]({name: outputs[name] for name in functions["step"].takes})
        texts = texts + outputs["text"].numpy()
    return texts.tolist(), outputs


def test_parts_of_unlike_rows_make_the_text_of_sample(trained):
    prepared, model = trained
    functions = live.signatures(model, prepared.interface)
    plain = functions["sample"](requests([[""]] * 4))
    texts, last = in_parts(functions, requests([[""]] * 4))
    assert texts == plain["text"].numpy().tolist() and len({*texts}) == 4
    np.testing.assert_allclose(last["log_probability"], plain["log_probability"], rtol=1e-5)
    again = functions["step"]({name: last[name] for name in functions["step"].takes})
    assert again["text"].numpy().tolist() == [b""] * 4 and again["is_last"].numpy().all(), "a text that has ended stays"

    middles = [next(c for c in text.decode()[2:] if c != "\ufffd").encode() for text in texts]
    stops = [[middle, "nowhere"] for middle in middles[:3]] + [["", ""]]
    cut = functions["sample"](requests(stops))
    wanted = [plain_cut(text, [s for s in row if s]) for text, row in zip(texts, as_bytes(stops), strict=True)]
    assert cut["text"].numpy().tolist() == wanted == in_parts(functions, requests(stops))[0]
    assert wanted[3] == texts[3] and all(len(a) < len(b) for a, b in zip(wanted[:3], texts[:3], strict=True))
    written = (cut["tokens"].numpy() != b"").sum(axis=1)
    assert (written[:3] < (plain["tokens"].numpy() != b"").sum(axis=1)[:3]).all(), "the rest is not computed"


def as_bytes(rows):
    return [[part if isinstance(part, bytes) else part.encode() for part in row] for row in rows]


@pytest.mark.parametrize("stops", [[["a"] * 17], [["a" * 101]]])
def test_too_many_or_long_stop_strings_are_rejected(trained, stops):
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="stop is too long; expected at most 16 texts of at most 100"
    ):
        trained[0].preprocessor.serve({"text": tf.constant(["a"]), "stop": tf.constant(stops)})


# --- A server ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(trained, tmp_path_factory):
    """The artifact, and the address of a server of it in a process of its own."""
    prepared, model = trained
    golden = {name: value.numpy() for name, value in requests([["e"], [""], ["\n"], [""]]).items()}
    path = zoo.export.save(model, tmp_path_factory.mktemp("sums"), interface=prepared.interface, golden=golden)
    words = [sys.executable, "-P", "-m", "zoo.scripts.cli", "serve", f"sums={path}", "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "ready":
                break
        yield path, f"http://127.0.0.1:{event['port']}/v1/models/sums"
        process.send_signal(signal.SIGTERM)
        process.stdout.read()


def ask(address, method, **body):
    request = urllib.request.Request(f"{address}:{method}", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=120) as response:
        return response.headers["Content-Type"], response.read().decode()


def streamed(address, rows, **more):
    """The texts that a stream sends, by row, and the number of its events."""
    kind, content = ask(address, "stream", instances=rows, **more)
    assert kind.startswith("text/event-stream")
    events = [json.loads(part.removeprefix("data: ")) for part in content.split("\n\n")[:-1]]
    texts = [""] * len(rows)
    for event in events:
        texts[event["row"]] += event["text"]
    assert sum(event["is_last"] for event in events) == len(rows)
    return texts, len(events)


@pytest.mark.slow
def test_a_server_streams_the_texts_of_the_other_signatures(served):
    path, address = served
    saved = tf.saved_model.load(str(path))
    for prompts in (PROMPTS[:1], PROMPTS):
        wanted = saved.signatures["serving_default"](text=tf.constant(prompts))["text"].numpy().tolist()
        texts, count = streamed(address, prompts)
        assert [text.encode() for text in texts] == wanted and count > len(prompts)
    given = requests([["e", ""], ["o", "t"], ["", ""], ["", ""]])
    wanted = saved.signatures["sample"](**given)["text"].numpy().tolist()
    rows = [{k: v.numpy().tolist()[row] for k, v in given.items() if k not in ("text", "stop")} for row in range(4)]
    rows = [
        {**row, "text": text, "stop": stop}
        for row, text, stop in zip(rows, PROMPTS, [["e"], ["o", "t"], [""], [""]], strict=True)
    ]
    assert [text.encode() for text in streamed(address, rows, signature_name="sample")[0]] == wanted
    plain = saved.signatures["sample"](**requests([[""]] * 4))["text"].numpy().tolist()
    columns = {name: [row[name] for row in rows] for name in rows[0] if name != "stop"}
    found = json.loads(ask(address, "predict", signature_name="sample", inputs=columns)[1])["outputs"]["text"]
    assert [text.encode() for text in found] == plain, "the default of stop"
    for row, text in zip(rows, wanted, strict=True):
        assert streamed(address, [row])[0] == [text.decode()], "the same text in a batch of its own"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"instances": []}, "instances is empty; expected a list of examples. Send at least one."),
        ({"instances": ["a"], "inputs": 1}, "The body has 'inputs'; expected signature_name, instances. Send these."),
        (
            {"instances": ["a"], "signature_name": "greedy"},
            "'greedy' cannot be streamed. Send one of serving_default, sample.",
        ),
        ({"instances": [{"seed": 1}]}, "Instance 1 lacks text; prefill takes"),
        ({"instances": [{"text": "a", "top_p": 0}]}, "top_p is out of range; expected a number above 0, at most 1"),
        (
            {"instances": [{"text": "a", "temperature": -1}]},
            "temperature is out of range; expected a number of at least 0",
        ),
        ({"instances": [{"text": "a", "max_new_tokens": 32}]}, "max_new_tokens is out of range; expected 1 to 31"),
        ({"instances": [{"text": "a", "stop": "x"}]}, "stop has the shape []; expected ['any']"),
    ],
)
def test_invalid_streams_are_rejected_before_they_begin(served, body, message):
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(served[1], "stream", **body)
    assert caught.value.code == 400 and message in json.loads(caught.value.read())["error"]
    assert len(streamed(served[1], [{"text": "a\0b", "max_new_tokens": 1}])[0]) == 1, "the next request is answered"


@pytest.mark.slow
def test_a_session_needs_only_the_text(served):
    """TensorFlow Serving and the C API run the graph in a session."""
    path, _ = served
    wanted = tf.saved_model.load(str(path)).signatures["serving_default"](text=tf.constant(PROMPTS))["text"]
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        signatures = tf.compat.v1.saved_model.load(session, ["serve"], str(path)).signature_def
        assert {*signatures["beam"].defaults} == {"num_beams", "length_penalty", "max_new_tokens"}
        assert {*signatures["prefill"].defaults} == {*signatures["sample"].inputs} - {"text"}
        assert not signatures["step"].defaults and not signatures["serving_default"].defaults
        sample = signatures["sample"]
        found = session.run(sample.outputs["text"].name, {sample.inputs["text"].name: PROMPTS})
    assert found.tolist() == wanted.numpy().tolist()


# --- The command line -------------------------------------------------------------------------------------------------


def predict(path, *words, capsys):
    status = cli.main(["predict", str(path), *words])
    found = capsys.readouterr()
    return status, found.out, found.err


@pytest.mark.slow
def test_the_command_passes_settings_and_rejects_invalid_ones(served, capsys):
    path, _ = served
    saved = tf.saved_model.load(str(path))
    one = requests([["e"]] * 4)
    wanted = saved.signatures["sample"](**{k: v[:1] for k, v in one.items()})["text"].numpy()[0].decode()
    settings = {k: v.numpy().tolist()[0] for k, v in one.items() if k not in ("text", "stop")} | {"stop": ["e"]}
    words = ["turn", "--signature", "sample", "--settings", json.dumps(settings), "--json"]
    assert json.loads(predict(path, *words, capsys=capsys)[1])["text"] == wanted
    for words, message in (
        (["--settings", '{"temperature": -1}'], "temperature is out of range; expected a number of at least 0"),
        (["--settings", '{"top_p": 1.5}'], "top_p is out of range; expected a number above 0, at most 1"),
        (["--settings", '{"max_new_tokens": 99}'], "max_new_tokens is out of range; expected 1 to 31"),
        (["--settings", '{"heat": 1}'], "--settings has heat; sample takes max_new_tokens, repetition_penalty, seed"),
        (["--settings", "{"], "--settings is no JSON"),
    ):
        status, _, error = predict(path, "turn", "--signature", "sample", *words, capsys=capsys)
        assert status == 2 and message in error
    for words, message in (
        (["--settings", '{"num_beams": 9}'], "num_beams is out of range; expected 1 to 8"),
        (["--settings", '{"max_new_tokens": 99}'], "max_new_tokens is out of range; expected 1 to 31"),
    ):
        status, _, error = predict(path, "turn", "--signature", "beam", *words, capsys=capsys)
        assert status == 2 and message in error
    assert predict(path, "turn", "--signature", "beam", capsys=capsys)[0] == 0
    for text in ("", "\udcff\udcfe", "a" * 500):  # no prompt, bytes that are not UTF-8, longer than the context
        assert predict(path, text, "--signature", "sample", "--settings", '{"temperature": 0}', capsys=capsys)[0] == 0
    card = (path / "README.md").read_text()
    assert "Of a longer prompt, the last ones are used" in card and 'ask("step", **{' in card
