"""Train a model, evaluate it, write and verify its SavedModel: `zoo train --model cnn --data digits`."""

from __future__ import annotations

import inspect
import json
import math
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo import checkpoints, datasets, remote
from zoo.config import TrainConfig, read_yaml
from zoo.datasets.sources.registry import SOURCES, options_of
from zoo.errors import UsageError, did_you_mean
from zoo.plugins import check_recorded, load_function
from zoo.registry import get_spec, list_models
from zoo.scripts.console import (
    Parser,
    golden_of,
    import_tensorflow,
    load_plugins,
    quiet_output,
    run_command,
    take_option,
)

RECIPES = Path(__file__).with_name("recipes")
_SECTIONS = ("model", "data", "config", "start_from")
_GOLDEN = "golden"

_DESCRIPTION = """Train a model, evaluate it on the test split, write its SavedModel and verify it.
To resume an interrupted run, run the same command again. Options that you leave out take what the model recommends
for the data, else their defaults; --dry-run prints all of them.
"""
_NAMES = """
--model NAME     a model: {models};
                 or FILE.py:FUNCTION, your own function that returns a Functional Keras model;
                 without it, the default model of the data's task, which `zoo list` names
--data NAME      a data set: {data}, csv:FILE, images:FOLDER, text:FOLDER, lines:FILE,
                 or any data set of TensorFlow Datasets with one image or text and one class label
--config FILE    settings from the config.yaml of a run, or from a recipe by name: {recipes}
                 (options on the command line override them)
"""


def recipes() -> list[str]:
    """Returns the names of the recipes that come with the package."""
    return sorted(file.stem for file in RECIPES.glob("*.yaml"))


def read_sections(name: str | None) -> dict[str, Any]:
    """Returns the model, data, config and start_from sections of a file or recipe, and its golden examples; empty sections
    for None."""
    sections: dict[str, Any] = {section: {} for section in _SECTIONS} | {_GOLDEN: None}
    if name is None:
        return sections
    if not Path(name).is_file() and name not in recipes():
        raise UsageError(
            f"--config {name} is neither a file nor a recipe. {did_you_mean(name, recipes())} Pass the config.yaml of a "
            "run. To change one setting, pass an option such as --config.epochs 10."
        )
    content = read_yaml(name if Path(name).is_file() else RECIPES / f"{name}.yaml")
    check_recorded(content.pop("plugins", None), f"{name}: this run")
    checkpoints.expect(content.pop("pretrained", None))
    golden = sections[_GOLDEN] = content.pop(_GOLDEN, None)
    if not isinstance(golden, (str, list, type(None))):
        raise UsageError(f"The section golden of {name} is {golden!r}. Pass generated, test, or a list of requests.")
    for section, values in content.items():
        if section not in sections:
            raise UsageError(f"{name} has a section {section!r}. {did_you_mean(str(section), sections)}")
        if not isinstance(values, dict):
            raise UsageError(f"The section {section!r} of {name} is {values!r}. Write settings as `name: value` in it.")
        sections[section] = dict(values)
    if {"sha256", "compiled"} & {*sections["model"]}:
        raise UsageError(
            f"{name} describes a run with a model or data of your own, which no command can build. Call zoo.train with them "
            "in Python to repeat it."
        )
    return sections


