"""Loads an artifact for prediction, using only the SavedModel."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from zoo import storage
from zoo.errors import UsageError, did_you_mean, one_line, printable
from zoo.export import artifact_paths, brightness, zoo_json
from zoo.export.inspection import operations
from zoo.export.loaded_display import as_html
from zoo.export.prediction_files import Named, columns_of, format_of, items_of_path
from zoo.export.prediction_items import Input, items_of, items_of_table, rejected, rejected_row, shown
from zoo.export.prediction_requests import request_of
from zoo.export.signature_columns import needed_inputs, targets_of
from zoo.export.unknown_values import unknown_values, vocabularies_of
from zoo.tables.formats import TableFormat
from zoo.tasks import ANSWER_KINDS, REQUEST_KINDS, Shown


class LoadedModel:
    """A SavedModel loaded in this process by `zoo.export.load`."""

    def __init__(self, path: Path) -> None:
        facts = zoo_json.read(path)
        self.path, self._facts = path, zoo_json.signatures(facts)
        self.data, self._vocabularies = facts.get("data"), vocabularies_of(facts)
        self._unused: list[str] = []
        self._check_scale = brightness.checking(path, facts)
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

    def use_graph(self, folder: Path, called: Any) -> None:
        """Computes with another SavedModel that has the same signatures and calls a function of this process, `called`."""
        self._model, self._called = tf.saved_model.load(str(folder)), called

    def __repr__(self) -> str:
        names = self.signatures()
        lines = [
            f"{name}: {', '.join(self.inputs(name))} -> {', '.join(sorted(self.function(name).structured_outputs))}"
            for name in names[:_MOST_SIGNATURES]
        ]
        count = f"{len(names)} signature{'s' * (len(names) != 1)}"
        return "\n".join(map(printable, [f"SavedModel {self.path}, {count}", *lines]))

    def _repr_html_(self) -> str:
        """Returns the inputs and outputs of the signatures as a table, for a notebook."""
        return as_html(self, {name: self.function(name) for name in self.signatures()[:_MOST_SIGNATURES]}, self._facts)

    def inputs(self, signature: str = "serving_default") -> list[str]:
        """Returns the names of a signature's inputs, sorted, because TensorFlow keeps no order."""
        return sorted(self.function(signature).structured_input_signature[1])

    def kinds(self, signature: str = "serving_default") -> dict[str, str]:
        """Returns the kind of each input, one of `zoo.tasks.REQUEST_KINDS`: as declared, else `text` for strings
        and `number` for other types."""
        specs = self.function(signature).structured_input_signature[1]
        declared = self._facts.get(signature, {}).get("inputs", {})
        usual = {name: "text" if spec.dtype == tf.string else "number" for name, spec in specs.items()}
        kinds = {name: declared.get(name, {}).get("kind", usual[name]) for name in self.inputs(signature)}
        known = REQUEST_KINDS.names()  # without those of a plugin that is not loaded here
        return {name: kind if kind in known else usual[name] for name, kind in kinds.items()}

    def describe(self, answer: Mapping[str, Any], signature: str = "serving_default", top: int = 1) -> str:
        """Formats a result of `predict` in one line, as its signature declares; `top` is the number of labels."""
        shown = self._facts.get(signature, {}).get("shown") or dataclasses.asdict(Shown())
        if shown["kind"] not in ANSWER_KINDS.names():  # of a plugin that is not loaded here
            shown = {**shown, "kind": "values"}
        return Shown(**shown).format(answer, self.labels(), top)

    def signatures(self) -> list[str]:
        """Returns the names of the signatures, `serving_default` first."""
        return sorted(self._model.signatures, key=lambda name: (name != "serving_default", name))

    def specs(self, signature: str = "serving_default") -> tuple[dict[str, tf.TensorSpec], dict[str, Any]]:
        """Returns the inputs and outputs of a signature by name, with their types and shapes."""
        function = self.function(signature)
        return dict(function.structured_input_signature[1]), dict(function.structured_outputs)

    def function(self, signature: str) -> Any:
        """Returns the TensorFlow function of a signature, which takes and returns tensors by name.

        Raises:
            UsageError: there is no such signature; the message suggests the nearest.
        """
        names = list(self._model.signatures)
        if signature not in names:
            raise UsageError(f"{self.path} has no signature {signature!r}. {did_you_mean(signature, names)}")
        return self._model.signatures[signature]

    def __call__(
        self, inputs: Any = None, /, signature: str = "serving_default", **named: Any
    ) -> dict[str, np.ndarray]:
        """Calls a signature on a batch of inputs.

        Args:
            inputs: arrays or lists by input name, batch first; strings as bytes or str. For a signature with one input, the
                array alone.
            signature: name of the signature.
            **named: the inputs as keywords, instead of a dict.

        Returns:
            The named outputs as arrays; strings as bytes.

        Raises:
            UsageError: wrong input names, or inputs that the graph rejects.
        """
        function, names = self.function(signature), " and ".join(self.inputs(signature))
        specs = function.structured_input_signature[1]
        if inputs is None:
            inputs = named
        elif named:
            raise UsageError(f"{signature} received inputs and {', '.join(named)}. Pass one dict, or keywords alone.")
        defaults = self.defaults(signature)
        needed = list(needed_inputs(specs, defaults))
        if not isinstance(inputs, Mapping) and len(needed) == 1:
            inputs = {needed[0]: inputs}
        if isinstance(inputs, Mapping) and defaults and needed and needed[0] in inputs:
            inputs = {**{name: [value] * len(inputs[needed[0]]) for name, value in defaults.items()}, **inputs}
        if not isinstance(inputs, Mapping) or set(inputs) != set(specs):
            came = ", ".join(inputs) if isinstance(inputs, Mapping) else shown(inputs)
            raise UsageError(f"{signature} takes {', '.join(specs)}; received {came or 'nothing'}. Pass these names.")
        try:
            tensors = {name: tf.constant(value, specs[name].dtype) for name, value in inputs.items()}
            return {name: value.numpy() for name, value in function(**tensors).items()}
        except (ValueError, TypeError, tf.errors.OpError) as error:
            raise UsageError(
                f"{signature} rejected the request: {one_line(error, 200).rstrip('.')}. Pass valid values for {names}."
            ) from error

    def rows(
        self, path: str | Path, signature: str = "serving_default", **options: Any
    ) -> tuple[list[dict[str, Any]], list[str]]:
        """Returns the rows of a CSV file as items for `predict`, and the names of columns that the model does not use.
        `options` are those of `predict` for the file.

        Raises:
            UsageError: the signature has no input per column, or the file cannot be read or lacks a column.

        Example:
            >>> model = zoo.load("runs/income")
            >>> rows, unused = model.rows("people.csv")
            >>> model.predict(rows)[0]["class_name"]
            '>50K'
        """
        if (reader := self._row_reader(signature)) is None:
            names = ", ".join(self.inputs(signature))
            raise UsageError(f"{signature} takes {names}, not the columns of a table. Pass its inputs to predict.")
        format = self.table_format(signature, options)
        found: tuple[list[dict[str, Any]], list[str]] = reader(Path(path), self.entries(signature), format)
        return found

    def table_format(self, signature: str, options: Mapping[str, Any]) -> TableFormat:
        """Returns the format of CSV files and other tables: what is given, else that of the training data."""
        inputs = self.needed_inputs(signature)
        columns = columns_of(self.data, self.entries(signature), inputs)
        return format_of(signature, inputs, columns, self.data, options)

    def items_of_path(
        self, path: str | Path, signature: str = "serving_default", **options: Any
    ) -> tuple[Named, list[str]] | None:
        """Returns what a folder of files, or a table with a column for each input, holds as items for `predict`, with the
        path or the row of each, and the names of columns that the model does not use; None for a path that is an item.
        `options` are those of `predict` for the file.

        Raises:
            UsageError: a folder has no file for the model, a file cannot be read, or a table lacks a column.

        Example:
            >>> items, unused = zoo.load("runs/mails").items_of_path("new.csv")
            >>> items[0]
            ('new.csv row 1', 'Win a prize now')
        """
        return self._items_of_path(str(path), signature, self.table_format(signature, options))

    def _items_of_path(self, path: str, signature: str, format: TableFormat) -> tuple[Named, list[str]] | None:
        entries, needed = self.entries(signature), self.needed_inputs(signature)
        optional = {name: value for name, value in self.described_inputs(signature).items() if name not in needed}
        columns = columns_of(self.data, entries, {**needed, **optional})
        return items_of_path(path, needed, columns, format, entries, optional)

    def described_inputs(self, signature: str = "serving_default") -> dict[str, Input]:
        """Returns the kind, the type and the shape of each input."""
        specs = self.function(signature).structured_input_signature[1]
        return {name: Input(kind, specs[name]) for name, kind in self.kinds(signature).items()}

    def needed_inputs(self, signature: str = "serving_default") -> dict[str, Input]:
        """Returns the inputs that a request must have; all, if each has a default."""
        inputs = self.described_inputs(signature)
        return needed_inputs(inputs, self.defaults(signature)) or inputs

    def has_rows(self, signature: str = "serving_default") -> bool:
        """Returns whether a signature has one input per column of a table, see `rows`."""
        return self._row_reader(signature) is not None

    def _row_reader(self, signature: str) -> Any:
        readers = {REQUEST_KINDS.get(kind).read_rows for kind, _ in self.needed_inputs(signature).values()}
        return readers.pop() if len(readers) == 1 else None

    def defaults(self, signature: str = "serving_default") -> dict[str, Any]:
        """Returns the values of inputs that a request may leave out."""
        entries = self.entries(signature)
        return {name: entry["default"] for name, entry in entries.items() if entry.get("default") is not None}

    def entries(self, signature: str = "serving_default") -> Mapping[str, Any]:
        """Returns the entries of a signature's inputs in zoo.json; empty for a third-party SavedModel."""
        entries: Mapping[str, Any] = self._facts.get(signature, {}).get("inputs", {})
        return entries

    def predict(
        self, items: Any, signature: str = "serving_default", *, batch_size: int | None = None, **options: Any
    ) -> list[dict[str, Any]]:
        """Predicts for a list of items.

        An item is what the input holds: a text, an id, or the numbers of one example. Images and other files may be
        passed as paths, as bytes, or as arrays (height, width[, channels]) with pixels from 0 to 255 or from 0 to 1, as in
        training. A series may be the path of a CSV file with one row per step: with a header line, the columns of the
        model's channels are found by their names; without one, there is one column per channel, in order. For a signature
        with several inputs, an item is a dict by input name, or texts separated by a tab in the order of `inputs`.

        Several items may also be a dict of columns, each with a value per item, a DataFrame, or a Series for one input. A
        model of tables takes its columns by name, and ignores others; NaN, None and empty texts are missing. It also takes
        the path of a CSV file. So does a model of texts, whose columns are those of the training, and a folder of files is
        all files in it.

        A warning names categories of tables that the model does not know, and images on another scale than in training.

        Args:
            items: the items.
            signature: name of the signature.
            batch_size: the largest number of items that are computed together.
            **options: `encoding`, `decimal`, `thousands`, `missing` and `units` of CSV files, and of texts in columns of
                numbers, as in `zoo.datasets.load`. By default those of the training data.

        Returns:
            A dict per item: the named outputs, strings as str.

        Raises:
            UsageError: a file cannot be read, a column is missing, or an item is rejected; the message names the item.

        Example:
            >>> zoo.load("runs/commands").predict(["Turn the radio off"])[0]["class_name"]
            'switch off'
        """
        items, requests = self.requests(items, signature, **options)
        size = self._batch_size(signature)
        if batch_size is not None:
            if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
                raise UsageError(f"batch_size is {batch_size!r}; expected a whole number of at least 1. Try 64.")
            size = min(size, batch_size) if size == 1 else batch_size
        answers: list[dict[str, Any]] = []
        for start in range(0, len(requests), size):
            answers += self._answers(requests[start : start + size], items[start : start + size], signature, start)
        return answers

    def requests(
        self, items: Any, signature: str = "serving_default", **options: Any
    ) -> tuple[list[Any], list[dict[str, Any]]]:
        """Returns the items of whatever `predict` takes, and for each the values of the signature's inputs by name."""
        format = self.table_format(signature, options)
        found = self._items(items, signature, format)
        return found, [self._request(item, signature, format) for item in found]

    def _items(self, given: Any, signature: str, format: TableFormat) -> list[Any]:
        """Returns the items of whatever `predict` takes; images as uint8."""
        entries = self.entries(signature)
        if self.has_rows(signature):
            read = functools.partial(self._row_reader(signature), format=format)
            items, unused = items_of_table(given, read, entries, signature)
            if unknown := unknown_values(items, self._vocabularies):
                warnings.warn(unknown, stacklevel=3)
        else:
            columns = columns_of(self.data, entries, inputs := self.described_inputs(signature))
            is_path = isinstance(given, (str, Path))
            named = self._items_of_path(str(given), signature, format) if is_path else None
            given, unused = ([item for _, item in named[0]], named[1]) if named else (given, [])
            items, others = items_of(given, inputs, signature, columns, self._check_scale)
            unused = unused or others
        unused = [name for name in unused if name not in targets_of(self.data)]
        if unused and unused != self._unused:
            self._unused = unused
            warnings.warn(f"The model does not use the columns {', '.join(unused)}.", stacklevel=3)
        return items

    def _batch_size(self, signature: str) -> int:
        """Returns how many items are computed together: one, if the outputs of one item would be padded for others."""
        outputs = self.function(signature).structured_outputs.values()
        fixed = all(tensor.shape.rank is not None and None not in tensor.shape.as_list()[1:] for tensor in outputs)
        return _BATCH if fixed else 1

    def _answers(
        self, requests: Sequence[Mapping[str, Any]], items: Sequence[Any], signature: str, start: int
    ) -> list[dict[str, Any]]:
        if len(requests) > 1 and len({_shapes(request) for request in requests}) == 1:
            batch = {name: [request[name] for request in requests] for name in requests[0]}
            try:
                outputs = self(batch, signature)
            except UsageError:  # one item is invalid: one by one, to name it
                pass
            else:
                return [{key: as_text(value[row]) for key, value in outputs.items()} for row in range(len(requests))]
        found = []
        for row, (request, item) in enumerate(zip(requests, items, strict=True), start=start + 1):
            try:
                found.append(_row(self({name: [value] for name, value in request.items()}, signature)))
            except UsageError as error:
                cause = error.__cause__ or error
                if self.has_rows(signature):
                    raise rejected_row(row, request, self.entries(signature), cause) from error
                raise rejected(item, self.kinds(signature), cause) from error
        return found

    def _request(self, item: Any, signature: str, format: TableFormat) -> dict[str, Any]:
        inputs, entries = self.described_inputs(signature), self.entries(signature)
        return request_of(item, signature, inputs, entries, self.defaults(signature), format)

    def labels(self) -> list[str]:
        """Returns the class names of the artifact, in the order of its probabilities; empty if it has none."""
        file = self.path / "assets" / "labels.txt"
        return file.read_text(encoding="utf-8").split("\n")[:-1] if file.is_file() else []


_MOST_SIGNATURES = 4
_BATCH = 64
"""Maximum number of items that are computed together."""


def _shapes(request: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(() if isinstance(value, bytes) else np.shape(value) for value in request.values())


def _row(outputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {key: as_text(value[0]) for key, value in outputs.items()}


def as_text(value: Any) -> Any:
    """Returns bytes, or an array of bytes, as str; other values unchanged."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.ndarray) and value.dtype == object:
        return np.array([as_text(part) for part in value], object)
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
