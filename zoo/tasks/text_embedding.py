"""Text embedding: a vector for a text, the similarity of two texts, and a search for the nearest texts of a corpus.

The data has labels, or pairs of texts: texts with the same label, or of one pair, belong together. Every label of a batch is
compared with all others, so nothing but the batch is needed for texts that do not belong together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zoo.errors import UsageError
from zoo.tasks.contract import Objective, Served, Shown, Signature, Task, Term
from zoo.tasks.registry import register_task

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


def _contrastive(output: str, label_smoothing: float = 0.0) -> keras.losses.Loss:
    from zoo.metrics import ContrastiveLoss

    if label_smoothing:
        raise UsageError(
            f"label_smoothing={label_smoothing} requires classes; this task compares texts. Leave label_smoothing out."
        )
    return ContrastiveLoss(reduction=None)


def _embedding(outputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    return {"embedding": outputs["embedding"]}


def _nearest(served: Served) -> dict[str, tf.Tensor]:
    ids, texts = served.preprocessor.found(served.outputs["numbers"])
    return {"id": ids, "text": texts, "score": served.outputs["score"]}


def _has_corpus(preprocessor: Any) -> bool:
    return preprocessor.corpus is not None


register_task(
    Task(
        name="text_embedding",
        targets=("label",),
        preprocessor="sentences",
        default_model="sentence_bert",
        objective=Objective(loss=(Term("label", ("embedding",), _contrastive),), paired="label"),
        prediction=_embedding,
        report="retrieval",
        signatures={
            "serving_default": Signature(
                ("text",),
                lambda served: _embedding(served.outputs),
                {
                    "embedding": "the vector of the text; the product of two vectors is their cosine if they have length 1"
                },
            ),
            "similarity": Signature(
                ("text", "text_pair"),
                lambda served: dict(served.outputs),
                {"similarity": "the cosine of the two texts' vectors, from -1 to 1"},
                head="similarity",
            ),
            "search": Signature(
                ("text",),
                _nearest,
                {
                    "id": "the ids of the nearest texts of the corpus, the nearest first",
                    "text": "these texts",
                    "score": "the cosine of each with the text of the request",
                },
                head="search",
                shown=Shown("rows", ("text", "id", "score")),
                exists=_has_corpus,
            ),
        },
        data_of=("text_classification",),
    )
)
