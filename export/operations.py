"""The ops of a SavedModel, read from its protobuf alone: what it computes with, and what of it could do harm.

Nothing is loaded and nothing runs, so that it is safe on a file from a stranger.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from zoo.errors import UsageError
from zoo.export.verdict import Check

INIT = "__saved_model_init_op"

_READS = (
    *("ReadFile", "MatchingFiles", "WholeFileReader", "WholeFileReaderV2", "TextLineReader", "TextLineReaderV2"),
    *("TFRecordReader", "TFRecordReaderV2", "FixedLengthRecordReader", "FixedLengthRecordReaderV2", "LMDBReader"),
    *("TextLineDataset", "TFRecordDataset", "TFRecordDatasetV2", "FixedLengthRecordDataset", "SqlDataset"),
    *("FixedLengthRecordDatasetV2", "CSVDataset", "CSVDatasetV2", "LMDBDataset", "LoadDataset", "MatchingFilesDataset"),
    *("ListDataset", "ListSnapshotChunksDataset", "SnapshotDatasetReader", "SnapshotChunkDataset", "ImmutableConst"),
    *(
        "ExperimentalCSVDataset",
        "ExperimentalSqlDataset",
        "ExperimentalLMDBDataset",
        "ExperimentalMatchingFilesDataset",
    ),
    *("GenerateVocabRemapping", "LoadAndRemapMatrix", "InitializeTableFromTextFile", "InitializeTableFromTextFileV2"),
)
_WRITES = (
    *("WriteFile", "SaveDataset", "SaveDatasetV2", "SnapshotDataset", "SnapshotDatasetV2", "CacheDataset"),
    *("CacheDatasetV2", "CreateSummaryFileWriter", "CreateSummaryDbWriter", "WriteSummary", "WriteScalarSummary"),
    *("WriteAudioSummary", "WriteGraphSummary", "WriteHistogramSummary", "WriteImageSummary", "WriteRawProtoSummary"),
    *(
        "ImportEvent",
        "FlushSummaryWriter",
        "DistributedSave",
        "Save",
        "SaveSlices",
        "DebugIdentityV2",
        "DebugIdentityV3",
    ),
    *("DebugIdentity", "DebugNanCount", "DebugNumericSummary", "FileSystemSetConfiguration"),
)
_NETWORK = (
    *("RpcServer", "RpcClient", "RpcCall", "RpcServerStart", "RpcServerRegister", "RpcGetValue", "RpcCheckStatus"),
    *("RemoteCall", "RemoteFusedGraphExecute", "DataServiceDataset", "DataServiceDatasetV2", "DataServiceDatasetV3"),
    *(
        "DataServiceDatasetV4",
        "RegisterDataset",
        "RegisterDatasetV2",
        "BigQueryReader",
        "Send",
        "Recv",
        "_Send",
        "_Recv",
    ),
    *("_HostSend", "_HostRecv", "CollectiveBcastSend", "CollectiveBcastRecv", "CollectiveReduce", "CollectiveGather"),
)
_PYTHON = ("PyFunc", "PyFuncStateless", "EagerPyFunc")
_DEVICE = ("CudnnRNN", "CudnnRNNV2", "CudnnRNNV3")
_CHECKPOINT = ("SaveV2", "RestoreV2", "RestoreSlice", "Restore", "MergeV2Checkpoints", "ShardedFilename")
_TABLES = ("InitializeTableFromTextFile", "InitializeTableFromTextFileV2")

KINDS = {
    "reads files": _READS,
    "writes files": _WRITES,
    "uses the network": _NETWORK,
    "runs Python": _PYTHON,
    "runs on NVIDIA GPUs alone": _DEVICE,
}
"""The ops that no artifact needs, by what they do."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One node that reaches outside the graph.

    Attributes:
        op: the op's name.
        node: the node's name.
        function: the function of the library that holds it, "" for the graph itself.
        what: what it does, in words.
        dangerous: False for the machinery of every SavedModel.
    """

    op: str
    node: str
    function: str
    what: str
    dangerous: bool

    def __str__(self) -> str:
        place = f"function {self.function}" if self.function else "the graph itself"
        return f"{self.op} {self.what} (node {self.node} in {place})"


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
        return [finding for finding in self.findings if not finding.dangerous]


def read(directory: Path) -> Any:
    """Returns the MetaGraphDef of a SavedModel: the one for serving where there are several.

    Raises:
        UsageError: saved_model.pb is no SavedModel.
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
    return next((g for g in proto.meta_graphs if "serve" in g.meta_info_def.tags), proto.meta_graphs[0])


def scan(graph: Any) -> Operations:
    """Returns every op of a MetaGraphDef, functions in functions included, and what of them reaches outside.

    A checkpoint's ops are machinery where nothing but the saver calls them; reachable from a signature, or from what runs
    when the model is loaded, they read or write files of somebody's choice. A table's text file is machinery where it
    is an asset of the SavedModel, not a name in the graph.

    Example:
        >>> scan(read(Path("exports/digits/1"))).dangerous
        []
    """
    from tensorflow.python.framework import op_def_registry

    calls = _Calls(graph)
    counts: collections.Counter[str] = collections.Counter()
    findings = []
    for function, node in calls.nodes():
        if node.op in calls.functions and op_def_registry.get(node.op) is None:
            continue  # a call
        counts[node.op] += 1
        what = _what(node)
        if what is None and node.op not in _CHECKPOINT:
            continue
        dangerous, told = True, what or ""
        if node.op in _CHECKPOINT:
            dangerous = not calls.is_saver(function, node.name)
            told = (
                "reads or writes files outside of saving and loading" if dangerous else "is the checkpoint's machinery"
            )
        elif node.op in _TABLES:
            named = calls.constant(function, node.input[1] if len(node.input) > 1 else "")
            dangerous = named is not None
            told = f"reads {named!r}, which is no asset" if dangerous else "reads an asset into a table"
        findings.append(Finding(node.op, node.name, function, told, dangerous))
    return Operations(dict(sorted(counts.items())), tuple(findings))


