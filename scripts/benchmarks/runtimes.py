"""Convert models for other runtimes and compare their outputs: `zoo benchmark runtimes`."""

from __future__ import annotations

import csv
import io
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoo import datasets, storage
from zoo.errors import UsageError, did_you_mean
from zoo.scripts.benchmarks.serving import FAMILIES
from zoo.scripts.console import Parser, import_tensorflow, run_command, take_option

if TYPE_CHECKING:
    import keras

_DESCRIPTION = """Convert the SavedModel of each family for every installed runtime, as `zoo convert` does, and compare its
outputs for test examples, in two batch sizes. Weights are random. Nothing is timed.
"""
COLUMNS = ("family", "data", "runtime", "signature", "verdict", "difference", "version", "detail")


def measure(family: str, data: datasets.Data) -> list[dict[str, str]]:
    """Exports a model and returns a row for each runtime that reads a converted file."""
    import zoo
    from zoo.export import artifact_paths, verification
    from zoo.export.runtimes import comparison, runtimes

    arguments = FAMILIES[family].get("model", {}) if data.name == FAMILIES[family]["data"] else {}
    prepared = data.prepare(family, **arguments)
    model = prepared.build(seed=0)
    _vary(model)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = zoo.export.save(model, Path(folder) / "saved", interface=prepared.interface)
        signature = storage.read_json(path / artifact_paths.EXTRA / "zoo.json")["portable_signature"]
        asked = {signature: verification.questions(path)[signature]}
        for name, runtime in runtimes().items():
            if not runtime.format or not runtime.verifies or comparison.missing(name):
                continue
            outcome = comparison.compare(name, path, asked, signature, [], promised=False)
            main = outcome.checks[0]
            values = (family, data.name, name, signature, outcome.state)
            found = (
                "" if main.difference is None else f"{main.difference:.1e}",
                outcome.version.split("-")[0],
                main.detail,
            )
            rows.append(dict(zip(COLUMNS, (*values, *found), strict=True)))
    return rows


def _vary(model: keras.Model) -> None:
    """Adds noise to weights that begin with one value, such as zeros: runtimes that leave them out would agree."""
    import numpy as np

    rng = np.random.default_rng(0)
    for weight in model.trainable_weights:
        values = np.asarray(weight)
        if values.size and values.min() == values.max():
            weight.assign(values + 0.1 * rng.normal(size=values.shape).astype(values.dtype))


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """Returns rows as a Markdown table with a line per family and data set, and a column per runtime."""
    from zoo.export.runtimes import runtimes

    names = [name for name in runtimes() if any(row["runtime"] == name for row in rows)]
    lines = ["| family | data | signature | " + " | ".join(runtimes()[name].title for name in names) + " |"]
    lines.append("|---" * (3 + len(names)) + "|")
    for key in dict.fromkeys((row["family"], row["data"], row["signature"]) for row in rows):
        found = {row["runtime"]: row for row in rows if (row["family"], row["data"], row["signature"]) == key}
        cells = [f"`{key[0]}`", key[1], f"`{key[2]}`", *(_cell(found.get(name)) for name in names)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(row: Mapping[str, str] | None) -> str:
    if row is None:
        return ""
    return f"{row['verdict']} ({row['difference']})" if row["difference"] else row["verdict"]


def read(file: Path) -> list[dict[str, str]]:
    """Returns the rows of a CSV file that the benchmark wrote."""
    if not file.is_file():
        raise UsageError(f"{file} does not exist. Call the benchmark with --output {file} first.")
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def write(rows: Sequence[Mapping[str, str]], file: Path) -> None:
    """Adds rows to a CSV file; they replace those of the same family and data."""
    new = {(row["family"], row["data"]) for row in rows}
    kept = [row for row in read(file) if (row["family"], row["data"]) not in new] if file.is_file() else []
    order = list(FAMILIES)
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted([*kept, *rows], key=lambda row: (order.index(row["family"]), row["data"])))
    storage.write_text(file, text.getvalue())


def command(argv: list[str]) -> int:
    """Parses the options, converts, compares and prints the table."""
    data, argv = take_option(argv, "data")
    parser = Parser("benchmark runtimes", _DESCRIPTION)
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), help="Model families.")
    parser.add_argument("--output", help="CSV file to add the figures to.")
    parser.add_argument("--markdown", action="store_true", help="Print the CSV file as a table. Nothing is converted.")
    parser.add_signature("data", datasets.load, f"data {data or ''}".strip(), skip=("name", "model"), values={})
    options = parser.parse(argv)
    output = Path(options.output) if options.output else None
    if options.markdown:
        print(table(read(output or Path(__file__).with_name("runtimes.csv"))))
        return 0
    for family in options.families:
        if family not in FAMILIES:
            raise UsageError(f"--families has {family!r}. {did_you_mean(family, FAMILIES)}")
    import_tensorflow()
    load = {name: value for name, value in options.data.as_dict().items() if value is not None}
    rows: list[dict[str, str]] = []
    for family in options.families:
        found = measure(family, datasets.load(data or FAMILIES[family]["data"], **load))
        rows += found
        for row in found:
            print(f"{family} on {row['data']}, {row['runtime']}: {_cell(row)}, {row['detail']}", flush=True)
        if output:
            write(found, output)
    print(f"\n{table(rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(command))
