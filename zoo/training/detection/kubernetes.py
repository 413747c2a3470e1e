"""Kubernetes: the pods of an Indexed Job, as JobSet and TrainJob start them, behind a headless service."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from zoo.environment import WORKER_PORT
from zoo.errors import UsageError
from zoo.training.detection.contract import Cluster


def from_kubernetes(environment: Mapping[str, str]) -> Cluster | None:
    """Returns the pods of this job as a cluster; None outside of an Indexed Job, and where it has one pod.

    Kubernetes sets JOB_COMPLETION_INDEX and HOSTNAME. The number of pods is in ZOO_WORKERS, or in PET_NNODES, which
    Kubeflow's runtime for torch sets. The headless service is ZOO_SERVICE, the domain of PET_MASTER_ADDR, or the pod's own.

    Args:
        environment: the environment variables.

    Raises:
        UsageError: the number of pods, their name or their service is not known.

    Example:
        >>> from_kubernetes({"JOB_COMPLETION_INDEX": "1", "HOSTNAME": "digits-node-0-1", "ZOO_WORKERS": "2",
        ...                  "ZOO_SERVICE": "digits"}).addresses
        ('digits-node-0-0.digits:2222', 'digits-node-0-1.digits:2222')
    """
    text = environment.get("JOB_COMPLETION_INDEX", "")
    if not text:
        return None
    number = environment.get("ZOO_WORKERS") or environment.get("PET_NNODES") or ""
    if not number.isdigit() or not text.isdigit():
        raise UsageError(
            f"This is pod {text} of a Kubernetes job, and ZOO_WORKERS is {number!r}; expected the number of pods. Set it in "
            "the manifest (`zoo launch kubernetes` prints one). If every pod trains a model of its own, set ZOO_WORKERS=1, "
            "or pass --config.strategy one_device."
        )
    index, count = int(text), int(number)
    if count < 2:
        return None
    host = environment.get("HOSTNAME", "")
    name, own = host.split(".", 1)[0], f"-{index}"
    if not name.endswith(own):
        raise UsageError(
            f"HOSTNAME is {host!r} in pod {index} of a Kubernetes job; expected a name that ends with {own}. Leave HOSTNAME "
            "as Kubernetes sets it, or pass --cluster and --task-index."
        )
    domain = (
        environment.get("ZOO_SERVICE") or _domain(environment.get("PET_MASTER_ADDR", "")) or _domain(_full_name(host))
    )
    if not domain:
        raise UsageError(
            "The headless service of this Kubernetes job is not known. Set ZOO_SERVICE to its name in the manifest; `zoo "
            "launch kubernetes` prints one."
        )
    base = name.removesuffix(own)
    addresses = tuple(f"{base}-{pod}.{domain}:{WORKER_PORT}" for pod in range(count))
    return Cluster(addresses, index, source=f"Kubernetes job {base}")


def _domain(host: str) -> str:
    return host.partition(".")[2]


def _full_name(host: str) -> str:
    return socket.getfqdn(host)