def run_parser(argv: list[str], parser_of: Callable[[str], Parser]) -> tuple[Parser, dict[str, str | None], list[str]]:
    """Makes the parser of a training command. The model, data set and configuration decide its options.

    Args:
        argv: the command line.
        parser_of: makes the command's own parser from the text that lists models, data sets and recipes.

    Returns:
        The parser; the names of model and data set, None where not given; and the remaining arguments.
    """
    model, argv = take_option(load_plugins(argv), "model")
    if model is not None and ":" in model:
        import_tensorflow()
        model = load_function(model)
    data, argv = take_option(argv, "data")
    file, argv = take_option(argv, "config")
    sections = read_sections(file)
    named = {section: sections[section].pop("name", None) for section in ("model", "data")}
    if model is not None and model != named["model"]:
        sections["model"] = {}  # the arguments of another model
    if data is not None and data != named["data"]:
        sections["data"] = {}
    model, data = model or named["model"], data or named["data"]

    parser = parser_of(
        _NAMES.format(
            models=", ".join(list_models()),
            data=", ".join(datasets.list_datasets()),
            recipes=", ".join(recipes()) or "none",
        )
    )
    parser.add_argument("--run_directory", "--run-directory", help="Folder for the run; by default runs/DATA-MODEL.")
    parser.add_argument(
        "--start-from",
        "--start_from",
        default=sections["start_from"] or None,
        type=str | dict[str, Any] | None,
        metavar="RUN",
        help="Folder of a finished run, whose weights, vocabulary and options of the model the new run begins with.",
    )
    parser.add_golden(sections[_GOLDEN])
    parser.add_licence()
    parser.add_plugins()
    add_baselines(parser)
    parser.add_argument("--no-export", action="store_true", help="Stop after the evaluation.")
    parser.add_argument("--overwrite", action="store_true", help="Delete the existing run in the run directory first.")
    parser.add_argument("--quiet", action="store_true", help="Print one line per epoch instead of a progress bar.")
    parser.add_argument(
        "--cluster", help="host:port of every worker, separated by commas. Pass the same list to every worker."
    )
    parser.add_argument("--task-index", type=int, help="Index of this worker in --cluster; 0 is the chief.")
    parser.add_argument("--cluster-timeout", type=float, default=300.0, help="Seconds to wait for the other workers.")
    parser.add_argument("--gpu-memory-limit", type=int, help="Maximum memory to use on each GPU, in MiB.")
    if model is not None:
        spec = get_spec(model)
        title = f"model {model}: {spec.summary}"
        parser.add_signature("model", spec.builder, title, skip=spec.data_arguments, values=sections["model"])
    add_data_options(parser, data, sections["data"])
    parser.add_signature("config", TrainConfig, "config: how to train", skip=(), values=sections["config"])
    parser.chosen = {section: {*sections[section], *_chosen(argv, section)} for section in ("model", "config")}
    return parser, {"model": model, "data": data}, argv


def add_baselines(parser: Parser) -> None:
    """Adds the option `--baselines`."""
    parser.add_argument(
        "--baselines",
        default="all",
        help="Simple methods that the report compares the model with: all that apply, none, or the name of one.",
    )


def _chosen(argv: Sequence[str], section: str) -> list[str]:
    """Returns the names of a section's options on the command line."""
    words = [word for word in argv if word.startswith(f"--{section}.")]
    return [word.split("=")[0].split(".")[1].rstrip("+").replace("-", "_") for word in words]


def add_data_options(parser: Parser, data: str | None, values: Mapping[str, Any]) -> None:
    """Adds the options of `zoo.datasets.load`, and those of a plugin's data source, as `--data.NAME`."""
    read = SOURCES.added().get((data or "").partition(":")[0])
    own = {
        name for name in (options_of(read) if read else ()) if name not in inspect.signature(datasets.load).parameters
    }
    title = f"data {data or ''}".strip()
    shared = {name: value for name, value in values.items() if name not in own}
    parser.add_signature("data", datasets.load, title, skip=("name", "model"), values=shared)
    if read is not None and own:
        others = {*inspect.signature(read).parameters} - own
        mine = {name: value for name, value in values.items() if name in own}
        parser.add_signature("data", read, f"{title}: own options", skip=others, values=mine)


def run_arguments(parser: Parser, names: Mapping[str, str | None], argv: list[str]) -> tuple[dict[str, Any], Any]:
    """Parses the remaining arguments; returns the arguments of `zoo.run`, and all options."""
    model, data = names["model"], names["data"]
    option = next((word for word in argv if word.startswith("--model.")), None)
    if model is None and option is not None and not {"-h", "--help"} & set(argv):
        raise UsageError(
            f"{option.split('=')[0]} is an option of a model, and none was named. Pass --model with one of "
            f"{', '.join(list_models())}."
        )
    options = parser.parse(argv)
    if data is None:
        raise UsageError(f"No data set was given. Pass --data with one of {', '.join(datasets.list_datasets())}.")
    chosen = options.model.as_dict() if "model" in options else {}  # a function may have no options
    # The others are left to the run that it starts from, or to what the model recommends for the data.
    chosen = {name: value for name, value in chosen.items() if name in parser.chosen["model"]}
    config = {name: value for name, value in options.config.as_dict().items() if name in parser.chosen["config"]}
    arguments = {
        "model": None if model is None else str(model),
        "data": data,
        "config": TrainConfig.from_dict(config),
        "model_arguments": {k: v for k, v in chosen.items() if v is not None or _optional(model, k)},
        "data_arguments": {k: v for k, v in options.data.as_dict().items() if v is not None},
        "run_directory": options.run_directory,
        "start_from": options.start_from,
        "golden": golden_of(options.golden),
        "licence": options.licence,
        "export": not options.no_export,
        "overwrite": options.overwrite,
        "baselines": options.baselines,
        "verbose": 2 if options.quiet else 1,
        "cluster": options.cluster,
        "task_index": options.task_index,
        "cluster_timeout": options.cluster_timeout,
        "gpu_memory_limit": options.gpu_memory_limit,
    }
    return arguments, options


