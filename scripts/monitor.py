"""Compare requests with the training inputs of a SavedModel: `zoo monitor runs/incomes this_week.csv`."""

from __future__ import annotations

import json
import sys

from zoo.scripts.console import Parser, import_tensorflow, load_plugins, quiet_output, run_command
from zoo.scripts.evaluate import check_requirements

_DESCRIPTION = """Compare requests with the statistics of the training inputs in a SavedModel. Print how far each input is.
With --require, the exit status is 3 if not all requirements are met.
"""
_EXAMPLES = ("moved<=0", "largest_index<=0.5")
"""Requirements that a message suggests."""


def command(argv: list[str]) -> int:
    """Parses the options and prints the distances."""
    parser = Parser("monitor", _DESCRIPTION)
    parser.add_argument("path", help="A SavedModel of this package, or a folder that `zoo train` wrote.")
    parser.add_argument("requests", help="A .jsonl file with a request per line, a CSV file, or a folder of files.")
    parser.add_argument("--index-limit", type=float, default=0.2, help="Population stability index of a moved column.")
    parser.add_argument("--difference-limit", type=float, default=0.05, help="Difference of a moved share.")
    parser.add_argument(
        "--require",
        nargs="+",
        default=[],
        metavar="METRIC<=NUMBER",
        help='Requirements on moved, largest_index or largest_difference, such as "moved<=0".',
    )
    parser.add_argument("--json", action="store_true", help="Print the distances as one JSON object.")
    parser.add_plugins()
    options = parser.parse(load_plugins(argv))

    import_tensorflow()
    import zoo
    from zoo import evaluation

    evaluation.read_requirements(options.require, _EXAMPLES)
    with quiet_output(options.json):
        found = zoo.monitor(
            options.path,
            options.requests,
            index_limit=options.index_limit,
            difference_limit=options.difference_limit,
        )
    print(json.dumps(found.to_dict(), ensure_ascii=False) if options.json else found.table())
    unmet = evaluation.unmet(found.to_dict(), options.require)
    return check_requirements(unmet, len(options.require), quiet=options.json)


if __name__ == "__main__":
    sys.exit(run_command(command))