def check(graph: Any) -> Check:
    """Returns the verdict on a graph's ops: passed where nothing reaches outside but loading and saving."""
    found = scan(graph)
    if not found.dangerous:
        return Check("ops", True, detail=f"{len(found.counts)} kinds, all of TensorFlow's core")
    told = "; ".join(str(finding) for finding in found.dangerous[:3])
    more = f"; and {len(found.dangerous) - 3} more" if len(found.dangerous) > 3 else ""
    return Check("ops", False, detail=f"{told}{more}")


def _what(node: Any) -> str | None:
    """Returns what a node does that a graph for serving should not, or None."""
    from tensorflow.python.framework import op_def_registry

    if node.op == "PrintV2":
        stream = node.attr["output_stream"].s.decode(errors="replace") or "stderr"
        return None if stream in ("stderr", "stdout") or stream.startswith("log(") else f"writes to {stream}"
    for what, names in KINDS.items():
        if node.op in names:
            return what
    # A node outside XLA's and TensorFlow's registry needs a library that no plain runtime has.
    return None if op_def_registry.get(node.op) is not None else "is no op of TensorFlow's core"


class _Calls:
    """Who calls whom in a MetaGraphDef."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self.functions = {f.signature.name: f for f in graph.graph_def.library.function}
        self.main = {node.name: node for node in graph.graph_def.node}
        self.assets = {_node(asset.tensor_info.name) for asset in graph.asset_file_def}
        self.callers: dict[str, list[tuple[str, Any]]] = collections.defaultdict(list)
        for function, node in self.nodes():
            for callee in self._called(node):
                self.callers[callee].append((function, node))
        saver = graph.saver_def
        roots = [_node(name) for name in (saver.save_tensor_name, saver.restore_op_name) if name]
        served = [_node(info.name) for s in graph.signature_def.values() for info in s.outputs.values()]
        for key in ("saved_model_main_op", "legacy_init_op", "init_op"):
            if key in graph.collection_def:
                served += [_node(name) for name in graph.collection_def[key].node_list.value]
        self.saver_nodes, self.saver_functions = self._reached(roots, ())
        objects = graph.object_graph_def.concrete_functions
        self.served_nodes, self.served_functions = self._reached(served, objects)

    def nodes(self) -> Iterator[tuple[str, Any]]:
        """Yields every node with the function that holds it, "" for the graph itself."""
        for node in self.graph.graph_def.node:
            yield "", node
        for name, function in self.functions.items():
            for node in function.node_def:
                yield name, node

    def is_saver(self, function: str, node: str) -> bool:
        """Whether the saver alone reaches a node."""
        if function:
            return function in self.saver_functions and function not in self.served_functions
        return node in self.saver_nodes and node not in self.served_nodes

    def constant(self, function: str, tensor: str, depth: int = 0) -> str | None:
        """Returns the string that a tensor is where the graph itself fixes it, None for an asset or an input."""
        name = _node(tensor)
        nodes = {n.name: n for n in self.functions[function].node_def} if function else self.main
        node = nodes.get(name)
        if depth > 20 or (not function and name in self.assets):
            return None
        if node is None and function:
            arguments = [argument.name for argument in self.functions[function].signature.input_arg]
            place = arguments.index(name) if name in arguments else -1
            callers = self.callers[function] if place >= 0 else []
            found = (self.constant(f, n.input[place], depth + 1) for f, n in callers if place < len(n.input))
            return next((text for text in found if text is not None), None)
        if node is not None and node.op in ("Identity", "ReadVariableOp"):
            return self.constant(function, node.input[0], depth + 1)
        if node is not None and node.op == "Const":
            values = node.attr["value"].tensor.string_val
            return values[0].decode(errors="replace") if values else ""
        return None

    def _called(self, node: Any) -> Iterator[str]:
        if node.op in self.functions:
            yield node.op
        for value in node.attr.values():
            for function in (value.func, *value.list.func):
                if function.name in self.functions:
                    yield function.name

    def _reached(self, start: Iterable[str], functions: Iterable[str]) -> tuple[set[str], set[str]]:
        """Returns nodes of the graph itself and functions that computing `start` comes to."""
        nodes: set[str] = set()
        found: set[str] = set()
        waiting, called = list(start), [name for name in functions if name in self.functions]
        while waiting or called:
            if called:
                name = called.pop()
                if name not in found:
                    found.add(name)
                    called += [c for node in self.functions[name].node_def for c in self._called(node)]
                continue
            name = waiting.pop()
            if name in nodes or name not in self.main:
                continue
            nodes.add(name)
            called += self._called(self.main[name])
            waiting += [_node(tensor) for tensor in self.main[name].input]
        return nodes, found


def _node(tensor: str) -> str:
    """Returns the node that a tensor comes from: `^a`, `a:0` and `a:output:0` are node `a`."""
    return tensor.removeprefix("^").split(":", 1)[0]
