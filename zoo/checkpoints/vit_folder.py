"""Reads ViT folders in the format of Hugging Face's transformers: config.json, preprocessor_config.json and the weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.checkpoints import config_files, tensor_files, tensor_places
from zoo.checkpoints.bert_config import ACTIVATIONS
from zoo.checkpoints.contract import CheckpointFormat, Classifier, Repository, register_format
from zoo.checkpoints.tensor_places import CONVOLUTION, DENSE, Place
from zoo.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    import keras

_SIZES = {
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "intermediate_size": "intermediate_size",
    "patch_size": "patch_size",
}
_DROPOUTS = {"hidden_dropout_prob": "dropout", "attention_probs_dropout_prob": "attention_dropout"}
_SCALINGS = {((0.5,) * 3, (0.5,) * 3): "tf", ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)): "torch"}
"""Our names of the mean and the deviation in preprocessor_config.json."""
_CLASSIFIER = "ViTForImageClassification"
_MODELS = ("ViTModel", _CLASSIFIER)
_UNUSED = ("vit.pooler.", "classifier.")
EXACT = (*_SIZES.values(), "activation", "layer_norm_epsilon", "scaling")


def read_config(folder: str | Path) -> dict[str, Any]:
    """Returns the settings of a folder as arguments of `build_vit_model`, without num_classes.

    Raises:
        UsageError: config.json is missing, the model is no ViT or an unsupported one, or a size or setting is missing or out
            of range.

    Example:
        >>> read_config("vit-base-patch16-224")["patch_size"]
        16
    """
    file, config = config_files.read(folder)
    names = config.get("architectures") or [_MODELS[0]]
    if config.get("model_type") != "vit" or not set(names) & set(_MODELS):
        raise UsageError(
            f"{file} is for {names[0] if config.get('model_type') == 'vit' else config.get('model_type')!r}; expected ViT "
            f"({' or '.join(_MODELS)}). Pass the folder of such a model."
        )
    expected = {"num_channels": 3, "qkv_bias": True, "quantization_config": None}
    for key, value in expected.items():
        if config.get(key, value) != value:
            raise UsageError(f"{file} has {key}={config[key]!r}; expected {value!r}. Pass the folder of another ViT.")
    found: dict[str, Any] = {name: config_files.size(file, key, config.get(key)) for key, name in _SIZES.items()}
    for key, name in _DROPOUTS.items():
        found[name] = config_files.fraction(file, key, config.get(key, 0.0))
    activation = config.get("hidden_act", "gelu")
    if activation not in ACTIVATIONS:
        raise UsageError(f"{file} has hidden_act={activation!r}. {did_you_mean(str(activation), ACTIVATIONS)}")
    image = config.get("image_size", 224)
    height, width = image if isinstance(image, list) and len(image) == 2 else (image, image)
    shape = (*(config_files.size(file, "image_size", side) for side in (height, width)), 3)
    epsilon = config_files.fraction(file, "layer_norm_eps", config.get("layer_norm_eps", 1e-12))
    more = {"activation": ACTIVATIONS[activation], "layer_norm_epsilon": epsilon, "scaling": _scaling(Path(folder))}
    return {**found, "input_shape": shape, **more}


def _scaling(folder: Path) -> str:
    file = folder / "preprocessor_config.json"
    if not file.is_file():
        raise UsageError(
            f"{folder} holds no preprocessor_config.json, which says how images are scaled. Put that of the model there."
        )
    config = config_files.read_json(file)
    mean, deviation = (tuple(config.get(name) or ()) for name in ("image_mean", "image_std"))
    usual = config.get("do_normalize", True) and config.get("do_rescale", True)
    if not usual or (mean, deviation) not in _SCALINGS:
        raise UsageError(
            f"{file} has image_mean={list(mean)} and image_std={list(deviation)}; expected 0.5 and 0.5, or those of "
            "ImageNet. Pass the folder of another ViT."
        )
    return _SCALINGS[mean, deviation]


def _read_classifier(folder: str | Path) -> Classifier | None:
    file, config = config_files.read(folder)
    if _CLASSIFIER not in (config.get("architectures") or ()):
        return None
    if config.get("problem_type") not in (None, "single_label_classification"):
        return None
    names = config.get("id2label")
    if names is None:
        return Classifier(config_files.size(file, "num_labels", config.get("num_labels", 2)), None)
    if not isinstance(names, dict) or set(names) != {str(i) for i in range(len(names))}:
        raise UsageError(f"{file}: id2label is {names!r:.60}; expected names by number from 0. Correct it.")
    labels = tuple(str(names[str(i)]) for i in range(len(names)))
    # Some names of ImageNet's classes are equal; their commas separate synonyms.
    return Classifier(len(labels), labels if len(set(labels)) == len(labels) else _different(labels))


def _different(labels: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{name} ({i})" if labels.count(name) > 1 else name for i, name in enumerate(labels))


# --- Weights ----------------------------------------------------------------------------------------------------------


def places(num_layers: int, classifier: str | None) -> Iterator[Place]:
    """Yields the place of every tensor, with the names of ViTForImageClassification; None leaves the classifier out."""

    def dense(name: str, layer: str, path: str, part: tuple[int, int] = (0, 1)) -> Iterator[Place]:
        dot = f"{path}." if path else ""
        yield Place(f"{name}.weight", layer, f"{dot}kernel", part, DENSE)
        yield Place(f"{name}.bias", layer, f"{dot}bias", part)

    def norm(name: str, layer: str, path: str) -> Iterator[Place]:
        yield Place(f"{name}.weight", layer, f"{path}gamma")
        yield Place(f"{name}.bias", layer, f"{path}beta")

    yield Place("vit.embeddings.cls_token", "class_token", "token")
    yield Place("vit.embeddings.position_embeddings", "positions", "embeddings")
    yield Place("vit.embeddings.patch_embeddings.projection.weight", "patches", "kernel", axes=CONVOLUTION)
    yield Place("vit.embeddings.patch_embeddings.projection.bias", "patches", "bias")
    for i in range(num_layers):
        block, layer = f"vit.encoder.layer.{i}", f"block_{i + 1}"
        for number, part in enumerate(("query", "key", "value")):
            yield from dense(f"{block}.attention.attention.{part}", layer, "query_key_value", (number, 3))
        yield from dense(f"{block}.attention.output.dense", layer, "attention_output")
        yield from norm(f"{block}.layernorm_before", layer, "attention_norm.")
        yield from norm(f"{block}.layernorm_after", layer, "feed_forward_norm.")
        yield from dense(f"{block}.intermediate.dense", layer, "inner")
        yield from dense(f"{block}.output.dense", layer, "outer")
    yield from norm("vit.layernorm", "norm", "")
    if classifier is not None:
        yield from dense("classifier", classifier, "")


def _load(model: keras.Model, folder: str | Path, classifier: bool) -> None:
    tensors, file = tensor_files.read_tensors(folder)
    whole = any(name.startswith("vit.") for name in tensors)
    found = tensors if whole else {f"vit.{name}": array for name, array in tensors.items()}
    count = sum(layer.name.startswith("block_") for layer in model.layers)
    wanted = {place.name: place for place in places(count, model.layers[-1].name if classifier else None)}
    problems = [f"{name} is missing" for name in wanted if name not in found]
    others = sorted(found.keys() - wanted.keys())
    problems += [f"{name} is not part of ViT" for name in others if not name.startswith(_UNUSED)]
    problems += tensor_places.misfits(model, wanted, found)
    tensor_places.check(file, problems, "a folder that fits its config.json")
    if unused := [name for name in others if name.startswith(_UNUSED[0])]:
        warnings.warn(f"{file}: not used: {', '.join(unused)}.", stacklevel=3)
    tensor_places.assign(model, wanted, found)


register_format(
    CheckpointFormat(
        name="vit_folder",
        title="a Hugging Face folder of ViT",
        recognises=lambda folder: config_files.is_type(folder, "vit"),
        load=_load,
        read_arguments=read_config,
        exact=EXACT,
        read_classifier=_read_classifier,
        repository=Repository(("vit",), ("preprocessor_config.json",), tensor_files.PATTERNS),
    )
)
