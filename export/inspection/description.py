"""Describes a SavedModel from its files, without loading it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo import storage
from zoo.display import shortened
from zoo.errors import printable
from zoo.export import artifact_paths
from zoo.export.inspection import operations


@dataclasses.dataclass(frozen=True)
class Description:
    """The description of a SavedModel.

    Attributes:
        path: the version folder.
        facts: the contents, in the form of the JSON output: `signatures`, `labels`, `sizes`, `parameters`, `ops`,
            `dangerous`, `machinery`, `unportable`, `tensorflow`, `metrics`, `hashes`, and for an artifact of this
            project `model`, `task`, `data`.
    """

    path: Path
    facts: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Returns the object that `zoo describe --json` prints."""
        return {"path": str(self.path), **self.facts}

    def text(self) -> str:
        """Returns the description for a terminal."""
        facts = self.facts
        lines = [str(self.path)]
        if facts["changed_files"]:
            lines.append(f"Files have changed since the export, see the end: {'; '.join(facts['changed_files'][:3])}")
        if facts["model"]:
            arguments = ", ".join(f"{k}={shortened(v)}" for k, v in facts["model"]["arguments"].items())
            known = f"with {arguments}" if arguments else "a custom model"
            purpose = f" for {facts['task'].replace('_', ' ')}" if facts["task"] else ""
            lines += [f"{facts['model']['name']}{purpose}, {known}"]
            if data := facts["data"]:
                lines += [f"trained on {data.get('name')}, licence {data.get('licence')}"]
                lines += [f"source of the data: {data.get('source')}"]
            else:
                lines += ["exported with examples of its inputs; the data that it was trained on is not recorded"]
        parameters = facts["parameters"]
        counted = "unknown number of parameters" if parameters is None else f"{parameters:,} parameters"
        lines += [f"{counted}, {_size(sum(facts['sizes'].values()))}", "", "Signatures"]
        default = facts["signatures"].get("serving_default", {}).get("inputs", {})
        for name, signature in facts["signatures"].items():
            note = "  (for conversion to other runtimes)" if name == facts["portable_signature"] else ""
            lines.append(f"  {name}{note}")
            alike = signature["inputs"] == default and name != "serving_default" and len(default) > 1
            lines += ["    inputs of serving_default"] * alike
            for side, word in (("inputs", "input"), ("outputs", "output"))[alike:]:
                lines += [f"    {word:<8}{key}: {_shown(spec)}" for key, spec in signature[side].items()]
        if facts["labels"]:
            more = "" if len(facts["labels"]) <= 12 else f", ... {len(facts['labels'])} in all"
            lines += ["", "Labels", f"  {', '.join(facts['labels'][:12])}{more}"]
        if facts["metrics"]:
            lines += ["", f"Measured on the {facts['metrics'].get('split', 'test')} split"]
            lines += [f"  {key:<28}{value:.4f}" for key, value in facts["metrics"].items() if isinstance(value, float)]
        lines += ["", "Files"]
        lines += [f"  {part:<28}{_size(size)}" for part, size in facts["sizes"].items()]
        lines += ["", "TensorFlow", *(f"  {sentence}" for sentence in facts["tensorflow"]["sentences"])]
        counts = sorted(facts["ops"].items(), key=lambda item: (-item[1], item[0]))
        shown = ", ".join(f"{name} {count}" for name, count in counts)
        lines += ["", f"Ops, {len(counts)} kinds, {sum(facts['ops'].values())} nodes", f"  {shown}"]
        lines += ["", "Effects outside the graph"]
        lines += [f"  DANGEROUS  {finding}" for finding in facts["dangerous"]]
        lines += [f"  normal     {finding}" for finding in facts["machinery"]]
        lines += [f"  GPU only   {finding}" for finding in facts["unportable"]]
        lines += ["", "No dangerous op" if not facts["dangerous"] else f"{len(facts['dangerous'])} dangerous ops"]
        lines += ["", "SHA-256", *(f"  {digest}  {name}" for name, digest in facts["hashes"].items())]
        if facts["changed_files"]:
            lines += [f"  {sentence}" for sentence in facts["changed_files"]]
        return "\n".join(printable(line) for line in lines)


def describe(path: str | Path) -> Description:
    """Describes any SavedModel from its files. Nothing in it is loaded or run, so it is safe for untrusted files.

    Args:
        path: a version folder, its parent folder (the newest version is described), or a run directory.

    Returns:
        Signatures, labels, sizes, parameters, ops with their counts, dangerous ops, TensorFlow versions, and for an
        artifact of this project its model, task, data and metrics.

    Raises:
        UsageError: there is no SavedModel, or saved_model.pb is invalid.

    Example:
        >>> zoo.export.describe("exports/digits").facts["dangerous"]
        []
    """
    directory = artifact_paths.find(path)
    graph = operations.read(directory)
    ops, facts = operations.scan(graph), known_facts(directory)
    return Description(
        directory,
        {
            "model": facts.get("model"),
            "task": facts.get("task"),
            "data": facts.get("data", {}),
            "metrics": facts.get("metrics", {}),
            "portable_signature": facts.get("portable_signature"),
            "signatures": _signatures(graph, facts.get("signatures", {})),
            "labels": _labels(directory),
            "parameters": facts.get("parameters", _parameters(graph)),
            "sizes": _sizes(directory),
            "tensorflow": _tensorflow(graph),
            "ops": ops.counts,
            "dangerous": [str(finding) for finding in ops.dangerous],
            "machinery": [str(finding) for finding in ops.machinery],
            "unportable": [str(finding) for finding in ops.unportable],
            "hashes": {file.as_posix(): storage.sha256(directory / file) for file in artifact_paths.files(directory)},
            "changed_files": artifact_paths.changes(directory),
        },
    )


