"""Write files to deploy `zoo serve`: `zoo deployment digits --image registry.example/digits:1 --output deploy`."""

from __future__ import annotations

import sys

from zoo.scripts.console import Parser, run_command

_DESCRIPTION = """Write a Dockerfile, a Deployment and a Service of Kubernetes, and an InferenceService of KServe.
Without --output, print them.
"""


def command(argv: list[str]) -> int:
    """Parses the options; prints or writes the files."""
    parser = Parser("deployment", _DESCRIPTION)
    parser.add_argument("name", help="Name of the model and of the objects: small letters, digits and -.")
    parser.add_argument("--image", required=True, help="The container image, such as registry.example/digits:1.")
    parser.add_argument(
        "--model", default="", help="Folder of versions to copy into the image; by default models/NAME."
    )
    parser.add_argument("--replicas", type=int, default=2, help="Number of pods; for KServe, the largest number.")
    parser.add_argument("--cpu", default="1", help="Cores of a pod, such as 2 or 500m.")
    parser.add_argument("--memory", default="2Gi", help="Memory of a pod.")
    parser.add_argument("--output", type=str | None, default=None, help="A folder for the files.")
    options = parser.parse(argv)

    from zoo.export.serving import deploy

    shared = {"model": options.model, "replicas": options.replicas, "cpu": options.cpu, "memory": options.memory}
    contents = deploy.files(options.name, options.image, **shared)
    if options.output is None:
        for name, content in contents.items():
            print(f"# {name}\n{content}")
        return 0
    for path in deploy.write(options.output, contents):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(command))
