"""A training on two nodes of a real Slurm, which this test starts on this machine and ends again."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from small_trainings import small_training
from zoo.scripts.launch_local import free_ports

PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "scontrol", "squeue")
MISSING = [name for name in PROGRAMS if shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"Slurm is not installed: {', '.join(MISSING)}"),
    pytest.mark.skipif(sys.platform == "linux" and os.geteuid() != 0, reason="slurmd starts jobs as root"),
]

CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
KillWait=60
SlurmdTimeout=20
MinJobAge=3000
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 RealMemory=2000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 RealMemory=2000
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    """A controller and two nodes in a folder."""

    def __init__(self, folder):
        self.folder, self.processes = folder, []
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "TF_CONFIG"))},
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{os.environ['PATH']}:/usr/sbin",
            "CUDA_VISIBLE_DEVICES": "-1",
        }
        for name in ("state", "spool-n1", "spool-n2"):
            (folder / name).mkdir()
        ports = free_ports(3)
        (folder / "slurm.conf").write_text(CONFIG.format(host=socket.gethostname(), folder=folder, ports=ports))
        key = folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        options = {"key-file": key, "socket": folder / "munge.socket", "pid-file": folder / "munge.pid"}
        options |= {"log-file": folder / "munge.log", "seed-file": folder / "munge.seed"}
        self.start("munged", "--foreground", "--force", *(f"--{name}={path}" for name, path in options.items()))
        self.wait(lambda: (folder / "munge.socket").exists(), "munged")
        self.start("slurmctld", "-D")
        self.nodes = [self.start("slurmd", "-D", "-N", node) for node in ("n1", "n2")]
        self.wait(lambda: self.run("sinfo", "-h", "-o", "%T %D", check=False).stdout.split() == ["idle", "2"], "nodes")

    def start(self, *words):
        log = (self.folder / f"{words[0]}-{len(self.processes)}.out").open("w")
        process = subprocess.Popen(words, env=self.environment, stdout=log, stderr=subprocess.STDOUT)
        self.processes.append(process)
        return process

    def run(self, *words, check=True, timeout=400, **settings):
        done = subprocess.run(
            words, env=self.environment, cwd=self.folder, capture_output=True, text=True, timeout=timeout, **settings
        )
        assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done

    def wait(self, condition, what, seconds=300):
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                logs = "\n".join(f"{f.name}: {f.read_text()[-1500:]}" for f in self.folder.glob("*.log"))
                pytest.fail(f"no {what} within {seconds} s\n{logs}")
            time.sleep(0.5)

    def kill_node(self, name):
        """Kills a node's slurmd, and all that runs on it, as if the machine lost its power."""
        place = ["n1", "n2"].index(name)
        self.nodes[place].kill()
        self.nodes[place].wait()
        mine = {f"SLURMD_NODENAME={name}".encode(), f"SLURM_CONF={self.environment['SLURM_CONF']}".encode()}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mine <= {*(folder / "environ").read_bytes().split(b"\0")}:
                    parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                    if Path(f"/proc/{parent}/cmdline").read_bytes().startswith(b"slurmstepd"):
                        os.kill(parent, signal.SIGKILL)
                    os.kill(int(folder.name), signal.SIGKILL)

    def start_node(self, name):
        self.nodes[["n1", "n2"].index(name)] = self.start("slurmd", "-D", "-N", name)

    def state(self, job):
        return self.run("scontrol", "show", "job", job, check=False).stdout

    def close(self):
        self.run("scancel", "--full", "--signal=KILL", "--user=root", check=False)
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    started = Slurm(tmp_path_factory.mktemp("slurm"))
    yield started
    started.close()


def zoo_command(*words):
    return [sys.executable, "-P", "-m", "zoo.scripts.cli", *words]


TRAIN = small_training(batch_size=256)


def losses(directory):
    rows = (directory / "history.csv").read_text().splitlines()
    place = rows[0].split(",").index("loss")
    return [float(row.split(",")[place]) for row in rows[1:]]


