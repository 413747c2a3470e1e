"""A SavedModel for converters that read only `serving_default`: one numeric signature, without tables and assets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__:
    from zoo.export.standalone import tensorflow_runtime
    from zoo.export.standalone.runtime import Request, Runtime, function
else:  # loaded by its path, with export/standalone first on sys.path
    import tensorflow_runtime
    from runtime import Request, Runtime, function


def convert(request: Request) -> None:
    """Writes saved_model.pb and variables/ with the variables that the signature reads, and nothing else."""
    import tensorflow as tf

    loaded = tf.saved_model.load(request["model"])
    signature = function(loaded, request)
    read = {id(tensor) for tensor in loaded.signatures[request["signature"]].captured_inputs}
    module = tf.Module()
    # A table stays only if the signature itself looks numbers up in it.
    module.resources = [
        resource
        for resource in tf.train.TrackableView(loaded).descendants()
        if id(getattr(resource, "handle", getattr(resource, "resource_handle", None))) in read
    ]
    takes = signature.structured_input_signature[1]
    module.predict = tf.function(lambda **inputs: signature(**inputs), autograph=False)
    folder = Path(request["file"]).parent
    tf.saved_model.save(module, str(folder), signatures=module.predict.get_concrete_function(**takes))
    if not any((folder / "assets").iterdir()):
        (folder / "assets").rmdir()


def answer(request: Request) -> Any:
    """Loads the SavedModel."""
    folder = str(Path(request["file"]).parent)
    return tensorflow_runtime.answer({**request, "file": folder, "signature": "serving_default"})


RUNTIME = Runtime(
    title="TensorFlow",
    tolerance=1e-5,
    version="tensorflow",
    format="savedmodel",
    file="saved_model.pb",
    convert=convert,
    answer=answer,
    sample=(
        "import numpy as np, tensorflow as tf",
        'model = tf.saved_model.load(".")',
        "inputs = {{{inputs}}}",
        'print(model.signatures["serving_default"](**{{name: tf.constant(x) for name, x in inputs.items()}}))',
    ),
    verifies=False,
)
