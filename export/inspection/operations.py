"""Reads the ops of a SavedModel from its protobuf and finds dangerous ones.

Nothing is loaded or run, so this is safe for untrusted files.
"""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from zoo.errors import UsageError, printable
from zoo.export.inspection import dangers, file_origins, hidden_graphs
from zoo.export.verdict import Check

INIT = "__saved_model_init_op"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One node with an effect outside the graph.

    Attributes:
        op: the op's name.
        node: the node's name.
        function: the library function that contains it, "" for the graph itself.
        what: its effect, as a phrase.
        dangerous: False for the saving and loading ops of every SavedModel, and for ops that only need certain hardware.
        portable: False for ops that only some machines can run.
    """

    op: str
    node: str
    function: str
    what: str
    dangerous: bool
    portable: bool = True

    def __str__(self) -> str:
        place = f"function {self.function}" if self.function else "the graph itself"
        return printable(f"{self.op} {self.what} (node {self.node} in {place})")


@dataclasses.dataclass(frozen=True)
class Operations:
    """The result of `scan`: how often each op occurs, and the nodes with effects outside the graph."""

    counts: dict[str, int]
    findings: tuple[Finding, ...]

    @property
    def dangerous(self) -> list[Finding]:
        """The dangerous findings."""
        return [finding for finding in self.findings if finding.dangerous]

    @property
    def machinery(self) -> list[Finding]:
        """The findings that are normal in a SavedModel: its checkpoint, and tables from its own assets."""
        return [finding for finding in self.findings if finding.portable and not finding.dangerous]

    @property
    def unportable(self) -> list[Finding]:
        """The ops that only some machines can run."""
        return [finding for finding in self.findings if not finding.portable]


def read(directory: Path) -> Any:
    """Returns the MetaGraphDef of a SavedModel.

    Raises:
        UsageError: saved_model.pb is not a SavedModel; or there are several graphs or a saved_model.cpb, so that a loader
            could choose another graph than the one read here.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    proto, file = saved_model_pb2.SavedModel(), directory / "saved_model.pb"
    try:
        proto.ParseFromString(file.read_bytes())
    except (OSError, DecodeError) as error:
        raise UsageError(f"{file} cannot be read as a SavedModel: {error}. Pass another folder.") from error
    if not proto.meta_graphs:
        raise UsageError(f"{file} contains no graph. Pass the folder of a SavedModel.")
    if (directory / "saved_model.cpb").exists():
        raise UsageError(
            f"{directory} contains both saved_model.cpb and saved_model.pb, and a loader may read either. Pass a SavedModel "
            "with only one of them."
        )
    if len(proto.meta_graphs) > 1:
        tags = " and ".join(repr(",".join(graph.meta_info_def.tags)) for graph in proto.meta_graphs[:3])
        raise UsageError(
            f"{file} contains {len(proto.meta_graphs)} graphs, tagged {tags}, and a loader may read any of them; expected "
            "one. Pass a SavedModel that contains only the serving graph."
        )
    return proto.meta_graphs[0]


def scan(graph: Any) -> Operations:
    """Counts all ops of a MetaGraphDef, including nested functions, and finds those with effects outside the graph.

    A checkpoint op is normal if only the saver calls it, with the saver's own file name. If a signature or the loading of
    the model reaches it, it could read or write arbitrary files. The text file of a table is normal if it is proven to be
    an asset of the SavedModel, in its folder `assets`.

    Example:
        >>> scan(read(Path("exports/digits/1"))).dangerous
        []
    """
    from tensorflow.python.framework import op_def_registry

    calls = file_origins.Calls(graph)
    counts: collections.Counter[str] = collections.Counter()
    findings = _assets(graph)
    for function, node in calls.nodes():
        if node.op in calls.functions and op_def_registry.get(node.op) is None:
            continue  # a call
        counts[node.op] += 1
        if node.op in dangers.CHECKPOINT:
            findings.append(_checkpoint(calls, function, node))
        elif node.op in dangers.TABLES:
            findings.append(_table(calls, function, node))
        elif node.op in dangers.DEVICE:
            findings.append(Finding(node.op, node.name, function, "runs only on NVIDIA GPUs", False, portable=False))
        elif (what := dangers.danger(node)) is not None:
            findings.append(Finding(node.op, node.name, function, what, True))
    findings += _hidden(calls.nodes())
    findings.sort(key=lambda finding: dangers.UNLISTED in finding.what)  # known effects first
    return Operations(dict(sorted(counts.items())), tuple(findings))


