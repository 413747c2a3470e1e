"""TensorFlow itself, as a `Runtime`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__:
    from .runtime import Request, Runtime
else:  # loaded by its path, with this folder first on sys.path
    from runtime import Request, Runtime


def answer(request: Request) -> Any:
    """Loads a SavedModel and returns a function from arrays by name to arrays by name."""
    import tensorflow as tf

    loaded = tf.saved_model.load(request["file"])
    signature = loaded.signatures[request["signature"]]

    def answers(inputs: dict[str, Any], _: Any = loaded) -> dict[str, Any]:  # keeps the model alive
        outputs = signature(**{name: tf.constant(value) for name, value in inputs.items()})
        return {name: value.numpy() for name, value in outputs.items()}

    return answers


RUNTIME = Runtime("TensorFlow", 1e-5, version="tensorflow", answer=answer)
