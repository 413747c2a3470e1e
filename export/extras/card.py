"""The model card, generated from the metadata in the artifact."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo import display, storage
from zoo.errors import UsageError
from zoo.export import artifact_paths
from zoo.export.extras import request_examples
from zoo.export.extras.lineage_section import lineage_section
from zoo.export.standalone import arrays

_MOST_CLASSES = 10
_MOST_CONFUSIONS = 10
_MOST_INPUTS = 3  # in one line
_MOST_LABELS = 30
_ABBREVIATIONS = {word.lower(): word for word in ("F1", "AUC", "ROC", "MAE", "RMSE", "R2", "BLEU", "NDCG")} | {
    "chrf": "chrF"
}


def check_figures(figures: Mapping[str, str | Path]) -> None:
    """Raises `UsageError` if a figure is not a PNG file, or its name is not a valid file name."""
    for name, file in figures.items():
        if not re.fullmatch(r"[a-z0-9_]+", name):
            raise UsageError(f"The figure's name {name!r} is not valid. Use lower-case letters, numbers and _.")
        if not Path(file).is_file() or Path(file).read_bytes()[:8] != b"\x89PNG\r\n\x1a\n":
            raise UsageError(f"The figure {name} is {str(file)!r}, which is not a PNG file. Pass one, or leave it out.")


def model_card(directory: Path, report: Mapping[str, Any], *, place: str = "") -> str:
    """Returns the README.md of an artifact as Markdown.

    Args:
        directory: the version folder, complete except for the card, verification.json and SHA256SUMS.
        report: the result of `zoo.evaluate`; may be empty.
        place: for a card in another folder: the path of the version folder from there, such as `saved_model/1`.

    Example:
        >>> print(model_card(Path("exports/digits/1"), report).splitlines()[0])
        # mlp for digits
    """
    facts = storage.read_json(directory / artifact_paths.EXTRA / "zoo.json")
    golden = arrays.load(directory / artifact_paths.EXTRA / "golden.npz")
    golden_source = facts.get("golden", "real test examples")  # not recorded by earlier versions
    extra = f"{place}/{artifact_paths.EXTRA}" if place else artifact_paths.EXTRA
    lines = [
        *_head(facts, report.get("conclusions", {}).get("exported", "")),
        *(_metrics_section(facts) if facts["metrics"] else []),
        *_confusion_section(report),
        *_labels_section(report),
        *_threshold_section(report),
        *_figures_section(directory, extra),
        *_samples_section(report),
        *_signature_section(facts),
        *_request_section(facts, golden, place),
        *_limits_section(facts),
        *lineage_section(facts.get("lineage") or {}),
        "## Proof",
        "",
        f"`{extra}/golden.npz` contains {golden_source} and the trained model's outputs for them; whoever gets this folder "
        "can read them. Before this folder was "
        "published, a process without Keras and savedmodel-zoo replayed the examples through every signature. "
        f"`{extra}/verification.json` records the result. `zoo verify {place or '.'}` repeats the replay, and so does "
        f"`python {extra}/verify.py`, which needs TensorFlow and NumPy alone. "
        f"`{f'cd {place} && ' if place else ''}sha256sum --check {artifact_paths.EXTRA}/{artifact_paths.SUMS}` "
        "shows whether a file has changed since.",
    ]
    return "\n".join(lines) + "\n"


def _samples_section(report: Mapping[str, Any]) -> list[str]:
    """Returns the texts that the model wrote for the report, as they are; empty for other models."""
    if not (samples := report.get("generated")):
        return []
    seeds = ", ".join(str(sample["seed"]) for sample in samples)
    lines = [
        "## Generated texts",
        "",
        f"What the model writes after the first words of the evaluated split, with the seeds {seeds}. None was chosen.",
        "",
    ]
    for prompt in dict.fromkeys(sample["prompt"] for sample in samples):
        lines += ["Prompt:", "", *_fenced(prompt)]
        for sample in samples:
            if sample["prompt"] == prompt:
                lines += [f"Seed {sample['seed']}:", "", *_fenced(sample["text"])]
    return lines


def _fenced(text: str) -> list[str]:
    """Returns a text as a block of Markdown, without control characters; no text can end the block."""
    shown = "".join(letter if letter.isprintable() or letter in "\n\t" else "\ufffd" for letter in text)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", shown)), default=0))
    return [f"{fence}text", shown, fence, ""]


def _head(facts: Mapping[str, Any], weights: str = "") -> list[str]:
    name, data, written_by = facts["model"]["name"], facts["data"], facts["written_by"]
    default = facts["signatures"]["serving_default"]
    takes, answers = (
        " and ".join(f"`{key}`" for key in default[side])
        if len(default[side]) <= _MOST_INPUTS
        else f"{len(default[side])} named tensors"
        for side in ("inputs", "outputs")
    )
    arguments = ", ".join(f"`{k}={display.shortened(v)}`" for k, v in facts["model"]["arguments"].items())
    labels, labelled = facts["class_names"], []
    licence = (facts.get("lineage") or {}).get("licence")  # not recorded by earlier versions
    if labels:
        shown = ", ".join(_escaped(label) for label in labels[:_MOST_CLASSES])
        more = f" and {len(labels) - _MOST_CLASSES:,} more" if len(labels) > _MOST_CLASSES else ""
        labelled = [f"- Labels: {shown}{more}, in the order of `assets/labels.txt`"]
    of_data = []
    purpose = f"A model for {facts['task'].replace('_', ' ')}" if facts["task"] else "A Keras model"
    if data:
        counts = ", ".join(f"{count:,} {name}" for name, count in facts.get("examples", {}).items() if count)
        columns = ", ".join(f"{name} {display.shortened(value)}" for name, value in (data.get("columns") or {}).items())
        options = ", ".join(f"`{name}={display.shortened(value)}`" for name, value in facts.get("training", {}).items())
        of_data = [
            f"- Data: {data['name']}, {data['source']}",
            *([f"- Columns: {_escaped(columns)}"] if columns else []),
            *([f"- Examples: {counts}"] if counts else []),
            f"- Licence of the data: {data['licence']}",
            *([f"- Options of the training that are not the defaults: {options}"] if options else []),
        ]
    return [
        f"# {name} for {data['name']}" if data else f"# {name}",
        "",
        f"{purpose} with {facts['parameters']:,} parameters, exported by savedmodel-zoo "
        f"{written_by['savedmodel-zoo']} with TensorFlow {written_by['tensorflow']}. Its input is {takes}, its output "
        f"{answers}.",
        "",
        f"- Architecture: `{name}`" + (f" with {arguments}" if arguments else ", a custom model"),
        *of_data,
        *([f"- Weights: {_escaped(weights)}"] if weights else []),
        *([f"- Licence of the model: {_escaped(licence)}"] if licence else []),
        *_pretrained(facts.get("pretrained")),
        *labelled,
        f"- Requirements: TensorFlow {written_by['tensorflow']}, with which it was written and verified, or newer; "
        f"`python {artifact_paths.EXTRA}/verify.py` checks it under any other version. The model needs neither Keras nor "
        "savedmodel-zoo nor a library of custom ops.",
        "",
    ]


def _pretrained(facts: Mapping[str, Any] | None) -> list[str]:
    """Returns the line on the published weights that the model was made from, if there were any."""
    if not facts:
        return []
    hashes = ", ".join(f"`{digest}` ({_escaped(file)})" for file, digest in facts["sha256"].items())
    return [
        f"- Made from the published weights `{facts['source']}`, licence {_escaped(facts['licence'])}, SHA-256 {hashes}"
    ]


def _metrics_section(facts: Mapping[str, Any]) -> list[str]:
    metrics, baseline = facts["metrics"], facts["baseline"] or {}
    lines = [
        f"## Measured on the {metrics.get('split', 'test')} split",
        "",
        "| metric | model | baseline |",
        "|---|---|---|",
    ]
    for name, value, beside in display.metric_rows(facts.get("headline", [])):
        cell = "<br>".join(f"{display.number_text(known)}, {of}" for known, of in beside)
        lines.append(f"| **{_escaped(name)}** | {value} | {cell} |")
    for key, value in metrics.items():
        if isinstance(value, float) and not _is_shown(key, value, facts.get("headline", [])):
            cell = display.number_text(baseline[key]) if isinstance(baseline.get(key), float) else ""
            name = " ".join(_ABBREVIATIONS.get(word, word) for word in key.split("_"))
            lines.append(f"| {name} | {display.number_text(value)} | {cell} |")
    if "comparison" in metrics:
        lines += ["", f"{_escaped(metrics['comparison'])}."]
    if "answers" in metrics:
        lines += ["", f"Answers: {_escaped(metrics['answers'])}."]
    if "num_examples" in metrics:
        lines += ["", f"{metrics['num_examples']:,} examples."]
    return [*lines, ""]


def _is_shown(key: str, value: float, headline: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the headline already contains this metric, possibly under a longer name: `mae` as MAE (kWh)."""
    words = set(key.split("_"))
    return any(
        figure.get("key") == key or (figure["value"] == value and words <= set(figure["metric"].lower().split()))
        for figure in headline
    )


