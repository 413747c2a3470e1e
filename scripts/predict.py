"""Answer files or texts with a SavedModel: `zoo predict exports/digits seven.png`."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from zoo.scripts.console import Parser, import_tensorflow, run_command


def command(argv: list[str]) -> int:
    """Parses, predicts from the SavedModel alone, prints a line per file."""
    parser = Parser("predict", "Answer files or texts with a SavedModel; nothing but the SavedModel is used.")
    parser.add_argument("path", help="A version folder, the folder above it, or a run.")
    parser.add_argument(
        "inputs", nargs="+", help="Image files for a model of images, quoted texts for a model of texts."
    )
    parser.add_argument("--top", type=int, default=1, help="How many labels to show.")
    parser.add_argument("--json", action="store_true", help="One JSON object a line, with every probability.")
    options = parser.parse(argv)

    import_tensorflow()
    from zoo.export import load

    model = load(options.path)
    labels = model.labels()
    takes_text = model.inputs() == ["text"]
    for item in options.inputs if takes_text else ():
        if os.path.isfile(item):
            print(f"zoo: {item} is a file; this model takes texts, and its name was taken for one.", file=sys.stderr)
    answer_all = model.predict_texts if takes_text else model.predict_files
    for item, answer in zip(options.inputs, answer_all(options.inputs), strict=True):
        if options.json:
            print(json.dumps({"input": item, **{k: _plain(v) for k, v in answer.items()}}, ensure_ascii=False))
            continue
        probabilities = answer["probabilities"]
        best = probabilities.argsort()[::-1][: max(1, options.top)]
        item = item.encode("utf-8", "replace").decode()  # what is not UTF-8 cannot be printed
        print(f"{item}: " + ", ".join(f"{labels[i]} {probabilities[i]:.4f}" for i in best))
    return 0


def _plain(value: Any) -> Any:
    return value if isinstance(value, str) else value.tolist()


if __name__ == "__main__":
    sys.exit(run_command(command))
