"""List models and data sets: `zoo list`, `zoo list "c*"`, `zoo list --task image_classification`."""

from __future__ import annotations

import sys

from zoo import datasets
from zoo.registry import get_spec, list_models
from zoo.scripts.console import Parser, run_command


def model_table() -> str:
    """Returns all models as a Markdown table, as README shows it."""
    lines = ["| model | tasks | what | parameters |", "|---|---|---|---|"]
    for name in list_models():
        spec = get_spec(name)
        arguments, count = spec.golden[0]
        called = ", ".join(f"{k}={v!r}" for k, v in arguments.items())
        lines.append(f"| `{name}` | {', '.join(spec.tasks)} | {spec.summary} | {count:,} with `{called}` |")
    return "\n".join(lines)


def command(argv: list[str]) -> int:
    """Parses and prints; TensorFlow is not imported."""
    parser = Parser("list", "List models and data sets.")
    parser.add_argument("pattern", nargs="?", default="*", help="Shell-style pattern on the name.")
    parser.add_argument("--task", help="Only models that serve this task.")
    parser.add_argument("--markdown", action="store_true", help="All models as the table of README.")
    options = parser.parse(argv)
    if options.markdown:
        print(model_table())
        return 0
    names = list_models(options.pattern, task=options.task)
    width = max(map(len, names), default=0)
    for name in names:
        spec = get_spec(name)
        print(f"{name:<{width}}  {', '.join(spec.tasks):<22}  {spec.summary}")
    if not names:
        print(f"No model matches {options.pattern!r}.")
    print(
        f"Data sets: {', '.join(f'{n} (embedded)' if n in datasets.EMBEDDED else n for n in datasets.list_datasets())}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(run_command(command))
