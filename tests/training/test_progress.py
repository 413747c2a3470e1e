"""The output of the progress bar: in a terminal, in a narrow terminal, and in a file."""

from __future__ import annotations

import os
import re
import select
import time

import keras
import pytest

from zoo.training.loop import progress
from zoo.training.loop.progress import ProgressBar


class Time:
    """A clock that only `sleep` advances, so that expected values can be computed by hand."""

    time = staticmethod(time.time)  # Keras's own clock

    def __init__(self):
        self.now = 1000.0

    def perf_counter(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    made = Time()
    monkeypatch.setattr(progress, "time", made)
    return made


def train(bar, clock, *, epochs, steps, per_call, first=(0, 0), compiling=8.0, step=0.5, validation=3.0, stop_at=None):
    """Calls the callback as the loop does."""
    callbacks = keras.callbacks.CallbackList([bar])
    callbacks.on_train_begin()
    for epoch in range(first[0], epochs):
        callbacks.on_epoch_begin(epoch)
        at = first[1] if epoch == first[0] else 0
        while at < steps and at != stop_at:
            count = min(per_call, steps - at)
            callbacks.on_train_batch_begin(at)
            clock.sleep(count * step + compiling)
            compiling = 0.0
            at += count
            callbacks.on_train_batch_end(at - 1, {"loss": 1.0 / (epoch + 1), "accuracy": at / steps})
        callbacks.on_test_begin()
        clock.sleep(validation)
        callbacks.on_test_end({})
        callbacks.on_epoch_end(epoch, {"loss": 0.25, "accuracy": 0.5, "val_loss": 0.125, "val_accuracy": 0.75})
    callbacks.on_train_end()


class Terminal:
    """Replaces standard output by a pseudo-terminal and renders its screen."""

    def __init__(self, columns, encoding):
        self.columns = columns
        self.master, slave = os.openpty()
        self.stream = os.fdopen(slave, "w", encoding=encoding)
        self.written = ""

    def read(self):
        self.stream.flush()
        read = b""
        while select.select([self.master], [], [], 0.05)[0]:
            read += os.read(self.master, 1 << 16)
        self.written += read.decode()

    def screen(self):
        """Renders the written text: the cursor moves back only within its row, and long rows wrap."""
        rows, row, column = [[]], 0, 0
        for character in re.sub(r"\x1b\[[0-9;]*m", "", self.written):
            if character == "\r":
                column = 0
            elif character == "\b":
                column = max(0, column - 1)
            elif character == "\n":
                row += 1
            else:
                if column == self.columns:
                    row, column = row + 1, 0
                rows += [[] for _ in range(row + 1 - len(rows))]
                rows[row] += [" "] * (column + 1 - len(rows[row]))
                rows[row][column] = character
                column += 1
        return ["".join(cells).rstrip() for cells in rows]


@pytest.fixture
def terminal(monkeypatch):
    opened = []

    def open_one(columns, encoding="utf-8"):
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("TERM", "xterm")
        opened.append(Terminal(columns, encoding))
        monkeypatch.setattr("sys.stdout", opened[-1].stream)
        return opened[-1]

    yield open_one
    monkeypatch.undo()
    for one in opened:
        one.stream.close()
        os.close(one.master)


def test_a_file_gets_one_line_per_epoch(clock, capsys):
    bar = ProgressBar(2, 100, 64, lambda: 3e-5, num_examples=6390)
    train(bar, clock, epochs=2, steps=100, per_call=32)
    first, second = capsys.readouterr().out.splitlines()
    # Without the first call, 68 steps take 34 s, 0.5 s per step. The second epoch takes 50 s plus validation.
    assert first == (
        "Epoch 1/2 - 100/100 - 61s - 500ms/step - loss: 0.2500 - accuracy: 0.5000 - val_accuracy: 0.7500"
        " - val_loss: 0.1250 - learning_rate: 3e-05 - examples/s: 128 - left: 56s"
    )
    assert second.startswith("Epoch 2/2 - 100/100 - 53s - 500ms/step - loss: 0.2500") and "left" not in second
    assert "\r" not in first + second and "\b" not in first + second and "\x1b" not in first + second


def test_output_of_a_command_in_a_notebook_has_no_carriage_returns(clock, terminal, monkeypatch):
    monkeypatch.setenv("JPY_PARENT_PID", "1")
    shown = terminal(200)
    train(ProgressBar(2, 10, 4, lambda: 1.0), clock, epochs=2, steps=10, per_call=4)
    shown.read()
    assert [line.split(" - ")[0] for line in shown.screen()] == ["Epoch 1/2", "Epoch 2/2"]
    assert "\r" not in shown.written.replace("\r\n", "") and "\x1b" not in shown.written


IN_A_CELL = """
import os, sys
os.environ["IPYTHONDIR"] = sys.argv[1]
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

shell = InteractiveShell.instance(
    display_pub_class=CapturingDisplayPublisher, config=Config({"HistoryManager": {"enabled": False}})
)
from zoo.training.loop import progress

progress._in_notebook = lambda: True
bar = progress.ProgressBar(2, 100, 64, lambda: 0.001)
for epoch in range(2):
    bar.on_epoch_begin(epoch)
    for at in range(0, 100, 20):
        bar.on_train_batch_begin(at)
        bar.on_train_batch_end(at + 19, {"loss": 0.5})
        bar._cell._when = 0.0  # half a second later
    bar.on_epoch_end(epoch, {"loss": 0.25, "val_loss": 0.125})
bar.on_train_end()
outputs = shell.display_pub.outputs
assert len({output["transient"]["display_id"] for output in outputs}) == 1 and len(outputs) > 4
assert [output.get("update", False) for output in outputs] == [False] + [True] * (len(outputs) - 1)
assert " - left: " in outputs[0]["data"]["text/plain"]
print(outputs[-1]["data"]["text/plain"])
"""


def test_a_notebook_keeps_one_line_per_epoch(run_python, tmp_path):
    """The last line is replaced as training proceeds; the notebook saves the last text."""
    first, second = run_python(IN_A_CELL, tmp_path, kind="zoo").stdout.splitlines()
    for number, line in enumerate((first, second), 1):
        assert re.fullmatch(
            rf"Epoch {number}/2 - 100/100 - 0s - \d+(us|ms)/step - loss: 0.2500 - val_loss: 0.1250", line
        ), line


def test_verbose_2_prints_a_line_per_epoch_and_verbose_0_prints_nothing(clock, terminal, capsys):
    shown = terminal(200)
    train(ProgressBar(2, 10, 4, lambda: 1.0, 2), clock, epochs=2, steps=10, per_call=4)
    shown.read()
    assert [line.split(" - ")[0] for line in shown.screen()] == ["Epoch 1/2", "Epoch 2/2"]
    shown = terminal(200)
    train(ProgressBar(2, 10, 4, lambda: 1.0, 0), clock, epochs=2, steps=10, per_call=4)
    print("end")
    shown.read()
    assert shown.screen() == ["end"]


def test_a_terminal_gets_a_bar_per_epoch(clock, terminal):
    shown = terminal(170)
    bar = ProgressBar(2, 100, 64, lambda: 0.001)
    callbacks = keras.callbacks.CallbackList([bar])
    callbacks.on_epoch_begin(0)
    for at in (32, 64):
        callbacks.on_train_batch_begin(at - 32)
        clock.sleep(16 if at > 32 else 40)
        callbacks.on_train_batch_end(at - 1, {"loss": 0.5, "accuracy": 0.25})
        shown.read()
    # 136 steps of half a second remain; the validation time is still unknown.
    expected = "64/100 {bar} 18s 500ms/step - loss: 0.5000 - accuracy: 0.2500 - learning_rate: 0.001 - examples/s: 128"
    assert shown.screen() == ["Epoch 1/2", f" {expected.format(bar='━' * 20)} - left: 1:08"]
    clock.sleep(18)
    callbacks.on_train_batch_end(99, {"loss": 0.5, "accuracy": 0.25})
    callbacks.on_epoch_end(0, {"loss": 0.5, "accuracy": 0.25, "val_loss": 2.0})
    callbacks.on_epoch_begin(1)
    shown.read()
    heading, line, after = shown.screen()
    assert line.startswith(f"100/100 {'━' * 20} 74s 500ms/step - loss: 0.5000 - accuracy: 0.2500 - val_loss: 2.0000")
    assert (heading, after) == ("Epoch 1/2", "Epoch 2/2")


def test_an_ascii_terminal_gets_an_ascii_bar(clock, terminal):
    shown = terminal(170, "ascii")
    bar = ProgressBar(1, 100, 64, lambda: 0.001)
    bar.on_epoch_begin(0)
    clock.sleep(1)
    bar.on_train_batch_end(49, {"loss": 0.5})
    shown.read()
    assert f" 50/100 {'=' * 10}{'.' * 10} 1s 20ms/step - loss: 0.5000" in shown.screen()[1]


@pytest.mark.parametrize("columns", [60, 79, 80, 100, 120])
def test_moving_bar_never_wraps(clock, terminal, columns):
    shown = terminal(columns)
    bar = ProgressBar(900, 1000, 64, lambda: 1.25e-5)
    callbacks = keras.callbacks.CallbackList([bar])
    callbacks.on_epoch_begin(0)
    for at in range(0, 900, 100):
        callbacks.on_train_batch_begin(at)
        clock.sleep(120 if at else 3600)
        callbacks.on_train_batch_end(at + 99, {"loss": 0.5, "accuracy": 0.25, "top_5_accuracy": 0.5, "f1": 1e-9})
        shown.read()
    heading, line = shown.screen()
    assert heading == "Epoch 1/900" and line.startswith(" 900/1000 ") and "loss: 0.5000" in line
    # After the first call, 100 steps take 120 s; 899,100 steps remain.
    assert "left: 299:42:00" in line or columns == 60
    assert "examples/s: 53" in line or columns < 100
    assert "learning_rate" not in line, "the first one to give way"


def test_a_narrow_terminal_gets_a_line_per_epoch(clock, terminal):
    shown = terminal(59)
    train(ProgressBar(2, 10, 4, lambda: 1.0), clock, epochs=2, steps=10, per_call=4)
    shown.read()
    assert [line for line in shown.screen() if line.startswith("Epoch")] == [
        "Epoch 1/2 - 10/10 - 16s - 500ms/step - loss: 0.2500 - accur",
        "Epoch 2/2 - 10/10 - 8s - 500ms/step - loss: 0.2500 - accura",
    ]


def test_a_resumed_epoch_starts_at_its_step(clock, capsys):
    bar = ProgressBar(3, 100, 10, lambda: 0.1)
    train(bar, clock, epochs=3, steps=100, per_call=10, first=(1, 60))
    first, second = capsys.readouterr().out.splitlines()
    # 40 steps: the first call of 13 s compiles, then 30 steps take 15 s. Counting the skipped 60 steps would give 280 ms.
    assert "Epoch 2/3 - 100/100 - 31s - 500ms/step" in first and "examples/s: 20 " in first and "left: 56s" in first
    assert "Epoch 3/3 - 100/100" in second


def test_throughput_counts_the_real_examples_of_a_small_batch(clock, capsys):
    train(ProgressBar(1, 1, 64, lambda: 1.0, num_examples=10), clock, epochs=1, steps=1, per_call=32, compiling=4.5)
    assert "1/1 - 8s - 5s/step" in (line := capsys.readouterr().out) and "examples/s: 2 " not in line
    assert "examples/s: 2\n" in line  # 10 examples in 5 s


def test_training_stopped_within_an_epoch_shows_its_last_step(clock, capsys):
    train(ProgressBar(1, 100, 4, lambda: 1.0), clock, epochs=1, steps=100, per_call=10, stop_at=30)
    assert "Epoch 1/1 -  30/100 - " in capsys.readouterr().out


def test_epoch_without_steps_prints_a_complete_line(clock, capsys):
    bar = ProgressBar(1, 7, 4, lambda: 1.0)
    callbacks = keras.callbacks.CallbackList([bar])
    callbacks.on_epoch_begin(0)
    callbacks.on_epoch_end(0, {"loss": 0.5, "val_loss": 0.75})
    line = capsys.readouterr().out
    assert line.startswith("Epoch 1/1 - 7/7 - ") and line.endswith(" - loss: 0.5000 - val_loss: 0.7500\n")


def test_output_after_an_interruption_starts_on_a_new_line(clock, terminal):
    shown = terminal(120)
    bar = ProgressBar(2, 10, 4, lambda: 1.0)
    callbacks = keras.callbacks.CallbackList([bar])
    callbacks.on_epoch_begin(0)
    clock.sleep(1)
    callbacks.on_train_batch_end(4, {"loss": 1.0})
    bar.close()
    bar.close()
    print("interrupted")
    shown.read()
    assert shown.screen()[2:] == ["interrupted"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0s"), (59.6, "1:00"), (187, "3:07"), (3723, "1:02:03"), (90061, "25:01:01")]
)
def test_durations_are_formatted_as_hours_minutes_seconds(seconds, text):
    assert progress._duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.0000"), (-0.5, "-0.5000"), (2e-4, "2.000e-04"), (123456.0, "1.235e+05"), (99.5, "99.5000")],
)
def test_metrics_keep_four_significant_digits(value, text):
    assert progress._figure(value) == text
