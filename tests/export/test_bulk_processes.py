"""Predictions for files by several processes, which are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bulk_models import table_model
from zoo.export.bulk import parts

pytestmark = pytest.mark.slow
_ROWS = 40_000


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return table_model(tmp_path_factory.mktemp("models") / "1")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table with rejected rows in the middle."""
    file = tmp_path_factory.mktemp("data") / "people.csv"
    rows = [f"{number / 4},T{number % 5}" for number in range(_ROWS)]
    rows[17_000], rows[23_456] = "young,T1", "3,nowhere"
    file.write_text("Age,Town\n" + "\n".join(rows))
    return file


@pytest.fixture(scope="module")
def unbroken(model, table, tmp_path_factory):
    """The bytes of an unbroken run of one process: the answers, and the rejected rows."""
    output = tmp_path_factory.mktemp("whole") / "answers.csv"
    done = predict(model, table, output, workers=1)
    assert done.wait() == 0
    assert f"39,998 answers, 2 rejected ({parts.rejected_file(output)})" in done.stdout.read()
    return contents(output)


def predict(model, table, output, workers=2):
    words = [sys.executable, "-P", "-m", "zoo.scripts.predict", str(model), str(table), "--output", str(output)]
    words += ["--workers", str(workers), "--batch_size", "16"]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def contents(output):
    return output.read_bytes(), parts.rejected_file(output).read_bytes()


def children(process):
    return [int(word) for word in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def wait_for_parts(output, count, process):
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if len(list(parts.folder_of(output).glob("*.part"))) >= count:
            return
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)
    raise AssertionError("no parts were written")


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_several_processes_write_the_bytes_of_one(model, table, unbroken, tmp_path):
    assert predict(model, table, tmp_path / "out.csv").wait() == 0
    assert contents(tmp_path / "out.csv") == unbroken


def test_a_killed_worker_is_replaced(model, table, unbroken, tmp_path):
    output = tmp_path / "out.csv"
    running = predict(model, table, output)
    wait_for_parts(output, 1, running)
    for pid in children(running):
        os.kill(pid, signal.SIGKILL)
    assert running.wait() == 0, running.stderr.read()
    assert contents(output) == unbroken


def test_a_killed_command_goes_on(model, table, unbroken, tmp_path):
    output, seen = tmp_path / "out.csv", 0
    for signal_number, count in ((signal.SIGKILL, 1), (signal.SIGINT, 3), (signal.SIGKILL, 5)):
        running = predict(model, table, output)
        wait_for_parts(output, count, running)
        workers = children(running)
        running.send_signal(signal_number)
        running.wait()
        if signal_number == signal.SIGINT:
            assert "The same command goes on where it stopped." in running.stderr.read()
        end = time.monotonic() + 30
        while any(map(is_alive, workers)) and time.monotonic() < end:
            time.sleep(0.05)
        assert not any(map(is_alive, workers)), "workers outlive their parent"
        now = len(list(parts.folder_of(output).glob("*.part")))
        assert now >= max(seen, count) and not output.exists()
        seen = now
    assert predict(model, table, output).wait() == 0
    assert contents(output) == unbroken and not parts.folder_of(output).exists()


def test_two_commands_do_not_write_the_same_output(model, table, tmp_path):
    output = tmp_path / "out.csv"
    first = predict(model, table, output)
    wait_for_parts(output, 1, first)
    first.send_signal(signal.SIGSTOP)
    second = predict(model, table, output, workers=1)
    assert second.wait() == 2 and "Another process writes" in second.stderr.read()
    first.send_signal(signal.SIGCONT)
    assert first.wait() == 0
