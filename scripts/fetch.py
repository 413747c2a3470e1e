"""Download published weights by name: `zoo fetch hf:google-bert/bert-base-uncased`, `zoo fetch imagenet --model resnet50`."""

from __future__ import annotations

import sys

from zoo import checkpoints
from zoo.errors import UsageError
from zoo.registry import get_spec, list_models
from zoo.scripts.console import Parser, load_plugins, run_command

_DESCRIPTION = """Download published weights by name and print the local folder or file.
To use them in a closed network, copy the folder there and pass the copy: `zoo train --model.weights FOLDER`.
`zoo list --pretrained` prints names.
"""


def command(argv: list[str]) -> int:
    """Parses the options, downloads and prints the path."""
    parser = Parser("fetch", _DESCRIPTION)
    parser.add_argument("name", help="hf:ORG/NAME or hf:ORG/NAME@REVISION; or imagenet with --model.")
    parser.add_argument("--revision", help="A branch, a tag or a commit of the repository.")
    parser.add_argument(
        "--model", help="The model that reads the weights; by default any that can read the repository."
    )
    parser.add_argument("--quiet", action="store_true", help="Print the path alone.")
    parser.add_plugins()
    options = parser.parse(load_plugins(argv))
    name = options.name
    if options.revision is not None:
        if "@" in name or not checkpoints.is_name(name):
            raise UsageError(
                f"--revision is {options.revision!r}, but the name is {name!r}. Pass hf:ORG/NAME without @."
            )
        name = f"{name}@{options.revision}"
    verbose = 0 if options.quiet else 1
    if options.model is not None:
        found = checkpoints.fetch(options.model, name, verbose=verbose)
    else:
        found = checkpoints.locate(name, verbose=verbose)
    if found is None:
        raise UsageError(
            f"{name!r} is not the name of weights. {_suggested(name)}`zoo list --pretrained` prints names."
        )
    if verbose:
        print(f"{found.source}: licence {found.licence}")
        for file, digest in found.sha256.items():
            print(f"{file}: sha256 {digest}")
    print(found.path)
    return 0


def _suggested(name: str) -> str:
    """Returns what to type for a name that has no `hf:`, or that some models alone know."""
    able = [model for model in list_models(variants=False) if name in get_spec(model).published]
    if able:
        return f"Pass --model {able[0]} too, or one of {', '.join(able)}. "
    if name.count("/") == 1 and not name.startswith((".", "/")):
        return f"Pass hf:{name}. "
    return "Pass hf:ORG/NAME, or imagenet with --model. "


if __name__ == "__main__":
    sys.exit(run_command(command))
