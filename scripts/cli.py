"""The command `zoo`: `zoo train ...` is `python scripts/train.py ...`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from zoo._version import __version__
from zoo.errors import UsageError, did_you_mean
from zoo.scripts.console import run_command

COMMANDS = {
    "train": "train a model, evaluate it, write and verify its SavedModel",
    "evaluate": "evaluate a finished run",
    "export": "write and verify the SavedModel of a finished run elsewhere",
    "verify": "check a SavedModel against the proof that it carries, in every runtime",
    "describe": "say what a SavedModel is, without loading it",
    "convert": "write a SavedModel as a file for ONNX Runtime, OpenVINO or LiteRT",
    "predict": "answer files, texts, series or ids with a SavedModel",
    "vocabulary": "train a vocabulary of word pieces on a data set or on files of text",
    "cross-validate": "train once for every fold, report mean and deviation",
    "corpus": "write the texts of data sets as lines, for training without labels",
    "huggingface": "write a finished run as a folder that transformers loads",
    "launch-local": "start N workers of a command on this machine",
    "results": "run the recipes, collect their figures as CSV",
    "benchmark": "measure training, serving or tokenization side by side with others",
    "list": "list models and data sets",
}


def _help() -> str:
    lines = [f"  {name:<16}{text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: zoo COMMAND [options]",
            "",
            "From raw data to a verified SavedModel that answers in labels.",
            "",
            *lines,
            "",
            "zoo COMMAND --help shows a command's options, zoo train --model NAME --help those of a model too.",
        ]
    )


def _dispatch(argv: list[str]) -> int | None:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_help())
        return 0 if argv else 2
    if argv[0] == "--version":
        print(f"savedmodel-zoo {__version__}")
        return 0
    if argv[0] not in COMMANDS:
        raise UsageError(f"Unknown command {argv[0]!r}. {did_you_mean(argv[0], COMMANDS)}")
    name = "list_models" if argv[0] == "list" else argv[0].replace("-", "_")
    status: int | None = importlib.import_module(f"zoo.scripts.{name}").command(argv[1:])
    return status


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `zoo` with the given words, by default the command line's, and returns the exit status."""
    return run_command(_dispatch, argv)


if __name__ == "__main__":
    sys.exit(main())