def _confusion_section(report: Mapping[str, Any]) -> list[str]:
    """Returns the confusion matrix of a report, if it has one; for many classes only the most frequent confusions."""
    if "confusion_matrix" not in report:
        return []
    matrix, names = report["confusion_matrix"], [_escaped(name) for name in report["class_names"]]
    if len(names) <= _MOST_CLASSES:
        rows = [
            f"| **{name}** | {' | '.join(_count(n) for n in row)} |" for name, row in zip(names, matrix, strict=True)
        ]
        head = [f"| true \\ predicted | {' | '.join(names)} |", "|---" + "|---:" * len(names) + "|"]
        return ["Rows are true classes, columns predicted classes:", "", *head, *rows, ""]
    confusions = [(count, i, j) for i, row in enumerate(matrix) for j, count in enumerate(row) if i != j and count > 0]
    confusions.sort(key=lambda confusion: -confusion[0])
    if not confusions:
        return ["No class was confused with another.", ""]
    rows = [
        f"| {names[i]} | {names[j]} | {_count(count)} of {_count(sum(matrix[i]))} |"
        for count, i, j in confusions[:_MOST_CONFUSIONS]
    ]
    return ["Most frequent confusions:", "", "| true | predicted | examples |", "|---|---|---|", *rows, ""]


