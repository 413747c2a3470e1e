"""Export Keras models of many kinds and compare each SavedModel with Keras's own export: `zoo benchmark exports`."""

from __future__ import annotations

import csv
import functools
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo import storage
from zoo.errors import UsageError, did_you_mean
from zoo.scripts.console import Parser, import_tensorflow, run_command

COLUMNS = (
    *("model", "parameters", "form", "difference", "difference_keras", "kilobytes", "kilobytes_keras"),
    *("batch", "milliseconds", "milliseconds_keras", "ratio", "rounds"),
)
_BATCHES = (1, 32)
_ROUNDS = 5


def command(argv: list[str]) -> int:
    """Exports the models, measures and prints the table."""
    parser = Parser(
        "benchmark exports",
        "Export Keras models both ways: zoo.export.save(model, PATH, examples=x) and model.export(PATH). Their outputs are "
        "compared with the model's, then both are called in turn.",
    )
    parser.add_argument("--models", nargs="+", help="Names of models; by default all of keras_models.py.")
    parser.add_argument(
        "--applications",
        nargs="*",
        help="Models of keras.applications with random weights, such as MobileNetV2; all of them without a name.",
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="Seconds per contender and batch size.")
    parser.add_argument(
        "--image-size",
        type=int,
        help="Height and width of the images of these models, in pixels; by default each model's own.",
    )
    parser.add_argument("--output", help="CSV file to add the figures to.")
    parser.add_argument("--markdown", action="store_true", help="Print the CSV file as a table. Nothing is measured.")
    options = parser.parse(argv)
    output = Path(options.output) if options.output else None
    if options.markdown:
        print(table(read(output or Path(__file__).with_name("exports.csv"))))
        return 0
    import_tensorflow()
    rows: list[dict[str, str]] = []
    for name, build in _chosen(options.models, options.applications, options.image_size).items():
        new = measure(name, *build(), seconds=options.seconds)
        rows += new
        if output:
            known = read(output) if output.is_file() else []
            _write([row for row in known if row["model"] != name] + new, output)
        print(table(new, head=len(rows) == len(new)), flush=True)
    return 0


def _chosen(
    models: Sequence[str] | None, applications: Sequence[str] | None, image_size: int | None
) -> dict[str, Callable[[], Any]]:
    from zoo.scripts.benchmarks.keras_models import KINDS, application, list_applications

    known = list_applications()
    for name in [*(models or ()), *(applications or ())]:
        names = KINDS if name in (models or ()) else known
        if name not in names:
            raise UsageError(f"Unknown model {name!r}. {did_you_mean(name, names)}")
    wanted = models if models is not None else () if applications is not None else list(KINDS)
    chosen: dict[str, Callable[[], Any]] = {name: KINDS[name] for name in wanted}
    for name in (applications or known) if applications is not None else ():
        label = name if image_size is None else f"{name}, {image_size} px"
        chosen[label] = functools.partial(application, name, image_size)
    return chosen


