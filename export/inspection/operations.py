"""The ops of a SavedModel, read from its protobuf alone: what it computes with, and what of it could do harm.

Nothing is loaded and nothing runs, so that it is safe on a file from a stranger.
"""

from __future__ import annotations

import collections
import dataclasses
import re
from pathlib import Path, PurePosixPath
from typing import Any

from zoo.errors import UsageError, printable
from zoo.export.inspection import dangers, file_origins
from zoo.export.verdict import Check

INIT = "__saved_model_init_op"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One node that reaches outside the graph.

    Attributes:
        op: the op's name.
        node: the node's name.
        function: the function of the library that holds it, "" for the graph itself.
        what: what it does, in words.
        dangerous: False for the machinery of every SavedModel, and for what only some machines can serve.
        portable: False for what only some machines can serve.
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
    """What `scan` found: how often each op occurs, and the nodes that reach outside the graph."""

    counts: dict[str, int]
    findings: tuple[Finding, ...]

    @property
    def dangerous(self) -> list[Finding]:
        """The findings that are no part of loading and saving."""
        return [finding for finding in self.findings if finding.dangerous]

    @property
    def machinery(self) -> list[Finding]:
        """The findings that every SavedModel has: its checkpoint, and tables from its own assets."""
        return [finding for finding in self.findings if finding.portable and not finding.dangerous]

    @property
    def unportable(self) -> list[Finding]:
        """The ops that only some machines can serve."""
        return [finding for finding in self.findings if not finding.portable]


def read(directory: Path) -> Any:
    """Returns the MetaGraphDef of a SavedModel.

    Raises:
        UsageError: saved_model.pb is no SavedModel, or there is more than the one graph that is looked at here: loaders
            choose among several, and prefer a saved_model.cpb.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    proto, file = saved_model_pb2.SavedModel(), directory / "saved_model.pb"
    try:
        proto.ParseFromString(file.read_bytes())
    except (OSError, DecodeError) as error:
        raise UsageError(f"{file} cannot be read as a SavedModel: {error}. Pass another folder.") from error
    if not proto.meta_graphs:
        raise UsageError(f"{file} holds no graph. Pass the folder of a SavedModel.")
    if (directory / "saved_model.cpb").exists():
        raise UsageError(
            f"{directory} holds a saved_model.cpb beside saved_model.pb, and loaders take either. Pass a SavedModel with one "
            "of them."
        )
    if len(proto.meta_graphs) > 1:
        tags = " and ".join(repr(",".join(graph.meta_info_def.tags)) for graph in proto.meta_graphs[:3])
        raise UsageError(
            f"{file} holds {len(proto.meta_graphs)} graphs, tagged {tags}, and loaders take either; expected one. Pass a "
            "SavedModel with the graph for serving alone."
        )
    return proto.meta_graphs[0]


def scan(graph: Any) -> Operations:
    """Returns every op of a MetaGraphDef, functions in functions included, and what of them reaches outside.

    A checkpoint's ops are machinery where nothing but the saver calls them, with the file that it is given; reachable
    from a signature, or from what runs when the model is loaded, they read or write files of somebody's choice. A table's
    text file is machinery where it is proven to be an asset of the SavedModel, which lies in its folder `assets`.

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
            findings.append(Finding(node.op, node.name, function, "runs on NVIDIA GPUs alone", False, portable=False))
        elif (what := dangers.danger(node)) is not None:
            findings.append(Finding(node.op, node.name, function, what, True))
    return Operations(dict(sorted(counts.items())), tuple(findings))


def check(graph: Any, *, ours: bool = True) -> Check:
    """Returns the verdict on a graph's ops: passed where nothing reaches outside but loading and saving; an artifact of
    this project (`ours`) must also run on every machine."""
    found = scan(graph)
    wrong = [*found.dangerous, *(found.unportable if ours else [])]
    if not wrong:
        return Check("ops", True, detail=f"{len(found.counts)} kinds, all of TensorFlow's core")
    told = "; ".join(str(finding) for finding in wrong[:3])
    more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    return Check("ops", False, detail=f"{told}{more}")


def type_name(info: Any) -> str:
    """Returns the type of a signature's input or output, such as `float32`; a sparse or ragged one has none by itself."""
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
    """Whether all inputs and outputs are tensors of known types, not sparse, ragged, or of a type of the future."""
    plain = r"bool|string|bfloat16|half|float(16|32|64)|u?int(8|16|32|64)|complex(64|128)"
    return all(
        info.WhichOneof("encoding") == "name" and re.fullmatch(plain, type_name(info)) is not None
        for info in [*signature.inputs.values(), *signature.outputs.values()]
    )


def _assets(graph: Any) -> list[Finding]:
    """Returns the assets that lie outside of the folder `assets`."""
    found = []
    for asset in graph.asset_file_def:
        path = PurePosixPath(asset.filename)
        is_odd = "\0" in asset.filename or any(":" in part for part in path.parts[:1])
        if not path.parts or path.is_absolute() or ".." in path.parts or is_odd:
            what = f"names {asset.filename!r}, which is outside of assets/"
            found.append(Finding("asset_file_def", asset.tensor_info.name, "", what, True))
    return found


def _checkpoint(calls: file_origins.Calls, function: str, node: Any) -> Finding:
    names = node.input[:2] if node.op == "MergeV2Checkpoints" else node.input[:1]
    usual = calls.is_saver(function, node.name, saves=node.op in dangers.SAVES)
    if not usual:
        what = "reads or writes files outside of saving and loading"
    elif not names or not all(calls.is_checkpoint(function, name) for name in names):
        usual, what = False, "reads or writes a file that is not the SavedModel's checkpoint"
    else:
        what = "is the checkpoint's machinery"
    return Finding(node.op, node.name, function, what, not usual)


def _table(calls: file_origins.Calls, function: str, node: Any) -> Finding:
    origin, text = calls.origin(function, node.input[1]) if len(node.input) > 1 else (file_origins.UNKNOWN, "")
    told = {
        file_origins.ASSET: "reads an asset into a table",
        file_origins.CONSTANT: f"reads {text!r}, which is no asset",
        file_origins.UNKNOWN: "reads a file whose name is not known to be an asset's",
    }
    return Finding(node.op, node.name, function, told[origin], origin != file_origins.ASSET)
