"""List models and data sets: `zoo list`, `zoo list "c*"`, `zoo list --task image_classification`."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Collection

from zoo import datasets
from zoo.checkpoints import curated
from zoo.plugins import list_plugins
from zoo.registry import ModelSpec, get_spec, list_models
from zoo.scripts.console import Parser, load_plugins, run_command
from zoo.tasks import get_task, list_tasks


def model_table() -> str:
    """Returns all families, and then their named sizes, as the Markdown tables of zoo/models/README.md."""
    lines = ["| model | tasks | what | parameters |", "|---|---|---|---|"]
    for name in list_models(variants=False):
        spec = get_spec(name)
        counted = [
            f"{n:,} with `{', '.join(f'{k}={v!r}' for k, v in chosen.items())}`" for chosen, n in spec.golden[:1]
        ]
        lines.append(f"| `{name}` | {_tasks(spec)} | {spec.summary} | {''.join(counted)} |")
    lines += ["", "| family | named sizes, with their parameters |", "|---|---|"]
    for name in list_models(variants=False):
        if sizes := [f"`{each}` {get_spec(each).golden[0][1]:,}" for each in _sizes(name)]:
            lines.append(f"| `{name}` | {', '.join(sizes)} |")
    return "\n".join(lines)


def _sizes(family: str) -> list[str]:
    return [name for name in list_models() if get_spec(name).variant_of == family]


def command(argv: list[str]) -> int:
    """Parses the options and prints the lists, without importing TensorFlow."""
    parser = Parser("list", "List models, data sets and plugins.")
    parser.add_argument("pattern", nargs="?", default="*", help="Shell-style pattern for model names and named sizes.")
    parser.add_argument("--task", help="List only models for this task.")
    parser.add_argument("--markdown", action="store_true", help="Print all models as a Markdown table.")
    parser.add_argument("--pretrained", action="store_true", help="List published weights that are known to work.")
    parser.add_plugins()
    options = parser.parse(load_plugins(argv))
    if options.markdown:
        print(model_table())
        return 0
    if options.pretrained:
        print(curated.table())
        print("Next: zoo train --model MODEL --model.weights NAME --data DATA")
        return 0
    whole = options.pattern == "*"
    names = list_models(options.pattern, task=options.task, variants=not whole)
    width = max(map(len, names), default=0)
    for name in names:
        spec = get_spec(name)
        print(f"{name:<{width}}  {_tasks(spec):<22}  {spec.summary}")
        if whole and (sizes := _sizes(name)):
            print(textwrap.fill(", ".join(sizes), 100, initial_indent="    sizes: ", subsequent_indent="    "))
    if names:
        print(f"Trained without --model: {_defaults(names, options.task)}")
    else:
        print(f"No model matches {options.pattern!r}.")
    print(
        f"Data sets: {', '.join(f'{n} (embedded)' if n in datasets.EMBEDDED else n for n in datasets.list_datasets())}"
    )
    for plugin in list_plugins():
        kinds = (f"{kind} {', '.join(names)}" for kind, names in sorted(plugin.adds.items()))
        print(f"Plugin {plugin.name} ({plugin.source}): {'; '.join(kinds) or 'adds no name'}")
    return 0


def _defaults(names: Collection[str], task: str | None) -> str:
    """Returns which of the models are the default of which tasks, such as "cnn (image_classification)"."""
    found: dict[str, list[str]] = {}
    for each in list_tasks() if task is None else [task]:
        model = get_task(each).default_model
        if model in names:
            found.setdefault(str(model), []).append(each)
    return "; ".join(f"{model} ({', '.join(tasks)})" for model, tasks in found.items()) or "none of these"


def _tasks(spec: ModelSpec) -> str:
    return ", ".join(spec.tasks) or "any"


if __name__ == "__main__":
    sys.exit(run_command(command))