def measure(name: str, model: Any, examples: Any, *, seconds: float) -> list[dict[str, str]]:
    """Exports a model both ways and returns a row for each batch size.

    Raises:
        UsageError: the model cannot be exported, or its export answers otherwise than the model.
    """
    import keras
    import numpy as np
    import tensorflow as tf

    from zoo.export import artifact

    def tensors(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: tensors(value) for key, value in part.items()}
        return tf.constant(part.tolist() if part.dtype == object else part)

    with tempfile.TemporaryDirectory() as folder:
        path = artifact.save(model, f"{folder}/zoo", examples=examples)
        model.export(f"{folder}/keras", format="tf_saved_model", verbose=False)
        ours, theirs = tf.saved_model.load(str(path)), tf.saved_model.load(f"{folder}/keras")
        function = ours.signatures["predict"]
        names = list(function.structured_input_signature[1])

        def ask_ours(given: Any) -> Any:
            return function(**(given if isinstance(given, dict) else {names[0]: given}))

        def ask_keras(given: Any) -> Any:
            return theirs.serve(list(given.values()) if isinstance(given, dict) else given)

        given = tensors(examples)
        want = [np.asarray(part, np.float64) for part in keras.tree.flatten(model(given, training=False))]
        scale = max(1.0, *(float(np.abs(part).max()) for part in want))
        found = ask_ours(given)
        gaps = {
            "zoo": [np.abs(np.asarray(found[key], np.float64) - part).max() for key, part in _paired(found, want)],
            "keras": [
                np.abs(np.asarray(got, np.float64) - part).max()
                for got, part in zip(keras.tree.flatten(ask_keras(given)), want, strict=True)
            ],
        }
        facts = storage.read_json(path / "assets.extra" / "zoo.json")
        allowed = facts["form"]["tolerance"] * scale
        if not max(gaps["zoo"]) <= allowed:
            raise UsageError(
                f"The export of {name!r} differs by {max(gaps['zoo']):.2g}, allowed {allowed:g}. Leave it out."
            )
        sizes = [_kilobytes(path), _kilobytes(Path(folder, "keras"))]
        rows = []
        for batch in _BATCHES:
            part = tensors(_rows(examples, batch))
            taken = _alternate([functools.partial(ask, part) for ask in (ask_ours, ask_keras)], seconds)
            medians = [statistics.median(times) for times in taken]
            ratio = statistics.median(b / a for a, b in zip(*taken, strict=True))
            values = (
                *(name, model.count_params(), facts["form"]["name"]),
                *(f"{max(gaps[side]):.1e}" for side in ("zoo", "keras")),
                *(*sizes, batch),
                *(f"{medians[0] * 1e3:.3g}", f"{medians[1] * 1e3:.3g}", f"{ratio:.3f}", len(taken[0])),
            )
            rows.append(dict(zip(COLUMNS, map(str, values), strict=True)))
        return rows


def _paired(found: Mapping[str, Any], want: Sequence[Any]) -> list[tuple[str, Any]]:
    """Pairs our outputs with Keras's, which flattens a dict by sorted names and a list in order; ours are sorted alike."""
    return list(zip(sorted(found), want, strict=True))


def _rows(examples: Any, count: int) -> Any:
    import numpy as np

    if isinstance(examples, dict):
        return {key: _rows(value, count) for key, value in examples.items()}
    return np.resize(examples, (count, *examples.shape[1:]))


def _kilobytes(folder: Path) -> int:
    """Returns the size of what a server loads: graph, weights and vocabularies."""
    files = [folder / "saved_model.pb", *folder.glob("variables/*"), *folder.glob("assets/*")]
    return sum(file.stat().st_size for file in files) // 1024


def _alternate(calls: Sequence[Callable[[], Any]], seconds: float) -> list[list[float]]:
    """Returns the seconds of each call, made in turn after a warm-up."""
    for call in calls:
        for _ in range(3):
            call()
    taken: list[list[float]] = [[] for _ in calls]
    while min(map(sum, taken)) < seconds or len(taken[0]) < _ROUNDS:
        for times, call in zip(taken, calls, strict=True):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
    return taken


def table(rows: Sequence[Mapping[str, str]], *, head: bool = True) -> str:
    """Returns rows as a Markdown table, a line for each model."""
    titles = ["model", "parameters", "form", "largest difference", "largest difference, Keras", "KB", "KB, Keras"]
    titles += [f"ms, batch {batch}{side}" for batch in _BATCHES for side in ("", ", Keras")]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"] if head else []
    for name in dict.fromkeys(row["model"] for row in rows):
        mine = {int(row["batch"]): row for row in rows if row["model"] == name}
        first = next(iter(mine.values()))
        cells = [
            f"`{name}`",
            f"{int(first['parameters']):,}",
            first["form"],
            first["difference"],
            first["difference_keras"],
        ]
        cells += [f"{int(first[key]):,}" for key in ("kilobytes", "kilobytes_keras")]
        for batch in _BATCHES:
            row = mine[batch]
            cells += [row["milliseconds"], f"{row['milliseconds_keras']} (x{float(row['ratio']):.2f})"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _write(rows: Sequence[Mapping[str, str]], file: Path) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    storage.write_text(file, text.getvalue())


def read(file: Path) -> list[dict[str, str]]:
    """Returns the rows of a CSV file that the benchmark wrote."""
    if not file.is_file():
        raise UsageError(f"{file} does not exist. Call the benchmark with --output {file} first.")
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


if __name__ == "__main__":
    sys.exit(run_command(command))
