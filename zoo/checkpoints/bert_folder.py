"""Reads and writes folders of BERT in the format of Hugging Face's transformers, and reads those of DistilBERT and RoBERTa.

A folder holds config.json (`bert_config`), the weights (`tensor_files`: model.safetensors or pytorch_model.bin, whole or in
shards) and the tokenizer (`wordpiece_files`).
"""

from __future__ import annotations

import collections
import dataclasses
import os
import re
import uuid
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import storage
from zoo.checkpoints import (
    bert_config,
    byte_pair_files,
    distilbert,
    roberta,
    sentence_modules,
    tensor_files,
    wordpiece_files,
)
from zoo.checkpoints.bert_config import ACTIVATIONS
from zoo.checkpoints.bert_tensors import Place, places
from zoo.checkpoints.contract import CheckpointFormat, Repository, register_format
from zoo.errors import UsageError

if TYPE_CHECKING:
    import keras
    import numpy as np

# --- Mapping of tensors -----------------------------------------------------------------------------------------------


def model_places(model: keras.Model) -> list[Place]:
    """Returns the place of every tensor of a model with BERT's body.

    Raises:
        UsageError: the model is not BERT.
    """
    names = [layer.name for layer in model.layers]
    last = next((name for name in names if name in ("probabilities", "logits", "values")), None)
    if not {"embeddings", "block_1"} <= set(names):
        raise UsageError(f"Model {model.name!r} is not a BERT model. Pass a model from zoo.build('bert', ...).")
    blocks = sum(bool(re.fullmatch(r"block_\d+", name)) for name in names)
    return list(places(blocks, last, masked=is_masked(model), pooled="pooled" in names))


def is_masked(model: keras.Model) -> bool:
    """Whether a model is a masked language model, which scores words at positions."""
    return any(layer.name == "transform" for layer in model.layers)


_FIRST_PIECES = "first_pieces"


def is_tagger(model: keras.Model) -> bool:
    """Whether a model tags words, and so has a layer that takes the vector of the first subword token of each."""
    return any(layer.name == _FIRST_PIECES for layer in model.layers)


_SEVERAL = "multi_label_classification"


def _kind(model: keras.Model) -> str | None:
    """Returns the format's name for the kind of a model's last layer; None for one label per text, its default."""
    last = model.layers[-1]
    if last.name == "values":
        return "regression"
    return _SEVERAL if last.get_config().get("activation") == "sigmoid" else None


def _variable(model: keras.Model, place: Place) -> Any:
    found: Any = model.get_layer(place.layer)
    for name in place.path.split("."):
        found = getattr(found, name)
    return found


# --- Weights ----------------------------------------------------------------------------------------------------------

_BUFFERS = re.compile(r"(bert\.)?embeddings\.(position_ids|token_type_ids)")
_HEADS = re.compile(r"(cls|qa_outputs|classifier|bert\.pooler)\.")
_OPTIONAL = ("bert.pooler.dense.", "cls.predictions.")
_TIED = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}


def load_weights(model: keras.Model, folder: str | Path, *, load_classifier: bool) -> None:
    """Sets a model's weights from a folder. The classifier's weights are only set if `load_classifier` is true.

    Raises:
        UsageError: as in `set_weights`, or the classifier is missing or has another kind or size. The model is not changed
            then.
    """
    if load_classifier and not is_masked(model):
        several = _kind(model) == _SEVERAL
        bert_config.check_classifier(folder, model.output_shape[-1], several=several, tags_words=is_tagger(model))
    tensors, file = tensor_files.read_tensors(folder)
    found = roberta.as_bert_tensors(distilbert.as_bert_tensors(tensors), Path(folder))
    set_weights(model, found, file, load_classifier=load_classifier)


