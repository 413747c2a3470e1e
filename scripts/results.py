"""Print the recorded figures of the recipes: `zoo results --data clinc_oos`."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from zoo.errors import UsageError
from zoo.scripts.console import Parser, run_command
from zoo.scripts.train import RECIPES

COLUMNS = [
    *("recipe", "model", "data", "examples", "metric", "value", "baseline", "baseline_value"),
    *("parameters", "minutes", "verified"),
]
RECORDED = RECIPES / "results.csv"
"""The figures that this package was published with."""

Row = Mapping[str, str]

_DESCRIPTION = """Print the figures of the recipes, as recorded in a CSV file that `zoo reproduce` writes. Nothing is
run. By default, the file is the one that comes with this package.
"""


def command(argv: list[str]) -> int:
    """Parses the options and prints the chosen rows of the file, without importing TensorFlow."""
    parser = Parser("results", _DESCRIPTION)
    parser.add_argument("--model", help="Print only the results of this model.")
    parser.add_argument("--data", help="Print only the results on this data set.")
    parser.add_argument("--file", default=str(RECORDED), help="The CSV file.")
    parser.add_argument("--markdown", action="store_true", help="Print a Markdown table.")
    options = parser.parse(argv)
    rows = read(Path(options.file))
    for column in ("model", "data"):
        wanted, known = getattr(options, column), sorted({row[column] for row in rows})
        if wanted is not None and wanted not in known:
            raise UsageError(f"No recipe with {column} {wanted!r} has results. Choose from {', '.join(known)}.")
        rows = [row for row in rows if wanted in (None, row[column])]
    print(markdown(rows) if options.markdown else table(rows))
    return 0


def read(file: Path) -> list[Row]:
    """Returns the rows of a CSV file of results.

    Raises:
        UsageError: there is no such file, or it has other columns.
    """
    if not file.is_file():
        raise UsageError(f"{file} does not exist. Run `zoo reproduce NAME --output {file}` first.")
    with file.open(encoding="utf-8", newline="") as text:
        lines = csv.DictReader(text)
        if list(lines.fieldnames or []) != COLUMNS:
            raise UsageError(f"{file} has other columns than {', '.join(COLUMNS)}. Pass a file of `zoo reproduce`.")
        return list(lines)


def table(rows: Sequence[Row], recorded: Sequence[Row] | None = None) -> str:
    """Returns rows as a table for a terminal; with `recorded`, next to the recorded value of the same figure."""
    known = {(row["recipe"], row["metric"], row["baseline"]): row["value"] for row in recorded or ()}
    head = ["recipe", "metric", "value", *(["recorded"] if recorded is not None else []), "baseline", "examples"]
    cells = [head]
    for row in rows:
        then = [known.get((row["recipe"], row["metric"], row["baseline"]), "")] if recorded is not None else []
        base = f"{row['baseline_value']} {row['baseline']}" if row["baseline_value"] else ""
        cells.append([row["recipe"], row["metric"], row["value"], *then, base, f"{int(row['examples']):,}"])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)) for line in cells]
    return "\n".join(line.rstrip() for line in lines)


def markdown(rows: Sequence[Row]) -> str:
    """Returns rows as a Markdown table."""
    lines = [
        "| recipe | metric | test split | baseline | parameters | minutes | verified |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        base = f"{row['baseline_value']} {row['baseline']}" if row["baseline_value"] else ""
        value = f"{row['value']} of {int(row['examples']):,}"
        cells = [f"`{row['recipe']}`", row["metric"], value, base, f"{int(row['parameters']):,}", row["minutes"]]
        lines.append("| " + " | ".join([*cells, row["verified"]]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run_command(command))
