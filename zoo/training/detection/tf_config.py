"""TF_CONFIG, the environment variable of TensorFlow, Ray Train, Vertex AI and Kubernetes' training operator."""

from __future__ import annotations

import json
from collections.abc import Mapping

from zoo.errors import UsageError
from zoo.training.detection.contract import Cluster


def from_tf_config(environment: Mapping[str, str]) -> Cluster | None:
    """Returns the cluster that TF_CONFIG describes: workers, a chief and workers, or one chief; None where it is not set.

    A chief is the first worker. The addresses of an evaluator are left out, because the chief evaluates.

    Args:
        environment: the environment variables.

    Raises:
        UsageError: TF_CONFIG cannot be read, or this task is an evaluator or a parameter server.

    Example:
        >>> from_tf_config({"TF_CONFIG": '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}'})
        Cluster(addresses=('a:1', 'b:1'), index=1, source='TF_CONFIG', local=None, gpus_of_machine=None)
    """
    text = environment.get("TF_CONFIG", "")
    if not text.strip():
        return None
    try:
        content = json.loads(text)
        addresses, task = content.get("cluster", {}), content.get("task", {})
        if not addresses:
            return None
        kind, index = task.get("type"), task.get("index")
        if kind == "evaluator":
            raise UsageError(
                "TF_CONFIG names this task an evaluator; the chief evaluates after training. Leave the evaluator out, and "
                "unset TF_CONFIG to start something else here."
            )
        if not {*addresses} <= {"chief", "worker", "evaluator"} or kind not in ("chief", "worker"):
            raise UsageError(
                f"TF_CONFIG names {', '.join(addresses)} and the task {kind!r}; only workers train here. Pass all addresses "
                "under worker, or unset TF_CONFIG."
            )
        chief, others = addresses.get("chief", []), addresses.get("worker", [])
        if kind == "worker" and isinstance(index, int):
            index += len(chief)
        return Cluster((*map(str, chief), *map(str, others)), index, source="TF_CONFIG")
    except UsageError:
        raise
    except (ValueError, AttributeError, TypeError) as error:
        raise UsageError(
            f"TF_CONFIG cannot be used: {error}. Pass "
            '{"cluster": {"worker": ["one:2222", "two:2222"]}, "task": {"type": "worker", "index": 0}}, or unset it.'
        ) from error