def set_weights(model: keras.Model, tensors: Mapping[str, np.ndarray], file: Path, *, load_classifier: bool) -> None:
    """Sets a model's weights from the tensors of a file, by the format's names.

    A model with fewer positions than the checkpoint uses the first ones. A warning lists an unused head. It also lists a
    pooler, or a head of a masked language model, that the checkpoint lacks and that keeps its initial weights.

    Raises:
        UsageError: a tensor is missing, does not belong to BERT, has another shape, or holds integers, NaN or infinity. The
            model is not changed then.
    """
    import numpy as np

    wanted = {p.name: p for p in model_places(model) if load_classifier or not p.name.startswith("classifier.")}
    found = {_modern(name, tensors): array for name, array in tensors.items() if not _BUFFERS.fullmatch(name)}
    problems = []
    for copy, name in _TIED.items() if is_masked(model) else ():
        if copy in found and not np.array_equal(found.pop(copy), found.get(name, ())):
            problems.append(f"{copy} differs from {name}, to which it is tied")
    unused = sorted(n for n in found if n not in wanted and _HEADS.match(n))
    fresh = []
    for prefix in () if load_classifier else _OPTIONAL:
        part = sorted(n for n in wanted if n.startswith(prefix))
        fresh += part if not set(part) & set(found) else []  # of half a pooler, the other half is missing
    values: dict[tuple[str, str], list[np.ndarray]] = {}
    problems += [f"{n} is missing" for n in wanted if n not in found and n not in fresh]
    problems += [f"{n} is not part of BERT" for n in sorted(found) if n not in wanted and n not in unused]
    for name, place in wanted.items():
        if name not in found or name in fresh:
            continue
        shape = place.cut(np.broadcast_to(np.float32(), _variable(model, place).shape)).shape
        array = found[name]
        if place.path == "positions.embeddings" and array.ndim == 2 and len(array) > shape[0]:
            array = array[: shape[0]]
        if array.shape != shape:
            problems.append(f"{name} is {array.shape}, expected {shape}")
        elif wrong := _not_weights(array):
            problems.append(f"{name} {wrong}")
        values.setdefault((place.layer, place.path), []).append(array.T if place.transposed else array)
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise UsageError(
            f"{file} does not fit: {'; '.join(problems[:3])}{more}. Pass a folder that fits its config.json."
        )
    if not is_masked(model) and not is_tagger(model) and not any(place.layer == "pooled" for place in wanted.values()):
        unused = [name for name in unused if not name.startswith("bert.pooler.")]  # by the choice of another pooling
    if unused or fresh:
        warnings.warn(_warning(file, unused, fresh), stacklevel=3)
    for place in wanted.values():
        if parts := values.pop((place.layer, place.path), None):
            _variable(model, place).assign(np.concatenate(parts, axis=-1))


def _not_weights(array: np.ndarray) -> str | None:
    """Returns why an array cannot be weights, or None."""
    import numpy as np

    if array.dtype.kind != "f":
        return f"is of type {array.dtype}, expected floating-point numbers"
    count = array.size - np.count_nonzero(np.isfinite(array))
    return f"has {count} of {array.size} values that are NaN or beyond float32's range" if count else None


def _warning(file: Path, unused: Sequence[str], fresh: Sequence[str]) -> str:
    parts = [f"not used: {', '.join(unused)}"] if unused else []
    parts += [f"not in the file, so random: {', '.join(fresh)}"] if fresh else []
    return f"{file}: {'; '.join(parts)}."


def _modern(name: str, names: Mapping[str, Any]) -> str:
    """A tensor's name in today's BertForSequenceClassification, also for old names of norms and for a body without head."""
    if not any(other.startswith("bert.") for other in names):
        name = f"bert.{name}" if name.startswith(("embeddings.", "encoder.", "pooler.")) else name
    return re.sub(r"LayerNorm\.(gamma|beta)$", lambda m: f"LayerNorm.{'weight' if m[1] == 'gamma' else 'bias'}", name)


# --- Writing ----------------------------------------------------------------------------------------------------------


