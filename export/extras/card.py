"""The model card: what a stranger needs to know, generated from what is recorded in the artifact."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo import storage
from zoo.errors import UsageError
from zoo.export import artifact_paths
from zoo.export.extras import request_examples
from zoo.export.standalone import arrays

_MOST_CLASSES = 10
_MOST_CONFUSIONS = 10


def check_figures(figures: Mapping[str, str | Path]) -> None:
    """Raises `UsageError` where a figure is no PNG file, or has a name that cannot be a file's."""
    for name, file in figures.items():
        if not re.fullmatch(r"[a-z0-9_]+", name):
            raise UsageError(f"The figure's name {name!r} is no name of a file. Use small letters, numbers and _.")
        if not Path(file).is_file() or Path(file).read_bytes()[:8] != b"\x89PNG\r\n\x1a\n":
            raise UsageError(f"The figure {name} is {str(file)!r}, which is no PNG file. Pass one, or leave it out.")


def model_card(directory: Path, report: Mapping[str, Any], *, place: str = "") -> str:
    """Returns the README.md of an artifact as Markdown.

    Args:
        directory: the version folder, in which everything but the card and the proof is written.
        report: what `zoo.evaluate` returned; may be empty.
        place: for a card that stands elsewhere: the version folder as seen from there, such as `saved_model/1`.

    Example:
        >>> print(model_card(Path("exports/digits/1"), report).splitlines()[0])
        # mlp for digits
    """
    facts = storage.read_json(directory / artifact_paths.EXTRA / "zoo.json")
    golden = arrays.load(directory / artifact_paths.EXTRA / "golden.npz")
    extra = f"{place}/{artifact_paths.EXTRA}" if place else artifact_paths.EXTRA
    lines = [
        *_head(facts),
        *(_metrics_section(facts) if facts["metrics"] else []),
        *_confusion_section(report),
        *_figures_section(directory, extra),
        *_signature_section(facts),
        *_request_section(facts, golden, place),
        *_limits_section(facts),
        "## Proof",
        "",
        f"`{extra}/golden.npz` holds real test examples with the answers of the model that was trained. Before this "
        "folder became visible, a process without Keras and without savedmodel-zoo replayed them through every signature: "
        f"`{extra}/verification.json`. `zoo verify {place or '.'}` does it again; "
        f"`{f'cd {place} && ' if place else ''}sha256sum --check {artifact_paths.EXTRA}/{artifact_paths.SUMS}` "
        "shows that no file has changed since.",
    ]
    return "\n".join(lines) + "\n"


def _head(facts: Mapping[str, Any]) -> list[str]:
    name, data, written_by = facts["model"]["name"], facts["data"], facts["written_by"]
    default = facts["signatures"]["serving_default"]
    takes, answers = (" and ".join(f"`{key}`" for key in default[side]) for side in ("inputs", "outputs"))
    labels, labelled = facts["class_names"], []
    if labels:
        shown = ", ".join(_escaped(label) for label in labels[:_MOST_CLASSES])
        more = f" and {len(labels) - _MOST_CLASSES:,} more" if len(labels) > _MOST_CLASSES else ""
        labelled = [f"- Labels: {shown}{more}, in the order of `assets/labels.txt`"]
    return [
        f"# {name} for {data['name']}",
        "",
        f"For {facts['task'].replace('_', ' ')}, {facts['parameters']:,} parameters; exported by savedmodel-zoo "
        f"{written_by['savedmodel-zoo']} with TensorFlow {written_by['tensorflow']}. It takes {takes} and answers {answers}.",
        "",
        f"- Architecture: `{name}` with " + ", ".join(f"`{k}={v}`" for k, v in facts["model"]["arguments"].items()),
        f"- Data: {data['name']}, {data['source']}",
        f"- Licence of the data: {data['licence']}",
        *labelled,
        f"- Needs TensorFlow {written_by['tensorflow']}, with which it was written and verified, or a newer one; older ones "
        "have not been tried. All of its ops are TensorFlow's own: no Keras, no savedmodel-zoo, no library of custom ops.",
        "",
    ]


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
        if isinstance(value, float) and not _is_shown(key, value, facts.get("headline", [])):
            beside = f"{baseline[key]:.4f}" if isinstance(baseline.get(key), float) else ""
            lines.append(f"| {key.replace('_', ' ').replace(' f1', ' F1')} | {value:.4f} | {beside} |")
    if "num_examples" in metrics:
        lines += ["", f"{metrics['num_examples']:,} examples."]
    return [*lines, ""]


