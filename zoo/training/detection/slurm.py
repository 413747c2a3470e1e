"""Slurm's variables: each task of `srun` is a worker."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Mapping

from zoo.errors import UsageError
from zoo.training.detection.contract import Cluster
from zoo.training.detection.host_lists import expand_counts, expand_hosts

_FIRST_PORT, _PORTS = 12_288, 19_968  # below the ports that Linux gives to outgoing connections


def from_slurm(environment: Mapping[str, str]) -> Cluster | None:
    """Returns the tasks of this step of `srun` as a cluster; None outside of a step, and in a step of one task.

    A worker's number counts the tasks node by node, whatever `--distribution` says. Ports follow from the job, its restarts
    and the step: after a requeue the previous ports may not be free yet.

    Args:
        environment: the environment variables.

    Raises:
        UsageError: a variable is missing or cannot be read.

    Example:
        >>> from_slurm({"SLURM_JOB_ID": "17", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_NODEID": "1",
        ...             "SLURM_LOCALID": "0", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_STEP_TASKS_PER_NODE": "1(x2)"}).index
        1
    """
    if not in_step(environment) or _number(environment, "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS") < 2:
        return None
    names = _text(environment, "SLURM_STEP_NODELIST", "SLURM_NODELIST")
    hosts = expand_hosts(names)
    tasks = expand_counts(_text(environment, "SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE"))
    node, local = _number(environment, "SLURM_NODEID"), _number(environment, "SLURM_LOCALID")
    total = _number(environment, "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS")
    if len(tasks) != len(hosts) or sum(tasks) != total or not 0 <= node < len(hosts) or not 0 <= local < tasks[node]:
        raise UsageError(
            f"Slurm's variables do not fit together: {total} tasks, {tasks} on the nodes {names}, this one is task {local} "
            f"on node {node}. Pass --cluster and --task-index instead."
        )
    first = first_port(environment, total)
    machines = [host for host, count in zip(map(_address, hosts), tasks, strict=True) for _ in range(count)]
    addresses = tuple(f"{host}:{first + number}" for number, host in enumerate(machines))
    job, bound = environment.get("SLURM_JOB_ID", "?"), any(environment.get(name) for name in _BINDING)
    gpus = environment.get("SLURM_GPUS_ON_NODE", "")
    return Cluster(
        addresses,
        sum(tasks[:node]) + local,
        source=f"Slurm job {job}, {names}",
        local=None if bound else (local, tasks[node]),
        gpus_of_machine=int(gpus) if gpus.isdigit() else None,
    )


_BINDING = ("SLURM_GPUS_PER_TASK", "SLURM_NTASKS_PER_GPU")


def in_step(environment: Mapping[str, str]) -> bool:
    """Returns whether `srun` started this process; the script of `sbatch` is no such step."""
    return environment.get("SLURM_STEP_ID", "").isdigit() and "SLURM_PROCID" in environment


def without_srun(environment: Mapping[str, str]) -> str | None:
    """Returns a line for a process that trains alone in a Slurm job of several tasks, because `srun` did not start it."""
    tasks = environment.get("SLURM_NTASKS", "")
    if "SLURM_JOB_ID" not in environment or in_step(environment) or not tasks.isdigit() or int(tasks) < 2:
        return None
    return (
        f"Slurm: job {environment['SLURM_JOB_ID']} has {tasks} tasks, and this process trains alone; `srun zoo train ...` "
        "trains on all of them."
    )


def first_port(environment: Mapping[str, str], tasks: int) -> int:
    """Returns the port of the first worker; the next workers have the next ports.

    Example:
        >>> first_port({"SLURM_JOB_ID": "17"}, 2), first_port({"SLURM_JOB_ID": "17", "SLURM_RESTART_COUNT": "1"}, 2)
        (20992, 21184)
    """
    width = max(64, tasks)
    job, restart, step = (
        int(value) if (value := environment.get(name, "")).isdigit() else 0
        for name in ("SLURM_JOB_ID", "SLURM_RESTART_COUNT", "SLURM_STEP_ID")
    )
    return _FIRST_PORT + width * ((8 * job + 3 * restart + step) % max(1, _PORTS // width))


def _address(host: str) -> str:
    """Returns the name of a node, or the address that Slurm itself uses where the name cannot be resolved."""
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        program = shutil.which("scontrol")
        if program is not None:
            done = subprocess.run(
                [program, "show", "node", host], capture_output=True, text=True, timeout=30, check=False
            )
            if found := re.search(r"\bNodeAddr=(\S+)", done.stdout):
                return found[1]
    return host


def _text(environment: Mapping[str, str], *names: str) -> str:
    value = next((environment[name] for name in names if environment.get(name)), None)
    if value is None:
        raise UsageError(
            f"Slurm started this process, but {names[0]} is not set. Start it with srun, or pass --cluster and --task-index."
        )
    return value


def _number(environment: Mapping[str, str], *names: str) -> int:
    value = _text(environment, *names)
    if not value.isdigit():
        raise UsageError(f"{names[0]} is {value!r}; expected a number. Pass --cluster and --task-index instead.")
    return int(value)
