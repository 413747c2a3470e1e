"""RoBERTa's config.json, tensors and tokens in the names of BERT, whose body it has.

RoBERTa counts positions from the number of its padding token plus 1; the rows before are dropped. It has one token type. The
dense layer of its classifier takes the place of the pooler. Training differs from `transformers` in one point: no dropout
comes before that layer. A `<pad>` in a text has another position there.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.checkpoints import byte_pair_files, config_files
from zoo.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

TYPE = "roberta"
"""The model_type in config.json."""
PREPROCESSOR = "byte_level_text"
SPECIALS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
_PADDING = 1
_AS_WRITTEN = ("PreTrainedTokenizerFast", "TokenizersBackend")
"""Classes of `transformers` that use tokenizer.json unchanged. The one of RoBERTa takes `add_prefix_space` from
tokenizer_config.json, by default false, whatever tokenizer.json says."""
_NAMES = {
    r"^roberta\.": "",
    r"^(embeddings|encoder|pooler)\.": r"bert.\1.",
    r"^classifier\.dense\.": "bert.pooler.dense.",
    r"^classifier\.out_proj\.": "classifier.",
    r"^lm_head\.dense\.": "cls.predictions.transform.dense.",
    r"^lm_head\.layer_norm\.": "cls.predictions.transform.LayerNorm.",
    r"^lm_head\.decoder\.": "cls.predictions.decoder.",
    r"^lm_head\.bias$": "cls.predictions.bias",
}
"""Patterns of tensor names and what replaces them, in order."""


def as_bert_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of a RoBERTa in BERT's names; those of another model unchanged.

    Example:
        >>> as_bert_config({"model_type": "roberta", "max_position_embeddings": 514})["max_position_embeddings"]
        512
    """
    if config.get("model_type") != TYPE:
        return dict(config)
    names = config.get("architectures")
    if isinstance(names, list):
        names = [name.replace("Roberta", "Bert", 1) if isinstance(name, str) else name for name in names]
    padding, places = config.get("pad_token_id", _PADDING), config.get("max_position_embeddings")
    if isinstance(padding, int) and isinstance(places, int):
        places -= padding + 1
    return {**config, "architectures": names, "model_type": "bert", "max_position_embeddings": places}


def as_bert_tensors(tensors: Mapping[str, np.ndarray], folder: Path) -> Mapping[str, np.ndarray]:
    """Returns the tensors of a RoBERTa by BERT's names, with positions from 0; those of another model unchanged.

    Args:
        tensors: the tensors by their names in the folder.
        folder: holds config.json.
    """
    config = config_files.read_json(Path(folder) / "config.json")
    if config.get("model_type") != TYPE:
        return tensors
    found = {}
    for name, array in tensors.items():
        for pattern, ours in _NAMES.items():
            name = re.sub(pattern, ours, name)
        found[name] = array
    places = "bert.embeddings.position_embeddings.weight"
    if places in found:
        found[places] = found[places][config.get("pad_token_id", _PADDING) + 1 :]
    return found


@dataclasses.dataclass(frozen=True)
class Tokens:
    """The tokenizer of a folder.

    Attributes:
        merges: see `byte_pair_files.read_merges`.
        numbers: the number of every byte, every pair, and every token of `SPECIALS`, in this order.
        add_prefix_space: whether a text begins with a space.
        stripping: the special tokens that take the white space before them.
    """

    merges: byte_pair_files.Merges
    numbers: tuple[int, ...]
    add_prefix_space: bool
    stripping: tuple[str, ...]


def is_roberta(folder: str | Path) -> bool:
    """Whether a folder holds a config.json of RoBERTa."""
    file = Path(folder) / "config.json"
    return file.is_file() and config_files.read_json(file).get("model_type") == TYPE


def read_tokens(folder: str | Path) -> Tokens:
    """Reads vocab.json and merges.txt, or else tokenizer.json.

    Raises:
        UsageError: a file is missing or damaged, or a byte, a pair or a special token has no number.
    """
    folder = Path(folder)
    whole, vocabulary, merges = (folder / name for name in ("tokenizer.json", "vocab.json", "merges.txt"))
    settings = folder / "tokenizer_config.json"
    options = config_files.read_json(settings) if settings.is_file() else {}
    added = [*(options.get("added_tokens_decoder") or {}).values(), options.get("mask_token")]
    if whole.is_file():
        content = config_files.read_json(whole)
        model, source = content.get("model") or {}, whole
        lines = [line.split(" ") if isinstance(line, str) else list(line) for line in model.get("merges") or ()]
        added = content.get("added_tokens") or []
        known = {**(model.get("vocab") or {}), **{token["content"]: token["id"] for token in added}}
        if options.get("tokenizer_class") in _AS_WRITTEN:
            options = content.get("pre_tokenizer") or {}
    elif vocabulary.is_file() and merges.is_file():
        lines, known, source = byte_pair_files.read_lines(merges), config_files.read_json(vocabulary), vocabulary
    else:
        raise UsageError(
            f"{folder} has neither tokenizer.json nor vocab.json with merges.txt, which hold the tokens. Put those of the "
            "model there."
        )
    pairs = byte_pair_files.merges_of(source, lines)
    written = [*byte_pair_files.letters(), *("".join(parts) for parts in lines), *SPECIALS]
    if lacking := [token for token in written if not isinstance(known.get(token), int)]:
        raise UsageError(
            f"{source} has no number for the token {lacking[0]!r}; expected every byte, every pair of merges and "
            f"{', '.join(SPECIALS)}. Pass the folder of a RoBERTa."
        )
    stripping = {token["content"] for token in added if isinstance(token, dict) and token.get("lstrip")}
    return Tokens(
        pairs,
        tuple(known[token] for token in written),
        bool(options.get("add_prefix_space", False)),
        tuple(token for token in SPECIALS if token in stripping),
    )
