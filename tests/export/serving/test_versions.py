"""New versions are loaded and switched while requests are answered; damaged ones change nothing."""

from __future__ import annotations

import concurrent.futures
import functools
import json
import os
import shutil
import threading
import time

import pytest

from served_models import serving
from zoo.errors import UsageError
from zoo.export.serving.metrics import Metrics
from zoo.export.serving.repository import Repository
from zoo.export.serving.settings import Settings
from zoo.scripts import cli, serve


def publish(base, source, number):
    """Copies a version as an exporter does: hidden, then renamed."""
    shutil.copytree(source, base / f".{number}")
    os.rename(base / f".{number}", base / str(number))


def wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def happened(client, event, version):
    return any(line["event"] == event and line.get("version") == version for line in client.events)


def switch_under_load(artifacts, tmp_path, switches, clients):
    base = tmp_path / "commands"
    base.mkdir()
    publish(base, artifacts["commands"] / "1", 1)
    with serving({"commands": base}) as client:
        stop, failed, count = threading.Event(), [], [0]

        def load():
            while not stop.is_set():
                status, content = client.post("/v1/models/commands:predict", {"instances": ["turn the light on"]})
                count[0] += 1
                if status != 200:
                    failed.append(content)

        with concurrent.futures.ThreadPoolExecutor(clients) as pool:
            workers = [pool.submit(load) for _ in range(clients)]
            try:
                for number in range(2, 2 + switches):
                    publish(base, artifacts["commands"] / "1", number)
                    wait_for(functools.partial(happened, client, "version_drained", number - 1))
                    assert client.get("/v1/models") == {"commands": [number]}
            finally:
                stop.set()
            for worker in workers:
                worker.result()
        assert failed == [] and count[0] > clients * switches
        yield client, base, 1 + switches


