"""The command `zoo`: `zoo train ...` is `python scripts/train.py ...`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from zoo._version import __version__
from zoo.errors import UsageError, did_you_mean
from zoo.scripts.console import run_command
from zoo.storage import check_local

COMMANDS = {
    "train": "train a model, evaluate it, write and verify its SavedModel",
    "evaluate": "evaluate a finished run",
    "compare": "compare two finished models on the same examples",
    "errors": "list the worst mistakes of a finished model with their inputs",
    "fetch": "download published weights by name",
    "export": "write and verify the SavedModel of a finished run in another folder",
    "verify": "check a SavedModel against its golden examples, in every installed runtime",
    "describe": "print what a SavedModel contains, without loading it",
    "convert": "convert a SavedModel for ONNX Runtime, OpenVINO, LiteRT or other converters",
    "predict": "run a SavedModel on files, texts, series or ids",
    "serve": "serve SavedModels over HTTP, with a page to try them",
    "deployment": "write a Dockerfile and manifests of Kubernetes and KServe for zoo serve",
    "monitor": "compare requests with the training inputs of a SavedModel",
    "vocabulary": "train a WordPiece vocabulary on a data set or on text files",
    "cross-validate": "train once per fold, report mean and standard deviation",
    "tune": "search for the settings of a model on the validation split",
    "clean": "delete the checkpoints of finished runs",
    "corpus": "write the texts of data sets as lines, for training without labels",
    "huggingface": "write a finished run as a folder that transformers loads",
    "launch": "start workers on this machine, or print a job file for Slurm, Ray or Kubernetes",
    "results": "print the recorded figures of the recipes",
    "reproduce": "run recipes and compare their figures with the recorded ones",
    "benchmark": "compare training, serving or tokenization with other frameworks",
    "list": "list models and data sets",
}

_RENAMED = {"launch-local": "launch local 2 -- train ..."}


def _help() -> str:
    lines = [f"  {name:<16}{text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: zoo COMMAND [options]",
            "",
            "Train a Keras model on raw data and write a verified SavedModel.",
            "",
            *lines,
            "",
            "zoo COMMAND --help shows the options of a command.",
            "zoo train --model NAME --help also shows the options of the model.",
        ]
    )


def _dispatch(argv: list[str]) -> int | None:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_help())
        return 0 if argv else 2
    if argv[0] == "--version":
        print(f"savedmodel-zoo {__version__}")
        return 0
    if argv[0] in _RENAMED:
        raise UsageError(f"`zoo {argv[0]}` has another name. Type `zoo {_RENAMED[argv[0]]}`.")
    if argv[0] not in COMMANDS:
        raise UsageError(f"Unknown command {argv[0]!r}. {did_you_mean(argv[0], COMMANDS)}")
    _check_local(argv)
    name = "list_models" if argv[0] == "list" else argv[0].replace("-", "_")
    status: int | None = importlib.import_module(f"zoo.scripts.{name}").command(argv[1:])
    return status


_TRAINING = ("--run_directory", "--run-directory", "--data")
_REMOTE: dict[str, tuple[str, ...]] = {
    **{"train": _TRAINING, "launch": _TRAINING, "cross-validate": ("--data",), "tune": ("--data",)},
    **{"export": ("1", "2", "--data"), "evaluate": ("--data",), "predict": ("1",)},
    **{"verify": ("1",), "describe": ("1",), "convert": ("1",), "serve": ("1",)},
}
"""Options, and numbers of arguments, that may be remote paths. Every other path is one of this machine."""
_FLAGS = ("--json", "--quiet", "--overwrite", "--no-export", "--dry-run", "--allow-changed-plugins")


def _check_local(argv: Sequence[str]) -> None:
    """Raises UsageError for the first remote path on the command line that a command would take for a local one."""
    allowed, option, number = _REMOTE.get(argv[0], ()), "", 0
    for word in argv[1:]:
        name, given, value = word.partition("=") if word.startswith("--") else ("", "", word)
        option = name or option
        number += not option
        if (given or not name) and (option or str(number)) not in allowed:
            check_local(value, option or "The path")
        if not name or given or name in _FLAGS:
            option = ""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `zoo` with the given arguments (by default `sys.argv`) and returns the exit status."""
    return run_command(_dispatch, argv)


if __name__ == "__main__":
    sys.exit(main())
