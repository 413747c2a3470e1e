"""Leases of a folder: who holds one, who may take it over, and when a holder learns that it lost one."""

from __future__ import annotations

import json
import os
import time

import pytest

from zoo import lease
from zoo.errors import UsageError
from zoo.lease import FolderBoard, Lease


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(lease, "_POLL", 0.02)
    monkeypatch.setattr(lease, "BEAT", 0.05)
    monkeypatch.setattr(lease, "EXPIRES", 0.6)


def write(folder, age=0.0, **facts):
    (folder / ".lease").write_text(json.dumps({"host": "node7", "pid": 12, "machine": "m", **facts}))
    now = time.time() - age
    os.utime(folder / ".lease", (now, now))


def test_a_free_place_is_taken_and_given_back(tmp_path):
    held = Lease(FolderBoard(tmp_path), "run")
    held.acquire()
    facts = json.loads((tmp_path / ".lease").read_text())
    assert facts["pid"] == os.getpid() and facts["machine"] == lease.machine()
    first = (tmp_path / ".lease").stat().st_mtime
    time.sleep(0.2)
    assert (tmp_path / ".lease").stat().st_mtime > first, "a sign of life"
    held.check(look=True)
    held.release()
    assert not list(tmp_path.iterdir())


def test_a_holder_that_is_alive_keeps_its_lease(tmp_path, capsys):
    held = Lease(FolderBoard(tmp_path), "run")
    held.acquire()
    with pytest.raises(
        UsageError, match=rf"^run is in use by another trainer \(process {os.getpid()} on .* sign of life"
    ):
        Lease(FolderBoard(tmp_path), "run").acquire()
    assert "run has a lease of process" in capsys.readouterr().out
    held.check(look=True)
    held.release()


def test_a_dead_holder_of_another_machine_loses_its_lease_after_a_while(tmp_path):
    write(tmp_path, age=0.3)
    started = time.monotonic()
    held = Lease(FolderBoard(tmp_path), "run")
    held.acquire()
    assert 0.2 < time.monotonic() - started < 5
    held.release()
    write(tmp_path, age=5)
    started = time.monotonic()
    Lease(FolderBoard(tmp_path), "run").acquire()
    assert time.monotonic() - started < 0.3, "the age counts, by the clock of the file system"


def test_a_process_of_this_machine_that_is_gone_is_not_waited_for(tmp_path):
    mine = lease.holder()
    write(tmp_path, **{**mine, "pid": 2**22 + 1})
    assert lease.has_ended({**mine, "pid": 2**22 + 1}) and not lease.has_ended(mine)
    assert lease.has_ended({**mine, "started": "1"}), "another process with the same number"
    assert not lease.has_ended({**mine, "pid": 2**22 + 1, "machine": "other"}), "nobody knows"
    started = time.monotonic()
    Lease(FolderBoard(tmp_path), "run", lease.has_ended).acquire()
    assert time.monotonic() - started < 0.3


def test_a_holder_learns_that_it_was_taken_over(tmp_path):
    held = Lease(FolderBoard(tmp_path), "run")
    held.acquire()
    write(tmp_path)
    time.sleep(0.3)
    with pytest.raises(
        UsageError, match=r"^run was taken over by process 12 on node7, because this process gave no sign"
    ):
        held.check()
    held.release()
    assert json.loads((tmp_path / ".lease").read_text())["pid"] == 12, "the lease of the other stays"


def test_a_damaged_lease_expires(tmp_path):
    (tmp_path / ".lease").write_bytes(b"\xff[")
    os.utime(tmp_path / ".lease", (1, 1))
    held = Lease(FolderBoard(tmp_path), "run")
    held.acquire()
    held.check(look=True)
    held.release()


def test_only_the_judged_lease_is_removed(tmp_path):
    write(tmp_path)
    FolderBoard(tmp_path).remove("the text of an earlier holder")
    assert json.loads((tmp_path / ".lease").read_text())["pid"] == 12 and len(list(tmp_path.iterdir())) == 1
