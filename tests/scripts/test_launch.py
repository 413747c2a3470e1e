"""Job files for clusters: they hold the user's command, and schemas of the clusters accept them."""

from __future__ import annotations

import ast
import shlex
import subprocess
import sys

import pytest
import yaml

import zoo
from zoo.scripts import cli, launch

TRAIN = ["train", "--model", "mlp", "--data", "csv:my file.csv", "--data.columns", '{"label": "it\'s"}']


def printed(capsys, *words):
    assert launch.command([*words, "--", *TRAIN]) == 0
    return capsys.readouterr().out


def manifests(capsys, *words):
    return list(yaml.safe_load_all(printed(capsys, "kubernetes", *words)))


def test_the_slurm_script_holds_the_command(capsys):
    script = printed(capsys, "slurm", "--nodes", "3", "--tasks-per-node", "2", "--gpus", "1", "--time", "08:00:00")
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    options = [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH")]
    assert {"--nodes=3", "--ntasks-per-node=2", "--gpus-per-task=1", "--time=08:00:00", "--requeue"} <= {*options}
    line = next(line for line in script.splitlines() if "zoo.scripts.cli" in line)
    assert shlex.split(line.removesuffix("&")) == [sys.executable, "-P", "-m", "zoo.scripts.cli", *TRAIN]
    assert "gpus" not in printed(capsys, "slurm")
    step = shlex.split(script[script.index("\nsrun") : script.index(sys.executable)].replace("\\\n", ""))
    assert {"--kill-on-bad-exit=1", "--wait=0", "--cpus-per-task=4"} <= {*step}, "the chief outlives the other workers"


# srun, squeue and scontrol as programs that write down what the script does; $1 is the exit status of the step.
PROGRAMS = """
srun() { sleep "$SECONDS_OF_STEP"; return "$STATUS"; }
squeue() { echo "$STATE"; }
scancel() { echo "cancel $*"; }
scontrol() { echo "requeue $2"; }
export SLURM_JOB_ID=17
"""


@pytest.mark.parametrize(
    ("status", "state", "restarts", "expected"),
    [
        (0, "RUNNING", 0, []),
        (2, "RUNNING", 0, []),
        (137, "RUNNING", 0, ["requeue 17"]),
        (137, "RUNNING", 10, []),
        (143, "COMPLETING", 0, []),
    ],
)
def test_the_slurm_script_queues_a_job_again_after_a_signal(capsys, status, state, restarts, expected):
    script = PROGRAMS + printed(capsys, "slurm")
    variables = {"STATUS": str(status), "STATE": state, "SLURM_RESTART_COUNT": str(restarts), "SECONDS_OF_STEP": "0"}
    done = subprocess.run(["bash"], input=script, text=True, env=variables, capture_output=True, check=False)
    assert done.stdout.splitlines() == expected and done.returncode == status, done.stderr


@pytest.mark.parametrize(("status", "queued"), [(143, ["requeue 17"]), (0, []), (2, [])])
def test_the_slurm_script_passes_the_time_limit_on(capsys, status, queued):
    script = PROGRAMS + printed(capsys, "slurm").replace("wait $!\nstatus=$?", "kill -TERM $$; wait $!\nstatus=$?", 1)
    variables = {"STATUS": str(status), "STATE": "RUNNING", "SLURM_RESTART_COUNT": "99", "SECONDS_OF_STEP": "1"}
    done = subprocess.run(["bash"], input=script, text=True, env=variables, capture_output=True, check=False)
    assert done.stdout.splitlines() == ["cancel --signal=TERM 17.0", *queued], done.stderr
    assert done.returncode == status


def test_the_ray_program_holds_the_command(capsys):
    program = printed(capsys, "ray", "--nodes", "3", "--gpus", "4")
    assert "python job.py" in program and "zoo.py" not in program, "a file zoo.py hides the package"
    tree = ast.parse(program)
    lists = [ast.literal_eval(node) for node in ast.walk(tree) if isinstance(node, ast.List)]
    assert lists == [TRAIN]
    values = {
        k.arg: ast.unparse(k.value) for node in ast.walk(tree) if isinstance(node, ast.Call) for k in node.keywords
    }
    assert (values["num_workers"], values["use_gpu"], values["max_failures"]) == ("3", "True", "10")
    assert values["resources_per_worker"] == "{'CPU': 1, 'GPU': 4}"
    assert "use_gpu=False, resources_per_worker={'CPU': 1})" in printed(capsys, "ray")


@pytest.mark.parametrize("kind", ["jobset", "trainjob"])
def test_pods_find_each_other_from_the_manifest(capsys, kind):
    from zoo.training.detection.find import find_cluster

    documents = manifests(capsys, "--kind", kind, "--nodes", "3", "--name", "digits")
    first, last = documents[0], documents[-1]
    template = first["spec"] if kind == "jobset" else first["spec"]["template"]["spec"]
    (job,) = template["replicatedJobs"]
    (container,) = job["template"]["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["zoo", *TRAIN] and job["template"]["spec"]["completions"] == 3
    if kind == "trainjob":
        assert last["spec"]["trainer"]["command"] == ["zoo", *TRAIN] and last["spec"]["trainer"]["numNodes"] == 3
    # What Kubernetes and JobSet add: the name of the pod, NAME-JOB-0-INDEX, in the domain of the service.
    added = {"JOB_COMPLETION_INDEX": "2", "HOSTNAME": f"digits-{job['name']}-0-2"}
    found = find_cluster(None, None, {**{e["name"]: e["value"] for e in container["env"]}, **added})
    assert (
        found.addresses[0] == f"digits-{job['name']}-0-0.{template['network']['subdomain']}:2222" and found.index == 2
    )
    assert {"containerPort": 2222} in container["ports"]
    # An error of the command, status 2, fails the job for that reason, and this reason ends the whole set.
    (rule,) = job["template"]["spec"]["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob" and rule["onExitCodes"]["values"] == [2]
    assert rule["onExitCodes"]["containerName"] == container["name"]
    (end,) = template["failurePolicy"]["rules"]
    assert (end["action"], end["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])


def test_schemas_of_kubernetes_accept_the_manifests(capsys):
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    (jobs,) = manifests(capsys, "--gpus", "1")
    (job,) = jobs["spec"]["replicatedJobs"]
    whole = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "node"}, **job["template"]}
    validate.validate(whole, validate.latest_version(), strict=True)
    whole["spec"]["complettions"] = 2
    with pytest.raises(validate.ValidationError, match="complettions"):
        validate.validate(whole, validate.latest_version(), strict=True)


def test_schemas_of_kubeflow_accept_the_manifests(capsys):
    models = pytest.importorskip("kubeflow_trainer_api.models", reason="kubeflow-trainer-api is not installed")
    kinds = {
        "JobSet": models.JobsetV1alpha2JobSet,
        "TrainingRuntime": models.TrainerV1alpha1TrainingRuntime,
        "TrainJob": models.TrainerV1alpha1TrainJob,
    }
    documents = [*manifests(capsys, "--gpus", "1"), *manifests(capsys, "--gpus", "1", "--kind", "trainjob")]
    assert [document["kind"] for document in documents] == ["JobSet", "TrainingRuntime", "TrainJob"]
    for document in documents:
        assert missing(document, kinds[document["kind"]].from_dict(document).to_dict()) == []
    documents[0]["spec"]["replicatedJobs"][0]["replicaz"] = 1
    assert missing(documents[0], kinds["JobSet"].from_dict(documents[0]).to_dict()) == ["replicaz"]


def missing(given, known):
    """Returns the names of fields that the models have dropped, because they do not know them."""
    if isinstance(given, dict):
        lost = [name for name in given if name not in known]
        return lost + [name for key in given if key in known for name in missing(given[key], known[key])]
    if isinstance(given, list):
        return [name for one, other in zip(given, known, strict=True) for name in missing(one, other)]
    assert given == known
    return []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["slurn", "--", *TRAIN], r"^zoo launch slurn is unknown. Did you mean 'slurm'\?$"),
        (["slurm"], r"^nothing follows --; expected `train` and its options. Try `zoo launch slurm"),
        (["ray", "--", "predict", "x"], r"^`predict` follows --; expected `train`"),
        (["ray", "--", "train", "--task-index=1"], r"^--task-index=1 is not allowed after --, .* Leave it out.$"),
        (["slurm", "--nodes", "0", "--", *TRAIN], r"^--nodes is 0; expected at least 1. Try"),
        (["ray", "--gpus", "-1", "--", *TRAIN], r"^--gpus is -1; expected at least 0. Try"),
        (["slurm", "--restarts=-2", "--", *TRAIN], r"^--restarts is -2; expected at least 0. Try"),
        (["kubernetes", "--name", "My_run", "--", *TRAIN], r"^--name is 'My_run'; expected .* Pass --name my-run"),
        (["ray", "--image", "x", "--", *TRAIN], r"^Unknown option --image"),
    ],
)
def test_invalid_arguments_are_rejected(words, message):
    with pytest.raises(zoo.UsageError, match=message):
        launch.command(words)


def test_the_earlier_name_of_the_command_is_rejected(capsys):
    assert cli.main(["launch-local", "2", "--", "train"]) == 2
    expected = "zoo: `zoo launch-local` has another name. Type `zoo launch local 2 -- train ...`.\n"
    assert capsys.readouterr().err == expected
