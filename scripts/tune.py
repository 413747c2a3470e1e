"""Search for the settings of a model: `zoo tune --model mlp --data digits --trials 20`."""

from __future__ import annotations

import json
import sys

from zoo.errors import UsageError
from zoo.scripts.console import Parser, import_tensorflow, quiet_output, run_command
from zoo.scripts.cross_validate import seeds_of
from zoo.scripts.train import formatter, run_arguments, run_parser

_DESCRIPTION = """Search for settings with the best metric on the validation split, then train the best ones with other seeds.
Only these last runs are scored on the test split. Each trial is a run in RUN_DIRECTORY/trial-NUMBER.
To resume after an interruption, run the same command again.
"""


def command(argv: list[str]) -> int:
    """Parses the options, searches and prints the trials, the best settings and the metrics of the final runs."""

    def parser_of(names: str) -> Parser:
        usage = "zoo tune [--model NAME] --data NAME [--trials N] [--space NAME=VALUES ...] [options]"
        parser = Parser("tune", _DESCRIPTION + names, usage=usage, formatter_class=formatter())
        parser.add_argument("--trials", type=int, default=20, help="Number of trials in all.")
        parser.add_argument(
            "--space",
            nargs="+",
            metavar="NAME=VALUES",
            help="What is varied: learning_rate=1e-4:1e-2:log, dropout=0:0.5, batch_size=32,64 or "
            "'hidden_units=[64],[64, 64]'. By default what the model declares.",
        )
        parser.add_argument("--timeout", type=str | None, help="Time after which no new trial begins, such as 30m.")
        text = (
            "Seeds of the final runs, separated by commas; none for no final runs. By default the two after the seed."
        )
        parser.add_argument("--seeds", type=str | None, metavar="1,2", help=text)
        parser.add_argument(
            "--json", action="store_true", help="Print the result as one JSON object, and nothing else."
        )
        return parser

    arguments, options = run_arguments(*run_parser(argv, parser_of))
    if options.overwrite:
        raise UsageError("--overwrite has no effect on a search. Leave it out, and pass another --run_directory.")
    import_tensorflow()
    import zoo

    given = {**arguments, "verbose": 0} if options.json else arguments
    seeds = () if options.seeds == "none" else seeds_of(options.seeds)
    with quiet_output(options.json):
        found = zoo.tune(trials=options.trials, space=options.space, timeout=options.timeout, seeds=seeds, **given)
    print(json.dumps(found.to_dict(), ensure_ascii=False) if options.json else found.table())
    if not options.json:
        print(f"Search: {found.directory}")
    return 0 if found.final is None or found.final.passed else 1


if __name__ == "__main__":
    sys.exit(run_command(command))
