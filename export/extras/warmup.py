"""Warm-up requests, which TensorFlow Serving runs on a SavedModel before it serves clients.

The first request of a signature is slow, because kernels are chosen and the graph is optimized. While TensorFlow Serving
loads a version, it therefore replays `assets.extra/tf_serving_warmup_requests`, a TFRecord file of at most 1000
PredictionLog messages. Clients reach the version only afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from zoo.export import artifact_paths

if TYPE_CHECKING:
    from tensorflow.core.framework import tensor_pb2

NAME = "tf_serving_warmup_requests"
_ROWS = 4
_BYTES = 256 * 1024
"""The maximum number of examples and bytes in the request of a signature; a request has at least one example."""


def write_warmup(directory: Path, model_name: str, examples: Mapping[str, Mapping[str, np.ndarray]]) -> Path:
    """Writes a request with the first golden examples for every signature into a version folder's assets.extra.

    Args:
        directory: the version folder.
        model_name: value of `model_spec.name`; a server uses its own name of the model instead.
        examples: the inputs of each signature by name, batch first; strings as objects.

    Raises:
        KeyError: a signature has no examples.
        OSError: the file cannot be written; may also be raised as `tf.errors.OpError`.

    Example:
        >>> write_warmup(Path("exports/digits/1"), "digits", {"predict": {"image": np.zeros((1, 8, 8, 1))}})
        PosixPath('exports/digits/1/assets.extra/tf_serving_warmup_requests')
    """
    # Imported here, because only an export needs this package.
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    file = directory / artifact_paths.EXTRA / NAME
    with tf.io.TFRecordWriter(str(file)) as records:
        for signature, inputs in examples.items():
            if not inputs:
                raise KeyError(f"There are no examples for {signature!r}; expected an array for each of its inputs.")
            rows = _rows(inputs)
            request = predict_pb2.PredictRequest()
            request.model_spec.name, request.model_spec.signature_name = model_name, signature
            for key, value in inputs.items():
                request.inputs[key].CopyFrom(_tensor(value[:rows]))
            log = prediction_log_pb2.PredictionLog()
            log.predict_log.request.CopyFrom(request)
            records.write(log.SerializeToString(deterministic=True))  # maps are sorted by key
    return file


def _tensor(value: np.ndarray) -> tensor_pb2.TensorProto:
    return tf.make_tensor_proto(value.tolist() if value.dtype == object else value, shape=value.shape)


def _rows(inputs: Mapping[str, np.ndarray]) -> int:
    """Returns the number of examples for one request."""

    def size(row: int) -> int:
        parts = (value[row] for value in inputs.values())
        return sum(len(part) if isinstance(part, bytes | str) else np.asarray(part).nbytes for part in parts)

    count = min(_ROWS, *(len(value) for value in inputs.values()))
    sizes = np.cumsum([size(row) for row in range(count)])
    return max(1, int((sizes <= _BYTES).sum()))
