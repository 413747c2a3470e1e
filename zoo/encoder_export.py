"""Exports of text encoders: published ones without training, and any of them with a corpus to search."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo import registry, storage
from zoo.errors import UsageError

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from zoo.checkpoints import Checkpoint
    from zoo.datasets.interface import Interface

_BATCH = 64
_MOST_GOLDEN = 64


def find_encoder(weights: str | Path) -> str | None:
    """Returns the family that can export published weights without training and without a data set; None for others.

    Args:
        weights: a local path, or the name of a repository, whose weights are downloaded.

    Example:
        >>> find_encoder("all-MiniLM-L6-v2")
        'sentence_bert'
    """
    from zoo import checkpoints

    published = checkpoints.locate(weights)
    place = published.path if published else weights
    for family in checkpoints.families(place):
        if checkpoints.find(family, place).format.is_complete(place):
            return family
    return None


def export_encoder(
    weights: str | Path,
    path: str | Path,
    *,
    corpus: str | None = None,
    golden: Any = None,
    runtimes: str | Sequence[str] = (),
) -> Path:
    """Writes and verifies the SavedModel of a published text encoder, without training.

    Args:
        weights: a folder of sentence-transformers, or its name, such as hf:ORG/NAME.
        path: folder of the model: PATH/1, then PATH/2.
        corpus: texts for the signature `search`: `lines:FILE`, or `csv:FILE` with the columns id and text; None for none.
        golden: texts to publish as golden examples; None or "generated" for texts of the corpus, or else made-up ones.
        runtimes: as in `zoo.export.save`.

    Returns:
        The version folder, such as `PATH/1`.

    Raises:
        UsageError: the weights are no text encoder, or are damaged; as in `read_corpus`; or as in `zoo.export.save`.

    Example:
        >>> export_encoder("all-MiniLM-L6-v2", "exports/faq", corpus="lines:faq.txt")
        PosixPath('exports/faq/1')
    """
    from zoo import checkpoints, export, tasks
    from zoo.datasets.preprocessing.base import get_preprocessor
    from zoo.export.keras_models.interface import Examples, GivenInterface
    from zoo.export.raw_requests import GENERATED, encoded, raw_requests

    family = find_encoder(weights)
    if family is None:
        raise UsageError(
            f"{weights} is no text encoder: it has no modules.json. Pass a folder of sentence-transformers, or train one: "
            f"`zoo train --model sentence_bert --model.weights {weights} --data csv:texts.csv`."
        )
    spec, checkpoint = registry.get_spec(family), checkpoints.find(family, weights)
    task = tasks.get_task(spec.tasks[0])
    kind = get_preprocessor(spec.preprocessing.get("preprocessor", task.preprocessor))
    preprocessor = kind.for_checkpoint(checkpoint.preprocessing(), checkpoint.arguments())
    model = checkpoints.build(family, weights)
    if corpus is not None:
        preprocessor = with_corpus(model, preprocessor, corpus)
    generated = golden in (None, GENERATED) and corpus is None
    if golden in (None, GENERATED):
        golden = preprocessor.corpus.texts[:_MOST_GOLDEN] if corpus else None
    requests = raw_requests(preprocessor, _pairs(golden or preprocessor.generated(np.random.default_rng(0), 1)))
    interface = GivenInterface(
        definition=task.for_targets(preprocessor),
        spec=spec,
        build=registry.describe_build(model) or {},
        class_names=(),
        preprocessor=preprocessor,
        examples=Examples(requests, encoded(preprocessor, requests)),
        task=task.name,
        pretrained=_record(checkpoint, weights),
    )
    saved: Path = export.save(
        model,
        path,
        interface=interface,  # type: ignore[arg-type]  # it has what an export reads
        golden=GENERATED if generated else None,
        runtimes=runtimes,
    )
    return saved


def _pairs(texts: Any) -> Any:
    """Returns requests with two texts from a list of texts: each next to the following one."""
    if isinstance(texts, Mapping):
        return texts
    texts = list(texts)
    return {"text": texts, "text_pair": [*texts[1:], *texts[:1]]}


def with_corpus(model: keras.Model, preprocessor: Any, corpus: str) -> Any:
    """Returns a preprocessor with the vectors of a corpus, which its SavedModel searches.

    Args:
        model: the trained encoder.
        preprocessor: its preprocessor.
        corpus: as in `export_encoder`.

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


def _record(checkpoint: Checkpoint, weights: str | Path) -> dict[str, Any]:
    """Returns what zoo.json and the model card say of the weights."""
    if checkpoint.published is not None:
        return checkpoint.published.record(str(weights))
    place = Path(checkpoint.path)
    files = sorted(file for file in place.rglob("*") if file.suffix in (".safetensors", ".bin"))
    hashes = {file.relative_to(place).as_posix(): storage.sha256(file) for file in files}
    return {"name": place.name, "source": place.name, "licence": "unknown", "sha256": hashes}
