"""Small artifacts, and a real server over them on a loopback port, in a thread of the test process."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time

import numpy as np

import zoo
from selection import slow
from zoo.export import artifact, artifact_paths, live

QUICK = ("digits", "commands", "iris")
SMALL = {
    "digits": ("mlp", {"hidden_units": (8,), "input_shape": (8, 8, 1)}),
    "commands": ("attention", {"embedding_dim": 8}),
    "iris": ("mlp", {"hidden_units": (4,)}),
    "seasons": ("lstm", {"units": (4,)}),
    "tagged_commands": ("rnn", {"embedding_dim": 8, "rnn_units": 8}),
    "digit_rows": ("lstm", {"units": (4,)}),
    "number_words": ("seq2seq_rnn", {"embedding_dim": 8, "rnn_units": 8}),
    "command_lines": ("bert_mlm", {"num_layers": 1, "hidden_size": 16, "intermediate_size": 16}),
    "spoken_sums": ("gpt", {"num_layers": 1, "hidden_size": 16, "num_heads": 2}),
    "tastes": ("matrix_factorization", {"embedding_dim": 4}),
    "diabetes": ("mlp", {"hidden_units": (4,)}),
    "pastimes": ("mlp", {"hidden_units": (4,)}),
    "digit_shapes": ("mlp", {"hidden_units": (8,), "input_shape": (8, 8, 1)}),
    "digit_ink": ("mlp", {"hidden_units": (8,), "input_shape": (8, 8, 1)}),
    "wishes": ("embedding_lstm", {"embedding_dim": 8, "lstm_units": 8}),
    "baskets": ("embedding_lstm", {"embedding_dim": 8, "lstm_units": 8}),
    "paraphrases": ("sentence_bert", {"num_layers": 1, "hidden_size": 16, "intermediate_size": 16}),
}
"""A small model for a data set of every task."""
SERVERS = [*(("client", name) for name in QUICK), *(slow("more", name) for name in SMALL if name not in QUICK)]
"""The fixtures of servers with the models that they serve, for tests of each model."""


def write_artifact(folder, name, seed=0):
    """Does all that `zoo.export.save` does, except the verification in another process."""
    model, arguments = SMALL[name]
    prepared = zoo.datasets.load(name).prepare(model, **arguments)
    network = prepared.build(seed=seed)
    folder.mkdir(parents=True)
    artifact._write(folder, network, prepared.interface, live.golden(network, prepared.interface), {}, {})
    artifact_paths.write_sums(folder)


_IDLE = 30
"""Seconds; the server closes idle connections some time later."""


class Client:
    """Sends requests to a server that `serving` has started.

    Attributes:
        port: its port.
        events: the lines of its log.
        repository: its models.
    """

    def __init__(self, port, events, repository):
        self.port, self.events, self.repository = port, events, repository
        self._local = threading.local()

    def send(self, method, path, body=None, **headers):
        """Returns the status, the headers and the body; connections are kept by thread, as long as they are used."""
        if time.monotonic() - getattr(self._local, "used", -_IDLE) >= _IDLE:
            self._local.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        self._local.used = time.monotonic()
        connection = self._local.connection
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, body, names)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        except (http.client.HTTPException, OSError):
            connection.close()
            raise

    def get(self, path, **headers):
        """Returns the JSON content."""
        status, _, body = self.send("GET", path, **headers)
        assert status == 200, body
        return json.loads(body)

    def post(self, path, content, **headers):
        """Returns the status and the JSON content of the answer to JSON."""
        status, _, body = self.send("POST", path, json.dumps(content).encode(), **headers)
        return status, json.loads(body)


@contextlib.contextmanager
def serving(paths, **settings):
    """Runs a server over the models at `paths`; yields a `Client`."""
    from zoo.export.serving import server
    from zoo.export.serving.metrics import Metrics
    from zoo.export.serving.repository import Repository
    from zoo.export.serving.settings import Settings

    chosen = Settings(**{"port": 0, "poll": 0.1, **settings})
    events, metrics = [], Metrics()

    def event(name, **fields):
        events.append({"event": name, **fields})

    with server.bound(chosen) as listening:
        repository = Repository(paths, chosen, metrics, event)
        running = server.made(repository, chosen, metrics, event)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not running.started:
            time.sleep(0.01)
        try:
            yield Client(listening.getsockname()[1], events, repository)
        finally:
            running.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


def version_of(client, name):
    return client.repository.model(name).version()


def assert_equal(got, want, atol=2e-6):
    """Compares outputs of a protocol with golden ones, which are padded to the longest example of all."""
    want = np.asarray(want)
    got = np.asarray(got, object if want.dtype == object else want.dtype)
    assert got.ndim == want.ndim
    part = want[tuple(slice(0, size) for size in got.shape)]
    assert part.shape == got.shape
    if want.dtype == object:
        assert got.ravel().tolist() == [text.decode() for text in part.ravel()]
        assert not any(np.delete(want.ravel(), np.s_[:]).tolist())
    else:
        np.testing.assert_allclose(got, part, rtol=2e-5, atol=atol, equal_nan=True)


def golden(client, name):
    """Yields signature, description and golden inputs and outputs of the first examples."""
    for signature, info in version_of(client, name).signatures.items():
        assert info.golden and info.answers, f"{name} {signature} has no golden examples"
        yield signature, info, {k: v[:6] for k, v in info.golden.items()}, {k: v[:6] for k, v in info.answers.items()}