def check(graph: Any, *, ours: bool = True) -> Check:
    """Returns the check of a graph's ops. It passes if no op is dangerous; an artifact of this project (`ours`) must also
    run on every machine."""
    found = scan(graph)
    wrong = [*found.dangerous, *(found.unportable if ours else [])]
    if not wrong:
        return Check("ops", True, detail=f"{len(found.counts)} kinds, all built into TensorFlow")
    listed = "; ".join(str(finding) for finding in wrong[:3])
    more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    return Check("ops", False, detail=f"{listed}{more}")


def type_name(info: Any) -> str:
    """Returns the type of a signature's input or output, such as `float32`, `sparse` or `ragged or composite`."""
    from tensorflow.python.framework import dtypes

    kind = info.WhichOneof("encoding")
    if kind == "coo_sparse":
        return "sparse"
    if kind == "composite_tensor":
        return "ragged or composite"
    try:
        return str(dtypes.as_dtype(info.dtype).name)
    except TypeError:
        return f"unknown type {info.dtype}"


def is_plain(signature: Any) -> bool:
    """Whether all inputs and outputs are dense tensors of known types."""
    plain = r"bool|string|bfloat16|half|float(16|32|64)|u?int(8|16|32|64)|complex(64|128)"
    return all(
        info.WhichOneof("encoding") == "name" and re.fullmatch(plain, type_name(info)) is not None
        for info in [*signature.inputs.values(), *signature.outputs.values()]
    )


def _assets(graph: Any) -> list[Finding]:
    """Returns findings for the assets outside the folder `assets`."""
    found = []
    for asset in graph.asset_file_def:
        path = PurePosixPath(asset.filename)
        is_odd = "\0" in asset.filename or any(":" in part for part in path.parts[:1])
        if not path.parts or path.is_absolute() or ".." in path.parts or is_odd:
            what = f"names {asset.filename!r}, which is outside assets/"
            found.append(Finding("asset_file_def", asset.tensor_info.name, "", what, True))
    return found


def _hidden(nodes: Iterable[tuple[str, Any]]) -> list[Finding]:
    """Returns findings for the dangerous nodes of graphs that strings of other nodes hold."""
    found: list[Finding] = []
    places: dict[bytes, tuple[str, Any]] = {}
    for function, node in nodes:
        if hidden_graphs.has_packed_strings(node):
            found.append(Finding(node.op, node.name, function, "holds strings in a form that is not searched", True))
        places |= dict.fromkeys(hidden_graphs.strings(node), (function, node))
    for text, (function, node) in places.items():
        for inner in hidden_graphs.nodes(text):
            effect = None if inner.op in dangers.CHECKPOINT else dangers.danger(inner)
            if effect:
                what = f"{effect} and is hidden in a string of {node.op}"
                found.append(Finding(inner.op, node.name, function, what, True))
    return found


def _checkpoint(calls: file_origins.Calls, function: str, node: Any) -> Finding:
    names = node.input[:2] if node.op == "MergeV2Checkpoints" else node.input[:1]
    usual = calls.is_saver(function, node.name, saves=node.op in dangers.SAVES)
    if not usual:
        what = "reads or writes files outside of saving and loading"
    elif not names or not all(calls.is_checkpoint(function, name) for name in names):
        usual, what = False, "reads or writes a file that is not the SavedModel's checkpoint"
    else:
        what = "saves or restores the checkpoint"
    return Finding(node.op, node.name, function, what, not usual)


def _table(calls: file_origins.Calls, function: str, node: Any) -> Finding:
    origin, text = calls.origin(function, node.input[1]) if len(node.input) > 1 else (file_origins.UNKNOWN, "")
    effects = {
        file_origins.ASSET: "reads an asset into a table",
        file_origins.CONSTANT: f"reads {text!r}, which is not an asset",
        file_origins.UNKNOWN: "reads a file that is not proven to be an asset",
    }
    return Finding(node.op, node.name, function, effects[origin], origin != file_origins.ASSET)
