"""Loads an artifact for prediction, using only the SavedModel."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from zoo import storage
from zoo.errors import UsageError, did_you_mean, one_line
from zoo.export import artifact_paths
from zoo.export.inspection import operations
from zoo.tasks import Shown


class LoadedModel:
    """A SavedModel loaded in this process by `zoo.export.load`."""

    def __init__(self, path: Path) -> None:
        self.path, self._facts = path, _facts(path)
        if not (ops := operations.check(operations.read(path), ours=False)).passed:
            raise UsageError(
                f"{path} is not loaded, because it has dangerous ops: {ops.detail}. `zoo describe {path}` lists all of them."
            )
        try:
            with storage.without_pattern(path) as plain:
                self._model = tf.saved_model.load(str(plain))
        except Exception as error:  # damaged bytes may raise any exception
            raise UsageError(
                f"{path} cannot be loaded: {one_line(error)}. Run `zoo verify {path}` to find the cause."
            ) from error

    def inputs(self, signature: str = "serving_default") -> list[str]:
        """Returns the names of a signature's inputs, sorted, because TensorFlow keeps no order."""
        return sorted(self._function(signature).structured_input_signature[1])

    def kinds(self, signature: str = "serving_default") -> dict[str, str]:
        """Returns the kind of each input, one of `zoo.tasks.KINDS`: as declared in the artifact, else `text` for strings
        and `number` for other types."""
        specs = self._function(signature).structured_input_signature[1]
        declared = self._facts.get(signature, {}).get("inputs", {})
        usual = {name: "text" if spec.dtype == tf.string else "number" for name, spec in specs.items()}
        return {name: declared.get(name, {}).get("kind", usual[name]) for name in self.inputs(signature)}

    def describe(self, answer: Mapping[str, Any], signature: str = "serving_default", top: int = 1) -> str:
        """Formats a result of `predict` in one line, as its signature declares; `top` is the number of labels."""
        shown = self._facts.get(signature, {}).get("shown") or dataclasses.asdict(Shown())
        return _SHOWN[shown["kind"]](answer, Shown(**shown), self.labels(), top)

    def _function(self, signature: str) -> Any:
        names = list(self._model.signatures)
        if signature not in names:
            raise UsageError(f"{self.path} has no signature {signature!r}. {did_you_mean(signature, names)}")
        return self._model.signatures[signature]

    def __call__(self, inputs: Mapping[str, Any], signature: str = "serving_default") -> dict[str, np.ndarray]:
        """Calls a signature on a batch of inputs.

        Args:
            inputs: arrays or lists by input name, batch first; strings as bytes or str.
            signature: name of the signature.

        Returns:
            The named outputs as arrays; strings as bytes.

        Raises:
            UsageError: wrong input names, or inputs that the graph rejects.
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
                f"{signature} rejected the request: {one_line(error, 200).rstrip('.')}. Pass valid values for {names}."
            ) from error

    def predict(self, items: Sequence[str | Path], signature: str = "serving_default") -> list[dict[str, Any]]:
        """Predicts for items as typed on a command line.

        For a model that takes files, an item is the path of a file. For a model that takes a series, it is the path of a
        CSV file with one row per step, one column per channel and an optional header line. Otherwise it is the text or
        the id itself. Several inputs, such as a pair of texts, are separated by a tab, in the order of `inputs`.

        Returns:
            A dict per item: the named outputs, strings as str.

        Raises:
            UsageError: the signature takes several inputs that are not all strings, a file cannot be read, or an item is
                rejected; the message names the item.
        """
        kinds = self.kinds(signature)
        names = list(kinds)
        if len(names) > 1:
            if not {*kinds.values()} <= {"text", "id"}:
                raise UsageError(f"{signature} takes {' and '.join(names)}. Call the loaded model with inputs by name.")
            return [self._predict_several(str(item), names, signature) for item in items]
        kind = kinds[names[0]]
        if kind == "number":
            raise UsageError(
                f"{signature} takes {names[0]} as numbers, which cannot be passed here. Leave the signature out, or call "
                "the loaded model with inputs by name."
            )
        answers = []
        for item in items:
            # Command-line bytes that are not UTF-8 arrive as lone surrogates; this restores the bytes.
            value: Any = str(item).encode("utf-8", "surrogateescape")
            if kind in _READERS:
                value = _READERS[kind](Path(item))
            try:
                answers.append(_row(self({names[0]: [value]}, signature)))
            except UsageError as error:
                what = "file" if kind in _READERS else names[0].replace("_", " ")
                raise UsageError(
                    f"Cannot predict for {item}: {one_line(error.__cause__ or error)} Pass another {what}."
                ) from error
        return answers

    def _predict_several(self, item: str, names: Sequence[str], signature: str) -> dict[str, Any]:
        parts = item.split("\t")
        if len(parts) != len(names):
            raise UsageError(
                f"Cannot predict for {item!r}: {signature} takes {' and '.join(names)}. Pass {len(names)} values separated "
                "by a tab: $'a\\tb' in a shell."
            )
        values = {n: [part.encode("utf-8", "surrogateescape")] for n, part in zip(names, parts, strict=True)}
        return _row(self(values, signature))

    def labels(self) -> list[str]:
        """Returns the class names of the artifact, in the order of its probabilities; empty if it has none."""
        file = self.path / "assets" / "labels.txt"
        return file.read_text(encoding="utf-8").split("\n")[:-1] if file.is_file() else []


def _read_file(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UsageError(f"Cannot read {file}: {error.strerror}. Pass a file.") from error


def _read_series(file: Path) -> np.ndarray:
    """Reads a CSV file of numbers as a float32 array (steps, channels); an empty cell is a missing value."""
    import pandas as pd

    try:
        text = file.read_text(encoding="utf-8-sig").rstrip("\r\n") + "\n"
        one_column = "," not in text  # then an empty line is a missing value
        table = pd.read_csv(io.StringIO(text), header=None, skipinitialspace=True, skip_blank_lines=not one_column)
        first = table.iloc[0].dropna()
        if len(first) and pd.to_numeric(first, errors="coerce").isna().all():  # a header line
            table = table.iloc[1:]
        return table.apply(pd.to_numeric).to_numpy(np.float32)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"Cannot read {file}: {one_line(error, 200)} Pass a CSV file with one row of numbers per step."
        ) from error


_READERS = {"file": _read_file, "series": _read_series}
"""The function that reads the file of an item, by kind of input."""


def _facts(path: Path) -> dict[str, Any]:
    """Returns the signatures that zoo.json declares; empty for a third-party SavedModel."""
    file = path / artifact_paths.EXTRA / "zoo.json"
    try:
        return dict(storage.read_json(file)["signatures"]) if file.is_file() else {}
    except (OSError, ValueError, KeyError, TypeError):  # `zoo verify` reports it
        return {}


def _labels(answer: Mapping[str, Any], shown: Shown, labels: Sequence[str], top: int) -> str:
    probabilities = answer[shown.outputs[0]]
    best = probabilities.argsort()[::-1][:top]
    return ", ".join(f"{labels[i]} {probabilities[i]:.{shown.digits}f}" for i in best)


def _pairs(answer: Mapping[str, Any], shown: Shown, labels: Sequence[str], top: int) -> str:
    first, second = (answer[name] for name in shown.outputs)
    return " ".join(f"{a}/{b}" for a, b in zip(first, second, strict=True) if b)


def _rows(answer: Mapping[str, Any], shown: Shown, labels: Sequence[str], top: int) -> str:
    lines = []
    for *texts, number in zip(*(answer[name] for name in shown.outputs), strict=True):
        if text := next(filter(None, texts), ""):
            lines.append(f"{text} {number:.{shown.digits}f}")
    return "; ".join(lines)


def _as_text(answer: Mapping[str, Any], shown: Shown, labels: Sequence[str], top: int) -> str:
    return " ".join(str(answer[name]) for name in shown.outputs)


def _values(answer: Mapping[str, Any], shown: Shown, labels: Sequence[str], top: int) -> str:
    return ", ".join(f"{name} {_plain(value)}" for name, value in answer.items())


def _plain(value: Any) -> str:
    array = np.atleast_1d(value)
    return " ".join(f"{v:.4g}" if isinstance(v, (float, np.floating)) else str(v) for v in array.ravel())


_SHOWN = {"labels": _labels, "pairs": _pairs, "rows": _rows, "text": _as_text, "values": _values}
"""The ways to print an output; see `zoo.tasks.Shown`."""


def _row(outputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {key: _text(value[0]) for key, value in outputs.items()}


def _text(value: Any) -> Any:
    """Decodes bytes, or an array of bytes, to str; returns other values unchanged."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.ndarray) and value.dtype == object:
        return np.array([_text(part) for part in value], object)
    return value


def load(path: str | Path) -> LoadedModel:
    """Loads a SavedModel for prediction; neither Keras nor the code that built the model is used.

    Args:
        path: a version folder, its parent folder (the newest version is loaded), or a run directory.

    Raises:
        UsageError: there is no SavedModel, it has dangerous ops, or it cannot be loaded.

    Example:
        >>> zoo.export.load("runs/digits-cnn").predict(["seven.png"])[0]["class_name"]
        '7'
    """
    return LoadedModel(artifact_paths.find(path))
