"""Run recipes and compare their figures with the recorded ones: `zoo reproduce cnn_digits`."""

from __future__ import annotations

import csv
import io
import itertools
import os
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zoo import storage
from zoo.config import read_yaml
from zoo.cross_validation import FILE as ALL_RUNS
from zoo.errors import UsageError, did_you_mean, one_line
from zoo.scripts.console import Parser, import_tensorflow, run_command, take_option
from zoo.scripts.results import COLUMNS, RECORDED, read, table
from zoo.scripts.train import RECIPES, read_sections, recipes

_DESCRIPTION = """Run recipes and write their figures to a CSV file. The first lines of a recipe hold its commands. The
file has one row per figure and baseline. Finished runs are not repeated and interrupted runs are resumed, so the command
can be interrupted and started again. At the end, the figures are printed next to the recorded ones.
"""


def command(argv: list[str]) -> int:
    """Parses the options, runs the recipes one after the other and updates the CSV file after each command."""
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
    done, failed = [], []
    for name in names:
        for words, directory in recipe_runs(name, Path(options.runs)):
            words = [*words, *_places(name, options.data_dir, options.manual_root)]
            print(f"{name}: {shlex.join(words)}", flush=True)
            script = Path(__file__).with_name("cli.py")
            words = [sys.executable, str(script), *words[1:], "--quiet", "--run_directory", str(directory)]
            # A separate process, so that recipes do not share strategy, seeds and memory.
            if subprocess.run(words, env={**os.environ, "PYTHONSAFEPATH": "1"}, check=False).returncode:
                failed.append(directory.relative_to(options.runs).as_posix())
                continue
            done.append(name)
            write_rows(Path(options.output), name, rows(name, directory))
    if done:
        print(table([row for row in read(Path(options.output)) if row["recipe"] in done], recorded=read(RECORDED)))
    print(f"Results: {options.output}")
    if failed:
        print(f"zoo: these recipes failed: {', '.join(failed)}. Run the same command again.", file=sys.stderr)
    return 1 if failed else 0


def recipe_commands(name: str) -> list[list[str]]:
    """Returns the commands in a recipe's first lines, such as [["zoo", "train", "--config", NAME]].

    Raises:
        UsageError: the first line has no command, or two commands have the same model.
    """
    lines = (RECIPES / f"{name}.yaml").read_text(encoding="utf-8").split("\n")
    commands = [shlex.split(line[1:]) for line in itertools.takewhile(lambda line: line.startswith("# zoo "), lines)]
    if not commands or any(name not in words for words in commands):
        raise UsageError(
            f"The first line of {name}.yaml is {lines[0]!r}. Write the command there: `# zoo train --config {name}`."
        )
    models = [_model_of(words) for words in commands]
    if len(set(models)) < len(models):
        raise UsageError(f"{name}.yaml has two commands with the same model. Pass another --model in each of them.")
    return commands


def _model_of(words: list[str]) -> str | None:
    return take_option(words, "model")[0]


def recipe_runs(name: str, folder: Path) -> list[tuple[list[str], Path]]:
    """Returns the commands of a recipe with the folders of their runs: NAME, or NAME/MODEL if there are several, and
    NAME/default for the one without --model."""
    commands = recipe_commands(name)
    several = len(commands) > 1
    return [
        (words, folder / name / (_model_of(words) or "default") if several else folder / name) for words in commands
    ]


def _places(name: str, data_dir: str | None, manual_root: str | None) -> list[str]:
    """Returns the options for the folders of the data. A data set without a folder of original files of its own may have
    the one whose name its name begins with: those of bike_sharing_hours are in bike_sharing."""
    places = ["--data.data_dir", data_dir] if data_dir else []
    if manual_root:
        words = str(read_sections(str(RECIPES / f"{name}.yaml"))["data"]["name"]).replace("/", "_").split("_")
        folders = [Path(manual_root) / "_".join(words[:count]) for count in range(len(words), 0, -1)]
        places += [
            word for found in [f for f in folders if f.is_dir()][:1] for word in ("--data.manual_dir", str(found))
        ]
    return places


def rows(name: str, directory: Path) -> list[dict[str, Any]]:
    """Returns one row per figure and baseline of a recipe's run, or of its cross-validation runs."""
    from zoo import evaluation
    from zoo.export import artifact_paths

    file = directory / ALL_RUNS
    try:
        whole = storage.read_json(file) if file.is_file() else {"runs": {".": {}}}
        runs = [directory / run for run in whole["runs"]]
        reports = [storage.read_json(run / "evaluation.json") for run in runs]
        places = [artifact_paths.find(run) / artifact_paths.EXTRA for run in runs]
        facts = [storage.read_json(place / "zoo.json") for place in places]
        verdicts = [storage.read_json(place / "verification.json") for place in places]
        seconds = [float(row["seconds"]) for run in runs for row in csv.DictReader((run / "history.csv").open())]
        settings = read_yaml(runs[0] / "config.yaml")
    except OSError as error:
        raise UsageError(
            f"The run of {name} in {directory} is not complete: {one_line(error)}. Run `zoo reproduce {name}` again."
        ) from error
    kinds: dict[tuple[str, str], list[tuple[Any, int]]] = {}
    for report in reports:
        for figure in evaluation.headline(report):
            pair = figure, report["num_examples"] if figure.count is None else figure.count
            kinds.setdefault((figure.metric, figure.baseline), []).append(pair)
    same_split = whole.get("seeds") is not None
    mean = f", mean of {len(runs)} {'seeds' if same_split else 'folds'}" if len(runs) > 1 else ""
    found = []
    for (metric, baseline), figures in kinds.items():
        value, deviation = _summary([figure.value for figure, _ in figures])
        base = _summary([figure.baseline_value for figure, _ in figures if figure.baseline_value is not None])
        found.append(
            {
                "recipe": name,
                "model": settings["model"]["name"],
                "data": settings["data"]["name"],
                "examples": figures[0][1] if same_split else sum(number for _, number in figures),
                "metric": metric + mean,
                "value": value,
                "deviation": deviation,
                "baseline": baseline,
                "baseline_value": base[0],
                "baseline_deviation": base[1],
                "runs": len(figures),
                "parameters": facts[0]["parameters"],
                "minutes": f"{sum(seconds) / 60:.1f}",
                "verified": "yes" if all(verdict["passed"] for verdict in verdicts) else "no",
            }
        )
    return found


def _summary(values: Sequence[float]) -> tuple[str, str]:
    """Returns mean and standard deviation as text; the deviation is empty for one value, both are for none."""
    if not values:
        return "", ""
    return f"{statistics.fmean(values):.4f}", f"{statistics.pstdev(values):.4f}" if len(values) > 1 else ""


def write_rows(file: Path, name: str, found: list[dict[str, Any]]) -> None:
    """Writes the rows of a recipe's model to the CSV file; they replace the older ones."""
    new = {(row["recipe"], row["model"]) for row in found}
    others = [row for row in read(file) if (row["recipe"], row["model"]) not in new] if file.is_file() else []
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted([*others, *found], key=lambda row: (row["recipe"], row["model"])))  # stable sort
    storage.write_text(file, text.getvalue())


if __name__ == "__main__":
    sys.exit(run_command(command))
