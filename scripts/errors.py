"""List the worst mistakes of a finished model with their inputs: `zoo errors runs/digits-cnn`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from zoo.errors import UsageError
from zoo.scripts.console import Parser, import_tensorflow, load_plugins, quiet_output, run_command, take_option
from zoo.scripts.train import add_data_options

_DESCRIPTION = """List the worst mistakes of a finished model with their inputs, the largest loss first.
Of a run on images or series, the pictures are drawn into RUN/plots/errors.png.
"""


def command(argv: list[str]) -> int:
    """Parses the options, finds the mistakes, prints them and writes their files."""
    data, argv = take_option(load_plugins(argv), "data")
    parser = Parser("errors", _DESCRIPTION)
    parser.add_argument("model", help="A run, or a SavedModel that this package wrote.")
    parser.add_argument(
        "--split",
        default="test",
        help="Split to look at: train, validation or test; or all examples of --data. Files without splits are test.",
    )
    parser.add_argument("--count", type=int, default=20, help="Largest number of mistakes to list.")
    parser.add_argument(
        "--output",
        nargs="+",
        default=[],
        metavar="FILE",
        help="Files to write: .csv with a column for each input, .json, or .png with pictures of images and series.",
    )
    parser.add_argument("--json", action="store_true", help="Print one JSON object.")
    parser.add_plugins()
    add_data_options(parser, data, {})
    options = parser.parse(argv)
    if data is None and (words := [word for word in argv if word.startswith("--data.")]):
        raise UsageError(f"{words[0]} came without --data. Pass --data NAME, or leave it out.")

    import_tensorflow()
    import zoo
    from zoo.training.run_directory import is_run

    arguments = {name: value for name, value in options.data.as_dict().items() if value is not None} if data else {}
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
