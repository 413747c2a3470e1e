"""Using an artifact as a client would: nothing but the SavedModel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from zoo.errors import UsageError, did_you_mean, one_line
from zoo.export import layout


class LoadedModel:
    """A SavedModel in this process; made by `zoo.export.load`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._model = tf.saved_model.load(str(path))
        except (OSError, ValueError, IndexError, tf.errors.OpError) as error:
            raise UsageError(
                f"{path} cannot be loaded: {one_line(error)}. `zoo verify {path}` says what is wrong."
            ) from error

    def inputs(self, signature: str = "serving_default") -> list[str]:
        """Returns the names of a signature's inputs."""
        return list(self._function(signature).structured_input_signature[1])

    def _function(self, signature: str) -> Any:
        names = list(self._model.signatures)
        if signature not in names:
            raise UsageError(f"{self.path} has no signature {signature!r}. {did_you_mean(signature, names)}")
        return self._model.signatures[signature]

    def __call__(self, inputs: Mapping[str, Any], signature: str = "serving_default") -> dict[str, np.ndarray]:
        """Answers a batch of requests.

        Args:
            inputs: arrays or lists by input name, batch first; strings as bytes or str.
            signature: which of the artifact's functions.

        Returns:
            The named outputs as arrays; strings as bytes.

        Raises:
            UsageError: wrong input names, or a request that the graph refuses.
        """
        function, names = self._function(signature), " and ".join(self.inputs(signature))
        specs = function.structured_input_signature[1]
        if set(inputs) != set(specs):
            raise UsageError(
                f"{signature} takes {', '.join(specs)}; received {', '.join(inputs) or 'nothing'}. Pass these names."
            )
        try:
            tensors = {name: tf.constant(value, specs[name].dtype) for name, value in inputs.items()}
            return {name: value.numpy() for name, value in function(**tensors).items()}
        except (ValueError, TypeError, tf.errors.OpError) as error:
            raise UsageError(
                f"{signature} refused the request: {one_line(error, 200).rstrip('.')}. Send what {names} takes."
            ) from error

    def predict_files(self, files: Sequence[str | Path]) -> list[dict[str, Any]]:
        """Answers files, one request each, for a model whose `serving_default` takes a file's bytes.

        Returns:
            A dict per file: the named outputs, strings as str.

        Raises:
            UsageError: a file that is missing or is not what the model takes; which one is said.
        """
        names = self.inputs()
        if len(names) != 1 or not names[0].endswith("_bytes"):
            raise UsageError(f"{self.path} takes {', '.join(names)}, not files. Call it with inputs by name.")
        answers = []
        for file in files:
            try:
                content = Path(file).read_bytes()
            except OSError as error:
                raise UsageError(f"Cannot read {file}: {error.strerror}. Pass a file.") from error
            try:
                outputs = self({names[0]: [content]})
            except UsageError as error:
                raise UsageError(
                    f"Cannot answer {file}: {one_line(error.__cause__ or error)} Pass another file."
                ) from error
            answers.append(_row(outputs, 0))
        return answers

    def predict_texts(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """Answers texts, all in one batch, for a model whose `serving_default` takes `text`.

        Returns:
            A dict per text: the named outputs, strings as str.

        Raises:
            UsageError: the model takes something else.
        """
        if self.inputs() != ["text"]:
            raise UsageError(f"{self.path} takes {', '.join(self.inputs())}, not texts. Call it with inputs by name.")
        # A shell hands bytes that are not UTF-8 over as lone surrogates; they go into the graph as the bytes they were.
        outputs = self({"text": [text.encode("utf-8", "surrogateescape") for text in texts]})
        return [_row(outputs, i) for i in range(len(texts))]

    def labels(self) -> list[str]:
        """Returns the class names of the artifact, in the order of its probabilities; empty where it has none."""
        file = self.path / "assets" / "labels.txt"
        return file.read_text(encoding="utf-8").split("\n")[:-1] if file.is_file() else []


def _row(outputs: Mapping[str, np.ndarray], i: int) -> dict[str, Any]:
    return {k: v[i].decode() if isinstance(v[i], bytes) else v[i] for k, v in outputs.items()}


def load(path: str | Path) -> LoadedModel:
    """Loads a SavedModel for prediction; neither Keras nor the code that built the model is used.

    Args:
        path: a version folder, the folder above it (then the newest version counts), or a run.

    Raises:
        UsageError: there is no SavedModel, or it cannot be loaded.

    Example:
        >>> zoo.export.load("runs/digits-cnn").predict_files(["seven.png"])[0]["class_name"]
        '7'
    """
    return LoadedModel(layout.find(path))
