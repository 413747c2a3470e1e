"""Run recipes and compare their figures with the recorded ones: `zoo reproduce cnn_digits`."""

from __future__ import annotations

import csv
import io
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from zoo import storage
from zoo.errors import UsageError, did_you_mean, one_line
from zoo.scripts.console import Parser, import_tensorflow, run_command
from zoo.scripts.results import COLUMNS, RECORDED, read, table
from zoo.scripts.train import RECIPES, read_sections, recipes

_DESCRIPTION = """Run recipes and write their figures to a CSV file. The first line of a recipe holds its command. The
file has one row per figure, with the figure of a baseline. Finished runs are not repeated and interrupted runs are
resumed, so the command can be interrupted and started again. At the end, the figures are printed next to the recorded
ones.
"""


def command(argv: list[str]) -> int:
    """Parses the options, runs the recipes one after the other and updates the CSV file after each."""
    parser = Parser("reproduce", _DESCRIPTION)
    parser.add_argument("recipes", nargs="*", help="Names of recipes.")
    parser.add_argument("--all", action="store_true", help="Run all recipes, which takes hours.")
    parser.add_argument("--runs", default="runs/recipes", help="Folder for the runs, with one folder per recipe.")
    parser.add_argument("--output", default="results.csv", help="The CSV file; rows of other recipes are kept.")
    parser.add_argument("--data_dir", "--data-dir", help="Folder for prepared data sets.")
    parser.add_argument(
        "--manual_root", "--manual-root", help="Folder that holds one folder of original files per data set name."
    )
    options = parser.parse(argv)
    if bool(options.recipes) == options.all:
        came = "Both recipes and --all were" if options.all else "No recipe was"
        raise UsageError(f"{came} given; expected names or --all. Choose from {', '.join(recipes())}.")
    names = options.recipes or recipes()
    for name in names:
        if name not in recipes():
            raise UsageError(f"Unknown recipe {name!r}. {did_you_mean(name, recipes())}")
    import_tensorflow()
    failed = []
    for name in names:
        directory = Path(options.runs) / name
        words = [*recipe_command(name), *_places(name, options.data_dir, options.manual_root)]
        print(f"{name}: {shlex.join(words)}", flush=True)
        script = Path(__file__).with_name("cli.py")
        words = [sys.executable, str(script), *words[1:], "--quiet", "--run_directory", str(directory)]
        # A separate process, so that recipes do not share strategy, seeds and memory.
        if subprocess.run(words, env={**os.environ, "PYTHONSAFEPATH": "1"}, check=False).returncode:
            failed.append(name)
            continue
        write_rows(Path(options.output), name, rows(name, directory))
    done = [name for name in names if name not in failed]
    if done:
        print(table([row for row in read(Path(options.output)) if row["recipe"] in done], recorded=read(RECORDED)))
    print(f"Results: {options.output}")
    if failed:
        print(f"zoo: these recipes failed: {', '.join(failed)}. Run the same command again.", file=sys.stderr)
    return 1 if failed else 0


def recipe_command(name: str) -> list[str]:
    """Returns the command in a recipe's first line, such as ["zoo", "train", "--config", NAME]."""
    first = (RECIPES / f"{name}.yaml").read_text(encoding="utf-8").split("\n", 1)[0]
    words = shlex.split(first.removeprefix("#"))
    if words[:1] != ["zoo"] or name not in words:
        raise UsageError(
            f"The first line of {name}.yaml is {first!r}. Write the command there: `# zoo train --config {name}`."
        )
    return words


def _places(name: str, data_dir: str | None, manual_root: str | None) -> list[str]:
    words = ["--data.data_dir", data_dir] if data_dir else []
    originals = str(read_sections(str(RECIPES / f"{name}.yaml"))["data"]["name"]).replace("/", "_")
    if manual_root and (Path(manual_root) / originals).is_dir():
        words += ["--data.manual_dir", str(Path(manual_root) / originals)]
    return words


def rows(name: str, directory: Path) -> list[dict[str, Any]]:
    """Returns one row per figure of a recipe's run, or of its cross-validation runs."""
    from zoo import evaluation
    from zoo.export import artifact_paths

    sections = read_sections(str(RECIPES / f"{name}.yaml"))
    folds = directory / "cross_validation.json"
    try:
        count = len(storage.read_json(folds)["folds"]) if folds.is_file() else 0
        runs = [directory / f"fold-{k}" for k in range(count)] or [directory]
        reports = [storage.read_json(run / "evaluation.json") for run in runs]
        places = [artifact_paths.find(run) / artifact_paths.EXTRA for run in runs]
        facts = [storage.read_json(place / "zoo.json") for place in places]
        verdicts = [storage.read_json(place / "verification.json") for place in places]
        seconds = [float(row["seconds"]) for run in runs for row in csv.DictReader((run / "history.csv").open())]
    except OSError as error:
        raise UsageError(
            f"The run of {name} in {directory} is not complete: {one_line(error)}. Run `zoo reproduce {name}` again."
        ) from error
    kinds: dict[tuple[str, str], list[tuple[Any, int]]] = {}
    for report in reports:
        for figure in evaluation.headline(report):
            pair = figure, report["num_examples"] if figure.count is None else figure.count
            kinds.setdefault((figure.metric, figure.baseline), []).append(pair)
    found = []
    for (metric, baseline), figures in kinds.items():
        baselines = [figure.baseline_value for figure, _ in figures if figure.baseline_value is not None]
        found.append(
            {
                "recipe": name,
                "model": sections["model"]["name"],
                "data": sections["data"]["name"],
                "examples": sum(number for _, number in figures),
                "metric": metric + (f", mean of {len(runs)} folds" if len(runs) > 1 else ""),
                "value": f"{sum(figure.value for figure, _ in figures) / len(figures):.4f}",
                "baseline": baseline,
                "baseline_value": f"{sum(baselines) / len(baselines):.4f}" if baselines else "",
                "parameters": facts[0]["parameters"],
                "minutes": f"{sum(seconds) / 60:.1f}",
                "verified": "yes" if all(verdict["passed"] for verdict in verdicts) else "no",
            }
        )
    return found


def write_rows(file: Path, name: str, found: list[dict[str, Any]]) -> None:
    """Writes a recipe's rows to the CSV file; they replace its older rows."""
    others = [row for row in read(file) if row["recipe"] != name] if file.is_file() else []
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted([*others, *found], key=lambda row: row["recipe"]))  # stable sort
    storage.write_text(file, text.getvalue())


if __name__ == "__main__":
    sys.exit(run_command(command))
