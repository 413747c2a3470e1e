"""One device, two replicas and two worker processes compute the same run."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import processes
import zoo
from zoo.training.cluster import meet
from zoo.training.detection.contract import Cluster
from zoo.training.detection.find import find_cluster

TIMES = ("seconds", "examples_per_second")

# Each process runs all models of one strategy, because a process can hold only one strategy.
RUNS = """
import json, os, sys
from zoo.scripts.console import import_tensorflow
import_tensorflow()  # as the commands do: it takes four seconds instead of seven
import keras, numpy as np, tensorflow as tf
import zoo

name, out, models = sys.argv[1], sys.argv[2], sys.argv[3].split(",")
strategy = zoo.strategy(name, replicas=2 if name == "mirrored" else None)
FULL = dict(
    epochs=3, clip_norm=0.3, schedule="cosine", warmup_steps=3, ema_momentum=0.9, weight_decay=0.01, optimizer="adamw",
    steps_per_call=8, learning_rate=0.003,
)

def smallest_rest(count):
    return min(range(100, 180), key=lambda size: count % size or size)

def registered(model, data, config, **arguments):
    keras.utils.set_random_seed(0)
    prepared = zoo.datasets.load(data).prepare(model, **arguments)
    with strategy.scope():
        network = prepared.build()
    size = smallest_rest(prepared.num_examples("train"))
    result = zoo.train(network, prepared, zoo.TrainConfig(batch_size=size, **config), verbose=0)
    return result

def own_convolutions(config):
    keras.utils.set_random_seed(0)
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(201, 8, 8, 1)), generator.integers(0, 3, 201)
    with strategy.scope():
        inputs = keras.Input((8, 8, 1))
        h = keras.layers.Conv2D(4, 3, activation="relu")(inputs)
        h = keras.layers.BatchNormalization(synchronized=True)(h)
        h = keras.layers.Conv2D(4, 3)(h)
        h = keras.layers.BatchNormalization()(h)  # the loop's business
        h = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(h))
        model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(h))
        own = keras.optimizers.SGD(0.01) if config["optimizer"] == "sgd" else keras.optimizers.Adam(0.01)
        model.compile(optimizer=own, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    own = {k: v for k, v in config.items() if k not in ("optimizer", "learning_rate", "schedule", "warmup_steps")}
    return zoo.train(model, (x, y), zoo.TrainConfig(batch_size=49, **own), validation=(x[:50], y[:50]), verbose=0)

PARTS = dict(accumulation_steps=3)
JOBS = {
    "mlp": lambda c: registered("mlp", "digits", {**c, **PARTS, "class_weights": {"3": 2.5, "7": 0.5}}, hidden_units=[8],
                                input_shape=[8, 8, 1]),
    "cnn": own_convolutions,
    "lstm": lambda c: registered("lstm", "digit_rows", {**c, **PARTS}, units=[5]),
    "transformer": lambda c: registered("transformer", "commands", {**c, **PARTS, "class_weights": "balanced"},
                                        embedding_dim=4, num_heads=2, feed_forward_dim=5, num_layers=1, dropout=0.0),
}
results = {}
for floatx, kind, config in [("float64", "adam", FULL), ("float32", "sgd", {**FULL, "optimizer": "sgd", "epochs": 1}),
                             ("float32", "adam", {**FULL, "epochs": 1})]:
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(floatx)
    for model, job in JOBS.items():
        if model in models and floatx == out.rpartition("-")[2].removesuffix(".npz"):
            results[floatx + " " + kind + " " + model] = result = job(config)
            assert result.model.get_weights()[0].dtype == floatx
if os.environ.get("ZOO_TEST_CHIEF", "0") == "0":
    arrays = {f"{key}/{i:03d}": w for key, r in results.items() for i, w in enumerate(r.model.get_weights())}
    np.savez(out, **arrays)
    print("HISTORY", json.dumps({key: r.history for key, r in results.items()}))
"""

# A second process is made before TensorFlow starts its threads, which saves its import.
SECOND_WORKER = """
import os, signal
other = os.fork()
if not other:
    signal.alarm(300)
    os.environ.update(TF_CONFIG=os.environ["ZOO_TEST_OTHER"], ZOO_TEST_CHIEF="1")
"""
BOTH_END = """
if other:
    assert os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]) == 0, "the other worker failed"
