"""Print what a SavedModel contains, without loading it: `zoo describe exports/digits`."""

from __future__ import annotations

import json
import sys

from zoo.scripts.console import Parser, import_tensorflow, run_command


def command(argv: list[str]) -> int:
    """Parses the options, reads the SavedModel and prints its description."""
    parser = Parser(
        "describe",
        "Print what a SavedModel contains: signatures, labels, sizes, ops and metadata. Only its files are read; "
        "nothing in it is loaded or run.",
    )
    parser.add_argument("path", help="A version folder, its parent folder, or a run directory.")
    parser.add_argument("--json", action="store_true", help="Print JSON.")
    options = parser.parse(argv)

    import_tensorflow()
    from zoo.export import describe

    description = describe(options.path)
    print(json.dumps(description.to_dict(), indent=2, ensure_ascii=False) if options.json else description.text())
    return 0


if __name__ == "__main__":
    sys.exit(run_command(command))
