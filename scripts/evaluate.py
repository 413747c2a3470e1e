"""Evaluate a finished run: `zoo evaluate runs/digits-cnn`."""

from __future__ import annotations

import sys

from zoo.scripts.console import Parser, import_tensorflow, load_plugins, run_command


def command(argv: list[str]) -> int:
    """Parses the options, evaluates the run and prints the report."""
    parser = Parser("evaluate", "Evaluate a finished run and write evaluation.json and plots into its folder.")
    parser.add_argument("run_directory", help="A folder that `zoo train` wrote.")
    parser.add_argument("--split", default="test", help="Split to evaluate: train, validation or test.")
    parser.add_plugins()
    options = parser.parse(load_plugins(argv))

    import_tensorflow()
    from zoo import evaluation, pipeline

    model, prepared, _ = pipeline.open_run(options.run_directory)
    report = evaluation.evaluate(model, prepared, split=options.split, directory=options.run_directory)
    print(evaluation.summarize(report))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(command))
