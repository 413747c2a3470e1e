"""Slurm's variables: each task of `srun` is a worker."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence

from zoo.errors import UsageError
from zoo.training.detection.contract import Cluster
from zoo.training.detection.host_lists import expand_counts, expand_hosts

_FIRST_PORT, _PORTS = 12_288, 19_968  # below the ports that Linux gives to outgoing connections
_STEP_OF_JOBS = 1129  # a prime larger than the number of slots, so that jobs use all of them


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
    on_node, per_task = _gpus(environment)
    return Cluster(
        _with_ports(list(map(_address, hosts)), tasks, first),
        sum(tasks[:node]) + local,
        source=f"Slurm job {environment.get('SLURM_JOB_ID', '?')}, {names}",
        local=(local, tasks[node]),
        names=_with_ports(hosts, tasks, first),
        gpus_of_machine=on_node,
        gpus_per_task=per_task,
    )


def gpus_of_task(environment: Mapping[str, str], visible: int) -> range:
    """Returns which of the visible GPUs a task uses that trains alone; all of them outside of a step of several tasks.

    Tasks may share a GPU here: where there are more tasks than GPUs they take turns.

    Args:
        environment: the environment variables.
        visible: number of GPUs that this process sees.

    Example:
        >>> gpus_of_task({"SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_LOCALID": "1", "SLURM_NODEID": "0",
        ...               "SLURM_STEP_TASKS_PER_NODE": "2"}, 4)
        range(2, 4)
    """
    if not in_step(environment) or not visible:
        return range(visible)
    counts = expand_counts(_text(environment, "SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE"))
    node, local = _number(environment, "SLURM_NODEID"), _number(environment, "SLURM_LOCALID")
    tasks = counts[node] if node < len(counts) else local + 1
    if tasks > visible:
        return range(local % visible, local % visible + 1)
    on_node, per_task = _gpus(environment)
    alone = Cluster(("alone:1",), 0, local=(local, tasks), gpus_of_machine=on_node, gpus_per_task=per_task)
    return alone.own_gpus(visible)


def _gpus(environment: Mapping[str, str]) -> tuple[int | None, int | None]:
    """Returns how many GPUs Slurm gave to the node, and was asked to give to each task. It need not have bound them."""
    on_node, per_task = environment.get("SLURM_GPUS_ON_NODE", ""), environment.get("SLURM_GPUS_PER_TASK", "")
    count = per_task.rpartition(":")[2]  # of a type, such as h200:2
    if environment.get("SLURM_NTASKS_PER_GPU"):
        count = "1"
    return int(on_node) if on_node.isdigit() else None, int(count) if count.isdigit() else None


def _with_ports(hosts: Sequence[str], tasks: Sequence[int], first: int) -> tuple[str, ...]:
    machines = [host for host, count in zip(hosts, tasks, strict=True) for _ in range(count)]
    return tuple(f"{host}:{first + number}" for number, host in enumerate(machines))


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
        (22592, 22784)
    """
    width = max(64, tasks)
    job, restart, step = (
        int(value) if (value := environment.get(name, "")).isdigit() else 0
        for name in ("SLURM_JOB_ID", "SLURM_RESTART_COUNT", "SLURM_STEP_ID")
    )
    return _FIRST_PORT + width * ((_STEP_OF_JOBS * job + 3 * restart + step) % max(1, _PORTS // width))


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
