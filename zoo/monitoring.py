"""Compares requests with the statistics of the training inputs in an artifact: whether the data has changed since."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import storage
from zoo.errors import UsageError, one_line, printable

if TYPE_CHECKING:
    from zoo.datasets.statistics import Change

_LINES = (".jsonl", ".ndjson")


@dataclasses.dataclass(frozen=True)
class Drift:
    """How requests differ from the training inputs of a model.

    Attributes:
        path: the version folder.
        requests: the number of requests.
        examples: the number of training examples behind the statistics.
        changes: a `zoo.datasets.statistics.Change` for every measure of every input, the largest first.
    """

    path: Path
    requests: int
    examples: int
    changes: tuple[Change, ...]

    @property
    def moved(self) -> list[Change]:
        """The measures that have moved."""
        return [change for change in self.changes if change.moved]

    def to_dict(self) -> dict[str, Any]:
        """Returns the result as JSON values: `moved`, their number; `largest_index` and `largest_difference`, the largest
        distances of all measures; and `changes`."""
        from zoo.datasets.statistics import DIFFERENCE, PSI

        largest = {
            name: max((change.distance for change in self.changes if change.kind == kind), default=0.0)
            for name, kind in (("largest_index", PSI), ("largest_difference", DIFFERENCE))
        }
        counts = {"requests": self.requests, "training_examples": self.examples, "moved": len(self.moved)}
        changes = [dataclasses.asdict(change) for change in self.changes]
        return {"path": str(self.path), **counts, **largest, "changes": changes}

    def table(self) -> str:
        """Returns a line for every measure, and the verdict."""
        lines = []
        for change in self.changes:
            name = (
                change.input
                if change.measure == "value"
                else f"{change.input}, {change.measure.removeprefix('value ')}"
            )
            figure = f"{change.kind} {change.distance:.3f} (by chance up to {change.by_chance:.3f})"
            lines.append(f"{'MOVED' if change.moved else 'ok':<6} {name:<32} {figure}, {change.detail}")
        count = len(self.moved)
        verdict = f"{count} of {len(self.changes)} measures moved" if count else "no measure moved"
        summary = f"{self.requests:,} requests, {self.examples:,} training examples: {verdict}"
        return "\n".join(printable(line) for line in [*lines, summary])

    def __repr__(self) -> str:
        return self.table()


def monitor(
    path: str | Path, requests: Any, *, index_limit: float | None = None, difference_limit: float | None = None
) -> Drift:
    """Compares requests with the training inputs of a model.

    The artifact has statistics of up to 1,000 training examples: columns by their deciles or most frequent categories, texts
    by length and share of unknown tokens, images by size and brightness, series by length, mean and deviation, and missing
    values. Columns are compared by the population stability index, shares by their difference. A measure has moved if its
    distance is above the limit, and above what as many requests like the training data have by chance.

    Args:
        path: a SavedModel of this package, or a run.
        requests: whatever `zoo.load(path).predict` takes, such as a CSV file, a folder, a list or a DataFrame; or a file
            NAME.jsonl with a JSON value per line: a request, or a body of a server with `instances`. Bytes are
            `{"b64": TEXT}`.
        index_limit: the population stability index above which a measure has moved; None for 0.2.
        difference_limit: the difference of shares above which one has moved; None for 0.05.

    Raises:
        UsageError: there is no SavedModel, it has no statistics, or a request cannot be read.

    Example:
        >>> zoo.monitor("runs/incomes", "this_week.csv").moved[0].input
        'age'
    """
    from zoo import export
    from zoo.datasets import statistics
    from zoo.export import artifact_paths

    limits = dict(statistics.LIMITS)
    for kind, limit in ((statistics.PSI, index_limit), (statistics.DIFFERENCE, difference_limit)):
        if limit is not None and not limit > 0:
            raise UsageError(
                f"The limit of the {kind} is {limit}; expected a number above 0. Pass {limits[kind]}, say."
            )
        limits |= {} if limit is None else {kind: float(limit)}
    directory = artifact_paths.find(path)
    known = _statistics(directory, artifact_paths.EXTRA, artifact_paths.STATISTICS)
    preprocessor = _preprocessor(directory)
    model = export.load(directory)
    given = _lines(Path(requests)) if str(requests).lower().endswith(_LINES) else requests
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # unknown categories and columns are what the table shows
        _, values = model.requests(given)
    if not values:
        raise UsageError("There are no requests to compare. Pass a file with at least one.")
    columns = {name: [value[name] for value in values] for name in values[0]}
    try:
        found = statistics.changes(known["inputs"], statistics.measured(preprocessor, columns), limits)
        return Drift(directory, len(values), int(known["examples"]), tuple(found))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"The statistics of {directory} do not fit the requests: {one_line(error, 120)}. Choose an intact artifact, or "
            "export the model again."
        ) from error


def _statistics(directory: Path, extra: str, name: str) -> dict[str, Any]:
    file = directory / extra / name
    if not file.is_file():
        raise UsageError(
            f"{directory} has no statistics of its training inputs: it was exported without data, or by an earlier version. "
            "Train it again, and pass the new run."
        )
    return dict(storage.read_record(file, {"examples": int, "inputs": dict}, "Put back the original file."))


def _preprocessor(directory: Path) -> Any:
    """Returns the preprocessor of an artifact, which zoo.json describes."""
    from zoo.datasets.preprocessing.base import get_preprocessor
    from zoo.export import zoo_json

    config = dict(zoo_json.read(directory).get("preprocessor") or {})
    try:
        return get_preprocessor(config.pop("kind"))(**config)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise UsageError(
            f"zoo.json of {directory} is damaged: {one_line(error, 120)}. Pass the original folder."
        ) from error


def _lines(file: Path) -> list[Any]:
    """Returns the requests of a file of JSON lines."""
    try:
        texts = (
            storage.read_text(file).removeprefix("\ufeff").split("\n")
        )  # splitlines splits at other characters too, which JSON may contain
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or one_line(error)
        raise UsageError(f"Cannot read {file}: {cause}. Pass a file of JSON lines in UTF-8.") from error
    found: list[Any] = []
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            continue
        try:
            value = _decoded(json.loads(text))
        except binascii.Error as error:
            raise UsageError(
                f"{file} line {number} has a b64 that is not base64: {one_line(error)}. Correct it, or leave it out."
            ) from error
        except (ValueError, RecursionError) as error:
            raise UsageError(
                f"{file} line {number} is not JSON: {one_line(error)}. Correct it, or leave it out."
            ) from error
        several = isinstance(value, Mapping) and isinstance(value.get("instances"), list)
        found += value["instances"] if several else [value]
    if not found:
        raise UsageError(f"{file} has no requests. Pass a file with at least one.")
    return found


def _decoded(value: Any) -> Any:
    """Returns a JSON value with bytes in place of {"b64": TEXT}."""
    if isinstance(value, Mapping):
        if set(value) == {"b64"}:
            return base64.b64decode(str(value["b64"]), validate=True)
        return {name: _decoded(part) for name, part in value.items()}
    return [_decoded(part) for part in value] if isinstance(value, list) else value
