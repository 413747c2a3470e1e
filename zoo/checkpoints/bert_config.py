"""Reads config.json of a Hugging Face folder of BERT, DistilBERT or RoBERTa: sizes, settings and the classifier."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo import storage
from zoo.checkpoints import distilbert, roberta
from zoo.checkpoints.contract import Classifier
from zoo.errors import UsageError, did_you_mean, one_line

_LARGEST = 64 << 20
"""Maximum bytes of config.json."""
_SIZES = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "intermediate_size": "intermediate_size",
    "max_position_embeddings": "max_length",
    "type_vocab_size": "type_vocab_size",
}
_DROPOUTS: dict[str, tuple[str, float | None]] = {  # with the default of the format for a missing key
    "hidden_dropout_prob": ("dropout", 0.1),
    "attention_probs_dropout_prob": ("attention_dropout", 0.1),
    "classifier_dropout": ("classifier_dropout", None),
}
ACTIVATIONS = {
    "gelu_python": "gelu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "swish": "silu",
    "silu": "silu",
    "tanh": "tanh",
}
"""Our names by the format's names. If several have the same name, the last one is written."""

EXACT = (
    *(name for name in _SIZES.values() if name != "max_length"),
    "activation",
    "layer_norm_epsilon",
    "pooler_activation",
)
"""Arguments on which the weights depend: a model must be built with the folder's values."""

_OTHERWISE = {"is_decoder": False, "add_cross_attention": False, "position_embedding_type": "absolute"}


def read_config(folder: str | Path) -> dict[str, Any]:
    """Returns the settings of a folder's config.json as arguments of `build_bert_model`, without num_classes.

    Raises:
        UsageError: config.json is missing, the model is neither BERT, DistilBERT nor RoBERTa or is an unsupported variant
            (decoders, relative positions, other activations, pruned or quantised weights), or a size or setting is missing
            or out of range.

    Example:
        >>> read_config("bert-base-uncased")["hidden_size"]
        768
    """
    file, config = _config(folder)
    kind = config.get("model_type", "bert")  # the first BERT folders lack it
    others = [name for name in _architectures(file, config) if not name.startswith("Bert")]
    if kind != "bert" or others:
        raise UsageError(
            f"{file} is for {others[0] if others else kind!r}; expected BERT, DistilBERT or RoBERTa. Pass the folder of one."
        )
    for key, expected in _OTHERWISE.items():
        if config.get(key, expected) not in (expected, None):
            raise UsageError(
                f"{file} has {key}={config[key]!r}; expected {expected!r}. Pass the folder of a BERT encoder."
            )
    for key in ("pruned_heads", "quantization_config"):
        if config.get(key):
            raise UsageError(f"{file} has {key}; expected plain float weights. Pass the folder of the original model.")
    activation = config.get("hidden_act", "gelu")
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise UsageError(
            f"{file} has hidden_act={activation!r}, which is not supported. {did_you_mean(str(activation), ACTIVATIONS)}"
        )
    settings = {"activation": ACTIVATIONS[activation], "pooler_activation": config.get("pooler_activation", "tanh")}
    return {**_numbers(file, config), **settings}


