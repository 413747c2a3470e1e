"""Check a SavedModel against the proof that it carries: `zoo verify exports/digits`."""

from __future__ import annotations

import sys

from zoo.scripts.console import Parser, import_tensorflow, run_command


def command(argv: list[str]) -> int:
    """Parses, verifies, prints the verdict; exit status 1 where it does not hold."""
    parser = Parser("verify", "Check a SavedModel in a process that can import neither Keras nor this package.")
    parser.add_argument("path", help="A version folder, the folder above it, or a run.")
    options = parser.parse(argv)

    import_tensorflow()
    from zoo.export import verify

    verification = verify(options.path)
    print(verification.table())
    return 0 if verification.passed else 1


if __name__ == "__main__":
    sys.exit(run_command(command))
