"""Run a SavedModel on files, texts, series or ids: `zoo predict exports/digits seven.png`."""

from __future__ import annotations

import json
import os
import re
import sys
import warnings
from collections.abc import Mapping
from typing import Any

from zoo.errors import UsageError
from zoo.scripts.console import Parser, import_tensorflow, load_plugins, run_command
from zoo.scripts.predict_progress import ProgressBar
from zoo.tables.formats import OPTIONS


def command(argv: list[str]) -> int:
    """Parses the options, predicts with the SavedModel alone and prints one line per input."""
    options = _parser().parse(load_plugins(argv))
    if options.output is not None and options.settings is not None:
        raise UsageError("--settings does not work with --output. Pass the values as columns of the file.")
    if options.output is not None:
        return _to_file(options)
    for name in ("batch_size", "workers"):
        if getattr(options, name) is not None:
            raise UsageError(f"--{name} belongs to --output. Pass --output answers.csv, or leave it out.")
    if options.top < 1:
        raise UsageError(f"--top is {options.top}; expected at least 1. Try --top 3.")

    import_tensorflow()
    from zoo.export import artifact_paths, load

    written = {name: getattr(options, name) for name in OPTIONS if getattr(options, name) is not None}
    model = load(options.path)
    if changed := artifact_paths.changes(model.path):
        print(
            f"zoo: {model.path} has changed since its export: {'; '.join(changed[:3])}. Its answers may be wrong; "
            f"`zoo verify {model.path}` checks it.",
            file=sys.stderr,
        )
    items: list[tuple[str, Any]] = []
    for item in options.inputs:
        items += _items(model, item, options.signature, written)
    items = _with_settings(model, items, options.signature, options.settings)
    for (item, _), answer in zip(items, _answers(model, items, options.signature, written), strict=True):
        if options.json:
            print(json.dumps({"input": item, **{k: _plain(v) for k, v in answer.items()}}, ensure_ascii=False))
            continue
        item = item.encode("utf-8", "replace").decode()  # other bytes cannot be printed
        print(f"{item}: {model.describe(answer, options.signature, options.top)}")
    return 0


def _to_file(options: Any) -> int:
    """Predicts for files of any size, and prints the number of rows."""
    for name in ("json", "top"):
        if getattr(options, name) not in (False, 1):
            raise UsageError(f"--{name} belongs to printed answers; --output writes all outputs. Leave it out.")
    from zoo.export.bulk.run import predict_files
    from zoo.registries import list_plugins

    bar = ProgressBar()
    try:
        found = predict_files(
            options.path,
            options.inputs,
            options.output,
            signature=options.signature,
            batch_size=options.batch_size,
            workers=options.workers,
            plugins=[plugin.source for plugin in list_plugins() if plugin.named],
            progress=bar.show,
            **{name: getattr(options, name) for name in OPTIONS},
        )
    except KeyboardInterrupt:
        bar.end()
        raise KeyboardInterrupt("interrupted. The same command goes on where it stopped.") from None
    finally:
        bar.end()
    if found.note:
        print(f"zoo: {found.note}", file=sys.stderr)
    rejected = f", {found.rejected:,} rejected ({found.rejected_file})" if found.rejected else ""
    print(
        f"{found.output}: {found.answered:,} answers{rejected}, {found.seconds:.1f} s, {found.rows_per_second:,.0f} rows a "
        "second"
    )
    return 0


