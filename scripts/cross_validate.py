"""Cross-validate a model: `zoo cross-validate --model lstm --data indoor_movement --folds 5`."""

from __future__ import annotations

import sys

from zoo.scripts.console import Parser, import_tensorflow, run_command
from zoo.scripts.train import formatter, run_arguments, run_parser

_DESCRIPTION = """Train a model once for every fold, each a run of its own, and report mean and deviation of every figure.
The same command after a kill goes on where it was.
"""


def command(argv: list[str]) -> int:
    """Parses, runs every fold, prints the table."""

    def parser_of(names: str) -> Parser:
        usage = "zoo cross-validate --model NAME --data NAME [--folds K] [options]"
        parser = Parser("cross-validate", _DESCRIPTION + names, usage=usage, formatter_class=formatter())
        parser.add_argument("--folds", type=int, default=5, help="How many folds.")
        return parser

    arguments, options = run_arguments(*run_parser(argv, parser_of))
    import_tensorflow()
    import zoo

    result = zoo.cross_validate(folds=options.folds, **arguments)
    if not result.folds:
        return 0  # a worker whose chief does the rest
    print(result.table())
    print(f"Runs: {result.directory}")
    return 0 if result.passed else 1


if __name__ == "__main__":
    sys.exit(run_command(command))
