"""Workers on one machine: real processes, real signals, exit statuses and printed output."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import zoo
from zoo.scripts import cli, launch_local
from zoo.scripts.launch_local import free_ports, run_workers, worker_commands, worker_environment

# The launcher in a separate process; every argument is the source code of a worker.
LAUNCHER = """
import sys
from zoo.scripts.launch_local import run_workers
sys.exit(run_workers([[sys.executable, "-c", source] for source in sys.argv[2:]], patience=float(sys.argv[1])))
"""


def start(*sources, patience=30.0):
    words = [sys.executable, "-c", LAUNCHER, str(patience), *sources]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def launch(*sources, patience=30.0):
    process = start(*sources, patience=patience)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_lines_of_other_workers_get_a_prefix():
    status, out, err = launch(
        "import os; os.write(1, b'chief\\n[no prefix]\\n')",
        "import sys; print('one'); print('no end', end=''); print('trouble', file=sys.stderr)",
        "import sys; sys.stdout.buffer.write(b'\\xff broken\\n')",
    )
    assert status == 0
    expected = ["chief", "[no prefix]", "[worker 1] one", "[worker 1] no end", "[worker 2] \ufffd broken"]
    assert sorted(out.splitlines()) == sorted(expected) and out.endswith("\n")
    assert err == "[worker 1] trouble\n"


def test_only_the_first_worker_has_the_terminal_and_no_worker_reads_it():
    """A pseudo-terminal replaces the user's terminal: worker 0 sees it, the others see a pipe."""
    master, slave = os.openpty()
    source = "import os, sys; os.write(1, f'{sys.stdout.isatty()} {sys.stdin.read()!r}\\n'.encode())"
    words = [sys.executable, "-c", LAUNCHER, "30", source, source]
    process = subprocess.Popen(words, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    assert process.wait(timeout=60) == 0
    shown = os.read(master, 10000).decode()
    os.close(master)
    assert "True ''\r\n" in shown
    assert "\r\x1b[K[worker 1] False ''\r\n" in shown, "it does not go on the line of a progress bar"


SLEEP = "import time; time.sleep(60)"
# Prints that it is ready, counts each signal, and exits as `zoo` does. Each line is a single system call, because two
# processes write to this output.
COUNTING = """
import os, signal, sys, time
seen = []
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda n, f: seen.append(n))
os.write(1, b"ready\\n")
while not seen:
    time.sleep(0.01)
time.sleep(0.5)
os.write(1, ("seen " + " ".join(map(str, map(int, seen))) + "\\n").encode())
sys.exit(128 + seen[0])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_reaches_every_worker_once(number):
    process = start(COUNTING, COUNTING)
    ready = [process.stdout.readline() for _ in range(2)]
    assert sorted(ready) == ["[worker 1] ready\n", "ready\n"]
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert sorted(out.splitlines()) == sorted([f"[worker 1] seen {number:d}", f"seen {number:d}"])
    assert process.returncode == 128 + number


def test_control_c_in_a_terminal_reaches_every_worker_once():
    """The terminal sends the signal to the process group in the foreground, which is the launcher's."""
    master, slave = os.openpty()
    words = [sys.executable, "-c", LAUNCHER, "30", COUNTING, COUNTING]

    def own_the_terminal():
        import fcntl
        import termios

        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(words, stdin=slave, stdout=slave, stderr=slave, preexec_fn=own_the_terminal)
    os.close(slave)
    shown = ""
    while shown.count("ready") < 2:
        shown += os.read(master, 10000).decode()
    os.write(master, b"\x03")
    assert process.wait(timeout=60) == 130
    shown += os.read(master, 10000).decode()
    os.close(master)
    assert shown.count("seen 2\r\n") == 2, shown


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("import sys; sys.exit(7)", 7),
        ("import os; os.kill(os.getpid(), 9)", 137),
        ("import os; os.kill(os.getpid(), 15)", 143),
    ],
)
def test_the_first_failure_sets_the_status_and_ends_the_others(source, status):
    """The second worker ignores the failure and gets SIGTERM after the time limit."""
    started = time.monotonic()
    code, _, err = launch("import time; time.sleep(0.3);" + source, SLEEP, patience=0.5)
    assert code == status
    assert f"zoo: worker 0 ended with status {status}; 1 other worker has 0.5 s to stop." in err
    assert time.monotonic() - started < 20


def test_other_workers_get_time_to_exit():
    noticing = "import os, time, sys; time.sleep(1.5); os.write(1, b'saved\\n'); sys.exit(5)"
    code, out, err = launch(noticing, "import sys; sys.exit(3)", noticing, patience=30)
    assert sorted(out.splitlines()) == ["[worker 2] saved", "saved"]
    assert code == 3 and "worker 1 ended with status 3; 2 other workers have 30 s" in err


def test_a_worker_that_ignores_sigterm_is_killed():
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    started = time.monotonic()
    code, _, _ = launch("import time, sys; time.sleep(1); sys.exit(4)", deaf, patience=-8.0)  # 2 s until SIGKILL
    assert code == 4 and time.monotonic() - started < 20