def test_tasks_of_srun_train_one_model(slurm):
    """Two tasks on two nodes end in the figures of one device."""
    alone = slurm.folder / "alone"
    words = zoo_command(*TRAIN, "--config.epochs", "3", "--run-directory")
    slurm.run(*words, str(alone), "--config.strategy", "one_device")
    done = slurm.run("srun", "-N2", "-n2", *words, str(slurm.folder / "both"))
    line = r"Cluster: worker {} of 2 \(Slurm job [0-9]+, n\[1-2\]\): 127\.0\.0\.1:[0-9]+, 127\.0\.0\.1:[0-9]+"
    assert re.search(line.format(0), done.stdout) and re.search(line.format(1) + "; worker 0 prints", done.stdout)
    one, two = losses(alone), losses(slurm.folder / "both")
    print(done.stdout[:400], one, two)
    assert two == pytest.approx(one, abs=1e-5) and len(two) == 3


LONG = [*TRAIN, "--config.epochs", "9", "--config.checkpoint_steps", "2"]


@pytest.fixture(scope="module")
def whole(slurm):
    """The losses of a run of two workers that nothing interrupts."""
    slurm.run("srun", "-N2", "-n2", *zoo_command(*LONG, "--run-directory", str(slurm.folder / "whole")))
    return losses(slurm.folder / "whole")


def submitted(slurm, name):
    """Submits the script that `zoo launch slurm` prints; returns the job, its run and its log once it has a checkpoint."""
    words = [*LONG, "--run-directory", f"runs/{name}"]
    printed = slurm.run(*zoo_command("launch", "slurm", "--cpus", "1", "--name", name, "--", *words)).stdout
    (slurm.folder / f"{name}.sh").write_text(printed)
    job = slurm.run("sbatch", "--parsable", f"{name}.sh").stdout.strip()
    run, log = slurm.folder / "runs" / name, slurm.folder / f"{name}-{job}.log"
    slurm.wait(lambda: list(run.glob("checkpoints/step-*")), f"checkpoint: {log.read_text() if log.exists() else ''}")
    return job, run, log


def test_a_job_that_is_queued_again_resumes(slurm, whole):
    """The job gets SIGTERM from `scontrol requeue`, and trains to its end."""
    job, run, log = submitted(slurm, "queued")
    slurm.run("scontrol", "requeue", job)
    slurm.wait(lambda: "JobState=COMPLETED" in slurm.state(job), "end of the job", 500)
    assert "Restarts=1" in slurm.state(job)
    text = log.read_text()
    assert "Training was interrupted; the same command resumes from epoch" in text
    assert "Training was interrupted; worker 0 has saved the run, and this is worker 1 of 2" in text
    assert "resuming in epoch" in text
    print(re.findall(r"Found the run.*", text), losses(run)[-1], whole[-1])
    assert losses(run) == whole, "deterministic: the same digits as a run without an interruption"


def test_a_job_survives_the_warning_of_its_time_limit_and_a_dead_node(slurm, whole):
    """`--signal=B:TERM` signals the script alone. Later, a node dies with all that runs on it, and comes back."""
    job, run, log = submitted(slurm, "node")
    slurm.run("scancel", "--batch", "--signal=TERM", job)
    slurm.wait(lambda: "Restarts=1" in slurm.state(job), "first restart")
    slurm.wait(lambda: "resuming in epoch" in log.read_text(), "resumed training", 500)
    slurm.kill_node("n2")
    slurm.wait(lambda: "DOWN" in slurm.run("sinfo", "-h", "-n", "n2", "-o", "%T").stdout.upper(), "dead node", 200)
    slurm.start_node("n2")
    slurm.wait(lambda: "JobState=COMPLETED" in slurm.state(job), "end of the job", 600)
    assert re.search("Restarts=[2-9]", slurm.state(job))
    print(re.findall(r"Found the run.*", log.read_text()), losses(run)[-1], whole[-1])
    assert losses(run) == whole
