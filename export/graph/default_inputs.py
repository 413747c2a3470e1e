"""Default values of inputs in a SavedModel, so that clients need not send them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from zoo.tasks import Request


def write(folder: Path, signatures: Mapping[str, Collection[str]], requests: Mapping[str, Request]) -> None:
    """Writes the defaults of inputs into saved_model.pb, each with one row, which is that of every example.

    TensorFlow Serving's gRPC API reads them in `SignatureDef.defaults`, and its REST API needs all inputs. A session, as of
    the C API and `saved_model_cli run`, computes them in the graph. The functions of `tf.saved_model.load` take all inputs.

    Args:
        folder: a SavedModel that `tf.saved_model.save` wrote. Its fingerprint is not computed again.
        signatures: the names of the inputs with a default of each signature.
        requests: their declarations by name.

    Example:
        >>> write(Path("exports/plays/1"), {"sample": ["seed"]}, preprocessor.requests)
    """
    from tensorflow.core.protobuf import saved_model_pb2

    file = folder / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    (graph,) = model.meta_graphs
    nodes = {node.name: node for node in graph.graph_def.node}
    for signature, names in signatures.items():
        found = graph.signature_def[signature]
        for name in names:
            value = _tensor(requests[name])
            found.defaults[name].CopyFrom(value)
            _read_by_default(graph.graph_def, nodes[found.inputs[name].name.partition(":")[0]], value)
    file.write_bytes(model.SerializeToString(deterministic=True))


def _tensor(request: Request) -> Any:
    """Returns the default of a request as a TensorProto with one row."""
    dtype = tf.as_dtype(request.dtype)
    value = np.array([request.default], object if dtype == tf.string else dtype.as_numpy_dtype)
    return tf.make_tensor_proto(value, dtype, value.shape)


def _read_by_default(graph: Any, placeholder: Any, value: Any) -> None:
    """Makes a placeholder the value that it has if none is fed."""
    constant = graph.node.add(name=f"{placeholder.name}/default", op="Const")
    constant.attr["dtype"].type = value.dtype
    constant.attr["value"].tensor.CopyFrom(value)
    placeholder.op = "PlaceholderWithDefault"
    placeholder.input.append(constant.name)
