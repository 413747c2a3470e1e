"""Files to deploy `zoo serve`: a Dockerfile, a Deployment and a Service of Kubernetes, an InferenceService of KServe."""

from __future__ import annotations

import re
import string
from pathlib import Path

from zoo import storage
from zoo.errors import UsageError

FILES = ("Dockerfile", "kubernetes.yaml", "kserve.yaml")
_FOLDER = Path(__file__).parent
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,48}[a-z0-9])?")
_IMAGE = re.compile(r"[a-z0-9]([\w.\-/:@]*\w)?", re.ASCII)


def files(
    name: str, image: str, *, model: str = "", replicas: int = 2, cpu: str = "1", memory: str = "2Gi"
) -> dict[str, str]:
    """Returns the contents of the files by name.

    Args:
        name: name of the model in addresses, and of the objects of Kubernetes.
        image: name of the container image, with its registry and tag.
        model: folder of versions to copy into the image, from the folder in which it is built; "" for models/NAME.
        replicas: number of pods.
        cpu: cores of a pod, as Kubernetes writes them, such as 2 or 500m.
        memory: memory of a pod, such as 2Gi.

    Raises:
        UsageError: a value is not valid.

    Example:
        >>> print(files("digits", "registry.example/digits:1")["Dockerfile"].splitlines()[-1])
        ENTRYPOINT ["zoo", "serve", "digits=/models/digits", "--host", "0.0.0.0", "--port", "8501"]
    """
    model = model or f"models/{name}"
    for what, value, pattern, example in (
        ("name", name, _NAME, "small letters, numbers and -, such as my-model"),
        ("image", image, _IMAGE, "the name of an image, such as registry.example/my-model:1"),
        (
            "model",
            model,
            re.compile(r"(?!\.?/*$)[\w.\-/]+", re.ASCII),
            "a relative folder of letters, numbers and - . _ /, such as models/my-model",
        ),
        (
            "cpu",
            cpu,
            re.compile(r"[1-9]\d*m?|(?!0+\.0+$)\d+\.\d{1,3}", re.ASCII),
            "a number of cores, such as 2 or 500m",
        ),
        ("memory", memory, re.compile(r"[1-9]\d*(Mi|Gi|M|G)", re.ASCII), "an amount such as 2Gi"),
    ):
        if not pattern.fullmatch(value) or (what == "model" and (value.startswith("/") or ".." in value.split("/"))):
            raise UsageError(f"The {what} is {value!r}. Pass {example}.")
    if replicas < 1:
        raise UsageError(f"replicas is {replicas}; expected at least 1. Pass 2, say.")
    values = {"name": name, "image": image, "model": model, "replicas": str(replicas), "cpu": cpu, "memory": memory}
    return {file: string.Template((_FOLDER / file).read_text(encoding="utf-8")).substitute(values) for file in FILES}


def write(folder: str | Path, contents: dict[str, str]) -> list[Path]:
    """Writes files into a folder, and returns their paths. Existing files are not replaced.

    Raises:
        UsageError: one of them exists, or the folder cannot be written.
    """
    paths = [Path(folder) / name for name in contents]
    if existing := [str(path) for path in paths if path.exists()]:
        raise UsageError(f"{', '.join(existing)} exists. Pass another folder, or remove the file.")
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for path, content in zip(paths, contents.values(), strict=True):
            storage.write_text(path, content)
    except OSError as error:
        raise UsageError(f"Cannot write to {folder}: {error.strerror}. Pass another folder.") from error
    return paths