"""


def free_ports(count):
    """Returns ports that are currently free."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def start(source, *arguments, **variables):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", **variables}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source), *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=Path(sys.executable).anchor,
    )


def start_workers(source, *arguments, count=2):
    """Starts the workers of a cluster on this machine."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
    return [
        start(
            source,
            *arguments,
            TF_CONFIG=Cluster(tuple(addresses), index).to_tf_config(),
            ZOO_TEST_CHIEF=str(index),
        )
        for index in range(count)
    ]


def finish(process, seconds=300):
    try:
        text, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        text, _ = process.communicate()
        pytest.fail(f"no end after {seconds} seconds:\n{text[-3000:]}")
    return text


def run_everywhere(strategy, out, *models):
    """Returns the weights and histories of the jobs under a strategy."""
    source, environment = textwrap.dedent(RUNS), {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    if strategy == "multi_worker":
        addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
        environment["TF_CONFIG"] = Cluster(tuple(addresses), 0).to_tf_config()
        environment["ZOO_TEST_OTHER"] = Cluster(tuple(addresses), 1).to_tf_config()
        source = SECOND_WORKER + source + BOTH_END
    command = [sys.executable, "-c", source, strategy, str(out), ",".join(models)]
    done = processes.run(command, env=environment, cwd=out.anchor, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("HISTORY ")]
    with np.load(out) as file:
        return {name: file[name] for name in file.files}, json.loads(line.removeprefix("HISTORY "))


MORE = ("mlp", "lstm", "transformer")
STRATEGIES = ("one_device", "mirrored", "multi_worker")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("strategies")
    return {name: run_everywhere(name, folder / f"{name}-float64.npz", "cnn") for name in STRATEGIES}


@pytest.fixture(scope="module")
def more_runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("strategies")
    return {name: run_everywhere(name, folder / f"{name}-more-float64.npz", *MORE) for name in STRATEGIES}


@pytest.fixture(scope="module")
def single_runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("strategies")
    models = ("mlp", "cnn", "lstm", "transformer")
    return {name: run_everywhere(name, folder / f"{name}-float32.npz", *models) for name in STRATEGIES}


def numbers(rows):
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


@pytest.mark.parametrize("strategy", ["mirrored", "multi_worker"])
@pytest.mark.parametrize(
    "model",
    ["cnn", *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)],
)
def test_every_strategy_computes_the_same_run(request, strategy, model):
    """Compares weights and history to 1e-9, in float64.

    The jobs cover AdamW, clipping, accumulation, moving average, decay, class weights, a schedule, a smaller last batch
    and masked sequences.
    """
    runs = request.getfixturevalue("more_runs" if model in MORE else "runs")
    (weights, history), (other_weights, other_history) = runs["one_device"], runs[strategy]
    key = f"float64 adam {model}"
    names = [name for name in weights if name.startswith(f"{key}/")]
    assert len(names) >= 4 and len(history[key]) == 3
    for name in names:
        np.testing.assert_allclose(weights[name], other_weights[name], rtol=0, atol=1e-9)
    for one, two in zip(numbers(history[key]), numbers(other_history[key]), strict=True):
        assert one == pytest.approx(two, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["mirrored", "multi_worker"])
@pytest.mark.parametrize("model", ["mlp", "cnn", "lstm", "transformer"])
def test_float32_histories_are_close(single_runs, strategy, model):
    """Weights are not compared: Adam amplifies rounding errors in weights without a gradient."""
    (weights, history), (other_weights, other_history) = single_runs["one_device"], single_runs[strategy]
    names = [name for name in weights if name.startswith(f"float32 sgd {model}/")]
    assert names
    for name in names:
        np.testing.assert_allclose(weights[name], other_weights[name], rtol=0, atol=1e-5)
    key = f"float32 adam {model}"
    assert history[key][-1]["loss"] == pytest.approx(other_history[key][-1]["loss"], abs=1e-3)


DRAWS = """
import sys
import keras, numpy as np, tensorflow as tf
import zoo