def save_folder(
    model: keras.Model,
    folder: str | Path,
    *,
    vocabulary: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    tokenizer: Mapping[str, Any] | None = None,
    scale: tuple[Sequence[float], Sequence[float]] | None = None,
) -> Path:
    """Writes a folder for `transformers`, whole or not at all: a text classifier, a tagger, a regression, or a masked
    language model.

    Args:
        model: a model from `build_bert_model` or `build_bert_mlm_model`. LoRA weights are added to the adapted kernels.
        folder: the folder to write, which must be missing or empty.
        vocabulary: the tokens in the order of their numbers; they become vocab.txt.
        labels: the class names in the order of their numbers.
        tokenizer: further settings of tokenizer_config.json, such as {"do_lower_case": False}.
        scale: of a regression, the mean and the standard deviation of each value. They become part of the last layer, so
            that its outputs are in the values' own units.

    Returns:
        The folder.

    Raises:
        UsageError: the model is not BERT, the folder is not empty, the number of tokens or labels differs from the model's,
            one of them occurs twice, or a token has a line break.
    """
    import numpy as np
    from safetensors.numpy import save_file

    folder = Path(folder)
    tensors = {p.name: np.array(p.cut(_value(model, p)), np.float32, order="C") for p in model_places(model)}
    if scale is not None:
        mean, deviation = (np.asarray(part, np.float32) for part in scale)
        tensors["classifier.weight"] *= deviation[:, np.newaxis]
        tensors["classifier.bias"] = tensors["classifier.bias"] * deviation + mean
    config = _config_of(model, labels)
    if vocabulary is not None and len(vocabulary) != config["vocab_size"]:
        raise UsageError(
            f"The vocabulary has {len(vocabulary)} tokens; the model has {config['vocab_size']}. Pass all of them."
        )
    wordpiece_files.check_writable(vocabulary or ())
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise UsageError(f"{folder} already exists and is not overwritten. Remove it, or choose another folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}-{uuid.uuid4().hex[:12]}")
    try:
        temporary.mkdir()
        storage.write_json(temporary / "config.json", config)
        save_file(tensors, temporary / tensor_files.SAFETENSORS, metadata={"format": "pt"})
        if vocabulary is not None:
            wordpiece_files.write_pieces(vocabulary, temporary / wordpiece_files.VOCABULARY_FILE)
            settings = {"tokenizer_class": "BertTokenizer", "model_max_length": config["max_position_embeddings"]}
            storage.write_json(
                temporary / "tokenizer_config.json", {"do_lower_case": True, **settings, **(tokenizer or {})}
            )
        os.replace(temporary, folder)
    finally:
        storage.remove_tree(temporary)
    return folder


def _value(model: keras.Model, place: Place) -> np.ndarray:
    import keras

    return keras.ops.convert_to_numpy(_variable(model, place))


