"""Which workers a process belongs to, from the environment of each launcher."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

import zoo
from zoo.training.cluster import meet
from zoo.training.detection.contract import Cluster
from zoo.training.detection.find import find_cluster
from zoo.training.detection.host_lists import expand_counts, expand_hosts
from zoo.training.detection.slurm import first_port, gpus_of_task, without_srun

HOST_LISTS = {
    "login": ["login"],
    "n[1-2]": ["n1", "n2"],
    "gpu[001-003,15],other3": ["gpu001", "gpu002", "gpu003", "gpu15", "other3"],
    "a[8-11]": ["a8", "a9", "a10", "a11"],
    "a[08-11]": ["a08", "a09", "a10", "a11"],
    "a[098-101]": ["a098", "a099", "a100", "a101"],
    "a[7]": ["a7"],
    "n[1-2]-ib": ["n1-ib", "n2-ib"],
    "n[1,3]-ib.cluster.example,head": ["n1-ib.cluster.example", "n3-ib.cluster.example", "head"],
    "rack[0-1]node[01-02]": ["rack0node01", "rack0node02", "rack1node01", "rack1node02"],
    "r[0-1]-n[1,5]": ["r0-n1", "r0-n5", "r1-n1", "r1-n5"],
    "a1,b[2-3],c-4,d[5]": ["a1", "b2", "b3", "c-4", "d5"],
    "10.0.0.[4-5]": ["10.0.0.4", "10.0.0.5"],
}


@pytest.mark.parametrize(("text", "hosts"), HOST_LISTS.items())
def test_host_lists_are_expanded(text, hosts):
    assert expand_hosts(text) == hosts


@pytest.mark.skipif(shutil.which("scontrol") is None, reason="Slurm is not installed")
def test_host_lists_are_expanded_as_by_slurm(tmp_path):
    config = tmp_path / "slurm.conf"
    config.write_text("ClusterName=test\nSlurmctldHost=localhost\nNodeName=n1\nPartitionName=all Nodes=n1\n")
    compared = 0
    for text, hosts in HOST_LISTS.items():
        words = ["scontrol", "show", "hostnames", text]
        done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "SLURM_CONF": str(config)})
        if "Invalid hostlist" not in done.stderr:  # old versions know no suffix after a bracket
            assert done.stdout.split() == hosts, (text, done.stderr)
            compared += 1
    assert compared >= 8


@pytest.mark.parametrize(
    "text", ["", "a[1-2", "a]1[", "a[2-1]", "a[1-x]", "a[]", "a,,b", "a[1-999999999]", "a[[1]]", "a[1]b[2]c[3]"]
)
def test_invalid_host_lists_are_rejected(text):
    with pytest.raises(
        zoo.UsageError, match=r"The list of Slurm .* cannot be read at .* Pass --cluster and --task-index"
    ):
        expand_hosts(text)


def test_task_counts_are_expanded():
    assert expand_counts("2(x3),1") == [2, 2, 2, 1]
    with pytest.raises(zoo.UsageError, match="cannot be read at 'x'"):
        expand_counts("2,x")


def slurm(node, local, **more):
    return {
        "SLURM_JOB_ID": "17",
        "SLURM_STEP_ID": "0",
        "SLURM_PROCID": "0",
        "SLURM_STEP_NUM_TASKS": "5",
        "SLURM_STEP_NODELIST": "127.0.0.[1-3]",
        "SLURM_STEP_TASKS_PER_NODE": "2(x2),1",
        "SLURM_NODEID": str(node),
        "SLURM_LOCALID": str(local),
        **more,
    }


def test_tasks_of_slurm_are_counted_node_by_node():
    places = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]
    found = [find_cluster(None, None, slurm(*place)) for place in places]
    assert [cluster.index for cluster in found] == [0, 1, 2, 3, 4]
    assert len({cluster.addresses for cluster in found}) == 1
    hosts, ports = zip(*(address.split(":") for address in found[0].addresses), strict=True)
    assert hosts == ("127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.2", "127.0.0.3")
    assert [int(port) - int(ports[0]) for port in ports] == [0, 1, 2, 3, 4]
    assert found[3].describe().startswith("Cluster: worker 3 of 5 (Slurm job 17, 127.0.0.[1-3]): 127.0.0.1:")


def test_ports_of_slurm_follow_from_job_restart_and_step():
    known = [
        first_port({"SLURM_JOB_ID": str(job), "SLURM_RESTART_COUNT": str(restart), "SLURM_STEP_ID": str(step)}, 2)
        for job in (17, 18)
        for restart in (0, 1)
        for step in (0, 1)
    ]
    for tasks in (2, 100):
        jobs = {first_port({"SLURM_JOB_ID": str(job)}, tasks) for job in range(1000)}
        assert len(jobs) == 19_968 // max(64, tasks), "jobs use all ports"
    assert len(set(known)) == 8 and all(12_288 <= port < 32_768 - 64 for port in known)


def test_a_single_task_or_a_batch_script_is_no_cluster():
    assert find_cluster(None, None, slurm(0, 0, SLURM_STEP_NUM_TASKS="1")) is None
    script = {"SLURM_JOB_ID": "17", "SLURM_NTASKS": "2", "SLURM_PROCID": "0"}
    assert find_cluster(None, None, script) is None
    assert without_srun(script) == (
        "Slurm: job 17 has 2 tasks, and this process trains alone; `srun zoo train ...` trains on all of them."
    )
    assert without_srun(slurm(0, 0)) is None and without_srun({}) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"SLURM_STEP_TASKS_PER_NODE": "2,2"},
            r"do not fit together: 5 tasks, \[2, 2\] on the nodes .* Pass --cluster",
        ),
        ({"SLURM_LOCALID": "7"}, r"this one is task 7 on node 0"),
        ({"SLURM_LOCALID": "x"}, r"SLURM_LOCALID is 'x'; expected a number"),
        ({"SLURM_NODEID": ""}, r"SLURM_NODEID is not set. Start it with srun"),
    ],
)
def test_invalid_variables_of_slurm_are_rejected(changes, message):
    with pytest.raises(zoo.UsageError, match=message):
        find_cluster(None, None, slurm(0, 0, **changes))


def test_tasks_of_a_node_divide_its_gpus():
    def own(local, visible, **more):
        return [*find_cluster(None, None, slurm(0, local, **more)).own_gpus(visible)]

    assert own(1, 4) == [2, 3] and own(0, 2) == [0] and own(1, 0) == []
    assert own(1, 4, SLURM_GPUS_ON_NODE="4") == [2, 3]
    assert own(1, 2, SLURM_GPUS_ON_NODE="4") == [0, 1], "Slurm has bound two of four"
    assert own(1, 1, SLURM_GPUS_PER_TASK="1") == [0]
    assert own(1, 2, SLURM_GPUS_PER_TASK="1", SLURM_GPUS_ON_NODE="2") == [1], "asked for, but not bound"
    assert own(1, 8, SLURM_GPUS_PER_TASK="h200:2") == [2, 3] and own(1, 2, SLURM_NTASKS_PER_GPU="1") == [1]
    with pytest.raises(zoo.UsageError, match=r"2 tasks run on this machine, which has 1 GPU.*--ntasks-per-node=1"):
        own(1, 1, SLURM_GPUS_ON_NODE="1")


def test_one_device_takes_the_gpus_of_its_task():
    """Tasks that train alone: a search, in which each has a model of its own."""
    step = [slurm(0, local) for local in (0, 1)]
    assert [[*gpus_of_task(task, 4)] for task in step] == [[0, 1], [2, 3]]
    assert [[*gpus_of_task(task, 1)] for task in step] == [[0], [0]], "they share"
    bound = {"SLURM_GPUS_PER_TASK": "1"}
    assert [*gpus_of_task({**step[1], **bound}, 1)] == [0] and [*gpus_of_task({**step[1], **bound}, 2)] == [1]
    assert [*gpus_of_task({}, 2)] == [0, 1] and [*gpus_of_task(step[1], 0)] == []


def test_one_device_hides_the_gpus_of_other_tasks(monkeypatch):
    import tensorflow as tf

    from zoo.training.strategies import _own_gpus

    def too_late(devices, kind):
        assert (devices, kind) == (["two"], "GPU")
        raise RuntimeError("Visible devices cannot be modified after being initialized")

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["one", "two"])
    monkeypatch.setattr(tf.config, "set_visible_devices", too_late)
    for name, value in slurm(0, 1).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(zoo.UsageError, match=r"share of the GPUs, 1 of 2, comes too late.* Call zoo.strategy before"):
        _own_gpus(None)


def test_an_empty_tf_config_is_not_set(monkeypatch):
    for text in ("", " "):
        monkeypatch.setenv("TF_CONFIG", text)
        zoo.strategy("one_device")
        assert "TF_CONFIG" not in os.environ


def test_nodes_that_resolve_names_differently_meet(monkeypatch):
    """One node knows a name, the other asks Slurm for its address."""
    names = {"SLURM_STEP_NODELIST": "n[1-2]", "SLURM_STEP_TASKS_PER_NODE": "1(x2)", "SLURM_STEP_NUM_TASKS": "2"}
    found = []
    for node, prefix in ((0, "127.0.0."), (1, "127.0.1.")):
        monkeypatch.setattr("zoo.training.detection.slurm._address", lambda host, p=prefix: p + host.removeprefix("n"))
        found.append(find_cluster(None, None, slurm(node, 0, SLURM_JOB_ID=str(os.getpid()), **names)))
    assert found[0].addresses != found[1].addresses and found[0].names == found[1].names
    with ThreadPoolExecutor(2) as pool:
        assert [*pool.map(lambda cluster: meet(cluster, 20), found)] == [None, None]


def tf_config(kind="worker", index=0, **addresses):
    return {"TF_CONFIG": json.dumps({"cluster": addresses, "task": {"type": kind, "index": index}})}


def test_an_evaluator_trains_nothing():
    both = {"chief": ["a:1"], "worker": ["b:1"], "evaluator": ["c:1"]}
    found = find_cluster(None, None, tf_config("worker", 0, **both))
    assert found == Cluster(("a:1", "b:1"), 1) and found.source == "TF_CONFIG"
    with pytest.raises(zoo.UsageError, match=r"TF_CONFIG names this task an evaluator.* Leave the evaluator out"):
        find_cluster(None, None, tf_config("evaluator", 0, **both))
    with pytest.raises(zoo.UsageError, match=r"names worker, ps and the task 'worker'; only workers train here"):
        find_cluster(None, None, tf_config("worker", 0, worker=["a:1"], ps=["b:1"]))


def test_launchers_that_disagree_are_rejected():
    workers = [f"h{i}:1" for i in range(5)]
    same = {**slurm(0, 1), **tf_config("worker", 1, worker=workers)}
    assert find_cluster(None, None, same).addresses == tuple(workers)
    message = r"TF_CONFIG says worker 0 of 1, Slurm job 17, .* says worker 1 of 5. Unset the variables"
    leftover = {**slurm(0, 1), **tf_config("chief", 0, chief=["a:1"])}
    with pytest.raises(zoo.UsageError, match=message):
        find_cluster(None, None, leftover)
    assert find_cluster(None, None, {**leftover, "RAY_JOB_ID": "01000000"}).addresses == ("a:1",)
    assert find_cluster("x:1,y:1", 1, leftover) == Cluster(("x:1", "y:1"), 1)


POD = {"JOB_COMPLETION_INDEX": "1", "HOSTNAME": "digits-node-0-1"}


def test_pods_of_kubernetes_are_found():
    expected = ("digits-node-0-0.digits:2222", "digits-node-0-1.digits:2222")
    found = find_cluster(None, None, {**POD, "ZOO_WORKERS": "2", "ZOO_SERVICE": "digits"})
    assert (found.addresses, found.index, found.source) == (expected, 1, "Kubernetes job digits-node-0")
    torch = {**POD, "PET_NNODES": "2", "PET_MASTER_ADDR": "digits-node-0-0.digits"}
    assert find_cluster(None, None, torch).addresses == expected
    assert find_cluster(None, None, {**POD, "JOB_COMPLETION_INDEX": "0", "ZOO_WORKERS": "1"}) is None


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (POD, r"This is pod 1 of a Kubernetes job, and ZOO_WORKERS is ''.*Set it in the manifest.* set ZOO_WORKERS=1"),
        ({**POD, "ZOO_WORKERS": "2", "HOSTNAME": "other"}, r"expected a name that ends with -1"),
        ({**POD, "ZOO_WORKERS": "2"}, r"The headless service of this Kubernetes job is not known. Set ZOO_SERVICE"),
        ({**POD, "ZOO_WORKERS": "1", "ZOO_SERVICE": "digits"}, None),
    ],
)
def test_incomplete_variables_of_kubernetes_are_rejected(environment, message, monkeypatch):
    monkeypatch.setattr("zoo.training.detection.kubernetes._full_name", lambda host: host)  # no name service here
    if message is None:
        assert find_cluster(None, None, environment) is None
        return
    with pytest.raises(zoo.UsageError, match=message):
        find_cluster(None, None, environment)


def test_only_one_device_ignores_a_cluster(monkeypatch):
    for name, value in slurm(0, 0).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(zoo.UsageError, match=r"worker 0 of 5 \(Slurm job 17.* each would train its own model"):
        zoo.strategy("mirrored")
    assert zoo.strategy("one_device").num_replicas_in_sync == 1
