"""The model card: what a stranger needs to know, generated from what is recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.tasks import Task, get_task


def model_card(facts: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """Returns the README.md of an artifact as Markdown.

    Args:
        facts: the contents of zoo.json.
        report: what `zoo.evaluate` returned; may be empty.
    """
    task = get_task(facts["task"])
    name, data = facts["model"]["name"], facts["data"]
    lines = [
        f"# {name} for {data['name']}",
        "",
        f"For {facts['task'].replace('_', ' ')}, {facts['parameters']:,} parameters; exported by savedmodel-zoo "
        f"{facts['written_by']['savedmodel-zoo']} with TensorFlow {facts['written_by']['tensorflow']}.",
        "",
        f"- Architecture: `{name}` with " + ", ".join(f"`{k}={v}`" for k, v in facts["model"]["arguments"].items()),
        f"- Data: {data['name']}, {data['source']}",
        f"- Licence of the data: {data['licence']}",
        "",
    ]
    if facts["metrics"]:
        lines += _metrics_section(facts)
    lines += _signature_section(facts, task)
    lines += [
        "## Request",
        "",
        "```python",
        "import tensorflow as tf",
        "",
        'model = tf.saved_model.load(".")',
        *_request(facts),
        "```",
        "",
        "## Proof",
        "",
        "`assets.extra/golden.npz` holds real test examples with the answers of the model that was trained. Before this "
        "folder became visible, a process without Keras and without savedmodel-zoo replayed them through every signature: "
        "`assets.extra/verification.json`. `zoo verify .` does it again; `sha256sum --check assets.extra/SHA256SUMS` "
        "shows that no file has changed since.",
        "",
        "## Limits",
        "",
        "The figures hold for inputs like those of the data set above. The model answers any input, also one that shows "
        "nothing of what it knows.",
    ]
    return "\n".join(lines) + "\n"


def _metrics_section(facts: Mapping[str, Any]) -> list[str]:
    metrics, baseline = facts["metrics"], facts["baseline"] or {}
    lines = [
        f"## Measured on the {metrics.get('split', 'test')} split",
        "",
        "| metric | model | baseline |",
        "|---|---|---|",
    ]
    for figure in facts.get("headline", []):
        beside = figure["baseline_value"]
        told = "" if beside is None else f"{beside:.4f}, {figure['baseline']}"
        lines.append(f"| **{figure['metric']}** | {figure['value']:.4f} | {told} |")
    for key, value in metrics.items():
        if isinstance(value, float):
            beside = f"{baseline[key]:.4f}" if isinstance(baseline.get(key), float) else ""
            lines.append(f"| {key.replace('_', ' ')} | {value:.4f} | {beside} |")
    if "num_examples" in metrics:
        lines += ["", f"{metrics['num_examples']:,} examples."]
    return [*lines, ""]


def _signature_section(facts: Mapping[str, Any], task: Task) -> list[str]:
    lines = ["## Signatures", "", "| signature | inputs | outputs |", "|---|---|---|"]
    for name, signature in facts["signatures"].items():
        cells = []
        for side in ("inputs", "outputs"):
            shown = []
            for key, spec in signature[side].items():
                shape = ", ".join(["batch", *(str(size or "any") for size in spec["shape"][1:])])
                answers = task.signatures[name].answers if name in task.signatures else {}
                text = answers.get(key) if side == "outputs" else None
                shown.append(f"`{key}`: {spec['dtype']} ({shape})" + (f", {text}" if text else ""))
            cells.append("<br>".join(shown))
        lines.append(f"| `{name}` | {cells[0]} | {cells[1]} |")
    return [*lines, ""]


_REQUESTS = {
    "image_bytes": 'open("/path/to/image.png", "rb").read()',
    "text": '"a text"',
    "user_id": '"an id"',
    "item_id": '"an id"',
}


def _request(facts: Mapping[str, Any]) -> list[str]:
    """An example for every input; of numbers one request of zeros in the right shape, two steps of a series."""
    arguments = []
    for key, spec in facts["signatures"]["serving_default"]["inputs"].items():
        shape = [1, *(size or 2 for size in spec["shape"][1:])]
        value = f"tf.constant([{_REQUESTS[key]}])" if key in _REQUESTS else f"tf.zeros({shape}, tf.{spec['dtype']})"
        arguments.append(f"{key}={value}")
    return [
        f'answer = model.signatures["serving_default"]({", ".join(arguments)})',
        "print({name: value.numpy() for name, value in answer.items()})",
    ]