def test_a_new_version_is_switched_without_a_failed_request_and_a_damaged_one_is_not(artifacts, tmp_path):
    for client, base, last in switch_under_load(artifacts, tmp_path, 1, 2):
        damaged = tmp_path / "damaged"
        shutil.copytree(artifacts["commands"] / "1", damaged)
        content = bytearray((damaged / "saved_model.pb").read_bytes())
        content[len(content) // 2] ^= 255
        (damaged / "saved_model.pb").write_bytes(content)
        publish(base, damaged, last + 1)
        wait_for(functools.partial(happened, client, "version_failed", last + 1))
        states = client.get("/v1/models/commands")["model_version_status"]
        assert [(state["version"], state["state"]) for state in states] == [
            (str(last + 1), "END"),
            (str(last), "AVAILABLE"),
        ]
        assert "saved_model.pb" in states[0]["status"]["error_message"]
        status, content = client.post("/v2/models/commands/infer", {"inputs": [{"name": "text", "shape": [1]}]})
        assert status == 400 and client.get("/v2/models/commands")["versions"] == [str(last)]
        count = sum(line["event"] == "version_failed" for line in client.events)
        time.sleep(0.5)  # several looks; the damaged files have not changed, so they are not read again
        assert sum(line["event"] == "version_failed" for line in client.events) == count


@pytest.mark.slow
def test_twenty_versions_are_switched_under_load(artifacts, tmp_path):
    for client, _, last in switch_under_load(artifacts, tmp_path, 20, 8):
        assert client.get("/v1/models") == {"commands": [last]}


def test_several_versions_with_labels(artifacts, tmp_path):
    base = tmp_path / "iris"
    base.mkdir()
    for number in (1, 2, 3):
        publish(base, artifacts["iris"] / "1", number)
    with serving({"iris": base}, versions="1,3", labels={"stable": 1, "iris:canary": 3, "gone": 2}) as client:
        assert client.get("/v1/models") == {"iris": [1, 3]}
        row = dict.fromkeys(("petal_length", "petal_width", "sepal_length", "sepal_width"), 1.0)
        for place, version in (("", 3), ("/versions/1", 1), ("/labels/stable", 1), ("/labels/canary", 3)):
            assert client.post(f"/v1/models/iris{place}:predict", {"instances": [row]})[0] == 200
            assert client.events[-1]["version"] == version
        assert client.post("/v1/models/iris/labels/gone:predict", {})[0] == 404
        assert client.post("/v1/models/iris/labels/stabel:predict", {})[1]["error"].endswith("Did you mean 'stable'?")
        shutil.rmtree(base / "3")
        wait_for(lambda: happened(client, "version_drained", 3))
        assert client.get("/v1/models") == {"iris": [1]}


def test_a_version_that_is_written_again_is_loaded_again(artifacts, tmp_path):
    base = tmp_path / "iris"
    base.mkdir()
    publish(base, artifacts["iris"] / "1", 1)
    models = repository({"iris": base})
    (model,) = models.models.values()
    first = model.versions[1]
    model.update()
    assert model.versions[1] is first
    shutil.rmtree(base / "1")
    model.update()
    assert model.versions[1] is first, "the last version is served though its folder is gone"
    publish(base, artifacts["iris"] / "1", 1)
    (base / "1" / "saved_model.pb").touch()
    model.update()
    assert model.versions[1] is not first and list(model.versions) == [1]


def repository(paths):
    return Repository(paths, Settings(), Metrics(), lambda *_, **__: None)


def test_folders_that_are_no_models_are_rejected(artifacts, tmp_path, capsys):
    with pytest.raises(UsageError, match=r"holds no SavedModel. Pass a folder with saved_model.pb"):
        repository({"empty": tmp_path})
    with pytest.raises(UsageError, match=r"The model's name 'a/b' cannot be part of an address. Choose letters"):
        repository({"a/b": artifacts["iris"]})
    damaged = tmp_path / "damaged"
    shutil.copytree(artifacts["iris"] / "1", damaged / "1")
    (damaged / "1" / "variables" / "variables.index").write_bytes(b"no index")
    with pytest.raises(UsageError, match=r"'damaged' cannot be served: .* has changed since its export"):
        repository({"damaged": damaged})
    publish(damaged, artifacts["iris"] / "1", 0)  # an older one that is intact
    assert list(repository({"damaged": damaged}).models["damaged"].versions) == [0]


def test_names_and_labels_of_the_command_line(tmp_path, capsys):
    (tmp_path / "runs").mkdir()
    assert serve._paths(["runs/commands", "other=exports/digits/3", "exports/iris/2", "r/x/saved_model/1"]) == {
        "commands": "runs/commands",
        "other": "exports/digits/3",
        "iris": "exports/iris/2",
        "x": "r/x/saved_model/1",
    }
    with pytest.raises(UsageError, match=r"Two models are named 'a'. Pass NAME=PATH"):
        serve._paths(["a=x", "a=y"])
    assert serve._labels(["stable=1", "iris:canary=3"]) == {"stable": 1, "iris:canary": 3}
    with pytest.raises(UsageError, match=r"--label is 'stable'. Pass LABEL=VERSION"):
        serve._labels(["stable"])
    assert cli.main(["serve", "--prot", "1", "x"]) == 2 and "Did you mean '--port'" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_serves_without_keras_and_drains_at_sigterm(artifacts, tmp_path):
    import re
    import signal
    import subprocess
    import sys
    import urllib.request

    source = (
        "import atexit, sys; from zoo.scripts import cli\n"
        "status = cli.main(sys.argv[1:])\n"
        "print('keras', sys.modules.get('keras'), [name for name in sys.modules if name.startswith('keras.')])\n"
        "sys.exit(status)"
    )
    words = [sys.executable, "-P", "-c", source, "serve", str(artifacts["commands"]), "--port", "0"]
    log = (tmp_path / "log").open("w+")
    with subprocess.Popen(words, stdout=log, stderr=subprocess.PIPE, text=True) as process:
        address = re.search(r"at (http://127.0.0.1:\d+)", process.stderr.readline())[1]
        request = urllib.request.Request(f"{address}/predict/commands", b"dim it", {"Content-Type": "text/plain"})
        assert urllib.request.urlopen(request).status == 200
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            body = json.dumps({"instances": ["a " * 500] * 2000}).encode()
            asked = [
                pool.submit(urllib.request.urlopen, f"{address}/v1/models/commands:predict", body) for _ in range(4)
            ]
            time.sleep(0.3)
            process.send_signal(signal.SIGTERM)
            assert [answer.result().status for answer in asked] == [200] * 4
        assert process.wait(60) == 0
    log.seek(0)
    *lines, last = log.read().splitlines()
    assert last == "keras None []"
    events = [json.loads(line)["event"] for line in lines]
    assert events[0] == "version_ready" and events[-1] == "stopped" and events.count("request") == 5