def _numbers(file: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Sizes and settings by our names."""
    numbers: dict[str, Any] = {}
    for key, name in _SIZES.items():
        size = numbers[name] = config.get(key)
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise UsageError(f"{file} has {key}={size!r}; expected a whole number of at least 1. Correct it.")
    for key, (name, default) in _DROPOUTS.items():
        rate: Any = config.get(key, default)
        numbers[name] = rate
        if (rate is not None or default is not None) and (not _is_number(rate) or not 0 <= rate < 1):
            raise UsageError(f"{file} has {key}={rate!r}; expected a number of at least 0 and less than 1. Correct it.")
    epsilon = numbers["layer_norm_epsilon"] = config.get("layer_norm_eps", 1e-12)
    if not _is_number(epsilon) or not 0 < epsilon < 1:
        raise UsageError(
            f"{file} has layer_norm_eps={epsilon!r}; expected a number above 0 and less than 1. Correct it."
        )
    return numbers


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_bert(folder: str | Path) -> bool:
    """Whether a folder holds a config.json that may be for BERT or DistilBERT. Its other settings are not checked.

    Example:
        >>> is_bert("bert-base-uncased")
        True
    """
    try:
        file, config = _config(folder)
        others = [name for name in _architectures(file, config) if not name.startswith("Bert")]
    except (UsageError, OSError):
        return False
    return config.get("model_type", "bert") == "bert" and not others


# --- The classifier ---------------------------------------------------------------------------------------------------

_ONE, _SEVERAL, _WORDS = "single_label_classification", "multi_label_classification", "token_classification"
_KINDS = {
    _ONE: "one label per text",
    _SEVERAL: "several labels per text",
    "regression": "numbers instead of labels",
}
_TITLES = {**_KINDS, _WORDS: "one tag per word"}
_TEXTS, _TAGGER = "BertForSequenceClassification", "BertForTokenClassification"


@dataclasses.dataclass(frozen=True)
class Head(Classifier):
    """The head of a folder's text classifier or tagger.

    Attributes:
        kind: single_label_classification, multi_label_classification or regression, as in the format, or
            token_classification for a tagger.
    """

    kind: str

    @property
    def several(self) -> bool:
        """Whether a text may have several labels at once."""
        return self.kind == _SEVERAL

    @property
    def builder(self) -> Mapping[str, Any]:
        """Whether a model with this head tags words."""
        return {"tags_words": self.kind == _WORDS}


def head_of(folder: str | Path) -> Head | None:
    """Returns the text classifier or tagger in config.json, of any kind; None if the weights are those of neither.

    Without id2label the labels have no names, and their number is num_labels, or else two. Without problem_type, a head with
    one output is a regression, and a head with several outputs has one label per text.

    Raises:
        UsageError: config.json is missing, or its labels or kind are invalid.

    Example:
        >>> head_of("my-sentiment-model")
        Head(count=2, labels=('negative', 'positive'), kind='single_label_classification')
    """
    file, config = _config(folder)
    names = _architectures(file, config)
    if not {_TEXTS, _TAGGER} & {*names}:
        return None
    labels = _labels(file, config)
    count = config.get("num_labels") if labels is None else len(labels)
    count = 2 if count is None else count  # the format omits two unnamed labels
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise UsageError(f"{file} has num_labels={count!r}; expected a whole number of at least 1. Correct it.")
    if _TEXTS not in names:
        return Head(count, labels, _WORDS)
    kind = config.get("problem_type")
    if kind is None:
        kind = "regression" if count == 1 else _ONE
    if not isinstance(kind, str) or kind not in _KINDS:
        raise UsageError(f"{file} has problem_type={kind!r}, which is unknown. {did_you_mean(str(kind), _KINDS)}")
    return Head(count, labels, kind)


def _labels(file: Path, config: dict[str, Any]) -> tuple[str, ...] | None:
    names = config.get("id2label")
    if names is None:
        return None
    numbers = [str(i) for i in range(len(names))] if isinstance(names, dict) else []
    if not numbers or set(names) != set(numbers):
        raise UsageError(f"{file}: id2label is {names!r}; expected names by number from 0. Correct it.")
    labels = tuple(str(names[number]) for number in numbers)
    if len(set(labels)) < len(labels):
        raise UsageError(
            f"{file}: id2label has {len(labels)} names of which {len(set(labels))} differ; expected a different name for "
            "each number. Correct them."
        )
    return labels


def check_classifier(
    folder: str | Path, num_classes: int | None = None, *, several: bool = False, tags_words: bool = False
) -> Head:
    """Returns a folder's text classifier or tagger if it is of the kind of the model, and has as many labels.

    Args:
        folder: holds config.json.
        num_classes: the model's classes; None for any number.
        several: whether the model has several labels per text, and not one.
        tags_words: whether the model tags words.

    Raises:
        UsageError: there is no text classifier, it is of another kind, or has another number of labels.

    Example:
        >>> check_classifier("my-sentiment-model", 2).labels
        ('negative', 'positive')
    """
    found = head_of(folder)
    new = "leave load_classifier out for a new one"
    if found is None:
        raise UsageError(f"{folder} has no text classifier. Pass a folder with one, or {new}.")
    if found.kind != (wanted := _WORDS if tags_words else _SEVERAL if several else _ONE):
        raise UsageError(
            f"{folder}'s classifier has the kind {found.kind}: {_TITLES[found.kind]}; expected {_TITLES[wanted]}. Pass a "
            f"folder with such a classifier, or {new}."
        )
    if num_classes is not None and num_classes != found.count:
        raise UsageError(
            f"{folder}'s classifier has {found.count} labels; num_classes is {num_classes}. Pass "
            f"num_classes={found.count}, or {new}."
        )
    return found


def read_classifier(folder: str | Path) -> Head | None:
    """Returns a folder's classifier if it has one or several labels per text, or a tag per word; None for any other head.

    Raises:
        UsageError: as in `head_of`.

    Example:
        >>> read_classifier("my-sentiment-model").labels
        ('negative', 'positive')
    """
    found = head_of(folder)
    return found if found and found.kind in (_ONE, _SEVERAL, _WORDS) else None


# --- The file ---------------------------------------------------------------------------------------------------------


def _architectures(file: Path, config: dict[str, Any]) -> list[str]:
    names = config.get("architectures")
    names = [] if names is None else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UsageError(f"{file} has architectures={names!r}; expected a list of names. Correct it.")
    return names


def _config(folder: str | Path) -> tuple[Path, dict[str, Any]]:
    if not isinstance(folder, (str, Path)) or not Path(folder).is_dir():
        raise UsageError(
            f"There is no folder {str(folder)!r}. Pass a folder with config.json and weights, written by save_pretrained, or "
            "hf:ORG/NAME to download one; `zoo list --pretrained` prints some."
        )
    file = Path(folder) / "config.json"
    if not file.is_file():
        raise UsageError(f"{folder} holds no config.json. Pass a folder that save_pretrained wrote.")
    try:
        content = json.loads(storage.read_bytes(file, _LARGEST))
    except UsageError:
        raise
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{file} is not JSON ({one_line(error, 100)}). Replace it with a complete file.") from error
    if not isinstance(content, dict):
        raise UsageError(
            f"{file} holds {type(content).__name__}; expected settings by name. Replace it with a complete file."
        )
    return file, roberta.as_bert_config(distilbert.as_bert_config(content))