def command(argv: list[str]) -> int:
    """Parses the options, runs the training and prints the paths of its results."""

    def parser_of(names: str) -> Parser:
        usage = "zoo train [--model NAME] --data NAME [options]"
        parser = Parser("train", _DESCRIPTION + names, usage=usage, formatter_class=formatter())
        text = "Print data, model, options, steps and memory; train and write nothing."
        parser.add_argument("--dry-run", action="store_true", help=text)
        text = "Print one JSON object per epoch and one with the result; everything else goes to standard error."
        parser.add_argument("--json", action="store_true", help=text)
        text = "Log the run to MLflow (extra `mlflow`), where MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME say."
        parser.add_argument("--mlflow", action="store_true", help=text)
        return parser

    arguments, options = run_arguments(*run_parser(argv, parser_of))
    import_tensorflow()  # only now: the code above does not need it
    import zoo

    if options.dry_run:
        print(zoo.preview(**{name: value for name, value in arguments.items() if name not in ("verbose", "licence")}))
        return 0
    arguments["callbacks"] = [zoo.MlflowCallback()] if options.mlflow else []
    if options.json:
        arguments |= {"verbose": 2, "callbacks": [*arguments["callbacks"], _epoch_printer()]}
    with quiet_output(options.json):
        result = zoo.run(**arguments)
    if not result.report:
        return 0  # a worker; the chief does the rest
    if options.json:
        print(json.dumps(_result(result), ensure_ascii=False))
        return 1 if result.verification is not None and not result.verification.passed else 0
    print(f"Run:        {remote.shown(result.run_directory)}")
    place = shlex.quote(remote.shown(result.run_directory))
    if result.saved_model is None or result.verification is None:
        print(f"Next:       zoo export {place} exports/{result.run_directory.name}")
        return 0
    print(f"SavedModel: {remote.shown(result.saved_model)}")
    print(f"Next:       zoo predict {place} {result.request}")
    return 0 if result.verification.passed else 1


def _epoch_printer() -> Any:
    """Returns a callback that prints the figures of every epoch as a line of JSON on standard output."""
    import keras

    output = sys.stdout  # what is printed otherwise goes to standard error

    class EpochPrinter(keras.callbacks.Callback):
        """Prints `epoch`, counted from 1, and the figures of the epoch."""

        def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
            """Prints the line."""
            figures = {name: float(value) for name, value in (logs or {}).items()}
            known = {name: value if math.isfinite(value) else None for name, value in figures.items()}
            print(json.dumps({"epoch": epoch + 1, **known}), file=output, flush=True)

    return EpochPrinter()


def _result(result: Any) -> dict[str, Any]:
    """Returns what a run has led to, as JSON values."""
    return {
        "run_directory": remote.shown(result.run_directory),
        "epochs": len(result.history),
        "report": result.report,
        "saved_model": None if result.saved_model is None else remote.shown(result.saved_model),
        "verified": None if result.verification is None else result.verification.passed,
    }


def _optional(model: str | None, argument: str) -> bool:
    """Whether None is a value of the argument; otherwise None means that the data decides."""
    parameter = get_spec(str(model)).parameters[argument]
    return parameter.default is not parameter.empty


def formatter() -> type:
    """Returns the formatter class for `--help`."""
    import argparse

    import jsonargparse

    class Formatter(jsonargparse.DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
        """Keeps the line breaks of the description."""

    return Formatter


if __name__ == "__main__":
    sys.exit(run_command(command))
