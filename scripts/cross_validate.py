"""Cross-validate a model: `zoo cross-validate --model lstm --data indoor_movement --folds 5`."""

from __future__ import annotations

import sys

from zoo.scripts.console import Parser, import_tensorflow, run_command
from zoo.scripts.train import formatter, run_arguments, run_parser

_DESCRIPTION = """Train a model once per fold and report the mean and standard deviation of every metric.
Each fold has its own run directory. To resume after an interruption, run the same command again.
"""


def command(argv: list[str]) -> int:
    """Parses the options, runs every fold and prints the table."""

    def parser_of(names: str) -> Parser:
        usage = "zoo cross-validate --model NAME --data NAME [--folds K] [options]"
        parser = Parser("cross-validate", _DESCRIPTION + names, usage=usage, formatter_class=formatter())
        parser.add_argument("--folds", type=int, default=5, help="Number of folds.")
        return parser

    arguments, options = run_arguments(*run_parser(argv, parser_of))
    import_tensorflow()
    import zoo

    result = zoo.cross_validate(folds=options.folds, **arguments)
    if not result.folds:
        return 0  # a worker; the chief does the rest
    print(result.table())
    print(f"Runs: {result.directory}")
    return 0 if result.passed else 1


if __name__ == "__main__":
    sys.exit(run_command(command))
