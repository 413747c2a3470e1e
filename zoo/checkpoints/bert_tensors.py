"""The tensors of BERT in the format of Hugging Face's transformers, and their places in the model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np


class Place(NamedTuple):
    """The place of one of the format's tensors in the model.

    Attributes:
        name: the tensor's name in the format.
        layer: the model's layer.
        path: the variable in that layer, such as `inner.kernel`.
        part: number of the part along the last axis of the variable, and the number of parts.
        transposed: whether the format stores it as (outputs, inputs).
    """

    name: str
    layer: str
    path: str
    part: tuple[int, int] = (0, 1)
    transposed: bool = False

    def cut(self, variable: np.ndarray) -> np.ndarray:
        """Returns the tensor in the form of the format, from a variable's value or from a gradient of its shape."""
        number, parts = self.part
        width = variable.shape[-1] // parts
        found = variable[..., number * width : (number + 1) * width]
        return found.T if self.transposed else found


def places(num_layers: int, classifier: str | None, *, masked: bool = False, pooled: bool = True) -> Iterator[Place]:
    """Yields the place of every tensor, with the names of BertForSequenceClassification, BertForTokenClassification or
    BertForMaskedLM.

    Args:
        num_layers: number of blocks.
        classifier: the name of the model's last layer; None leaves it out.
        masked: whether it is a masked language model, which has word scores as its last layer and no pooler.
        pooled: whether it has a pooler, unlike a tagger.

    Example:
        >>> next(iter(places(2, None))).name
        'bert.embeddings.word_embeddings.weight'
    """

    def dense(name: str, layer: str, path: str, part: tuple[int, int] = (0, 1)) -> Iterator[Place]:
        dot = f"{path}." if path else ""
        yield Place(f"{name}.weight", layer, f"{dot}kernel", part, transposed=True)
        yield Place(f"{name}.bias", layer, f"{dot}bias", part)

    def norm(name: str, layer: str, path: str) -> Iterator[Place]:
        yield Place(f"{name}.weight", layer, f"{path}.gamma")
        yield Place(f"{name}.bias", layer, f"{path}.beta")

    for theirs, ours in (("word", "words"), ("position", "positions"), ("token_type", "token_types")):
        yield Place(f"bert.embeddings.{theirs}_embeddings.weight", "embeddings", f"{ours}.embeddings")
    yield from norm("bert.embeddings.LayerNorm", "embeddings", "norm")
    for i in range(num_layers):
        block, layer = f"bert.encoder.layer.{i}", f"block_{i + 1}"
        for number, part in enumerate(("query", "key", "value")):
            yield from dense(f"{block}.attention.self.{part}", layer, "query_key_value", (number, 3))
        yield from dense(f"{block}.attention.output.dense", layer, "attention_output")
        yield from norm(f"{block}.attention.output.LayerNorm", layer, "attention_norm")
        yield from dense(f"{block}.intermediate.dense", layer, "inner")
        yield from dense(f"{block}.output.dense", layer, "outer")
        yield from norm(f"{block}.output.LayerNorm", layer, "feed_forward_norm")
    if masked:
        yield from dense("cls.predictions.transform.dense", "transform", "dense")
        yield from norm("cls.predictions.transform.LayerNorm", "transform", "norm")
        if classifier is not None:
            yield Place("cls.predictions.bias", classifier, "bias")
        return
    if pooled:
        yield from dense("bert.pooler.dense", "pooled", "")
    if classifier is not None:
        yield from dense("classifier", classifier, "")
