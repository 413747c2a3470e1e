"""Free the disk space of finished runs: `zoo clean runs`."""

from __future__ import annotations

import sys

from zoo.errors import UsageError
from zoo.scripts.console import Parser, import_tensorflow, run_command

_DESCRIPTION = """Delete the checkpoints of finished runs. `zoo evaluate`, `zoo export` and `zoo predict` do not need them.
A run without checkpoints cannot go on with more epochs; `zoo train` would train it again from its start.
"""


def command(argv: list[str]) -> int:
    """Parses the options, prints what is freed, and deletes it after a yes or with --yes."""
    parser = Parser("clean", _DESCRIPTION)
    parser.add_argument("runs", nargs="+", help="Folders of runs, or folders that hold runs.")
    parser.add_argument("--yes", action="store_true", help="Delete without a question.")
    parser.add_argument("--dry-run", action="store_true", help="Print what would be freed, and delete nothing.")
    options = parser.parse(argv)

    import_tensorflow()
    import zoo

    found = zoo.clean(options.runs, dry_run=True)
    for part in found:
        print(f"{part.run}: {f'kept, {part.kept}' if part.kept else size(part.freed)}")
    total = sum(part.freed for part in found)
    if options.dry_run or not total:
        print(f"{size(total)} would be freed. Nothing was deleted." if total else "There is nothing to delete.")
        return 0
    if not options.yes and not sys.stdin.isatty():
        raise UsageError(f"{size(total)} would be freed, and nobody can be asked. Pass --yes to delete it.")
    if not options.yes and input(f"Delete {size(total)} of checkpoints? [y/N] ").strip().lower() not in ("y", "yes"):
        print("Nothing was deleted.")
        return 0
    freed = sum(part.freed for part in zoo.clean(options.runs))
    print(f"Freed: {size(freed)}")
    return 0


def size(count: int) -> str:
    """Returns bytes in a unit that people read."""
    return f"{count / 1e9:,.2f} GB" if count >= 1e9 else f"{count / 1e6:,.2f} MB"


if __name__ == "__main__":
    sys.exit(run_command(command))
