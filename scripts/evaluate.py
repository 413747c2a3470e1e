"""Evaluate a finished run: `zoo evaluate runs/digits-cnn`, or on other data `--data csv:this_week.csv`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from zoo.errors import UsageError
from zoo.scripts.console import Parser, import_tensorflow, load_plugins, quiet_output, run_command, take_option
from zoo.scripts.train import add_baselines, add_data_options

_DESCRIPTION = """Evaluate a finished run and write evaluation.json and plots into its folder.
With --data, evaluate it on other data and write evaluation-DATA.json: the run's preprocessor, vocabulary and
classes are used. Baselines are from the run's training split, if that can be loaded.
Of a SavedModel, its own outputs are evaluated, and nothing is written. With --require, the exit status is 3 if the report
does not meet all requirements.
"""
_UNMET = 3


def command(argv: list[str]) -> int:
    """Parses the options, evaluates the run and prints the report and its file."""
    data, argv = take_option(load_plugins(argv), "data")
    parser = Parser("evaluate", _DESCRIPTION)
    parser.add_argument("run_directory", help="A folder that `zoo train` wrote, or a SavedModel of this package.")
    parser.add_argument(
        "--split",
        default="test",
        help="Split to evaluate: train, validation or test; or all examples of --data. Files without splits are test.",
    )
    parser.add_argument(
        "--require",
        nargs="+",
        default=[],
        metavar="METRIC>=NUMBER",
        help='Requirements such as "accuracy>=0.9" or "mae<2.5"; exit status 3 if one is not met.',
    )
    parser.add_argument("--json", action="store_true", help="Print the report as one JSON object.")
    add_baselines(parser)
    parser.add_plugins()
    add_data_options(parser, data, {})
    options = parser.parse(argv)
    if data is None and (words := [word for word in argv if word.startswith("--data.")]):
        raise UsageError(f"{words[0]} came without --data. Pass --data NAME, or leave it out.")

    import_tensorflow()
    import zoo
    from zoo import evaluation
    from zoo.training.run_directory import is_run

    evaluation.read_requirements(options.require)
    folder = options.run_directory if is_run(Path(options.run_directory)) else None
    arguments = {name: value for name, value in options.data.as_dict().items() if value is not None} if data else {}
    with quiet_output(options.json):
        report = zoo.evaluate(
            options.run_directory,
            data,
            options.split,
            directory=folder,
            baselines=options.baselines,
            **arguments,
        )
    print(json.dumps(report, ensure_ascii=False) if options.json else evaluation.summarize(report))
    if data is not None and folder is not None and not options.json:
        print(f"Report: {evaluation.report_file(report, folder)}")
    return _check(evaluation.unmet(report, options.require), len(options.require), quiet=options.json)


def _check(failures: list[str], count: int, *, quiet: bool) -> int:
    """Prints the requirements that are not met; returns the exit status."""
    for failure in failures:
        print(f"zoo: {failure}", file=sys.stderr)
    if count and not failures and not quiet:
        print(f"Requirements: all {count} met")
    return _UNMET if failures else 0


if __name__ == "__main__":
    sys.exit(run_command(command))
