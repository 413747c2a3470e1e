"""Files for containers, Kubernetes and KServe, checked against the published schemas without a cluster."""

import json
import re

import pytest
import yaml

from zoo.errors import UsageError
from zoo.export.serving import deploy
from zoo.scripts import cli

FILES = deploy.files("my-digits", "registry.example/team/digits:1.2", replicas=3, cpu="500m", memory="3Gi")
CONTAINER = yaml.safe_load(FILES["kserve.yaml"])["spec"]["predictor"]["containers"][0]


def _objects(name):
    return [part for part in yaml.safe_load_all(FILES[name]) if part]


def test_deployment_and_service_follow_the_schema_of_kubernetes():
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    deployment, service = _objects("kubernetes.yaml")
    for part in (deployment, service):
        validate.validate(part, validate.latest_version(), strict=True)
    deployment["spec"]["replica"] = 3
    with pytest.raises(validate.ValidationError):  # so unknown fields are found
        validate.validate(deployment, validate.latest_version(), strict=True)


def test_the_container_of_kserve_follows_the_schema_of_a_pod():
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"containers": [CONTAINER]}}
    validate.validate(pod, validate.latest_version(), strict=True)


def test_the_inference_service_has_only_fields_that_kserve_knows():
    kserve = pytest.importorskip("kserve", reason="kserve is not installed")
    (service,) = _objects("kserve.yaml")
    assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    for kind, part in (
        (kserve.V1beta1InferenceService, service),
        (kserve.V1beta1InferenceServiceSpec, service["spec"]),
        (kserve.V1beta1PredictorSpec, service["spec"]["predictor"]),
    ):
        assert set(part) <= set(kind.attribute_map.values()), kind.__name__


def test_names_agree_between_the_files():
    deployment, service = _objects("kubernetes.yaml")
    pod = deployment["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    labels = pod["metadata"]["labels"]
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"] == labels
    assert deployment["spec"]["replicas"] == 3
    assert container["image"] == CONTAINER["image"] == "registry.example/team/digits:1.2"
    assert container["resources"]["requests"] == {"cpu": "500m", "memory": "3Gi"}
    (port,) = container["ports"]
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]
    assert {container[f"{probe}Probe"]["httpGet"]["port"] for probe in ("startup", "readiness", "liveness")} == {"http"}
    # Kubernetes must not kill the server while it answers its last requests.
    drain = int(container["args"][container["args"].index("--drain") + 1])
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["spec"]["terminationGracePeriodSeconds"] > drain + pause
    lines = FILES["Dockerfile"].splitlines()
    words = json.loads(next(line for line in lines if line.startswith("ENTRYPOINT")).removeprefix("ENTRYPOINT "))
    assert words[:3] == ["zoo", "serve", "my-digits=/models/my-digits"]
    assert words[words.index("--port") + 1] == str(port["containerPort"]) == "8501"
    assert "COPY models/my-digits /models/my-digits" in lines


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "My_Digits"}, "The name is 'My_Digits'. Pass small letters, numbers and -"),
        ({"name": "x\n  evil: 1"}, "The name is"),
        ({"image": "a b"}, "The image is 'a b'. Pass the name of an image"),
        ({"model": "/srv/x"}, "The model is '/srv/x'. Pass a relative folder"),
        ({"model": "a/../../x"}, "Pass a relative folder"),
        ({"memory": "2"}, "The memory is '2'. Pass an amount such as 2Gi"),
        ({"cpu": "fast"}, "The cpu is 'fast'. Pass a number of cores"),
        ({"cpu": "0.0"}, "The cpu is '0.0'. Pass a number of cores"),
        ({"model": "."}, "The model is '.'. Pass a relative folder"),
        ({"image": "r/digits:"}, "The image is 'r/digits:'. Pass the name of an image"),
        ({"replicas": 0}, "replicas is 0; expected at least 1"),
    ],
)
def test_invalid_values_are_rejected(values, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        deploy.files(**{"name": "digits", "image": "r/digits:1", **values})


def test_the_command_prints_the_files_or_writes_them_once(tmp_path, capsys):
    words = ["deployment", "my-digits", "--image", "r/digits:1"]
    assert cli.main(words) == 0
    printed = capsys.readouterr().out
    assert all(f"# {name}\n" in printed for name in deploy.FILES)
    assert cli.main([*words, "--output", str(tmp_path / "new")]) == 0
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == sorted(deploy.FILES)
    capsys.readouterr()
    assert cli.main([*words, "--output", str(tmp_path / "new")]) == 2
    assert "exists. Pass another folder, or remove the file." in capsys.readouterr().err