strategy = zoo.strategy("mirrored", replicas=2)
x = np.ones((4, 1000), "float32")
with strategy.scope():
    inputs = keras.Input((1000,))
    model = keras.Model(inputs, keras.layers.Dropout(0.5, seed=1)(inputs))

from zoo.training.loop.step import replicated

@tf.function
def masks():
    return strategy.run(lambda: model(x, training=True)[0])

first, second = (np.asarray(m) for m in strategy.experimental_local_results(masks()))
print("STOCK", bool((first == second).all()))
with replicated(model):
    masks = tf.function(masks.python_function)
    first, second = (np.asarray(m) for m in strategy.experimental_local_results(masks()))
    print("REPLICATED", float((first == second).mean()), float((first > 0).mean()), float((second > 0).mean()))
    again, _ = (np.asarray(m) for m in strategy.experimental_local_results(masks()))
    print("NEXT", float((again == first).mean()))
print("GONE", "next" not in vars(model.layers[-1].seed_generator))
"""


def test_replicas_draw_different_masks(run_python):
    out = run_python(DRAWS, kind="zoo", CUDA_VISIBLE_DEVICES="-1").stdout
    found = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.split()[0].isupper()}
    assert found["STOCK"] == ["True"], "Keras draws different masks by now: `replicated` can go"
    same, first, second = map(float, found["REPLICATED"])
    assert 0.4 < same < 0.6 and 0.4 < first < 0.6 and 0.4 < second < 0.6
    assert 0.4 < float(found["NEXT"][0]) < 0.6 and found["GONE"] == ["True"]


PARTS = """
import sys
from pathlib import Path
import keras, numpy as np, tensorflow as tf
import zoo
from zoo.training import checkpoints
from zoo.training.cluster import Workers

strategy = zoo.strategy("mirrored", replicas=2)
with strategy.scope():
    mean = keras.metrics.Mean()

@tf.function
def add(step):
    def replica():
        number = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.float32)
        mean.update_state((1.1 + number * 0.37) / (step + 1.0))
    strategy.run(replica)

def run(steps):
    for step in steps:
        add(tf.constant(float(step)))
    return float(mean.result())

parts = lambda: checkpoints.read_parts(strategy, Workers(strategy), mean.variables)
files, group = checkpoints.Checkpoints(Path(sys.argv[1]), keep=2), {"metrics": mean.variables}
state = {"step": 3, "epoch": 0, "step_in_epoch": 3, "epochs": 1, "history": [], "stopped": False, "callbacks": None}
state["selection"] = {"best": [], "waited": 0}
equal = {"values": 0, "parts": 0}
for kill in range(1, 11):  # a run of 20 steps, resumed after 1 to 10
    mean.reset_state()
    whole = run(range(20))
    mean.reset_state()
    run(range(kill))
    files.save(kill, checkpoints.read_values(group) | parts(), state)
    for name in equal:
        mean.reset_state()
        values, _ = files.restore(checkpoints.read_values(group), parts() if name == "parts" else None)
        checkpoints.assign_values(group, values)
        checkpoints.assign_parts(strategy, Workers(strategy), mean.variables, values)
        equal[name] += run(range(kill, 20)) == whole
print("EQUAL", equal["values"], equal["parts"])
found = files.restore(checkpoints.read_values(group), {"metrics_of_replicas": [np.zeros((3,), "float32")] * 2})
print("OTHERS", sorted(found[0]))
"""


def test_metrics_of_replicas_resume_with_the_same_digits(run_python, tmp_path):
    out = run_python(PARTS, tmp_path, kind="zoo", CUDA_VISIBLE_DEVICES="-1").stdout
    found = {line.split()[0]: line.split(maxsplit=1)[1] for line in out.splitlines() if line.split()[0].isupper()}
    sums, parts = map(int, found["EQUAL"].split())
    assert sums < 10, "a sum over the replicas is enough by now"
    assert parts == 10
    assert found["OTHERS"] == "['metrics']", "a checkpoint of another number of replicas has the sum"


KILLS = """
import sys
import keras, numpy as np
import zoo

strategy = zoo.strategy("mirrored", replicas=2)
generator = np.random.default_rng(0)
x, y = generator.normal(size=(301, 6)).astype("float32"), generator.integers(0, 3, 301)

