"""Nothing stays behind after kills: hidden files of a run, hidden folders of an export, workers of a killed launcher."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from zoo import storage
from zoo.errors import UsageError
from zoo.export import publishing, scratch
from zoo.training.run_directory import RunDirectory

SETTINGS = {"model": {"name": "mlp"}, "data": {"name": "digits"}, "config": {}}


def test_hidden_files_of_killed_processes_are_removed(tmp_path):
    (tmp_path / "run" / "plots").mkdir(parents=True)
    directory = RunDirectory(tmp_path / "new", SETTINGS)
    directory.record()
    directory.close()
    plots = tmp_path / "new" / "plots"
    plots.mkdir()
    for name in (".history-0123456789ab.png", "history.png", ".mine", ".mine-0123456789abc.png"):
        (plots / name).touch()
    (tmp_path / "new" / ".config-0123456789ab.yaml").touch()
    RunDirectory(tmp_path / "new", SETTINGS).close()
    assert sorted(p.name for p in plots.iterdir()) == [".mine", ".mine-0123456789abc.png", "history.png"]
    assert not [p.name for p in (tmp_path / "new").iterdir() if p.name.startswith(".config")]


def test_sigterm_removes_the_hidden_folder_of_an_export(tmp_path):
    handler = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with pytest.raises(SystemExit) as ended, publishing.hidden_folder(tmp_path / "exports"):
            assert list((tmp_path / "exports").iterdir())
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        assert ended.value.code == 143 and not (tmp_path / "exports").exists()
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, handler)


def test_a_full_disk_is_not_a_verdict(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(scratch, "_FULL", 1 << 60)
    message = r"Temporary files cannot be written .*Free disk space"
    with pytest.raises(scratch.TemporaryFilesError, match=message), scratch.folder():
        raise OSError(28, "No space left on device")
    assert issubclass(scratch.TemporaryFilesError, UsageError) and not list(tmp_path.iterdir())


LAUNCHER = """
import sys
from zoo.scripts.launch_local import run_workers
print("up", flush=True)
run_workers([[sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(60)"]])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux ends the workers")
def test_workers_of_a_killed_launcher_end():
    launcher = subprocess.Popen([sys.executable, "-c", LAUNCHER], stdout=subprocess.PIPE, text=True)
    assert launcher.stdout.readline() == "up\n"
    worker = int(launcher.stdout.readline())
    launcher.kill()
    launcher.wait()
    for _ in range(100):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("the worker goes on")


def test_lists_of_numbers_take_one_line(tmp_path):
    content = {"matrix": [[1, 0], [2, -3.5e-7]], "names": ["[\n 1\n]", "b"], "empty": [], "mixed": [1, None]}
    storage.write_json(tmp_path / "x.json", content)
    assert storage.read_json(tmp_path / "x.json") == content
    assert "    [1, 0],\n    [2, -3.5e-07]\n" in (tmp_path / "x.json").read_text()
