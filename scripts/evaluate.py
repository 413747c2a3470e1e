"""Evaluate a finished run: `zoo evaluate runs/digits-cnn`, or on other data `--data csv:this_week.csv`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from zoo.scripts import examples_option
from zoo.scripts.console import Parser, import_tensorflow, quiet_output, run_command
from zoo.scripts.train import add_baselines

_DESCRIPTION = """Evaluate a finished run and write evaluation.json and plots into its folder.
With --data, evaluate it on other data and write evaluation-DATA.json: the run's preprocessor, vocabulary and
classes are used. Baselines are from the run's training split, if that can be loaded.
Of a SavedModel, its own outputs are evaluated, and nothing is written. With --require, the exit status is 3 if the report
does not meet all requirements.
"""
_UNMET = 3


def command(argv: list[str]) -> int:
    """Parses the options, evaluates the run and prints the report and its file."""
    parser = Parser("evaluate", _DESCRIPTION)
    parser.add_argument("run_directory", help="A folder that `zoo train` wrote, or a SavedModel of this package.")
    parser.add_argument(
        "--require",
        nargs="+",
        default=[],
        metavar="METRIC>=NUMBER",
        help='Requirements such as "accuracy>=0.9" or "mae<2.5"; exit status 3 if one is not met.',
    )
    parser.add_argument("--json", action="store_true", help="Print the report as one JSON object.")
    add_baselines(parser)
    options, data, arguments = examples_option.parse(parser, argv, "evaluate")

    import_tensorflow()
    import zoo
    from zoo import evaluation
    from zoo.training.run_directory import is_run

    evaluation.read_requirements(options.require)
    folder = options.run_directory if is_run(Path(options.run_directory)) else None
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
    return check_requirements(evaluation.unmet(report, options.require), len(options.require), quiet=options.json)


def check_requirements(failures: list[str], count: int, *, quiet: bool) -> int:
    """Prints the requirements that are not met; returns the exit status."""
    for failure in failures:
        print(f"zoo: {failure}", file=sys.stderr)
    if count and not failures and not quiet:
        print(f"Requirements: all {count} met")
    return _UNMET if failures else 0


if __name__ == "__main__":
    sys.exit(run_command(command))