def _items(model: Any, item: str, signature: str, written: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Returns the items that an argument means, with the names that are printed; columns that are not used are named."""
    if model.has_rows(signature):
        rows, unused = model.rows(item, signature, **written)
        named = [(f"{item} row {number}", row) for number, row in enumerate(rows, start=1)]
    elif found := model.items_of_path(item, signature, **written):
        named, unused = found
    else:
        named, unused = [(item, item)], []
        if [kind for kind, _ in model.needed_inputs(signature).values()] == ["text"] and os.path.isfile(item):
            print(
                f"zoo: {item} is a file, but this model takes texts; the file name was used as the text. Texts are read from "
                ".txt and .csv files.",
                file=sys.stderr,
            )
    if unused:
        print(f"zoo: {item}: columns that the model does not use: {', '.join(unused)}", file=sys.stderr)
    return named


def _parser() -> Parser:
    parser = Parser(
        "predict", "Run a SavedModel on inputs and print its outputs. Only the SavedModel is used, not the Keras model."
    )
    parser.add_argument("path", help="A version folder, its parent folder, or a run directory.")
    parser.add_argument(
        "inputs",
        nargs="+",
        help="Image files for an image model; quoted texts for a text model, or CSV files with their column; CSV files with "
        "one row per step for a series model, or one row per example for a table; user ids for a recommender. A folder means "
        "all files in it. Separate the two texts of a pair by a "
        "tab: $'one\\tother' in a shell.",
    )
    parser.add_argument("--top", type=int, default=1, help="Number of labels to print per input.")
    parser.add_argument("--signature", default="serving_default", help="Signature of the SavedModel to call.")
    _add_settings(parser)
    parser.add_argument("--json", action="store_true", help="Print one JSON object per line, with every output.")
    parser.add_argument(
        "--output",
        type=str | None,
        default=None,
        help="Write the answers for files of any size to this file, .parquet, .csv or .jsonl, instead of printing them. The "
        "inputs are folders, or CSV, Parquet, JSON lines and TFRecord files. A command that was interrupted goes on if it is "
        "called again.",
    )
    for name, text in {
        "batch_size": "With --output: rows that are computed together, by default 256, and 64 for files.",
        "workers": "With --output: processes, by default one for each core, at most 8.",
    }.items():
        spellings = dict.fromkeys([f"--{name}", f"--{name.replace('_', '-')}"])
        parser.add_argument(*spellings, type=int | None, default=None, help=text)
    _add_format(parser)
    parser.add_plugins()
    return parser


def _add_settings(parser: Parser) -> None:
    example = "'{\"temperature\": 0.5}'"
    parser.add_argument(
        "--settings", help=f"Further inputs of the signature as JSON, such as {example}, the same for all."
    )


def _with_settings(
    model: Any, items: list[tuple[str, Any]], signature: str, settings: str | None
) -> list[tuple[str, Any]]:
    """Returns the items with further inputs of the signature, if there are any."""
    if settings is None:
        return items
    try:
        more = json.loads(settings)
    except ValueError as error:
        raise UsageError(f"--settings is no JSON ({error}). Pass an object, such as '{{\"seed\": 1}}'.") from error
    names = model.inputs(signature)
    if not isinstance(more, dict) or not set(more) <= {*names}:
        came = ", ".join(more) if isinstance(more, dict) else type(more).__name__
        raise UsageError(
            f"--settings has {came:.200}; {signature} takes {', '.join(names)}. Pass an object of some of these."
        )
    needed = [name for name in names if name not in more and name not in model.defaults(signature)]
    return [
        (title, {**more, **(value if isinstance(value, Mapping) else dict.fromkeys(needed, value))})
        for title, value in items
    ]


def _answers(
    model: Any, items: list[tuple[str, Any]], signature: str, written: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Returns the predictions; warnings, such as one of unknown categories, are one line each."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            found: list[dict[str, Any]] = model.predict([value for _, value in items], signature, **written)
        except UsageError as error:
            if place := re.match(r"Cannot predict for (row (\d+)):", str(error)):  # of all files together
                error.args = (str(error).replace(place[1], items[int(place[2]) - 1][0], 1),)
            raise
    for line in dict.fromkeys(str(warning.message) for warning in caught if warning.category is UserWarning):
        print(f"zoo: {line}", file=sys.stderr)
    return found


def _add_format(parser: Parser) -> None:
    """Adds the options of CSV files. Lists are written as in `zoo train --data.missing`."""
    texts: dict[str, tuple[Any, str]] = {
        "encoding": (str, "Codec of a CSV file that is not UTF-8, such as cp1252."),
        "decimal": (str, "Decimal mark of the numbers in a CSV file, . or ,"),
        "thousands": (str, "Mark between groups of three digits in a CSV file, such as ."),
        "missing": (list[str] | str, "Cells of a CSV file that are missing values, such as '[\"k. A.\"]'."),
        "units": (list[str] | str, "Units before or after the numbers in a CSV file, which are removed."),
    }
    for name, (kind, text) in texts.items():
        parser.add_argument(f"--{name}", type=kind | None, help=f"{text} By default as in the training data.")


def _plain(value: Any) -> Any:
    return value if isinstance(value, str) else value.tolist()


if __name__ == "__main__":
    sys.exit(run_command(command))
