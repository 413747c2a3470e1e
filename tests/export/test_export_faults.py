"""Failing exports in real processes: kills, full disks, missing permissions, two exports at once, flipped bits.

After any fault there is no visible partial version, older versions remain, and the next export removes leftovers.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

import zoo
from zoo.export import artifact_paths
from zoo.export.verification import Verification
from zoo.scripts import verify as verify_script
from zoo.scripts.console import run_command

# One process imports TensorFlow and forks the exporters before it starts threads. Separate imports would take most of
# the time. It prints one line of JSON per exporter. The exporters print the same messages as the command line.
EXPORTERS = """
import faulthandler, json, os, random, resource, shutil, signal, subprocess, sys, time, traceback
from pathlib import Path
import keras
import zoo
import sklearn.datasets, zoo.datasets.sources.builders  # now: the user `nobody` cannot read every installation
from zoo.scripts.console import run_command

def export(base, seed):
    prepared = zoo.datasets.load("digits").prepare("mlp", hidden_units=(8,), input_shape=(8, 8, 1))
    keras.utils.set_random_seed(seed)
    model = prepared.build()
    print("ready", flush=True)
    print(zoo.export.save(model, base, interface=prepared.interface), flush=True)

def start(base, seed=0, prepare=lambda: None):
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        said = os.fdopen(read)
        return base, child, said, said.readline()
    status = 1
    try:
        os.dup2(write, 1)
        os.dup2(write, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        faulthandler.dump_traceback_later(300, exit=True, file=sys.stderr)  # a child that hangs is no answer
        prepare()
        status = run_command(lambda words: export(base, seed), [])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)

def finish(started, **more):
    base, child, said, first = started
    text = first + said.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if "free" in more:
        more = {"same_room": not more["own"] or shutil.disk_usage(base).free == more["free"]}
    names = sorted(p.name for p in base.iterdir()) if base.exists() else []
    print(json.dumps({"status": status, "said": text, "names": names, **more}), flush=True)

def kill(base, after):
    running = start(base)
    time.sleep(after)
    os.kill(running[1], signal.SIGKILL)
    finish(running, after=after)

def limit_files():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

def become_nobody():
    os.setuid(65534)

bases = [Path(name) for name in sys.argv[1:]]
"""
USUAL = """
kill(bases[0], random.Random().uniform(0, 1))
finish(start(bases[0]))
version = max(p for p in bases[0].iterdir() if not p.name.startswith("."))
for base in bases[1:]:
    shutil.copytree(version, base / "1")
bases[2].chmod(0o555)
for base in bases[3:4]:
    (base.parent / "ballast").write_bytes(bytes(shutil.disk_usage(base).free - 40_000))
for base in bases[4:]:
    subprocess.run(["mount", "-o", "remount,ro", base.parent], check=True)
limits = (limit_files, become_nobody if os.getuid() == 0 else (lambda: None), lambda: None, lambda: None)
for base, prepare in zip(bases[1:], limits):
    free = shutil.disk_usage(base).free
    own = base in bases[3:]  # others write to the disks that are not
    finish(start(base, prepare=prepare), free=free, own=own)
bases[2].chmod(0o755)
"""
KILL = """
began = time.monotonic()
finish(start(bases[0]))
usual = time.monotonic() - began
for _ in range(10):
    kill(bases[0], random.Random().uniform(0, usual))
finish(start(bases[0]))
"""
TWO = """
for running in [start(bases[0], seed) for seed in (1, 2)]:
    finish(running)
"""


@pytest.fixture(scope="module")
def exporting(run_python):
    """Runs a program of exporters; returns the outcome of each exporter."""

    def run(program, *bases):
        done = run_python(EXPORTERS + program, *bases, kind="zoo")
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    return run


@pytest.fixture(scope="module")
def outcomes(exporting, tmp_path_factory):
    """The export folders and the outcomes: one killed exporter, one after it, and one per possible fault of `REASONS`.

    A previous version exists in each folder.
    """
    folder = tmp_path_factory.mktemp("exports")
    somebodys = (
        Path("/dev/shm" if os.path.isdir("/dev/shm") else folder) / f"zoo-{os.getpid()}"
    )  # the user `nobody` cannot access every folder
    with contextlib.ExitStack() as stack:
        places = [folder / "first", folder / "limited", somebodys]
        with contextlib.suppress(PermissionError):
            places += [stack.enter_context(disk(folder / name)) for name in ("full", "read-only")]
        bases = [place / "digits" for place in places]
        stack.callback(shutil.rmtree, somebodys, ignore_errors=True)
        yield bases, exporting(USUAL, *bases)


@pytest.fixture(scope="module")
def version(outcomes):
    """A version that tests read or copy."""
    (base, *_), (_, last, *_) = outcomes
    return base / max(last["names"])


def intact(base, names):
    """Returns whether all of these versions exist, are unchanged and are verified."""
    return all(artifact_paths.check_sums(base / n) == [] and Verification.read(base / n).passed for n in names)


@contextlib.contextmanager
def disk(folder, megabytes=1):
    """A file system in memory, of 1 MB by default; raises PermissionError where mounting is not permitted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        raise PermissionError("a file system cannot be mounted")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


# --- Kills ------------------------------------------------------------------------------------------------------------


