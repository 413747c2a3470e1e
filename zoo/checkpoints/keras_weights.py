"""Files of Keras weights, the format of the published models of `keras.applications`.

It reads NAME.weights.h5, NAME.keras, and HDF5 of Keras 2, with or without the top layers. The files hold no sizes, so the
builder's arguments must set them.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.checkpoints.contract import CheckpointFormat, register_format
from zoo.errors import UsageError

if TYPE_CHECKING:
    import keras


def _load(model: keras.Model, path: str, classifier: bool) -> None:
    """Loads a file into the model: the whole body, and the top layers before the first one that does not fit. Prints which
    layers were loaded and which keep their random weights.

    The top layers are those after the last layer whose output is an image, (batch, height, width, channels).
    """
    ours = [layer for layer in model.layers if layer.weights]
    size = max((i for i, layer in enumerate(ours, 1) if len(layer.output.shape) == 4), default=0)
    found = _read(path, [layer.name for layer in ours])
    if len(found) not in (size, len(ours)):
        raise UsageError(
            f"{path} holds {len(found)} layers of weights; {model.name} has {len(ours)}, {size} without those on top. Pass "
            "a file of the same architecture."
        )
    fitting = []
    for i, (layer, (name, arrays)) in enumerate(zip(ours if classifier else ours[:-1], found, strict=False)):
        expected, came = [tuple(w.shape) for w in layer.weights], [tuple(a.shape) for a in arrays]
        if i == len(ours) - 1 and [len(shape) for shape in came] == [4, 1] and came[0][:2] == (1, 1):
            arrays = [arrays[0][0, 0], arrays[1]]  # a convolution 1x1 as the classifier, as in MobileNet
            came = [tuple(a.shape) for a in arrays]
        if expected == came:
            fitting.append((layer, arrays))
        elif i >= size:
            break
        else:
            raise UsageError(
                f"{path} does not fit {model.name}: {name} is {came}, {layer.name} is {expected}. Pass a file of the same "
                "architecture."
            )
    for layer, arrays in fitting:  # only now, so that a file that does not fit changes nothing
        layer.set_weights(arrays)
    rest = [layer.name for layer in ours[len(fitting) :]]
    others = f"; {', '.join(rest)} {'start' if rest[1:] else 'starts'} from random weights" if rest else ""
    print(
        f"Loaded {len(fitting)} of {len(ours)} layers from {path}, {ours[0].name} to {fitting[-1][0].name}{others}.",
        flush=True,
    )


def _read(path: str, names: Sequence[str]) -> list[tuple[str, list[Any]]]:
    """Returns a file's layers with weights, as (name, arrays), those of `names` first and in that order.

    It reads NAME.weights.h5, NAME.keras, and HDF5 of Keras 2, the format of the published weights. Names in the latter
    depend on the Keras version, so layers are matched by their order, as in Keras.
    """
    import h5py

    if not isinstance(path, str):
        raise UsageError(
            f"weights is {path!r}; expected the path of a file as text. Pass weights='resnet50.weights.h5'."
        )
    if not Path(path).is_file():
        raise UsageError(
            f"weights: there is no file {path!r}. Pass 'imagenet' to download the weights of keras.applications, or a file "
            "that save_weights('NAME.weights.h5') of such a model wrote; or leave weights out."
        )
    try:
        content: Any = path
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                content = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(content, "r") as file:
            group = file.get("model_weights", file)
            return _read_keras2(group) if "layer_names" in group.attrs else _read_keras3(file, names)
    except (OSError, KeyError) as error:
        raise UsageError(
            f"{path} is not a file of Keras weights ({error}). Pass a .weights.h5, .keras or .h5."
        ) from error


def _read_keras2(group: Any) -> list[tuple[str, list[Any]]]:
    def texts(values: Any) -> list[str]:
        return [v.decode() if isinstance(v, bytes) else str(v) for v in values]

    layers = [(name, group[name]) for name in texts(group.attrs["layer_names"])]
    found = [(name, [layer[w][()] for w in texts(layer.attrs["weight_names"])]) for name, layer in layers]
    return [(name, arrays) for name, arrays in found if arrays]


def _read_keras3(file: Any, names: Sequence[str]) -> list[tuple[str, list[Any]]]:
    found: dict[str, list[Any]] = {}

    def visit(path: str, group: Any) -> None:
        if path.startswith("layers/") and path.endswith("/vars") and len(group):
            found[str(group.attrs.get("name", path))] = [group[str(i)][()] for i in range(len(group))]

    file.visititems(visit)
    place = {name: i for i, name in enumerate(names)}
    return sorted(found.items(), key=lambda item: place.get(item[0], len(names)))


def _recognises(path: Any) -> bool:
    return isinstance(path, (str, Path)) and Path(path).suffix in (".h5", ".keras") and Path(path).is_file()


register_format(CheckpointFormat("keras_weights", "a file of Keras weights", recognises=_recognises, load=_load))
