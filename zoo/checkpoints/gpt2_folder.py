"""Reads and writes GPT-2 folders in the format of Hugging Face's transformers: config.json, weights and tokenizer files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.checkpoints import byte_pair_files, config_files, tensor_files, tensor_places
from zoo.checkpoints.bert_config import ACTIVATIONS
from zoo.checkpoints.contract import CheckpointFormat, Location, Repository, register_format
from zoo.checkpoints.tensor_places import Place
from zoo.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    import keras

_SIZES = {
    "vocab_size": "vocab_size",
    "n_positions": "max_length",
    "n_embd": "hidden_size",
    "n_layer": "num_layers",
    "n_head": "num_heads",
}
_FIXED = {
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "tie_word_embeddings": True,
    "add_cross_attention": False,
    "quantization_config": None,
}
EXACT = (
    "vocab_size",
    "hidden_size",
    "num_layers",
    "num_heads",
    "intermediate_size",
    "activation",
    "layer_norm_epsilon",
)
_PREFIX = "transformer."
_UNUSED = (".attn.bias", ".attn.masked_bias", "lm_head.weight")
"""Masks of older files, and the copy of the table of tokens."""


def read_config(folder: str | Path) -> dict[str, Any]:
    """Returns the settings of a folder as arguments of `build_gpt_model`.

    Raises:
        UsageError: config.json is missing, the model is no GPT-2 or an unsupported one, or a size or setting is missing or
            out of range.

    Example:
        >>> read_config("gpt2")["num_layers"]
        12
    """
    file, config = config_files.read(folder)
    if config.get("model_type") != "gpt2":
        raise UsageError(
            f"{file} is for {config.get('model_type')!r}; expected gpt2. Pass the folder of a GPT-2, "
            "such as hf:openai-community/gpt2."
        )
    for key, value in _FIXED.items():
        if config.get(key, value) != value:
            raise UsageError(f"{file} has {key}={config[key]!r}; expected {value!r}. Pass the folder of another GPT-2.")
    found: dict[str, Any] = {name: config_files.size(file, key, config.get(key)) for key, name in _SIZES.items()}
    inner = config.get("n_inner")
    found["intermediate_size"] = (
        4 * found["hidden_size"] if inner is None else config_files.size(file, "n_inner", inner)
    )
    activation = config.get("activation_function", "gelu_new")
    if activation not in ACTIVATIONS:
        raise UsageError(f"{file} has activation_function={activation!r}. {did_you_mean(str(activation), ACTIVATIONS)}")
    return {
        **found,
        "activation": ACTIVATIONS[activation],
        "dropout": config_files.fraction(file, "resid_pdrop", config.get("resid_pdrop", 0.1)),
        "attention_dropout": config_files.fraction(file, "attn_pdrop", config.get("attn_pdrop", 0.1)),
        "layer_norm_epsilon": config_files.fraction(file, "layer_norm_epsilon", config.get("layer_norm_epsilon", 1e-5)),
    }


def places(num_layers: int) -> Iterator[Place]:
    """Yields the place of every tensor, with the names of GPT2Model. Its dense kernels are stored as (inputs, outputs)."""
    yield Place("wte.weight", "tokens", "embeddings")
    yield Place("wpe.weight", "positions", "embeddings")
    for i in range(num_layers):
        block, layer = f"h.{i}", f"block_{i + 1}"
        for theirs, ours in (("ln_1", "attention_norm"), ("ln_2", "feed_forward_norm")):
            yield Place(f"{block}.{theirs}.weight", layer, f"{ours}.gamma")
            yield Place(f"{block}.{theirs}.bias", layer, f"{ours}.beta")
        for theirs, ours in (
            ("attn.c_attn", "query_key_value"),
            ("attn.c_proj", "attention_output"),
            ("mlp.c_fc", "inner"),
            ("mlp.c_proj", "outer"),
        ):
            yield Place(f"{block}.{theirs}.weight", layer, f"{ours}.kernel")
            yield Place(f"{block}.{theirs}.bias", layer, f"{ours}.bias")
    yield Place("ln_f.weight", "norm", "gamma")
    yield Place("ln_f.bias", "norm", "beta")


def _wanted(model: keras.Model) -> dict[str, Place]:
    count = sum(layer.name.startswith("block_") for layer in model.layers)
    return {place.name: place for place in places(count)}


def _load(model: keras.Model, folder: str | Path, classifier: bool) -> None:
    tensors, file = tensor_files.read_tensors(folder)
    found = {name.removeprefix(_PREFIX): array for name, array in tensors.items()}
    wanted = _wanted(model)
    most = model.get_layer("positions").max_length
    if "wpe.weight" in found:  # a model with fewer positions uses the first ones
        found["wpe.weight"] = found["wpe.weight"][:most]
    problems = [f"{name} is missing" for name in wanted if name not in found]
    problems += [f"{n} is not part of GPT-2" for n in sorted(found.keys() - wanted.keys()) if not n.endswith(_UNUSED)]
    problems += tensor_places.misfits(model, wanted, found)
    tensor_places.check(file, problems, "a folder that fits its config.json")
    tensor_places.assign(model, wanted, found)


def _read_preprocessing(folder: Any) -> dict[str, Any]:
    file, config = config_files.read(folder)
    merges = byte_pair_files.read_merges(Path(folder))
    if (size := len(merges) + 257) != config.get("vocab_size"):
        raise UsageError(
            f"{file} has vocab_size={config.get('vocab_size')!r}; the tokenizer files have {size:,} tokens. Put those of the "
            "model there."
        )
    return {"merges": merges, "rule": "words"}


def _save(model: keras.Model, folder: Location, preprocessing: Mapping[str, Any], labels: Sequence[str] | None) -> Path:
    from safetensors.numpy import save_file

    if preprocessing["rule"] != "words":
        raise UsageError(
            "The model writes characters, which the format does not know. Train it with tokenizer='subwords'."
        )
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    wanted = _wanted(model)
    first = model.get_layer("block_1")
    config = {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": model.get_layer("tokens").vocab_size,
        "n_positions": model.get_layer("positions").max_length,
        "n_embd": model.get_layer("tokens").dim,
        "n_layer": sum(layer.name.startswith("block_") for layer in model.layers),
        "n_head": first.num_heads,
        "n_inner": first.feed_forward_dim,
        "activation_function": next(theirs for theirs, ours in _THEIRS.items() if ours == first.activation),
        "resid_pdrop": first.dropout,
        "embd_pdrop": first.dropout,
        "attn_pdrop": first.attention_dropout,
        "layer_norm_epsilon": first.epsilon,
        "bos_token_id": model.get_layer("tokens").vocab_size - 1,
        "eos_token_id": model.get_layer("tokens").vocab_size - 1,
    }
    tensors = {f"{_PREFIX}{name}": place.cut(place.variable(model).numpy()).copy() for name, place in wanted.items()}
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    (path / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    byte_pair_files.write(path, tuple(tuple(pair) for pair in preprocessing["merges"]))
    return path


_THEIRS = {"gelu_new": "gelu_tanh", "gelu": "gelu", "relu": "relu", "silu": "silu", "tanh": "tanh"}
"""Names of the activations in config.json."""


register_format(
    CheckpointFormat(
        name="gpt2_folder",
        title="a Hugging Face folder of GPT-2",
        recognises=lambda folder: config_files.is_type(folder, "gpt2"),
        load=_load,
        read_arguments=read_config,
        exact=EXACT,
        at_most=("max_length",),
        read_preprocessing=_read_preprocessing,
        is_complete=lambda folder: "GPT2LMHeadModel" in (config_files.read(folder)[1].get("architectures") or ()),
        save=_save,
        repository=Repository(("gpt2",), byte_pair_files.PATTERNS, tensor_files.PATTERNS),
    )
)