def check_killed(first, killed, last, base):
    """Checks that the first and last export succeeded and that the killed ones left no false version."""
    complete = [] if first is None else first["names"]
    for one in killed:
        new = [name for name in one["names"] if not name.startswith(".") and name not in complete]
        # An export that finished before its kill published a valid version.
        assert one["status"] == -9 or (one["status"] == 0 and new), one
        assert len(new) <= 1 and len([name for name in one["names"] if name.startswith(".")]) <= 1, one
        complete = [*complete, *new]
    assert last["status"] == 0, last
    assert last["names"] == sorted([*complete, str(len(complete) + 1)], key=str)  # leftovers are removed
    assert intact(base, last["names"])


def test_an_export_after_a_kill_succeeds(outcomes):
    (base, *_), (killed, last, *_) = outcomes
    check_killed(None, [killed], last, base)


@pytest.mark.slow
def test_kills_at_ten_moments_leave_no_partial_version(exporting, tmp_path):
    base = tmp_path / "digits"
    first, *killed, last = exporting(KILL, base)
    assert (first["status"], first["names"], len(killed)) == (0, ["1"], 10)
    check_killed(first, killed, last, base)
    assert sum(one["status"] == -9 for one in killed) >= 5
    assert any(name.startswith(".writing-") for one in killed for name in one["names"])  # one kill hit the writing


# --- Full disks and missing permissions -------------------------------------------------------------------------------


REASONS = ("File too large", "Permission denied", "No space left on device", "Read-only file system")


@pytest.mark.parametrize("reason", REASONS)
def test_full_disks_and_missing_permissions_are_reported(outcomes, reason):
    """Files that may not grow, a folder of another user, a full disk, a read-only disk."""
    bases, came = outcomes
    place = 1 + REASONS.index(reason)
    if place >= len(bases):
        pytest.skip("needs the right to mount a file system")
    outcome = came[1 + place]
    assert (outcome["status"], outcome["names"], outcome["same_room"]) == (2, ["1"], True), outcome
    (line,) = [line for line in outcome["said"].splitlines() if line.startswith("zoo: ")]
    assert line.startswith(f"zoo: Cannot write a SavedModel to {bases[place]}: ")
    assert reason in line
    assert line.endswith("Nothing was published. Free disk space or pass another folder, and try again.")
    assert intact(bases[place], ["1"])


@pytest.mark.slow
def test_export_succeeds_after_disk_space_is_freed(exporting, version, tmp_path):
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(disk(tmp_path / "disk", 8))
        except PermissionError:
            pytest.skip("needs the right to mount a file system")
        base = folder / "digits"
        shutil.copytree(version, base / "1")
        (folder / "ballast").write_bytes(bytes(shutil.disk_usage(folder).free - 40_000))
        program = f"finish(start(bases[0]))\nos.remove({str(folder / 'ballast')!r})\nfinish(start(bases[0]))\n"
        full, again = exporting(program, base)
        assert (full["status"], full["names"]) == (2, ["1"])
        assert (again["status"], again["names"]) == (0, ["1", "2"])
        assert intact(base, "12")


# --- Concurrent exports -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_concurrent_exports_publish_two_versions(exporting, tmp_path):
    base = tmp_path / "digits"
    both = exporting(TWO, base)
    assert [one["status"] for one in both] == [0, 0], both
    assert sorted(p.name for p in base.iterdir()) == ["1", "2"]
    said = [line for one in both for line in one["said"].splitlines() if line.startswith(str(base))]
    assert sorted(said) == [str(base / "1"), str(base / "2")]
    assert intact(base, "12")
    facts = [json.loads((base / n / "assets.extra" / "zoo.json").read_text())["weights_sha256"] for n in "12"]
    assert facts[0] != facts[1]


# --- Flipped bits -----------------------------------------------------------------------------------------------------


def test_flipped_bits_are_found_anywhere(version, tmp_path):
    directory = tmp_path / "1"
    shutil.copytree(version, directory)
    places = random.Random(0)
    for name in [*artifact_paths.files(directory), Path(artifact_paths.EXTRA, artifact_paths.SUMS)]:
        content = (directory / name).read_bytes()
        assert content, f"{name} is empty"
        for place in {0, len(content) - 1, *(places.randrange(len(content)) for _ in range(20))}:
            flipped = bytearray(content)
            flipped[place] ^= 1 << places.randrange(8)
            (directory / name).write_bytes(flipped)
            wrong = artifact_paths.check_sums(directory)
            assert wrong, f"byte {place} of {name}"
            if name.name != artifact_paths.SUMS:
                assert wrong == [f"{name} was changed"]
        (directory / name).write_bytes(content)
    assert artifact_paths.check_sums(directory) == []


@pytest.mark.slow
def test_verify_finds_a_flipped_byte(version, tmp_path, capsys):
    directory = tmp_path / "1"
    shutil.copytree(version, directory)
    file = directory / "README.md"  # only the checksum shows that it changed
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert run_command(verify_script.command, [str(directory)]) == 1
    said = capsys.readouterr().out
    lines = [line for line in said.splitlines() if line.startswith("FAILED")]
    assert [line.split() for line in lines] == [["FAILED", "SHA256SUMS", "README.md", "was", "changed"]]
    assert "NOT VERIFIED" in said
    assert zoo.export.verify(version, runtimes=()).passed
