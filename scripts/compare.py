"""Compare two finished models on the same examples: `zoo compare runs/digits-mlp runs/digits-cnn`."""

from __future__ import annotations

import json
import sys

from zoo.scripts import examples_option
from zoo.scripts.console import Parser, import_tensorflow, quiet_output, run_command

_DESCRIPTION = """Compare two finished models on the same examples: metrics with intervals of their difference, McNemar's
test, slices, time per request, size, and the examples on which they differ most.
"""


def command(argv: list[str]) -> int:
    """Parses the options, compares the models and prints the result."""
    parser = Parser("compare", _DESCRIPTION)
    parser.add_argument("first", help="A run, or a SavedModel that this package wrote.")
    parser.add_argument("second", help="The other model, for the same task and classes.")
    parser.add_argument("--count", type=int, default=5, help="Number of examples to print on which the models differ.")
    parser.add_argument("--json", action="store_true", help="Print one JSON object with all slices and figures.")
    options, data, arguments = examples_option.parse(parser, argv, "compare on")

    import_tensorflow()
    import zoo

    with quiet_output(options.json):
        result = zoo.compare(options.first, options.second, data, options.split, count=options.count, **arguments)
    print(json.dumps(result.to_dict(), ensure_ascii=False) if options.json else result.table())
    return 0


if __name__ == "__main__":
    sys.exit(run_command(command))
