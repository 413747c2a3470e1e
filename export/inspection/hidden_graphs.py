"""Finds graphs in the strings of a node, such as the constant from which `DatasetFromGraph` builds a data set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tensorflow.core.framework import graph_pb2, types_pb2

_SHORTEST = 8  # bytes of a graph with a node whose op has four letters; the names of dangerous ops are no shorter


def strings(node: Any) -> Iterator[bytes]:
    """Yields every string in the attributes of a node that is long enough for a graph."""
    for value in node.attr.values():
        kind = value.WhichOneof("value")
        texts = [value.s] if kind == "s" else value.tensor.string_val if kind == "tensor" else ()
        if kind == "list":
            texts = [*value.list.s, *(text for tensor in value.list.tensor for text in tensor.string_val)]
        yield from (text for text in texts if len(text) >= _SHORTEST)


def has_packed_strings(node: Any) -> bool:
    """Whether a constant holds strings in a binary form that TensorFlow reads and its Python code never writes."""
    if node.op != "Const" or "value" not in node.attr:
        return False
    tensor = node.attr["value"].tensor
    return tensor.dtype == types_pb2.DT_STRING and bool(tensor.tensor_content)


def nodes(text: bytes) -> list[Any]:
    """Returns the nodes of the graph that a string holds, with those of its functions; empty for any other string."""
    from google.protobuf.message import DecodeError
    from tensorflow.python.framework import op_def_registry

    graph = graph_pb2.GraphDef()
    try:
        graph.ParseFromString(text)
    except DecodeError:
        return []
    found = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    own = {function.signature.name for function in graph.library.function}
    known = all(node.op in own or op_def_registry.get(node.op) is not None for node in found)
    return found if known else []