class Kill(keras.callbacks.Callback):
    at = 0

    def on_train_batch_end(self, batch, logs=None):
        if batch == self.at:
            raise KeyboardInterrupt

def run(directory, callbacks):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, activation="softmax")])
        model.compile(keras.optimizers.Adam(0.01), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    config = zoo.TrainConfig(epochs=2, batch_size=13, steps_per_call=1, checkpoint_steps=1)
    result = zoo.train(model, (x, y), config, run_directory=directory, callbacks=callbacks, verbose=0)
    times = ("seconds", "examples_per_second")
    return [{k: v for k, v in row.items() if k not in times} for row in result.history], model.get_weights()

killed = 0
for Kill.at in range(3, 3 + int(sys.argv[2])):
    try:
        run(sys.argv[1], [Kill()])
    except KeyboardInterrupt:
        killed += 1
history, weights = run(sys.argv[1], [])
expected, whole = run(None, [])
print("SAME", killed, history == expected, all(np.array_equal(a, b) for a, b in zip(weights, whole)))
"""


@pytest.mark.slow
def test_replicas_resume_with_the_same_history(run_python, tmp_path):
    out = run_python(KILLS, tmp_path / "run", 6, kind="zoo", CUDA_VISIBLE_DEVICES="-1").stdout
    assert "SAME 6 True True" in out


def test_a_cluster_is_read_from_arguments_and_environment(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert find_cluster(None, None) is None
    assert find_cluster("one:22, two:22", 1) == Cluster(("one:22", "two:22"), 1)
    monkeypatch.setenv("TF_CONFIG", Cluster(("one:22", "two:22"), 1).to_tf_config())
    assert find_cluster(None, None) == Cluster(("one:22", "two:22"), 1)
    assert find_cluster(["three:22"], 0) == Cluster(("three:22",), 0)


@pytest.mark.parametrize(
    ("addresses", "index", "message"),
    [
        ("one:22", None, r"--cluster came without --task-index. Pass both"),
        (None, 0, r"--task-index came without --cluster"),
        ("one", 0, r"the address 'one'; expected host:port"),
        ("one:x", 0, r"the address 'one:x'; expected host:port"),
        ("one:22,one:22", 0, r"has an address twice"),
        ("one:22,two:22", 2, r"The task index is 2; the cluster has the workers 0 to 1"),
    ],
)
def test_invalid_clusters_are_rejected(addresses, index, message):
    with pytest.raises(zoo.UsageError, match=message):
        find_cluster(addresses, index)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"cluster": {"ps": ["a:1"]}, "task": {"type": "ps", "index": 0}}',
        '{"cluster": {"worker": ["a:1"]}, "task": 3}',
    ],
)
def test_unusable_tf_config_is_rejected(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(zoo.UsageError, match=r"TF_CONFIG (cannot be used: |names ps).*unset"):
        find_cluster(None, None)


def test_message_names_the_worker_that_does_not_connect():
    here, gone = free_ports(2)
    began = time.monotonic()
    with pytest.raises(zoo.UsageError, match=rf"No answer from 127\.0\.0\.1:{gone} within 1 seconds"):
        meet(Cluster((f"127.0.0.1:{here}", f"127.0.0.1:{gone}"), 0), timeout=1)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_workers_connect_despite_silent_foreign_connections(host):
    ports = free_ports(2)
    addresses = tuple(f"{host}:{port}" for port in ports)
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(1) as other:
        first = other.submit(meet, Cluster(addresses, 0), timeout=30)
        for _ in range(2):
            stack.enter_context(connected(host.strip("[]"), ports[0]))
        meet(Cluster(addresses, 1), timeout=30)
        first.result(timeout=30)


def connected(host, port):
    """Opens a connection to a port that may not be open yet."""
    for _ in range(100):
        with contextlib.suppress(OSError):
            return socket.create_connection((host, port), 2)
        time.sleep(0.05)
    pytest.fail(f"nobody listens at {host}:{port}")


def test_message_names_a_port_in_use():
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(zoo.UsageError, match=rf"Worker 0 cannot listen at 127\.0\.0\.1:{port}"):
            meet(Cluster((f"127.0.0.1:{port}", "127.0.0.1:9"), 0), timeout=1)


WORKER = """
import sys
import zoo
from zoo.training.cluster import meet
from zoo.training.detection.contract import Cluster
try:
    meet(Cluster(tuple(sys.argv[1].split(",")), int(sys.argv[2])), timeout=20)
    print("MET")
except zoo.UsageError as error:
    print("REFUSED", error)
"""


@pytest.mark.slow
def test_workers_with_different_cluster_addresses_are_rejected():
    one, two, three = (f"127.0.0.1:{port}" for port in free_ports(3))
    workers = [start(WORKER, f"{one},{two}", 0), start(WORKER, f"{one},{two},{three}", 1)]
    texts = [finish(worker, 60) for worker in workers]
    assert any("belongs to another cluster" in text for text in texts), texts
    workers = [start(WORKER, f"{one},{two}", index) for index in (0, 1)]
    assert all("MET" in finish(worker, 60) for worker in workers)


KILLED = """
import os, sys
import keras
import zoo

class Kill(keras.callbacks.Callback):
    calls = 0
    def on_train_batch_end(self, batch, logs=None):
        self.calls += 1
        if self.calls == int(sys.argv[2]) and os.environ["ZOO_TEST_CHIEF"] == "1":
            os.kill(os.getpid(), int(sys.argv[3]))

config = zoo.TrainConfig(epochs=3, deterministic=True, batch_size=64, checkpoint_steps=8, steps_per_call=3, seed=5,
                         strategy="multi_worker", ema_momentum=0.9)
arguments = {"filters": [4, 6], "dense_units": 8, "dropout": 0.3, "input_shape": [12, 12, 1]}
try:
    zoo.run("cnn", "digits", config=config, model_arguments=arguments, run_directory=sys.argv[1], export=False, verbose=0,
            callbacks=[Kill()])
except zoo.UsageError as error:
    print("REFUSED", error)
    os._exit(2)
except KeyboardInterrupt as error:
    print("LEFT", error)
    os._exit(error.status)
"""


def trained(directory):
    import keras

    return keras.saving.load_model(directory / "model.keras", compile=False).get_weights()


@pytest.mark.slow
def test_two_workers_resume_after_a_kill_and_after_sigterm(tmp_path):
    """Kills one worker: the other reports it. Sends SIGTERM to one: both save. The resumed run has the same result."""
    for worker in start_workers(KILLED, tmp_path / "whole", 0, 9):
        text = finish(worker)
        assert worker.returncode == 0, text[-3000:]
    chief, killed = start_workers(KILLED, tmp_path / "run", 5, int(signal.SIGKILL))
    text = finish(chief)
    finish(killed)
    assert killed.returncode == -9 and chief.returncode == 2
    assert "Another worker was lost" in text and "the run resumes from its last checkpoint" in text
    workers = start_workers(KILLED, tmp_path / "run", 3, int(signal.SIGTERM))
    texts = [finish(worker) for worker in workers]
    assert [worker.returncode for worker in workers] == [143, 143]
    assert all("LEFT Training was interrupted" in text for text in texts)
    for worker in start_workers(KILLED, tmp_path / "run", 0, 9):
        text = finish(worker)
        assert worker.returncode == 0, text[-3000:]
    for one, two in zip(trained(tmp_path / "whole"), trained(tmp_path / "run"), strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-6)


UNLIKE = """
import os
import numpy as np
import zoo

strategy = zoo.strategy("multi_worker")
index = int(os.environ["ZOO_TEST_CHIEF"])
prepared = zoo.datasets.load("digits").prepare("mlp", hidden_units=[4], input_shape=[8, 8, 1])
with strategy.scope():
    model = prepared.build(seed=0)
try:
    zoo.train(model, prepared, zoo.TrainConfig(epochs=1, batch_size=64 + index), verbose=0)
except zoo.UsageError as error:
    print("REFUSED", error)
"""


@pytest.mark.slow
def test_workers_with_different_settings_are_rejected():
    texts = [finish(worker) for worker in start_workers(UNLIKE)]
    assert all("REFUSED Worker 1 has other settings or data than the chief" in text for text in texts), texts
    assert "config.batch_size is 65, the chief has 64" in texts[1]