def _is_shown(key: str, value: float, headline: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the headline holds this metric already, perhaps under a longer name: `mae` as MAE (kWh)."""
    words = set(key.split("_"))
    return any(figure["value"] == value and words <= set(figure["metric"].lower().split()) for figure in headline)


def _confusion_section(report: Mapping[str, Any]) -> list[str]:
    """The confusion matrix of a report that has one: all of it, or what was confused most often."""
    if "confusion_matrix" not in report:
        return []
    matrix, names = report["confusion_matrix"], [_escaped(name) for name in report["class_names"]]
    if len(names) <= _MOST_CLASSES:
        rows = [
            f"| **{name}** | {' | '.join(_count(n) for n in row)} |" for name, row in zip(names, matrix, strict=True)
        ]
        head = [f"| is \\ answered | {' | '.join(names)} |", "|---" + "|---:" * len(names) + "|"]
        return ["Rows are what an example is, columns what was answered:", "", *head, *rows, ""]
    confusions = [(count, i, j) for i, row in enumerate(matrix) for j, count in enumerate(row) if i != j and count > 0]
    confusions.sort(key=lambda confusion: -confusion[0])
    if not confusions:
        return ["Nothing was confused.", ""]
    rows = [
        f"| {names[i]} | {names[j]} | {_count(count)} of {_count(sum(matrix[i]))} |"
        for count, i, j in confusions[:_MOST_CONFUSIONS]
    ]
    return ["Confused most often:", "", "| is | answered | times |", "|---|---|---|", *rows, ""]


def _figures_section(directory: Path, extra: str) -> list[str]:
    files = sorted((directory / artifact_paths.EXTRA).glob("*.png"))
    return [
        line for file in files for line in (f"![{file.stem.replace('_', ' ').capitalize()}]({extra}/{file.name})", "")
    ]


def _signature_section(facts: Mapping[str, Any]) -> list[str]:
    lines = ["## Signatures", "", "| signature | inputs | outputs |", "|---|---|---|"]
    for name, signature in facts["signatures"].items():
        cells = []
        for side in ("inputs", "outputs"):
            shown = []
            for key, spec in signature[side].items():
                shape = ", ".join(["batch", *(str(size or "any") for size in spec["shape"][1:])])
                text = spec.get("description")
                shown.append(f"`{key}`: {spec['dtype']} ({shape})" + (f", {text}" if text else ""))
            cells.append("<br>".join(shown))
        lines.append(f"| `{name}` | {cells[0]} | {cells[1]} |")
    return [*lines, ""]


def _request_section(facts: Mapping[str, Any], golden: Mapping[str, Any], place: str) -> list[str]:
    signatures, name = facts["signatures"], facts["model"]["name"]
    examples = {key: arrays.examples(golden, signatures, key)[0] for key in signatures}
    asked = [
        f'print(ask("{key}", {request_examples.python_request(signature["inputs"], examples[key])}))'
        for key, signature in signatures.items()
    ]
    url = f"localhost:8501/v1/models/{name}:predict"
    kinds: dict[tuple[str, ...], str] = {}  # a request for every set of inputs
    for key, signature in signatures.items():
        command = request_examples.rest_request(key, signature["inputs"], examples[key], url)
        if command is not None:
            kinds.setdefault(tuple(sorted(signature["inputs"])), command)
    where = f"`{place}`: `cd {place}`" if place else "this folder"
    arguments = request_examples.c_arguments(signatures["serving_default"]["inputs"], examples["serving_default"])
    return [
        "## Request",
        "",
        f"What follows in this section is run in {where}. In Python:",
        "",
        "```python",
        "import tensorflow as tf",
        "",
        'model = tf.saved_model.load(".")',
        "",
        "",
        "def ask(signature, **inputs):",
        "    answer = model.signatures[signature](**inputs)",
        "    return {name: value.numpy() for name, value in answer.items()}",
        "",
        "",
        *asked,
        "```",
        "",
        "Over HTTP, from TensorFlow Serving, which sends the requests of "
        f"`{artifact_paths.EXTRA}/tf_serving_warmup_requests` to a version before any client's; `signature_name` chooses "
        f"among {', '.join(f'`{key}`' for key in signatures)}:",
        "",
        "```sh",
        f'tensorflow_model_server --rest_api_port=8501 --model_name={name} --model_base_path="$(realpath ..)" &',
        *kinds.values(),
        "```",
        "",
        f"In C, with the headers and libraries of TensorFlow's Python package; `{artifact_paths.EXTRA}/request.c` knows the "
        "operations behind the inputs and outputs of `serving_default`:",
        "",
        "```sh",
        'TF=$(python -c "import importlib.util as u; '
        "print(u.find_spec('tensorflow').submodule_search_locations[0])\")",
        f'cc -O2 -I"$TF/include" {artifact_paths.EXTRA}/request.c -o /tmp/request -L"$TF" -l:libtensorflow_cc.so.2 '
        '-l:libtensorflow_framework.so.2 -Wl,-rpath,"$TF"',
        f"/tmp/request . {arguments}",
        "```",
        "",
    ]


def _limits_section(facts: Mapping[str, Any]) -> list[str]:
    limits = [
        "The figures hold for inputs like those of the data set above. The model answers any input that is not refused, "
        "also one that shows nothing of what it knows.",
        *facts["limits"],
        "A batch has at least one example; an empty one is refused. What is refused is answered with the error "
        "InvalidArgument and a sentence.",
    ]
    return ["## Limits", "", *(f"- {limit}" for limit in limits), ""]


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", text)


def _count(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:,.2f}"
