"""A second format of published weights for BERT's models: everything that a format requires."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np

from zoo import checkpoints
from zoo.checkpoints import bert_folder, tensor_files, wordpiece_files

_RENAMED = {
    r"^(distilbert\.)?": "bert.",
    r"\.transformer\.layer\.": ".encoder.layer.",
    r"attention\.q_lin": "attention.self.query",
    r"attention\.k_lin": "attention.self.key",
    r"attention\.v_lin": "attention.self.value",
    r"attention\.out_lin": "attention.output.dense",
    r"sa_layer_norm": "attention.output.LayerNorm",
    r"ffn\.lin1": "intermediate.dense",
    r"ffn\.lin2": "output.dense",
    r"output_layer_norm": "output.LayerNorm",
}


def _config(folder) -> dict:
    return json.loads((Path(folder) / "config.json").read_text())


def _is_distilbert(folder) -> bool:
    return (Path(folder) / "config.json").is_file() and _config(folder).get("model_type") == "distilbert"


def _arguments(folder) -> dict:
    names = {
        "vocab_size": "vocab_size",
        "dim": "hidden_size",
        "n_layers": "num_layers",
        "n_heads": "num_heads",
        "hidden_dim": "intermediate_size",
        "max_position_embeddings": "max_length",
        "dropout": "dropout",
        "attention_dropout": "attention_dropout",
        "activation": "activation",
    }
    config = _config(folder)
    return {ours: config[theirs] for theirs, ours in names.items()} | {
        "type_vocab_size": 1,
        "layer_norm_epsilon": 1e-12,
    }


def _load(model, folder, classifier) -> None:
    """Loads the encoder. DistilBERT has no token types and another pooler."""
    tensors, file = tensor_files.read_tensors(folder)
    renamed = {}
    for name, array in tensors.items():
        for theirs, ours in _RENAMED.items():
            name = re.sub(theirs, ours, name)
        renamed[name] = array
    types = np.zeros((1, model.get_layer("embeddings").hidden_size), np.float32)
    renamed["bert.embeddings.token_type_embeddings.weight"] = types
    bert_folder.set_weights(model, renamed, file, load_classifier=classifier)


def _preprocessing(folder) -> dict:
    found = wordpiece_files.read_vocabulary(folder)
    return {"vocabulary": found.pieces, **dataclasses.asdict(found.rules)}


DISTILBERT = checkpoints.CheckpointFormat(
    name="distilbert_folder",
    title="a Hugging Face folder of DistilBERT",
    recognises=_is_distilbert,
    load=_load,
    read_arguments=_arguments,
    exact=("vocab_size", "hidden_size", "num_layers", "num_heads", "intermediate_size"),
    at_most=("max_length",),
    read_preprocessing=_preprocessing,
)
