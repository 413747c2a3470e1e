"""List the worst mistakes of a finished model with their inputs: `zoo errors runs/digits-cnn`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from zoo.scripts import examples_option
from zoo.scripts.console import Parser, import_tensorflow, quiet_output, run_command

_DESCRIPTION = """List the worst mistakes of a finished model with their inputs, the largest loss first.
Of a run on images or series, the pictures are drawn into RUN/plots/errors.png.
"""


def command(argv: list[str]) -> int:
    """Parses the options, finds the mistakes, prints them and writes their files."""
    parser = Parser("errors", _DESCRIPTION)
    parser.add_argument("model", help="A run, or a SavedModel that this package wrote.")
    parser.add_argument("--count", type=int, default=20, help="Largest number of mistakes to list.")
    parser.add_argument(
        "--output",
        nargs="+",
        default=[],
        metavar="FILE",
        help="Files to write: .csv with a column for each input, .json, or .png with pictures of images and series.",
    )
    parser.add_argument("--json", action="store_true", help="Print one JSON object.")
    options, data, arguments = examples_option.parse(parser, argv, "look at")

    import_tensorflow()
    import zoo
    from zoo.training.run_directory import is_run

    with quiet_output(options.json):
        found = zoo.mistakes(options.model, data, options.split, count=options.count, **arguments)
    print(json.dumps(found.to_dict(), ensure_ascii=False) if options.json else found.table())
    written = [found.write(file) for file in options.output]
    if not written and found.has_pictures and is_run(Path(options.model)):
        written = [found.write(Path(options.model) / "plots" / "errors.png")]
    for file in written:
        print(f"Written: {file}", file=sys.stderr if options.json else sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(command))
