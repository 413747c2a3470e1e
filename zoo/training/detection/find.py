"""The one place that decides which workers train together."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from zoo.errors import UsageError
from zoo.training.detection.contract import Cluster
from zoo.training.detection.kubernetes import from_kubernetes
from zoo.training.detection.slurm import from_slurm
from zoo.training.detection.tf_config import from_tf_config


def find_cluster(
    addresses: str | Sequence[str] | None, index: int | None, environment: Mapping[str, str] | None = None
) -> Cluster | None:
    """Returns the cluster of this process: from arguments, TF_CONFIG, Slurm or Kubernetes, or None.

    Args:
        addresses: host:port of every worker, as a list or with commas between them.
        index: the number of this worker.
        environment: the environment variables; None for those of this process.

    Raises:
        UsageError: one argument without the other, an address that is none, variables that cannot be read, or two launchers
            that disagree.

    Example:
        >>> find_cluster("one:2222,two:2222", 1).addresses
        ('one:2222', 'two:2222')
    """
    if addresses is None and index is None:
        return _from_environment(os.environ if environment is None else environment)
    if addresses is None or index is None:
        given, other = ("--cluster", "--task-index") if index is None else ("--task-index", "--cluster")
        raise UsageError(f"{given} came without {other}. Pass both, or set TF_CONFIG.")
    names = addresses.split(",") if isinstance(addresses, str) else addresses
    return Cluster(tuple(name.strip() for name in names), index)


def _from_environment(environment: Mapping[str, str]) -> Cluster | None:
    described = from_tf_config(environment)
    # A worker of Ray inherits the variables of the step in which Ray itself was started.
    inherited = described is not None and "RAY_JOB_ID" in environment
    found = [described, None if inherited else from_slurm(environment), from_kubernetes(environment)]
    known = [cluster for cluster in found if cluster is not None]
    for other in known[1:]:
        first = known[0]
        if (len(first.addresses), first.index) != (len(other.addresses), other.index):
            one, two = (f"worker {c.index} of {len(c.addresses)}" for c in (first, other))
            raise UsageError(
                f"{first.source} says {one}, {other.source} says {two}. Unset the variables of one of them, or pass "
                "--cluster and --task-index."
            )
    return known[0] if known else None
