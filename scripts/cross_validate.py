"""Cross-validate a model: `zoo cross-validate --model lstm --data indoor_movement --folds 5`."""

from __future__ import annotations

import sys

from zoo.errors import UsageError
from zoo.scripts.console import Parser, import_tensorflow, run_command
from zoo.scripts.train import formatter, run_arguments, run_parser

_DESCRIPTION = """Train a model once per fold and report the mean and standard deviation of every metric.
With --seeds, train it once per seed on the data's own splits instead.
Each fold or seed has its own run directory. To resume after an interruption, run the same command again.
"""


def command(argv: list[str]) -> int:
    """Parses the options, runs every fold or seed and prints the table."""

    def parser_of(names: str) -> Parser:
        usage = "zoo cross-validate [--model NAME] --data NAME [--folds K | --seeds 0,1,2] [options]"
        parser = Parser("cross-validate", _DESCRIPTION + names, usage=usage, formatter_class=formatter())
        parser.add_argument("--folds", type=int | None, help="Number of folds; by default 5.")
        text = "Seeds, separated by commas: one run for each, all on the data's own splits."
        parser.add_argument("--seeds", type=str | None, metavar="0,1,2", help=text)
        return parser

    arguments, options = run_arguments(*run_parser(argv, parser_of))
    import_tensorflow()
    import zoo

    result = zoo.cross_validate(folds=options.folds, seeds=seeds_of(options.seeds), **arguments)
    if not result.runs:
        return 0  # a worker; the chief does the rest
    print(result.table())
    print(f"Runs: {result.directory}")
    return 0 if result.passed else 1


def seeds_of(text: str | None) -> list[int] | None:
    """Returns the seeds of `--seeds`, None where not given."""
    if text is None:
        return None
    numbers = [number.strip() for number in text.split(",")]
    if not all(number.isdecimal() for number in numbers):
        raise UsageError(
            f"--seeds is {text!r}; expected whole numbers, separated by commas. Pass --seeds 0,1,2,3,4, say."
        )
    return [int(number) for number in numbers]


if __name__ == "__main__":
    sys.exit(run_command(command))
