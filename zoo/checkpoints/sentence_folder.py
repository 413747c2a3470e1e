"""Reads folders of sentence-transformers: BERT or DistilBERT, a pooling, and perhaps a normalisation.

A folder without modules.json is read as sentence-transformers reads it: with the mean over the tokens.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.checkpoints import (
    bert_config,
    bert_folder,
    distilbert,
    roberta,
    sentence_modules,
    tensor_files,
    wordpiece_files,
)
from zoo.checkpoints.contract import CheckpointFormat, Repository, register_format
from zoo.errors import UsageError

if TYPE_CHECKING:
    import keras


def _modules(folder: str | Path) -> sentence_modules.Modules:
    found = sentence_modules.read_modules(folder)
    return found or sentence_modules.Modules(Path(folder), "mean", normalize=True, max_length=None)


def _read_arguments(folder: str | Path) -> dict[str, Any]:
    modules = _modules(folder)
    if roberta.is_roberta(modules.body):
        raise UsageError(
            f"{modules.body} is for 'roberta'; expected BERT or DistilBERT. Pass the folder of such a sentence encoder."
        )
    found = bert_config.read_config(modules.body)
    longest = min(found["max_length"], modules.max_length or found["max_length"])
    return {**found, "max_length": longest, "pooling": modules.pooling, "normalize": modules.normalize}


def _load(model: keras.Model, folder: str | Path, classifier: bool) -> None:
    bert_folder.load_weights(model, _modules(folder).body, load_classifier=False)


def _read_preprocessing(folder: str | Path) -> dict[str, Any]:
    found = wordpiece_files.read_vocabulary(_modules(folder).body)
    return {"vocabulary": found.pieces, **dataclasses.asdict(found.rules)}


register_format(
    CheckpointFormat(
        name="sentence_folder",
        title="a folder of sentence-transformers, or a Hugging Face folder of BERT or DistilBERT",
        recognises=lambda folder: sentence_modules.has_modules(folder) or bert_config.is_bert(folder),
        load=_load,
        read_arguments=_read_arguments,
        exact=tuple(name for name in bert_config.EXACT if name != "pooler_activation"),
        at_most=("max_length",),
        read_preprocessing=_read_preprocessing,
        is_complete=sentence_modules.has_modules,
        repository=Repository(
            ("bert", distilbert.TYPE), (*wordpiece_files.PATTERNS, *sentence_modules.PATTERNS), tensor_files.PATTERNS
        ),
    )
)