def _config_of(model: keras.Model, labels: Sequence[str] | None) -> dict[str, Any]:
    """The config.json of a model, from its layers, because it may be loaded from a file."""
    embeddings, block = model.get_layer("embeddings"), model.get_layer("block_1")
    theirs = {ours: name for name, ours in ACTIVATIONS.items()}
    config = {
        "architectures": ["BertForMaskedLM"],
        "model_type": "bert",
        "vocab_size": embeddings.vocab_size,
        "hidden_size": embeddings.hidden_size,
        "num_hidden_layers": sum(p.path == "inner.bias" for p in model_places(model)),
        "num_attention_heads": block.num_heads,
        "intermediate_size": block.feed_forward_dim,
        "max_position_embeddings": embeddings.max_length,
        "type_vocab_size": embeddings.type_vocab_size,
        "hidden_act": theirs[block.activation],
        "hidden_dropout_prob": embeddings.dropout,
        "attention_probs_dropout_prob": block.attention_dropout,
        "layer_norm_eps": block.epsilon,
        "initializer_range": 0.02,
        "pad_token_id": 0,
        "dtype": "float32",
    }
    if is_masked(model):
        if labels is not None:
            raise UsageError(f"There are {len(labels)} labels; a masked language model has none. Leave labels out.")
        return config
    pooled = [layer for layer in model.layers if layer.name == "pooled"]
    if not is_tagger(model) and (not pooled or pooled[0].get_config()["activation"] != "tanh"):
        raise UsageError(
            f"Model {model.name!r} has another pooler than BERT, so transformers has no class for it. Build the model with "
            "pooling='pooler' and pooler_activation='tanh'."
        )
    num_classes = model.output_shape[-1]
    names = [f"LABEL_{i}" for i in range(num_classes)] if labels is None else [str(label) for label in labels]
    if len(names) != num_classes:
        raise UsageError(f"There are {len(names)} labels; the model has {num_classes} classes. Pass one for each.")
    if twice := [name for name, count in collections.Counter(names).items() if count > 1]:
        raise UsageError(
            f"The label {twice[0]!r} occurs {names.count(twice[0])} times. Pass a different name for each class."
        )
    kind = _kind(model)
    return config | {
        "architectures": [f"BertFor{'Token' if is_tagger(model) else 'Sequence'}Classification"],
        **({"problem_type": kind} if kind else {}),
        "classifier_dropout": model.get_layer("classifier_dropout").rate,
        "id2label": {str(i): name for i, name in enumerate(names)},
        "label2id": {name: i for i, name in enumerate(names)},
    }


# --- The format -------------------------------------------------------------------------------------------------------


_TEXT_TASKS = ("text_classification", "text_multilabel", "text_regression")


def _preprocessors(folder: str | Path) -> dict[str, str] | None:
    return dict.fromkeys(_TEXT_TASKS, roberta.PREPROCESSOR) if roberta.is_roberta(folder) else None


def _read_preprocessing(folder: str | Path) -> dict[str, Any]:
    if roberta.is_roberta(folder):
        return dataclasses.asdict(roberta.read_tokens(folder))
    found = wordpiece_files.read_vocabulary(folder)
    return {"vocabulary": found.pieces, **dataclasses.asdict(found.rules)}


def _save(
    model: keras.Model, folder: str | Path, preprocessing: Mapping[str, Any], labels: Sequence[str] | None
) -> Path:
    if "merges" in preprocessing:
        raise UsageError("A model of RoBERTa cannot be written as a folder. Pass a model of BERT.")
    tokenizer = {theirs: preprocessing[ours] for ours, theirs in wordpiece_files.SETTINGS.items()}
    targets = preprocessing.get("targets", {})
    for key, held, option in (("log", "logarithms", "log_values"), ("quantiles", "quantiles", "quantiles")):
        if targets.get(key):
            raise UsageError(f"The model predicts {held}, which the format does not know. Train it without {option}.")
    scale = (targets["mean"], targets["deviation"]) if "mean" in targets else None
    names = targets.get("value_names", labels)
    vocabulary = preprocessing["vocabulary"]
    return save_folder(model, folder, vocabulary=vocabulary, labels=names, tokenizer=tokenizer, scale=scale)


register_format(
    CheckpointFormat(
        name="bert_folder",
        title="a Hugging Face folder of BERT, DistilBERT or RoBERTa",
        recognises=bert_config.is_bert,
        load=lambda model, folder, classifier: load_weights(model, folder, load_classifier=classifier),
        read_arguments=lambda folder: {**bert_config.read_config(folder), **sentence_modules.pooling_of(folder)},
        exact=bert_config.EXACT,
        at_most=("max_length",),
        read_classifier=bert_config.read_classifier,
        read_preprocessing=_read_preprocessing,
        preprocessors=_preprocessors,
        save=_save,
        repository=Repository(
            ("bert", distilbert.TYPE, roberta.TYPE),
            tuple({*wordpiece_files.PATTERNS, *byte_pair_files.PATTERNS, *sentence_modules.PATTERNS}),
            tensor_files.PATTERNS,
        ),
    )
)
