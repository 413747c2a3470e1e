"""Print the recorded figures of the recipes: `zoo results --data clinc_oos`."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from zoo.errors import UsageError
from zoo.scripts.console import Parser, run_command
from zoo.scripts.train import RECIPES, read_sections

COLUMNS = [
    *("recipe", "model", "data", "examples", "metric", "value", "deviation", "baseline", "baseline_value"),
    *("baseline_deviation", "runs", "parameters", "minutes", "verified"),
]
RECORDED = RECIPES / "results.csv"
"""The figures that this package was published with. A row is a figure next to one baseline. A deviation is the standard
deviation over `runs`, which are folds or seeds; it is empty for one run, and for older rows."""

_ERRORS = ("MAE", "RMSE", "loss", "bits per byte")
"""The first words of metrics that are errors: smaller is better."""

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
    parser.add_argument(
        "--behind", action="store_true", help="Print only results with default settings that a baseline beats."
    )
    options = parser.parse(argv)
    rows = read(Path(options.file))
    for column in ("model", "data"):
        wanted, known = getattr(options, column), sorted({row[column] for row in rows})
        if wanted is not None and wanted not in known:
            raise UsageError(f"No recipe with {column} {wanted!r} has results. Choose from {', '.join(known)}.")
        rows = [row for row in rows if wanted in (None, row[column])]
    if options.behind:
        rows = behind(rows)
        print(behind_markdown(rows) if options.markdown else table(rows))
    else:
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


def figures(rows: Sequence[Row]) -> list[list[Row]]:
    """Returns the rows of every figure together; they differ in their baselines."""
    found: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row["recipe"], row["model"], row["metric"]), []).append(row)
    return list(found.values())


def behind(rows: Sequence[Row]) -> list[Row]:
    """Returns those results of recipes with default settings that a baseline beats: of every model and recipe, the row of
    the first figure with the best baseline, if the baseline is better.

    Example:
        >>> [row["model"] for row in behind(read(RECORDED)) if row["recipe"] == "table_wine"]
        ['ft_transformer']
    """
    first: dict[tuple[str, str], list[Row]] = {}
    for found in figures(rows):
        compared = [row for row in found if row["baseline_value"]]
        if compared and (found[0]["recipe"], found[0]["model"]) not in first and _is_default(found[0]["recipe"]):
            first[found[0]["recipe"], found[0]["model"]] = compared
    best = [max(compared, key=lambda row: _better(row, "baseline_value")) for compared in first.values()]
    return [row for row in best if _better(row, "baseline_value") > _better(row, "value")]


def behind_markdown(rows: Sequence[Row]) -> str:
    """Returns the rows of `behind` as a Markdown table."""
    lines = ["| model | recipe | metric | default settings | best baseline | |", "|---|---|---|---|---|---|"]
    for row in rows:
        gap = _better(row, "baseline_value") - _better(row, "value")
        spread = max(float(row[f"{side}deviation"] or 0) for side in ("", "baseline_"))
        cells = [f"`{row['model']}`", f"`{row['recipe']}`", row["metric"], _value(row), _baseline(row)]
        lines.append("| " + " | ".join([*cells, "within one deviation" if gap <= spread else ""]) + " |")
    return "\n".join(lines)


def _better(row: Row, column: str) -> float:
    """Returns a value that is larger for a better one."""
    return -float(row[column]) if row["metric"].startswith(_ERRORS) else float(row[column])


def _is_default(recipe: str) -> bool:
    sections = read_sections(recipe)
    return not sections["config"] and {*sections["model"]} <= {"name"}


def table(rows: Sequence[Row], recorded: Sequence[Row] | None = None) -> str:
    """Returns rows as a table for a terminal; with `recorded`, next to the recorded value of the same figure. Further
    baselines of a figure follow in lines of their own."""
    known = {(row["recipe"], row["model"], row["metric"]): _value(row) for row in recorded or ()}
    head = [
        "recipe",
        "model",
        "metric",
        "value",
        *(["recorded"] if recorded is not None else []),
        "examples",
        "baseline",
    ]
    cells = [head]
    for first, *others in figures(rows):
        then = [known.get((first["recipe"], first["model"], first["metric"]), "")] if recorded is not None else []
        cells.append(
            [first["recipe"], first["model"], first["metric"], _value(first), *then, f"{int(first['examples']):,}"]
        )
        cells[-1].append(_baseline(first))
        cells += [[""] * (len(head) - 1) + [_baseline(row)] for row in others]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)) for line in cells]
    return "\n".join(line.rstrip() for line in lines)


def markdown(rows: Sequence[Row]) -> str:
    """Returns rows as a Markdown table with a line for each figure and all its baselines."""
    lines = [
        "| recipe | model | metric | test split | baselines | parameters | minutes | verified |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for first, *others in figures(rows):
        base = "; ".join(filter(None, map(_baseline, [first, *others])))
        value = f"{_value(first)} of {int(first['examples']):,}"
        cells = [f"`{first['recipe']}`", f"`{first['model']}`", first["metric"], value, base]
        cells += [f"{int(first['parameters']):,}", first["minutes"], first["verified"]]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _value(row: Row) -> str:
    return f"{row['value']} +- {row['deviation']}" if row["deviation"] else row["value"]


def _baseline(row: Row) -> str:
    deviation = f" +- {row['baseline_deviation']}" if float(row["baseline_deviation"] or 0) else ""
    return f"{row['baseline_value']}{deviation} {row['baseline']}" if row["baseline_value"] else ""


if __name__ == "__main__":
    sys.exit(run_command(command))
