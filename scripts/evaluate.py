"""Evaluate a finished run: `zoo evaluate runs/digits-cnn`, or on other data `--data csv:this_week.csv`."""

from __future__ import annotations

import sys

from zoo.errors import UsageError
from zoo.scripts.console import Parser, import_tensorflow, load_plugins, run_command, take_option
from zoo.scripts.train import add_baselines, add_data_options

_DESCRIPTION = """Evaluate a finished run and write evaluation.json and plots into its folder.
With --data, evaluate it on other data and write evaluation-DATA.json: the run's preprocessor, vocabulary and
classes are used. Baselines are from the run's training split, if that can be loaded.
"""


def command(argv: list[str]) -> int:
    """Parses the options, evaluates the run and prints the report and its file."""
    data, argv = take_option(load_plugins(argv), "data")
    parser = Parser("evaluate", _DESCRIPTION)
    parser.add_argument("run_directory", help="A folder that `zoo train` wrote.")
    parser.add_argument(
        "--split",
        default="test",
        help="Split to evaluate: train, validation or test; or all examples of --data. Files without splits are test.",
    )
    add_baselines(parser)
    parser.add_plugins()
    add_data_options(parser, data, {})
    options = parser.parse(argv)
    if data is None and (words := [word for word in argv if word.startswith("--data.")]):
        raise UsageError(f"{words[0]} came without --data. Pass --data NAME, or leave it out.")

    import_tensorflow()
    import zoo
    from zoo import evaluation

    arguments = {name: value for name, value in options.data.as_dict().items() if value is not None} if data else {}
    report = zoo.evaluate(
        options.run_directory,
        data,
        options.split,
        directory=options.run_directory,
        baselines=options.baselines,
        **arguments,
    )
    print(evaluation.summarize(report))
    if data is not None:
        print(f"Report: {evaluation.report_file(report, options.run_directory)}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(command))
