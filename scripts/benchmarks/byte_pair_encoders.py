"""Byte-level tokenizers of other libraries, with the same pairs, for `zoo benchmark tokenization`."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Encode = Callable[[Any], Any]


def learn(texts: Iterable[str], size: int) -> Any:
    """Returns the pairs of at most `size` tokens, learned from texts."""
    import collections

    import tensorflow as tf

    from zoo.checkpoints.byte_pair_files import as_merges
    from zoo.datasets.preprocessing.byte_pair_learning import learn_byte_pairs
    from zoo.datasets.preprocessing.byte_pairs import END_PIECE, BytePairs

    counts: collections.Counter[bytes] = collections.Counter()
    for batch in tf.data.Dataset.from_tensor_slices(list(texts)).batch(256):
        counts.update(BytePairs().cut(batch).flat_values.numpy().tolist())
    counts.pop(END_PIECE, None)
    return as_merges(learn_byte_pairs(counts, size - 257))


def encoders(merges: Any, folder: Path, skipped: dict[str, str]) -> dict[str, Encode]:
    """Returns the functions of all contenders from texts to tokens, with the SavedModel's first; adds to `skipped` why one is
    left out."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    from zoo.checkpoints import byte_pair_files

    files = folder / "files"
    files.mkdir()
    byte_pair_files.write(files, merges)
    library: Any = Tokenizer(models.BPE.from_file(str(files / "vocab.json"), str(files / "merges.txt")))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    found = {"zoo": _saved(merges, folder), "tokenizers": library.encode_batch_fast}
    if importlib.util.find_spec("keras_hub") is None:
        skipped["keras_hub"] = "not installed."
        return found
    try:
        found["keras_hub"] = _keras_hub(files)
    except ImportError as error:
        skipped["keras_hub"] = str(error)
    return found


def _saved(merges: Any, folder: Path) -> Encode:
    """Writes the tokenizer as a SavedModel, loads it, and returns its function from string tensors to padded tokens."""
    import tensorflow as tf

    from zoo.datasets.preprocessing.byte_pairs import BytePairs

    assets = folder / "assets"
    assets.mkdir()
    served, resources = BytePairs(merges).for_export(assets)
    module = tf.Module()
    module.resources = resources
    encode = tf.function(lambda text: {"tokens": served.encode(text).to_tensor(-1)}, autograph=False)
    function = encode.get_concrete_function(tf.TensorSpec([None], tf.string, "text"))
    tf.saved_model.save(module, str(folder / "saved"), signatures={"serving_default": function})
    loaded = tf.saved_model.load(str(folder / "saved"))
    signature: Callable[..., Any] = loaded.signatures["serving_default"]
    return lambda texts: signature(text=texts)


def _keras_hub(files: Path) -> Encode:
    """Returns KerasHub's function from lists of strings to tokens. Without tensorflow-text, it calls `tokenizers`."""
    import keras_hub

    lines = (files / "merges.txt").read_text(encoding="utf-8").splitlines()[1:]
    vocabulary = json.loads((files / "vocab.json").read_text(encoding="utf-8"))
    encode: Encode = keras_hub.tokenizers.BytePairTokenizer(vocabulary=vocabulary, merges=lines)
    return encode


def numbers_of(contender: str, answer: Any) -> list[list[int]]:
    """Returns a contender's output as one list of tokens per text, without padding."""
    if contender == "zoo":
        return [row[row >= 0].tolist() for row in answer["tokens"].numpy()]
    if contender == "tokenizers":
        return [encoding.ids for encoding in answer]
    return [list(map(int, row)) for row in (answer.to_list() if hasattr(answer, "to_list") else answer)]


def kept(encoders: dict[str, Encode], texts: list[str], skipped: dict[str, str]) -> list[str]:
    """Returns the texts for which KerasHub gives the SavedModel's tokens; adds to `skipped` how many it does not.

    Without tensorflow-text, KerasHub 0.32 cuts texts in another way than GPT-2, such as long numbers into three digits each.
    """
    if "keras_hub" not in encoders:
        return texts
    import tensorflow as tf

    ours = numbers_of("zoo", encoders["zoo"](tf.constant(texts)))
    theirs = numbers_of("keras_hub", encoders["keras_hub"](texts))
    same = [text for text, one, other in zip(texts, ours, theirs, strict=True) if one == other]
    if len(same) < len(texts) / 2:
        del encoders["keras_hub"]
        skipped["keras_hub"] = f"gives other tokens for {len(texts) - len(same):,} of {len(texts):,} texts."
        return texts
    if len(same) < len(texts):
        skipped["keras_hub"] = (
            f"gives other tokens for {len(texts) - len(same):,} of {len(texts):,} texts, which no contender was measured on."
        )
    return same