def known_facts(directory: Path) -> dict[str, Any]:
    """Returns the known fields of zoo.json; empty if there is none of this project. The file may be untrusted."""
    try:
        facts = storage.read_json(directory / artifact_paths.EXTRA / "zoo.json")
    except (OSError, ValueError):
        return {}
    kinds: dict[str, type] = {"model": dict, "task": str, "data": dict, "metrics": dict, "portable_signature": str}
    kinds |= {"parameters": int, "signatures": dict, "lineage": dict}
    facts = facts if isinstance(facts, dict) else {}
    known = {name: facts[name] for name, kind in kinds.items() if isinstance(facts.get(name), kind)}
    model = known.get("model", {})
    is_ours = isinstance(model.get("name"), str) and isinstance(model.get("arguments"), dict) and "task" in known
    return known if is_ours else {}


def _signatures(graph: Any, declared: Mapping[str, Any]) -> dict[str, Any]:
    """Returns types and shapes from the graph, with the descriptions that zoo.json declares."""

    def spec(info: Any, *place: str) -> dict[str, Any]:
        dims = [None if dim.size == -1 else dim.size for dim in info.tensor_shape.dim]
        found = {"dtype": operations.type_name(info), "shape": None if info.tensor_shape.unknown_rank else dims}
        text: Any = declared
        for part in (*place, "description"):
            text = text.get(part) if isinstance(text, dict) else None
        return {**found, "description": text} if isinstance(text, str) and text else found

    return {
        name: {
            side: {key: spec(info, name, side, key) for key, info in sorted(getattr(signature, side).items())}
            for side in ("inputs", "outputs")
        }
        for name, signature in sorted(graph.signature_def.items())
        if name != operations.INIT
    }


def _shown(spec: Mapping[str, Any]) -> str:
    text = f", {spec['description']}" if "description" in spec else ""
    if spec["shape"] is None:
        return f"{spec['dtype']}, any shape{text}"
    first = ["batch"] if spec["shape"][:1] == [None] else [str(size) for size in spec["shape"][:1]]
    return f"{spec['dtype']} ({', '.join([*first, *(str(size or 'any') for size in spec['shape'][1:])])}){text}"


def _labels(directory: Path) -> list[str]:
    file = directory / "assets" / "labels.txt"
    return file.read_text(encoding="utf-8", errors="replace").split("\n")[:-1] if file.is_file() else []


def _parameters(graph: Any) -> int | None:
    """Counts the elements of all trainable variables; None for a SavedModel of TensorFlow 1, which lists no variables.

    Keras's own export lists every variable twice, in `variables` and as a copy in `_all_variables`.
    """
    nodes = graph.object_graph_def.nodes
    lists = {child.local_name: child.node_id for child in nodes[0].children} if nodes else {}
    copies: set[int] = set()
    if {"variables", "_all_variables"} <= lists.keys() and 0 <= lists["_all_variables"] < len(nodes):
        copies = {child.node_id for child in nodes[lists["_all_variables"]].children}
    held = [(i, node.variable) for i, node in enumerate(nodes) if node.WhichOneof("kind") == "variable"]
    counted = [math.prod(dim.size for dim in v.shape.dim) for i, v in held if v.trainable and i not in copies]
    return sum(counted) if held else None


def _sizes(directory: Path) -> dict[str, int]:
    """Returns the size in bytes of every part: graph, weights, assets, assets.extra."""
    sizes: dict[str, int] = {}
    for file in [*artifact_paths.files(directory), Path(artifact_paths.EXTRA, artifact_paths.SUMS)]:
        if (directory / file).is_file():
            part = file.parts[0] + ("/" if len(file.parts) > 1 else "")
            sizes[part] = sizes.get(part, 0) + (directory / file).stat().st_size
    return sizes


def _tensorflow(graph: Any) -> dict[str, Any]:
    """Returns the TensorFlow versions recorded in the file, and sentences that explain them."""
    versions, written = graph.graph_def.versions, graph.meta_info_def.tensorflow_version
    sentences = [
        f"written by {written or 'an unknown version'}; graph format {versions.producer}",
        f"needs a runtime with graph format {versions.min_consumer} or newer; this does not cover its ops",
        "an older TensorFlow may lack an op or an attribute: test it with `zoo verify PATH --python PYTHON`",
    ]
    return {
        "written_by": written,
        "producer": versions.producer,
        "min_consumer": versions.min_consumer,
        "sentences": sentences,
    }


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
