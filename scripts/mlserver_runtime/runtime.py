"""A runtime for MLServer that serves a SavedModel with TensorFlow alone, over the V2 inference protocol.

`scripts/serve_mlserver.md` tells how to start it. It needs neither Keras nor savedmodel-zoo.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from loaded_versions import LOADED
from mlserver import MLModel, ModelSettings, types
from mlserver.errors import InferenceError, InvalidModelURI
from mlserver.repository.repository import SchemalessModelRepository
from mlserver.utils import get_model_uri

_DATATYPES = {tf.bool: "BOOL", tf.half: "FP16", tf.float32: "FP32", tf.float64: "FP64", tf.string: "BYTES"}
_DATATYPES |= {
    tf.as_dtype(f"{sign}int{bits}"): f"{sign}int{bits}".upper() for sign in ("", "u") for bits in (8, 16, 32, 64)
}
Models = list[ModelSettings]


class SavedModelRepository(SchemalessModelRepository):
    """Lists each version of a model whose `uri` is a folder of versions, so that MLServer loads all of them.

    A request without a version gets the newest one. `POST /v2/repository/models/NAME/load` loads versions that were added
    to the folder, and loads the others again. `settings.json` names this class.
    """

    async def list(self) -> Models:
        """Returns the settings of every version of every model."""
        return [version for settings in await super().list() for version in await _versions_of(settings)]


async def _versions_of(settings: ModelSettings) -> Models:
    """Returns the settings of each version in the folder of a model; as they are, if it has none."""
    try:
        folder = Path(await get_model_uri(settings))
    except InvalidModelURI:  # loading the model reports it
        return [settings]
    found = []
    for path in version_folders(folder):
        version = settings.model_copy(deep=True)
        version.parameters.uri = str(path)
        version.parameters.version = path.name if path.name.isdecimal() else None
        found.append(version)
    return found or [settings]


class SavedModelRuntime(MLModel):
    """Answers requests with the signatures of a SavedModel.

    The model's `uri` is a version folder, or its parent folder; then the newest version is served. The default
    signature is `serving_default`. A request chooses another one in its `parameters`: {"signature_name": "features"}.
    """

    async def load(self) -> bool:
        """Loads the SavedModel and sets the inputs and outputs in the server's metadata."""
        found = version_folders(Path(await get_model_uri(self.settings)))
        if not found:
            raise FileNotFoundError(
                f"{self.settings.parameters.uri} has no SavedModel. Pass a folder of versions 1, 2, ..."
            )
        folder = found[-1]
        self._model = await asyncio.to_thread(tf.saved_model.load, str(folder))
        self._files = file_inputs(folder)
        function = self._model.signatures["serving_default"]
        self.inputs = _metadata(function.structured_input_signature[1])
        self.outputs = _metadata(function.structured_outputs)
        if self.version:
            LOADED[self.name, self.version] = self
        return True

    async def unload(self) -> bool:
        """Forgets the version, unless it was loaded again before."""
        if LOADED.get((self.name, self.version or "")) is self:
            del LOADED[self.name, self.version]
        return True

    async def metadata(self) -> types.MetadataModelResponse:
        """Returns the inputs and outputs of `serving_default`, and the versions that are loaded."""
        found = await super().metadata()
        found.versions = sorted((version for name, version in LOADED if name == self.name), key=int)
        return found

    async def predict(self, payload: types.InferenceRequest) -> types.InferenceResponse:
        """Answers one request. An invalid request is answered with status 400 and an error message."""
        name = getattr(payload.parameters, "signature_name", None) or "serving_default"
        if name not in self._model.signatures:
            known = ", ".join(self._model.signatures)
            raise InferenceError(f"There is no signature {name!r}; the SavedModel has {known}. Use one of these.")
        function = self._model.signatures[name]
        specs = function.structured_input_signature[1]
        given = {item.name: item for item in payload.inputs}
        if set(given) != set(specs):
            raise InferenceError(f"{name} takes {', '.join(specs)}; received {', '.join(given)}. Send these names.")
        files = self._files.get(name, set())
        inputs = {key: _tensor(item, specs[key], key in files) for key, item in given.items()}
        try:
            answer = await asyncio.to_thread(lambda: function(**inputs))
        except tf.errors.OpError as error:
            raise InferenceError(f"{name} rejected the request: {_sentence(error)}") from error
        outputs = [_output(key, value.numpy()) for key, value in answer.items()]
        return types.InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)


