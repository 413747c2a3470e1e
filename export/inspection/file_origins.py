"""The call graph of a MetaGraphDef, and the origin of file names in it. Unproven origins count as unknown."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator
from typing import Any

from zoo.export.inspection import hidden_graphs

ASSET, CONSTANT, UNKNOWN = "asset", "constant", "unknown"
_DEEPEST = 40
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")


class Calls:
    """The call graph of a MetaGraphDef."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self.functions = {f.signature.name: f for f in graph.graph_def.library.function}
        self.main = {node.name: node for node in graph.graph_def.node}
        self.bodies = {name: {n.name: n for n in f.node_def} for name, f in self.functions.items()}
        self.assets = {node_of(asset.tensor_info.name) for asset in graph.asset_file_def}
        self.callers: dict[str, list[tuple[str, Any]]] = collections.defaultdict(list)
        self._callees: dict[str, list[str]] = collections.defaultdict(list)
        for function, node in self.nodes():
            for callee in self._called(node):
                self.callers[callee].append((function, node))
                self._callees[function].append(callee)
        saver = graph.saver_def
        answers = [node_of(info.name) for s in graph.signature_def.values() for info in s.outputs.values()]
        loading = []
        for key in ("saved_model_main_op", "legacy_init_op", "init_op"):
            if key in graph.collection_def:
                loading += [node_of(name) for name in graph.collection_def[key].node_list.value]
        objects = graph.object_graph_def.concrete_functions
        self._saving = self._reached([node_of(saver.save_tensor_name)], ())
        self._restoring = self._reached([node_of(saver.restore_op_name)], ())
        self._answering = self._reached(answers, ())
        self._served = self._reached([*answers, *loading], objects)

    def nodes(self) -> Iterator[tuple[str, Any]]:
        """Yields every node with the function that contains it, "" for the graph itself."""
        for node in self.graph.graph_def.node:
            yield "", node
        for name, function in self.functions.items():
            for node in function.node_def:
                yield name, node

    def is_saver(self, function: str, node: str, *, saves: bool) -> bool:
        """Whether only the saver reaches a node. A saving node must not be reached by restoring, which runs at every load."""
        place, key = (1, function) if function else (0, node)
        reached = key in self._saving[place] or (not saves and key in self._restoring[place])
        return reached and key not in self._served[place] and not (saves and key in self._restoring[place])

    def is_checkpoint(self, function: str, tensor: str, depth: int = 0) -> bool:
        """Whether a file name is the saver's argument, or begins with it."""
        name, node = node_of(tensor), self._node(function, tensor)
        if depth > _DEEPEST or tensor.startswith("^"):
            return False
        if not function and name == node_of(self.graph.saver_def.filename_tensor_name):
            return True
        if node is None:
            callers = self._given(function, name)
            return bool(callers) and all(f is not None and self.is_checkpoint(f, t, depth + 1) for f, t in callers)
        inputs = [given for given in node.input if not given.startswith("^")]
        if node.op in ("Identity", "ShardedFilename"):
            return self.is_checkpoint(function, inputs[0], depth + 1)
        if node.op == "StringJoin":
            fixed = all(self._is_plain(function, given) for given in inputs[1:])
            return fixed and self.is_checkpoint(function, inputs[0], depth + 1)
        return node.op == "Pack" and all(self.is_checkpoint(function, given, depth + 1) for given in inputs)

    def origin(self, function: str, tensor: str, depth: int = 0) -> tuple[str, str]:
        """Returns the origin of a file name: an asset of the SavedModel, a constant with its text, or unknown."""
        name, node = node_of(tensor), self._node(function, tensor)
        if depth > _DEEPEST or tensor.startswith("^"):
            return UNKNOWN, ""
        if not function and name in self.assets:
            # Loaders feed the asset's path only while loading. A signature that reads the node gets the stored value.
            fed = node is not None and (node.op == "Placeholder" or name not in self._answering[0])
            return (ASSET if fed else UNKNOWN), ""
        if node is None:
            return self._agreed(self._argument(function, name, depth))
        inputs = [given for given in node.input if not given.startswith("^")]
        if node.op == "Identity":
            return self.origin(function, inputs[0], depth + 1)
        if node.op == "ReadVariableOp" and not function:
            return self._agreed(self.origin("", given, depth + 1) for given in self._assigned(node_of(inputs[0])))
        if node.op == "Const":
            values = node.attr["value"].tensor.string_val
            return CONSTANT, values[0].decode(errors="replace") if values else ""
        return UNKNOWN, ""

    def _agreed(self, origins: Iterable[tuple[str, str]]) -> tuple[str, str]:
        """Returns an asset if all origins are assets, else the first other origin."""
        found = list(origins)
        others = [origin for origin in found if origin[0] != ASSET]
        return others[0] if others else (ASSET, "") if found else (UNKNOWN, "")

    def _argument(self, function: str, name: str, depth: int) -> Iterator[tuple[str, str]]:
        """Yields the origin of a function's argument for every call of the function."""
        for caller, tensor in self._given(function, name):
            yield self.origin(caller, tensor, depth + 1) if caller is not None else (UNKNOWN, "")
        bound = self.graph.object_graph_def.concrete_functions
        if function in bound:
            arguments = [argument.name for argument in self.functions[function].signature.input_arg]
            held = bound[function].bound_inputs
            place = arguments.index(name) - (len(arguments) - len(held)) if name in arguments else -1
            nodes = self.graph.object_graph_def.nodes
            if place < 0 or not 0 <= held[place] < len(nodes):  # the caller chooses it
                yield UNKNOWN, ""
            elif nodes[held[place]].WhichOneof("kind") == "constant":
                yield self.origin("", nodes[held[place]].constant.operation, depth + 1)
            else:
                yield (ASSET if nodes[held[place]].WhichOneof("kind") == "asset" else UNKNOWN), ""

    def _given(self, function: str, name: str) -> list[tuple[str | None, str]]:
        """Returns the tensors that callers of a function pass for an argument; None for a caller that is not understood."""
        if function not in self.functions:
            return []
        arguments = [argument.name for argument in self.functions[function].signature.input_arg]
        place = arguments.index(name) if name in arguments else -1
        given: list[tuple[str | None, str]] = []
        for caller, node in self.callers[function]:
            called = node.op == function or (node.op in _CALLS and node.attr["f"].func.name == function)
            is_given = called and 0 <= place < len(node.input)
            given.append((caller, node.input[place]) if is_given else (None, ""))
        return given

    def _assigned(self, name: str) -> list[str]:
        """Returns the tensors assigned to a variable of the graph itself; empty if another node may change it."""
        handle = self.main.get(name)
        if handle is None or handle.op != "VarHandleOp":
            return []
        shared = handle.attr["shared_name"].s
        same = [n for _, n in self.nodes() if n.op == "VarHandleOp" and n.attr["shared_name"].s == shared]
        users = [n for n in self.main.values() if name in (node_of(i) for i in n.input if not i.startswith("^"))]
        known = ("ReadVariableOp", "AssignVariableOp", "VarIsInitializedOp")
        if len(same) > 1 or any(user.op not in known for user in users):
            return []
        return [user.input[1] for user in users if user.op == "AssignVariableOp"]

    def _is_plain(self, function: str, tensor: str) -> bool:
        """Whether a part of a file name is constant and does not contain `..`."""
        node = self._node(function, tensor)
        if node is None:
            return False
        if node.op == "Select":
            return all(self._is_plain(function, given) for given in node.input[1:3])
        if node.op != "Const" or hidden_graphs.has_packed_strings(node):
            return False
        return not any(b".." in text for text in node.attr["value"].tensor.string_val)

    def _node(self, function: str, tensor: str) -> Any:
        nodes = self.bodies.get(function, {}) if function else self.main
        return nodes.get(node_of(tensor))

    def _called(self, node: Any) -> Iterator[str]:
        if node.op in self.functions:
            yield node.op
        for value in node.attr.values():
            kind = value.WhichOneof("value")  # most are neither, and reading one makes it
            for function in [value.func] if kind == "func" else value.list.func if kind == "list" else ():
                if function.name in self.functions:
                    yield function.name

    def _reached(self, start: Iterable[str], functions: Iterable[str]) -> tuple[set[str], set[str]]:
        """Returns the nodes of the graph itself and the functions that are needed to compute `start`."""
        nodes: set[str] = set()
        found: set[str] = set()
        waiting, called = list(start), [name for name in functions if name in self.functions]
        while waiting or called:
            if called:
                name = called.pop()
                if name not in found:
                    found.add(name)
                    called += self._callees[name]
                continue
            name = waiting.pop()
            if name in nodes or name not in self.main:
                continue
            nodes.add(name)
            called += self._called(self.main[name])
            waiting += [node_of(tensor) for tensor in self.main[name].input]
        return nodes, found


def node_of(tensor: str) -> str:
    """Returns the node of a tensor: `^a`, `a:0` and `a:output:0` belong to node `a`."""
    return tensor.removeprefix("^").split(":", 1)[0]
