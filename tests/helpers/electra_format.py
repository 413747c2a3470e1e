"""A second format of published weights for BERT's models: everything that a format requires."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

from zoo import checkpoints
from zoo.checkpoints import bert_folder, tensor_files, wordpiece_files


def _config(folder) -> dict:
    return json.loads((Path(folder) / "config.json").read_text())


def _is_electra(folder) -> bool:
    return (Path(folder) / "config.json").is_file() and _config(folder).get("model_type") == "electra"


def _arguments(folder) -> dict:
    names = {
        "vocab_size": "vocab_size",
        "hidden_size": "hidden_size",
        "num_hidden_layers": "num_layers",
        "num_attention_heads": "num_heads",
        "intermediate_size": "intermediate_size",
        "max_position_embeddings": "max_length",
        "type_vocab_size": "type_vocab_size",
        "hidden_dropout_prob": "dropout",
        "attention_probs_dropout_prob": "attention_dropout",
        "hidden_act": "activation",
        "layer_norm_eps": "layer_norm_epsilon",
    }
    config = _config(folder)
    return {ours: config[theirs] for theirs, ours in names.items()}


def _load(model, folder, classifier) -> None:
    """Loads the encoder. ELECTRA has no pooler."""
    tensors, file = tensor_files.read_tensors(folder)
    renamed = {re.sub(r"^(electra\.)?", "bert.", name): array for name, array in tensors.items()}
    bert_folder.set_weights(model, renamed, file, load_classifier=classifier)


def _preprocessing(folder) -> dict:
    found = wordpiece_files.read_vocabulary(folder)
    return {"vocabulary": found.pieces, **dataclasses.asdict(found.rules)}


ELECTRA = checkpoints.CheckpointFormat(
    name="electra_folder",
    title="a Hugging Face folder of ELECTRA",
    recognises=_is_electra,
    load=_load,
    read_arguments=_arguments,
    exact=("vocab_size", "hidden_size", "num_layers", "num_heads", "intermediate_size"),
    at_most=("max_length",),
    read_preprocessing=_preprocessing,
)
