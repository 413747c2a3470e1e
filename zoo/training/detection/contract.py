"""What is known about the workers of a run."""

from __future__ import annotations

import dataclasses
import json

from zoo.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The addresses of all workers, in an order that all of them know, and which one this process is.

    Attributes:
        addresses: host:port of every worker; the first is the chief, which prints and writes.
        index: the number of this worker.
        source: what said so, such as "Slurm job 17".
        local: this task's number among the tasks of its machine, and their number, if they may see the same GPUs.
        gpus_of_machine: number of GPUs that the launcher gave to all tasks of the machine, None if it did not say.
        gpus_per_task: number of GPUs that the launcher was asked to give to each task, None if it did not say.
        names: host:port of every worker as the launcher names them, which all workers agree on; `addresses` may differ,
            because each machine resolves the names itself. Empty if they are the addresses.
    """

    addresses: tuple[str, ...]
    index: int
    source: str = dataclasses.field(default="--cluster", compare=False)
    local: tuple[int, int] | None = dataclasses.field(default=None, compare=False)
    gpus_of_machine: int | None = dataclasses.field(default=None, compare=False)
    gpus_per_task: int | None = dataclasses.field(default=None, compare=False, repr=False)
    names: tuple[str, ...] = dataclasses.field(default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        for address in self.addresses:
            host, _, port = address.rpartition(":")
            if not host or not port.isdigit() or not 0 < int(port) < 65536:
                raise UsageError(
                    f"The cluster has the address {address!r}; expected host:port. Pass --cluster one:2222,two:2222, say."
                )
        if len(set(self.addresses)) != len(self.addresses):
            raise UsageError(f"The cluster {','.join(self.addresses)} has an address twice. Pass each worker's own.")
        if isinstance(self.index, bool) or not isinstance(self.index, int):
            raise UsageError(f"The task index is {self.index!r}; expected a whole number. Pass --task-index 0, say.")
        if not 0 <= self.index < len(self.addresses):
            raise UsageError(
                f"The task index is {self.index}; the cluster has the workers 0 to {len(self.addresses) - 1}. "
                "Pass each worker's own --task-index."
            )

    def to_tf_config(self) -> str:
        """Returns what TensorFlow expects in the environment variable TF_CONFIG."""
        task = {"type": "worker", "index": self.index}
        return json.dumps({"cluster": {"worker": list(self.addresses)}, "task": task})

    def describe(self) -> str:
        """Returns a line with the size of the cluster, this worker, and what said so.

        Example:
            >>> print(Cluster(("one:22", "two:22"), 1, "TF_CONFIG").describe())
            Cluster: worker 1 of 2 (TF_CONFIG): one:22, two:22; worker 0 prints, evaluates and exports
        """
        count = len(self.addresses)
        if count == 1:
            return f"Cluster: this worker is the only one ({self.source})"
        shown = list(self.addresses) if count <= 4 else [*self.addresses[:2], "...", self.addresses[-1]]
        chief = "; worker 0 prints, evaluates and exports" if self.index else ""
        return f"Cluster: worker {self.index} of {count} ({self.source}): {', '.join(shown)}{chief}"

    def own_gpus(self, visible: int) -> range:
        """Returns which of the visible GPUs belong to this task.

        A launcher that binds GPUs shows each task its own. One that does not shows all of the machine's GPUs to every task
        on it: the tasks take as many as were asked for, or equal parts.

        Args:
            visible: number of GPUs that this process sees.

        Raises:
            UsageError: fewer GPUs than tasks.

        Example:
            >>> Cluster(("one:22", "one:23"), 1, local=(1, 2), gpus_of_machine=4).own_gpus(4)
            range(2, 4)
        """
        if self.gpus_per_task is not None:
            bound = visible <= self.gpus_per_task
        else:
            bound = self.gpus_of_machine is not None and visible != self.gpus_of_machine
        if self.local is None or bound or not visible:
            return range(visible)
        task, tasks = self.local
        share = min(self.gpus_per_task or visible, visible // tasks)
        if not share:
            raise UsageError(
                f"{tasks} tasks run on this machine, which has {visible} GPU(s); two workers cannot share one. Pass "
                f"--ntasks-per-node={visible} to Slurm."
            )
        return range(task * share, (task + 1) * share)
