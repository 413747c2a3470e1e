"""DistilBERT's config.json and tensors in the names of BERT, whose body it has.

DistilBERT has no token types, so their vectors are zeros. The layer before its classifier takes the place of the pooler, with
another activation. Training differs from `transformers` in one point: dropout also follows the attention, as in BERT.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

TYPE = "distilbert"
"""The model_type in config.json."""
_KEYS = {
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "hidden_dim": "intermediate_size",
    "activation": "hidden_act",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "seq_classif_dropout": "classifier_dropout",
}
_DEFAULTS = {"seq_classif_dropout": 0.2}
_TOKEN_TYPES = 2
_NAMES = {
    r"^distilbert\.": "",
    r"^transformer\.layer\.": "encoder.layer.",
    r"\.attention\.q_lin\.": ".attention.self.query.",
    r"\.attention\.k_lin\.": ".attention.self.key.",
    r"\.attention\.v_lin\.": ".attention.self.value.",
    r"\.attention\.out_lin\.": ".attention.output.dense.",
    r"\.sa_layer_norm\.": ".attention.output.LayerNorm.",
    r"\.ffn\.lin1\.": ".intermediate.dense.",
    r"\.ffn\.lin2\.": ".output.dense.",
    r"\.output_layer_norm\.": ".output.LayerNorm.",
    r"^(embeddings|encoder)\.": r"bert.\1.",
    r"^pre_classifier\.": "bert.pooler.dense.",
    r"^vocab_transform\.": "cls.predictions.transform.dense.",
    r"^vocab_layer_norm\.": "cls.predictions.transform.LayerNorm.",
    r"^vocab_projector\.weight$": "cls.predictions.decoder.weight",
    r"^vocab_projector\.bias$": "cls.predictions.bias",
}
"""Patterns of tensor names and what replaces them, in order."""


def as_bert_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of a DistilBERT in BERT's names; those of another model unchanged.

    Example:
        >>> as_bert_config({"model_type": "distilbert", "n_layers": 6})["num_hidden_layers"]
        6
    """
    if config.get("model_type") != TYPE:
        return dict(config)
    theirs = {**_DEFAULTS, **config}
    names = config.get("architectures")
    if isinstance(names, list):
        names = [name.replace("DistilBert", "Bert", 1) if isinstance(name, str) else name for name in names]
    found = {_KEYS.get(key, key): value for key, value in theirs.items()}
    own = {"architectures": names, "model_type": "bert", "type_vocab_size": _TOKEN_TYPES, "layer_norm_eps": 1e-12}
    return {**found, **own, "pooler_activation": "relu"}


def as_bert_tensors(tensors: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Returns the tensors of a DistilBERT by BERT's names, with token types of zeros; those of another model unchanged.

    Example:
        >>> as_bert_tensors({"transformer.layer.0.ffn.lin1.bias": bias}).keys()
        dict_keys(['bert.encoder.layer.0.intermediate.dense.bias'])
    """
    import numpy as np

    if not any(re.match(r"(distilbert\.)?transformer\.layer\.", name) for name in tensors):
        return tensors
    found = {}
    for name, array in tensors.items():
        for pattern, ours in _NAMES.items():
            name = re.sub(pattern, ours, name)
        found[name] = array
    words = found.get("bert.embeddings.word_embeddings.weight")
    if words is not None and words.ndim == 2:
        found["bert.embeddings.token_type_embeddings.weight"] = np.zeros((_TOKEN_TYPES, words.shape[1]), np.float32)
    return found
