"""The corpus that the SavedModel of a text encoder searches."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo import registry
from zoo.errors import UsageError

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from zoo.datasets.interface import Interface

_BATCH = 64


def with_corpus(model: keras.Model, preprocessor: Any, corpus: str) -> Any:
    """Returns a preprocessor with the vectors of a corpus, which its SavedModel searches.

    Args:
        model: the trained encoder.
        preprocessor: its preprocessor.
        corpus: `lines:FILE`, a text on each line, or `csv:FILE` with the columns id and text.

    Raises:
        UsageError: the model is no text encoder, or as in `read_corpus`.
    """
    from zoo.datasets.sources.corpora import read_corpus

    if not hasattr(preprocessor, "corpus"):
        raise UsageError(
            f"A corpus is for text encoders; {model.name!r} is none. Leave the corpus out, or choose a model for "
            f"text_embedding, such as {registry.list_models(task='text_embedding')[0]}."
        )
    found = read_corpus(corpus)
    vectors, rows = _vectors(model, preprocessor, found.texts)
    return dataclasses.replace(preprocessor, corpus=dataclasses.replace(found, vectors=vectors, rows=rows), _items={})


def searching(model: keras.Model, interface: Interface, corpus: str | None) -> Interface:
    """Returns a run's interface with a corpus that its SavedModel searches; unchanged without one.

    Raises:
        UsageError: as in `with_corpus`.
    """
    if corpus is None:
        return interface
    return dataclasses.replace(interface, preprocessor=with_corpus(model, interface.preprocessor, corpus))


def _vectors(
    model: keras.Model, preprocessor: Any, texts: Sequence[str]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Returns the vectors of texts, float32 (different texts, dim), each of length 1, and the row of each text, int32
    (texts,). Texts with the same tokens have one row. Texts of similar length are computed together."""
    import tensorflow as tf

    from zoo.kernels import traced
    from zoo.tasks import call_model

    strings = [tf.TensorSpec([None], tf.string)]
    encode = traced(lambda batch: preprocessor(batch), input_signature=strings, autograph=False)
    keys: list[bytes] = []
    for start in range(0, len(texts), _BATCH):
        inputs = encode(tf.constant(texts[start : start + _BATCH]))
        ids, real = inputs["token_ids"].numpy(), inputs["padding_mask"].numpy() != 0
        keys += [row[mask].tobytes() for row, mask in zip(ids, real, strict=True)]
    _, first, rows = np.unique(np.array(keys, object), return_index=True, return_inverse=True)

    def embed(batch: tf.Tensor) -> tf.Tensor:
        return tf.math.l2_normalize(call_model(model, preprocessor(batch))["embedding"], axis=-1)

    function = traced(embed, input_signature=strings, autograph=False)
    order = np.argsort([len(keys[i]) for i in first], kind="stable")
    parts = [
        function(tf.constant([texts[first[i]] for i in order[start : start + _BATCH]])).numpy()
        for start in range(0, len(order), _BATCH)
    ]
    found: np.ndarray[Any, Any] = np.empty((len(order), parts[0].shape[1]), np.float32)
    found[order] = np.concatenate(parts)
    return found, rows.reshape(-1).astype(np.int32)