def version_folders(path: Path) -> list[Path]:
    """Returns the folder itself if it is a SavedModel, else its subfolders with a version number, the newest last."""
    if (path / "saved_model.pb").is_file():
        return [path]
    found = [p for p in path.glob("[0-9]*") if p.name.isdecimal() and (p / "saved_model.pb").is_file()]
    return sorted(found, key=lambda folder: int(folder.name))


def file_inputs(folder: Path) -> dict[str, set[str]]:
    """Returns, by signature, the inputs that take the bytes of whole files, as declared in zoo.json."""
    facts = folder / "assets.extra" / "zoo.json"
    signatures = json.loads(facts.read_text(encoding="utf-8"))["signatures"] if facts.is_file() else {}
    return {
        name: {key for key, spec in signature["inputs"].items() if spec.get("kind") == "file"}
        for name, signature in signatures.items()
    }


def _tensor(given: types.RequestInput, spec: tf.TensorSpec, is_file: bool) -> tf.Tensor:
    """Returns an input of a request as a tensor for the signature."""
    expected, came = _DATATYPES[spec.dtype], types.Datatype(given.datatype).value
    if came != expected:
        raise InferenceError(f"{given.name} is {came}; expected {expected}. Send it in this datatype.")
    try:
        values = (
            _strings(given, is_file) if expected == "BYTES" else np.array(given.data.root, spec.dtype.as_numpy_dtype)
        )
        array = np.asarray(values).reshape(given.shape)
    except (ValueError, TypeError) as error:
        raise InferenceError(
            f"{given.name} cannot be read: {error}. Send as many values as its shape requires."
        ) from error
    if not spec.shape.is_compatible_with(array.shape):
        raise InferenceError(f"{given.name} has the shape {list(array.shape)}; expected {spec.shape}. Send that shape.")
    return tf.constant(array.tolist() if array.dtype == object else array, spec.dtype, array.shape)


def _strings(given: types.RequestInput, is_file: bool) -> np.ndarray:
    """Returns the strings of a request as bytes. Text is encoded as UTF-8. A string is decoded from base64 if its
    `content_type` is `base64`, or if it is JSON text for an input that takes files."""
    kind = given.parameters.content_type if given.parameters else None
    data = given.data.root if isinstance(given.data.root, list) else [given.data.root]
    values = np.empty(len(data), object)
    for i, value in enumerate(data):
        if not isinstance(value, str | bytes):
            raise InferenceError(f"{given.name} has {value!r} as element {i}, which is not a string. Send strings.")
        encoded = kind == "base64" or (kind is None and isinstance(value, str) and is_file)
        try:
            values[i] = base64.b64decode(value, validate=True) if encoded else value
        except binascii.Error as error:
            raise InferenceError(f"{given.name} is not base64 at element {i} ({error}). Send base64.") from error
        if isinstance(values[i], str):
            values[i] = values[i].encode()
    return values


def _output(name: str, value: np.ndarray) -> types.ResponseOutput:
    kind = _DATATYPES[tf.as_dtype(value.dtype)]
    parameters = types.Parameters(content_type="str") if kind == "BYTES" else None
    data: list[Any] = value.ravel().tolist()
    return types.ResponseOutput(name=name, shape=list(value.shape), datatype=kind, data=data, parameters=parameters)


def _metadata(tensors: dict[str, Any]) -> list[types.MetadataTensor]:
    return [
        types.MetadataTensor(name=key, datatype=_DATATYPES[t.dtype], shape=[size or -1 for size in t.shape])
        for key, t in tensors.items()
    ]


def _sentence(error: tf.errors.OpError) -> str:
    """Returns the message of an error in the graph, without its position in the graph."""
    text = str(error.message).rsplit("<stack traces unavailable>", 1)[-1].split("[[{{", 1)[0].split("}} ", 1)[-1]
    return " ".join(text.split())[:400]
