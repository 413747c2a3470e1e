"""Using an artifact as a client would: nothing but the SavedModel."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from zoo.errors import UsageError, did_you_mean, one_line
from zoo.export import artifact_paths


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
        """Returns the names of a signature's inputs, sorted: TensorFlow keeps no order."""
        return sorted(self._function(signature).structured_input_signature[1])

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

    def predict(self, items: Sequence[str | Path], signature: str = "serving_default") -> list[dict[str, Any]]:
        """Answers requests as a person types them, one for each.

        An item is the path of a file for a model that takes a file's bytes; the path of a CSV file for one that takes a
        series, with a row a step, a column a channel and perhaps a line of names; else the text, or the id, itself. For a
        model that takes several, such as a pair of texts, a tab stands between them, in
        the order of `inputs`.

        Returns:
            A dict per item: the named outputs, strings as str.

        Raises:
            UsageError: the signature takes several inputs that are not all strings, a file that cannot be read, or a request
                that is refused; which one is said.
        """
        names = self.inputs(signature)
        specs = self._function(signature).structured_input_signature[1]
        if len(names) > 1:
            if any(spec.dtype != tf.string for spec in specs.values()):
                raise UsageError(f"{signature} takes {' and '.join(names)}. Call the loaded model with inputs by name.")
            return [self._predict_several(str(item), names, signature) for item in items]
        spec = specs[names[0]]
        takes_file = names[0].endswith("_bytes") or names == ["series"]
        if signature == "predict" or not (takes_file or spec.dtype == tf.string):
            raise UsageError(
                f"{signature} takes {names[0]} as numbers, which nobody types. Leave the signature out, or call the loaded "
                "model with inputs by name."
            )
        answers = []
        for item in items:
            # A shell hands bytes that are not UTF-8 over as lone surrogates; they become the bytes they were.
            value: Any = str(item).encode("utf-8", "surrogateescape")
            if takes_file:
                value = _read_file(Path(item)) if spec.dtype == tf.string else _read_series(Path(item))
            try:
                answers.append(_row(self({names[0]: [value]}, signature)))
            except UsageError as error:
                what = "file" if takes_file else names[0].replace("_", " ")
                raise UsageError(
                    f"Cannot answer {item}: {one_line(error.__cause__ or error)} Pass another {what}."
                ) from error
        return answers

    def _predict_several(self, item: str, names: Sequence[str], signature: str) -> dict[str, Any]:
        parts = item.split("\t")
        if len(parts) != len(names):
            raise UsageError(
                f"Cannot answer {item!r}: {signature} takes {' and '.join(names)}. Pass {len(names)} with a tab between, "
                "$'a\\tb' in a shell."
            )
        values = {n: [part.encode("utf-8", "surrogateescape")] for n, part in zip(names, parts, strict=True)}
        return _row(self(values, signature))

    def labels(self) -> list[str]:
        """Returns the class names of the artifact, in the order of its probabilities; empty where it has none."""
        file = self.path / "assets" / "labels.txt"
        return file.read_text(encoding="utf-8").split("\n")[:-1] if file.is_file() else []


def _read_file(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UsageError(f"Cannot read {file}: {error.strerror}. Pass a file.") from error


def _read_series(file: Path) -> np.ndarray:
    """Reads a CSV file of numbers as float32 (steps, channels); an empty cell is a missing value."""
    import pandas as pd

    try:
        text = file.read_text(encoding="utf-8-sig").rstrip("\r\n") + "\n"
        one_column = "," not in text  # there an empty line is a missing value
        table = pd.read_csv(io.StringIO(text), header=None, skipinitialspace=True, skip_blank_lines=not one_column)
        first = table.iloc[0].dropna()
        if len(first) and pd.to_numeric(first, errors="coerce").isna().all():  # names
            table = table.iloc[1:]
        return table.apply(pd.to_numeric).to_numpy(np.float32)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"Cannot read {file}: {one_line(error, 200)} Pass a CSV file with a row of numbers for each step."
        ) from error


def _row(outputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {key: _text(value[0]) for key, value in outputs.items()}


def _text(value: Any) -> Any:
    """Bytes, also an array of them, as text."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.ndarray) and value.dtype == object:
        return np.array([_text(part) for part in value], object)
    return value


def load(path: str | Path) -> LoadedModel:
    """Loads a SavedModel for prediction; neither Keras nor the code that built the model is used.

    Args:
        path: a version folder, the folder above it (then the newest version counts), or a run.

    Raises:
        UsageError: there is no SavedModel, or it cannot be loaded.

    Example:
        >>> zoo.export.load("runs/digits-cnn").predict(["seven.png"])[0]["class_name"]
        '7'
    """
    return LoadedModel(artifact_paths.find(path))
