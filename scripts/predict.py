"""Answer files, texts, series or ids with a SavedModel: `zoo predict exports/digits seven.png`."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from zoo.errors import UsageError
from zoo.scripts.console import Parser, import_tensorflow, load_plugins, run_command


def command(argv: list[str]) -> int:
    """Parses, predicts from the SavedModel alone, prints a line per input."""
    parser = Parser("predict", "Answer requests with a SavedModel; nothing but the SavedModel is used.")
    parser.add_argument("path", help="A version folder, the folder above it, or a run.")
    parser.add_argument(
        "inputs",
        nargs="+",
        help="Image files for a model of images, quoted texts for one of texts, CSV files with a row a step for one of "
        "series, ids for one that recommends; of a pair of texts, a tab between them, $'one\\tother' in a shell.",
    )
    parser.add_argument("--top", type=int, default=1, help="How many labels to show.")
    parser.add_argument("--signature", default="serving_default", help="Which function of the SavedModel answers.")
    parser.add_argument("--json", action="store_true", help="One JSON object a line, with every output.")
    parser.add_plugins()
    options = parser.parse(load_plugins(argv))
    if options.top < 1:
        raise UsageError(f"--top is {options.top}; expected at least 1. Pass --top 3, say.")

    import_tensorflow()
    from zoo.export import load

    model = load(options.path)
    if list(model.kinds(options.signature).values()) == ["text"]:
        for item in options.inputs:
            if os.path.isfile(item):
                print(
                    f"zoo: {item} is a file; this model takes texts, and its name was taken for one.", file=sys.stderr
                )
    for item, answer in zip(options.inputs, model.predict(options.inputs, options.signature), strict=True):
        if options.json:
            print(json.dumps({"input": item, **{k: _plain(v) for k, v in answer.items()}}, ensure_ascii=False))
            continue
        item = item.encode("utf-8", "replace").decode()  # what is not UTF-8 cannot be printed
        print(f"{item}: {model.describe(answer, options.signature, options.top)}")
    return 0


def _plain(value: Any) -> Any:
    return value if isinstance(value, str) else value.tolist()


if __name__ == "__main__":
    sys.exit(run_command(command))