def test_all_workers_end_if_one_cannot_be_started(tmp_path):
    mark = tmp_path / "alive"
    living = f"import time, pathlib; time.sleep(3); pathlib.Path({str(mark)!r}).touch()"
    with pytest.raises(FileNotFoundError):
        run_workers([[sys.executable, "-c", living], [str(tmp_path / "no-such-program")]])
    time.sleep(3.5)
    assert not mark.exists()


def test_signal_handlers_are_restored():
    before = signal.getsignal(signal.SIGINT)
    assert run_workers([[sys.executable, "-c", ""]]) == 0
    assert signal.getsignal(signal.SIGINT) is before


def test_ports_are_free_and_distinct():
    ports = free_ports(20)
    assert len(set(ports)) == 20
    for port in ports:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", port))


def test_cores_and_gpus_are_divided_among_workers(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(13)), raising=False)
    given = {"OMP_NUM_THREADS": "5", "TF_CONFIG": "{}", "CUDA_VISIBLE_DEVICES": "4,5,6", "HOME": "/root-of-all"}
    mine = worker_environment(1, 2, given)
    assert mine == {
        "OMP_NUM_THREADS": "5",
        "TF_NUM_INTRAOP_THREADS": "6",
        "TF_NUM_INTEROP_THREADS": "6",
        "CUDA_VISIBLE_DEVICES": "5",
        "HOME": "/root-of-all",
    }
    assert [worker_environment(i, 3, given)["CUDA_VISIBLE_DEVICES"] for i in range(3)] == ["4", "5", "6"]
    assert worker_environment(0, 4, given)["CUDA_VISIBLE_DEVICES"] == "-1"
    assert worker_environment(15, 16, given)["TF_NUM_INTEROP_THREADS"] == "2"
    assert worker_environment(0, 2, {"CUDA_VISIBLE_DEVICES": ""})["CUDA_VISIBLE_DEVICES"] == ""


def test_worker_commands_contain_the_cluster():
    python = [sys.executable, "-P", "-m", "zoo.scripts.cli"]
    cluster = ["--cluster", "127.0.0.1:81,127.0.0.1:82"]
    assert worker_commands(["train", "--model", "mlp"], [81, 82]) == [
        [*python, "train", "--model", "mlp", "--config.strategy", "multi_worker", *cluster, "--task-index", index]
        for index in ("0", "1")
    ]
    for said in (["--config.strategy=auto"], ["--config.strategy", "auto"]):
        assert worker_commands(["train", *said], [81]) == [
            [*python, "train", *said, "--cluster", "127.0.0.1:81", "--task-index", "0"]
        ]


EXAMPLE = r"Try `zoo launch local 2 -- train --model cnn --data digits`\."


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], rf"^The number of workers is nothing; expected one whole number of at least 1\. {EXAMPLE}$"),
        (["0", "--", "train"], rf"^The number of workers is 0; .* {EXAMPLE}$"),
        (["-2", "--", "train"], r"^The number of workers is -2; "),
        (["two", "--", "train"], r"^The number of workers is two; "),
        (["2", "train", "--", "x"], r"^The number of workers is 2 train; "),
        (["2"], rf"^No command follows --; expected `train` and its options\. {EXAMPLE}$"),
        (["2", "--"], r"^No command follows --"),
        (["2", "--", "predict", "runs/a"], rf"^`zoo predict` does not train; .* {EXAMPLE}$"),
        (["2", "--", "train", "--cluster=a:1"], r"^--cluster=a:1 is not allowed after --, .* Leave it out\.$"),
        (["2", "--", "train", "--task-index", "0"], r"^--task-index is not allowed after --, .* Leave it out\.$"),
    ],
)
def test_invalid_arguments_are_rejected(words, message):
    with pytest.raises(zoo.UsageError, match=message):
        launch_local.command(words)


def test_the_shell_script_runs_the_command():
    script = Path(launch_local.__file__).with_name("launch_local.sh")
    done = subprocess.run(
        ["bash", script, "0", "--", "train"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHON": sys.executable},
        check=False,
    )
    assert done.returncode == 2 and done.stderr.startswith("zoo: The number of workers is 0")
    assert cli.main(["launch", "local", "--help"]) == 0


@pytest.mark.slow
def test_two_workers_train_stop_and_resume(tmp_path):
    words = ["train", "--model", "mlp", "--data", "digits", "--model.hidden_units", "[8]", "--config.epochs", "12"]
    words += ["--config.batch_size", "256", "--run_directory", str(tmp_path / "run"), "--no-export"]
    launcher = [sys.executable, "-P", "-m", "zoo.scripts.cli", "launch", "local", "2", "--", *words]
    process = subprocess.Popen(launcher, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 240
    while not list(tmp_path.glob("run/checkpoints/step-*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    shown, _ = process.communicate(timeout=120)
    assert process.returncode == 143, shown
    done = subprocess.run(launcher, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "resuming in epoch" in done.stdout and "2 replicas" in done.stdout
    assert len((tmp_path / "run" / "history.csv").read_text().splitlines()) == 13
