"""Manifests for Kubernetes: a JobSet, or a TrainJob of Kubeflow with its runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zoo.environment import WORKER_PORT


def job_set(
    name: str, words: Sequence[str], *, nodes: int, image: str, cpus: int, gpus: int, claim: str, restarts: int
) -> list[dict[str, Any]]:
    """Returns a JobSet whose pods are the workers of one training.

    Args:
        name: of the job, and of its headless service.
        words: the command of every pod.
        nodes: number of pods.
        image: the container image, which has this package.
        cpus: cores of a pod.
        gpus: GPUs of a pod.
        claim: the PersistentVolumeClaim with data and run directory, mounted at /work in every pod.
        restarts: how often all pods are started again after a failure; the run resumes from its last checkpoint.
    """
    # Status 2 is an error of the command, such as a misspelled option: it would fail again.
    wrong = {"action": "FailJob", "onExitCodes": {"containerName": "node", "operator": "In", "values": [2]}}
    final = {"name": "command", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
    pods: dict[str, Any] = {"parallelism": nodes, "completions": nodes, "completionMode": "Indexed"}
    pods |= {"backoffLimit": 0, "podFailurePolicy": {"rules": [wrong]}}
    template = {"spec": _pod(name, words, nodes=nodes, image=image, cpus=cpus, gpus=gpus, claim=claim)}
    return [
        {
            "apiVersion": "jobset.x-k8s.io/v1alpha2",
            "kind": "JobSet",
            "metadata": {"name": name},
            "spec": {
                "network": {"enableDNSHostnames": True, "subdomain": name, "publishNotReadyAddresses": True},
                "failurePolicy": {"maxRestarts": restarts, "rules": [final]},
                "replicatedJobs": [
                    {"name": "node", "replicas": 1, "template": {"spec": {**pods, "template": template}}}
                ],
            },
        }
    ]


def train_job(
    name: str, words: Sequence[str], *, nodes: int, image: str, cpus: int, gpus: int, claim: str, restarts: int
) -> list[dict[str, Any]]:
    """Returns a TrainingRuntime and the TrainJob of Kubeflow that uses it; the arguments are those of `job_set`."""
    (jobs,) = job_set(name, words, nodes=nodes, image=image, cpus=cpus, gpus=gpus, claim=claim, restarts=restarts)
    (job,) = jobs["spec"]["replicatedJobs"]
    # The node job of a TrainJob has this label; its pods are named NAME-node-0-INDEX.
    template = {"metadata": {"labels": {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}}, **job["template"]}
    spec = {**jobs["spec"], "replicatedJobs": [{**job, "template": template}]}
    group = "trainer.kubeflow.org"
    return [
        {
            "apiVersion": f"{group}/v1alpha1",
            "kind": "TrainingRuntime",
            "metadata": {"name": f"{name}-runtime"},
            "spec": {"mlPolicy": {"numNodes": nodes}, "template": {"spec": spec}},
        },
        {
            "apiVersion": f"{group}/v1alpha1",
            "kind": "TrainJob",
            "metadata": {"name": name},
            "spec": {
                "runtimeRef": {"apiGroup": group, "kind": "TrainingRuntime", "name": f"{name}-runtime"},
                "trainer": {"image": image, "command": list(words), "numNodes": nodes},
            },
        },
    ]


def _pod(
    name: str, words: Sequence[str], *, nodes: int, image: str, cpus: int, gpus: int, claim: str
) -> dict[str, Any]:
    resources: dict[str, Any] = {"requests": {"cpu": str(cpus)}}
    if gpus:
        resources["limits"] = {"nvidia.com/gpu": gpus}
    # Kubernetes adds JOB_COMPLETION_INDEX and HOSTNAME; with these two a worker finds the others.
    known = [{"name": "ZOO_WORKERS", "value": str(nodes)}, {"name": "ZOO_SERVICE", "value": name}]
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 120,  # after SIGTERM, to write a checkpoint
        "containers": [
            {
                "name": "node",
                "image": image,
                "command": list(words),
                "workingDir": "/work",
                "env": known,
                "ports": [{"containerPort": WORKER_PORT}],
                "resources": resources,
                "volumeMounts": [{"name": "work", "mountPath": "/work"}],
            }
        ],
        "volumes": [{"name": "work", "persistentVolumeClaim": {"claimName": claim}}],
    }
