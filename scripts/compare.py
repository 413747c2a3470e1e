"""Compare two finished models on the same examples: `zoo compare runs/digits-mlp runs/digits-cnn`."""

from __future__ import annotations

import json
import sys

from zoo.errors import UsageError
from zoo.scripts.console import Parser, import_tensorflow, load_plugins, quiet_output, run_command, take_option
from zoo.scripts.train import add_data_options

_DESCRIPTION = """Compare two finished models on the same examples: metrics with intervals of their difference, McNemar's
test, slices, time per request, size, and the examples on which they differ most.
"""


def command(argv: list[str]) -> int:
    """Parses the options, compares the models and prints the result."""
    data, argv = take_option(load_plugins(argv), "data")
    parser = Parser("compare", _DESCRIPTION)
    parser.add_argument("first", help="A run, or a SavedModel that this package wrote.")
    parser.add_argument("second", help="The other model, for the same task and classes.")
    parser.add_argument(
        "--split",
        default="test",
        help="Split to compare on: train, validation or test; or all examples of --data. Files without splits are test.",
    )
    parser.add_argument("--count", type=int, default=5, help="Number of examples to print on which the models differ.")
    parser.add_argument("--json", action="store_true", help="Print one JSON object with all slices and figures.")
    parser.add_plugins()
    add_data_options(parser, data, {})
    options = parser.parse(argv)
    if data is None and (words := [word for word in argv if word.startswith("--data.")]):
        raise UsageError(f"{words[0]} came without --data. Pass --data NAME, or leave it out.")

    import_tensorflow()
    import zoo

    arguments = {name: value for name, value in options.data.as_dict().items() if value is not None} if data else {}
    with quiet_output(options.json):
        result = zoo.compare(options.first, options.second, data, options.split, count=options.count, **arguments)
    print(json.dumps(result.to_dict(), ensure_ascii=False) if options.json else result.table())
    return 0


if __name__ == "__main__":
    sys.exit(run_command(command))