def _threshold_section(report: Mapping[str, Any]) -> list[str]:
    """Returns what a threshold on the probability of the positive class would give, for a report on two classes."""
    if not report.get("thresholds"):
        return []
    keys = ("precision", "recall", "f1", "share_predicted")
    rows = [
        f"| {row['threshold']:g} | {' | '.join(f'{row[key]:.4f}' for key in keys)} |" for row in report["thresholds"]
    ]
    return [
        f"If an example is called {_escaped(report['positive_class'])} from a probability on:",
        "",
        "| probability | precision | recall | F1 | share of the examples |",
        "|---:|---:|---:|---:|---:|",
        *rows,
        "",
    ]


def _labels_section(report: Mapping[str, Any]) -> list[str]:
    """Returns the threshold and the scores of the most frequent labels of a report of several labels at once."""
    if "per_label" not in report:
        return []
    rows = sorted(report["per_label"], key=lambda row: -row["support"])
    lines = [
        f"An example has a label if its probability reaches the label's threshold ({report['thresholds_from']}).",
        "",
        "| label | examples | threshold | precision | recall | F1 | AUC |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows[:_MOST_LABELS]:
        numbers = [row[name] for name in ("threshold", "precision", "recall", "f1", "roc_auc")]
        cells = ["" if number is None else f"{number:.4f}" for number in numbers]
        lines.append(f"| {_escaped(row['class_name'])} | {row['support']:,} | {' | '.join(cells)} |")
    more = len(rows) - _MOST_LABELS
    return [*lines, *(["", f"{more:,} rarer labels are left out here."] if more > 0 else []), ""]


def _figures_section(directory: Path, extra: str) -> list[str]:
    files = sorted((directory / artifact_paths.EXTRA).glob("*.png"))
    return [
        line for file in files for line in (f"![{file.stem.replace('_', ' ').capitalize()}]({extra}/{file.name})", "")
    ]


def _signature_section(facts: Mapping[str, Any]) -> list[str]:
    lines = ["## Signatures", "", "| signature | inputs | outputs |", "|---|---|---|"]
    default = facts["signatures"]["serving_default"]["inputs"]
    for name, signature in facts["signatures"].items():
        cells = []
        for side in ("inputs", "outputs"):
            if side == "inputs" and name != "serving_default" and signature[side] == default and len(default) > 1:
                cells.append("those of `serving_default`")
                continue
            shown = []
            for key, spec in signature[side].items():
                shape = ", ".join(["batch", *(str(size or "any") for size in spec["shape"][1:])])
                text = str(spec.get("description") or "").replace("|", "\\|")
                shown.append(f"`{key}`: {spec['dtype']} ({shape})" + (f", {text}" if text else ""))
            cells.append("<br>".join(shown))
        lines.append(f"| `{name}` | {cells[0]} | {cells[1]} |")
    return [*lines, ""]


def _request_section(facts: Mapping[str, Any], golden: Mapping[str, Any], place: str) -> list[str]:
    signatures, name = facts["signatures"], facts["model"]["name"]
    examples = {key: arrays.examples(golden, signatures, key)[0] for key in signatures}
    asked = _asked(signatures, examples)
    url = f"localhost:8501/v1/models/{name}:predict"
    kinds: dict[tuple[str, ...], str] = {}  # a request for every set of inputs
    for key, signature in signatures.items():
        command = request_examples.rest_request(key, signature["inputs"], examples[key], url)
        if command is not None:
            lines = [*request_examples.columns_comment(signature["inputs"]), command]
            kinds.setdefault(tuple(sorted(signature["inputs"])), "\n".join(lines))
    where = f"`{place}`: `cd {place}`" if place else "this folder"
    words = request_examples.c_arguments(signatures["serving_default"]["inputs"], examples["serving_default"])
    return [
        "## Request",
        "",
        f"Run the examples of this section in {where}. In Python:",
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
        "Over HTTP, with TensorFlow Serving. It warms up a new version with the requests in "
        f"`{artifact_paths.EXTRA}/tf_serving_warmup_requests`. `signature_name` is one of "
        f"{', '.join(f'`{key}`' for key in signatures)}:",
        "",
        "```sh",
        f'tensorflow_model_server --rest_api_port=8501 --model_name={name} --model_base_path="$(realpath ..)" &',
        *kinds.values(),
        "```",
        "",
        f"In C, with the headers and libraries of TensorFlow's Python package. `{artifact_paths.EXTRA}/request.c` contains "
        "the names of the graph operations for the inputs and outputs of `serving_default`:",
        "",
        "```sh",
        'TF=$(python -c "import importlib.util as u; '
        "print(u.find_spec('tensorflow').submodule_search_locations[0])\")",
        f'cc -O2 -I"$TF/include" {artifact_paths.EXTRA}/request.c -o /tmp/request -L"$TF" -l:libtensorflow_cc.so.2 '
        '-l:libtensorflow_framework.so.2 -Wl,-rpath,"$TF"',
        f"/tmp/request . {words}",
        "```",
        "",
    ]


def _asked(signatures: Mapping[str, Any], examples: Mapping[str, Any]) -> list[str]:
    """Returns lines of Python that call every signature; many inputs are written once, as `row`."""
    asked: list[str] = []
    rows: list[Any] = []  # the inputs that `row` already holds
    for key, signature in signatures.items():
        if first := signature.get("continues"):
            words = ", ".join(request_examples.python_request(signatures[first]["inputs"], examples[first]))
            takes = json.dumps(list(signature["inputs"]))
            asked += [
                "",
                f'answer = ask("{first}", {words})',
                f'answer = ask("{key}", **{{name: tf.constant(answer[name]) for name in {takes}}})',
                "print(answer)",
            ]
            continue
        arguments = request_examples.python_request(signature["inputs"], examples[key])
        if len(arguments) <= _MOST_INPUTS:
            asked += [line for line in request_examples.columns_comment(signature["inputs"]) if line not in asked]
            asked.append(f'print(ask("{key}", {", ".join(arguments)}))')
            continue
        if [*signature["inputs"]] != rows:
            rows = [*signature["inputs"]]
            asked += [
                "",
                "row = dict(",
                *map(_with_column, arguments, *zip(*signature["inputs"].items(), strict=True)),
                ")",
            ]
        asked.append(f'print(ask("{key}", **row))')
    return asked


def _with_column(argument: str, key: str, spec: Mapping[str, Any]) -> str:
    """Returns a line of a call, with the column of the input if it has another name."""
    column = request_examples.column_of(key, spec)
    return f"    {argument}," + (f"  # {column}" if column else "")


def _limits_section(facts: Mapping[str, Any]) -> list[str]:
    metrics = "The metrics hold for inputs like those of the data set above. " if facts["metrics"] else ""
    limits = [
        f"{metrics}The model also gives an output for valid inputs that belong to none of its classes or differ from its "
        "training data.",
        *facts["limits"],
        "An empty batch is rejected. A rejected request gets the error InvalidArgument and a message.",
    ]
    return ["## Limits", "", *(f"- {limit}" for limit in limits), ""]


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", text)


def _count(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:,.2f}"
