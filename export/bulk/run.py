"""Predictions for files of any size, written to one file."""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import storage
from zoo.errors import UsageError
from zoo.export.bulk import answers, inputs, parts
from zoo.export.bulk.chunks import Chunk, Limits, Marks, Served, check_marks
from zoo.export.bulk.processes import InThisProcess, Processes
from zoo.export.unknown_values import described

if TYPE_CHECKING:
    import pandas as pd

_MOST_WORKERS = 8
_MOST_UNKNOWN = 10_000
_MOST_UNUSED = 100
"""Names of columns that are told; the rows of JSON lines may have any."""


@dataclasses.dataclass
class Progress:
    """What was computed so far.

    Attributes:
        done: bytes or files of the inputs that are finished.
        total: bytes or files of all inputs.
        rows: rows that are finished, with those of earlier calls that were interrupted.
        rejected: how many of them have no answer.
        resumed: how many of the rows earlier calls finished.
        seconds: time since the first chunk.
    """

    done: float = 0.0
    total: float = 1.0
    rows: int = 0
    rejected: int = 0
    resumed: int = 0
    seconds: float = 0.0
    resumed_share: float = 0.0

    @property
    def rate(self) -> float:
        """Rows a second of this call."""
        return (self.rows - self.resumed) / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """The time left; None if it is not known yet."""
        share = self.done / self.total - self.resumed_share
        return self.seconds * (1 - self.done / self.total) / share if share > 0 else None


@dataclasses.dataclass(frozen=True)
class Written:
    """The result of `predict_files`.

    Attributes:
        output: the file of the answers.
        rejected_file: the file of the rows without an answer; None if there are none.
        answered: number of rows with an answer.
        rejected: number of the others.
        seconds: time of the computation, without the start of the processes.
        rows_per_second: rows of this call per second.
        note: sentences about categories that the model does not know, and columns that it does not use; "" without any.
    """

    output: Path
    rejected_file: Path | None
    answered: int
    rejected: int
    seconds: float
    rows_per_second: float
    note: str


def usual_workers() -> int:
    """Returns the number of processes by default: one for each core of this process, at most eight."""
    return min(_MOST_WORKERS, len(os.sched_getaffinity(0)))


def predict_files(
    path: str | Path,
    files: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    signature: str = "serving_default",
    batch_size: int | None = None,
    workers: int | None = None,
    plugins: Sequence[str] = (),
    progress: Callable[[Progress], None] | None = None,
    **options: Any,
) -> Written:
    """Predicts for files of any size, in several processes, and writes the answers to one file.

    The answers have the order of the inputs. A call that was interrupted goes on where it stopped, if it is called again with
    the same arguments, and writes the same bytes.

    Args:
        path: a version folder, its parent folder, or a run.
        files: folders of images, texts or other files, CSV, Parquet, JSON lines and TFRecord files, or folders of these.
        output: the file to write: .parquet, .csv or .jsonl. An existing one is replaced at the end.
        signature: the signature to call.
        batch_size: rows that are computed together, by default 256, and 64 for files.
        workers: number of processes, each with one thread; by default one for each core, at most 8. 0 computes in this
            process, with all of its threads.
        plugins: plugins that the SavedModel needs, see `zoo.load_plugin`.
        progress: called after each chunk.
        **options: the options of CSV files of `LoadedModel.predict`.

    Returns:
        The numbers of rows, and the files.

    Raises:
        UsageError: a file does not fit to the model, or another call with other arguments was interrupted.

    Example:
        >>> predict_files("runs/income", "people.csv", "answers.parquet").answered
        1000000
    """
    output = Path(output)
    answers.format_of(output)
    _check_folder(output)
    for name, value, least in (("batch_size", batch_size, 1), ("workers", workers, 0)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise UsageError(f"{name} is {value!r}; expected a whole number of at least {least}. Pass one.")
    given = _paths(files)
    settings = {"path": str(path), "signature": signature, "batch_size": batch_size, "output": str(output.absolute())}
    state = _State(progress)
    count = usual_workers() if workers is None else workers
    processes: Processes | InThisProcess
    if count:
        processes = Processes(count, {**settings, "plugins": list(plugins)}, state.finished)
    else:
        processes = InThisProcess({**settings, "plugins": list(plugins)}, state.finished)
    try:
        return _run(processes, state, given, output, {k: v for k, v in options.items() if v is not None})
    finally:
        processes.close()


def predict_rows(
    path: str | Path,
    files: str | Path | Sequence[str | Path],
    *,
    signature: str = "serving_default",
    batch_size: int | None = None,
    **options: Any,
) -> Iterator[pd.DataFrame]:
    """Yields predictions for files of any size as DataFrames, in this process and with little memory.

    Args:
        path: a version folder, its parent folder, or a run.
        files: see `predict_files`.
        signature: the signature to call.
        batch_size: rows that are computed together, by default 256, and 64 for files.
        **options: the options of CSV files of `LoadedModel.predict`.

    Yields:
        The answers of a few thousand rows: the columns `input` and `row`, and one for each output. `attrs["rejected"]` has
        the rows without an answer, each a dict of `input`, `row` and `reason`.

    Raises:
        UsageError: a file does not fit to the model.

    Example:
        >>> for frame in predict_rows("runs/income", "people.parquet"):
        ...     print(frame["class_name"].value_counts())
    """
    from zoo.export.bulk.predictor import Predictor

    given = _paths(files)
    predictor = Predictor(path, signature, batch_size)
    held = {name: value for name, value in options.items() if value is not None}
    marks: list[Marks] = []
    for chunk in inputs.Inputs(
        given, predictor.served, held, Limits(predictor.batch_size, predictor.served.are_columns)
    ).chunks():
        found = predictor.answer(chunk)
        if found.marks is not None:
            marks.append(found.marks)
            check_marks(marks)
        frame = found.table.to_pandas()
        frame.attrs["rejected"] = [_rejected(dataclasses.asdict(fault)) for fault in found.rejected]
        yield frame


def _paths(files: str | Path | Sequence[str | Path]) -> list[Path]:
    given = [Path(files)] if isinstance(files, (str, Path)) else [Path(file) for file in files]
    inputs.check_exist(given)
    return given


def _rejected(fault: Mapping[str, Any]) -> dict[str, Any]:
    return {answers.INPUT: fault["source"], answers.ROW: fault["row"], "reason": fault["reason"]}


def _run(
    processes: Processes | InThisProcess, state: _State, given: Sequence[Path], output: Path, options: Mapping[str, Any]
) -> Written:
    served, limits = processes.served, Limits(processes.batch_size, processes.served.are_columns)
    found = inputs.Inputs(given, served, options, limits)
    for file in (output, parts.rejected_file(output)):
        found.check_output(file)
    is_alone = isinstance(processes, InThisProcess)
    held = parts.Parts(output, {**_manifest(served, limits, found, options), "one_process": is_alone})
    try:
        state.begin(found.total)
        for chunk in found.chunks():
            state.unused |= dict.fromkeys(chunk.unused)
            record = held.record(chunk.number)
            if record is None:
                processes.submit(chunk)
            elif record["chunk"] == chunk.digest:
                state.resumed(chunk, record)
            else:
                raise UsageError(
                    f"{chunk.source} has changed since the predictions began. Remove the folder {held.folder} to start again."
                )
        processes.finish()
        return _joined(held, state, served, output)
    finally:
        held.close()


def _manifest(served: Served, limits: Limits, found: inputs.Inputs, options: Mapping[str, Any]) -> dict[str, Any]:
    import numpy
    import pandas
    import pyarrow

    libraries = {module.__name__: module.__version__ for module in (numpy, pandas, pyarrow)}
    libraries["tensorflow"] = served.tensorflow
    return {
        "SavedModel": served.digest,
        "signature": served.signature,
        "inputs": found.fingerprint,
        "batch_size": limits.batch_size,
        "options": json.loads(json.dumps(dict(options), default=str)),
        "libraries": libraries,
    }


class _State:
    """The records of the finished chunks, and the progress."""

    def __init__(self, progress: Callable[[Progress], None] | None) -> None:
        self.records: dict[int, dict[str, Any]] = {}
        self.progress = Progress()
        self._tell, self._begun = progress, 0.0
        self.unused: dict[str, None] = {}
        self.marks: list[Marks] = []
        self._lock = threading.Lock()  # each process has a thread
        self.unknown: collections.Counter[tuple[str, str]] = collections.Counter()

    def begin(self, total: float) -> None:
        self.progress.total = max(total, 1.0)
        self._begun = time.perf_counter()

    def resumed(self, chunk: Chunk, record: dict[str, Any]) -> None:
        """Counts a chunk that an earlier call finished."""
        with self._lock:
            self._add(chunk, record)
            self.progress.resumed += record["answered"] + len(record["rejected"])
            self.progress.resumed_share += chunk.weight / self.progress.total

    def finished(self, chunk: Chunk, record: dict[str, Any]) -> None:
        """Counts a chunk, in the thread of its process."""
        with self._lock:
            self._add(chunk, record)
            if self._tell is not None:
                self._tell(self.progress)

    def _add(self, chunk: Chunk, record: dict[str, Any]) -> None:
        count = len(record["rejected"])
        # The rejected rows stay on the disk: millions of reasons would not fit into memory.
        self.records[chunk.number] = {"part": record["part"], "answered": record["answered"], "rejected": count}
        if record["marks"] is not None:
            self.marks.append(Marks(*record["marks"]))
        for name in record.get("unused", ()) if len(self.unused) < _MOST_UNUSED else ():
            self.unused[name] = None
        self.progress.done += chunk.weight
        self.progress.rows += record["answered"] + count
        self.progress.rejected += count
        self.progress.seconds = time.perf_counter() - self._begun
        for column, value, times in record["unknown"]:
            if len(self.unknown) < _MOST_UNKNOWN or (column, value) in self.unknown:
                self.unknown[column, value] += times


def _joined(held: parts.Parts, state: _State, served: Served, output: Path) -> Written:
    """Writes the answers and the rejected rows, each whole or not at all, and removes the parts."""
    answered = sum(record["answered"] for record in state.records.values())
    count = sum(record["rejected"] for record in state.records.values())
    side = parts.rejected_file(output)
    try:
        check_marks(state.marks)
    except UsageError:
        held.remove()
        raise
    if count:
        with storage.replacing(side) as temporary, temporary.open("w", encoding="utf-8") as written:
            for line in _rejected_lines(held, state):
                written.write(line)
    if not answered:
        held.remove()
        raise UsageError(f"None of the {count:,} rows has an answer; {side} has the reasons. Correct the input.")
    with storage.replacing(output) as temporary:
        answers.format_of(output).join(held.contents(state.records), answers.schema(served.outputs), temporary)
    if not count:
        side.unlink(missing_ok=True)
    held.remove()
    done = state.progress
    return Written(output, side if count else None, answered, count, done.seconds, done.rate, _note(state))


def _note(state: _State) -> str:
    unused = f"The model does not use the columns {', '.join(state.unused)}." if state.unused else ""
    return " ".join(filter(None, [described(state.unknown), unused]))


def _rejected_lines(held: parts.Parts, state: _State) -> Iterator[str]:
    for number, record in sorted(state.records.items()):
        if record["rejected"]:
            for fault in (held.record(number) or {}).get("rejected", ()):
                yield json.dumps(_rejected(fault), ensure_ascii=False) + "\n"


def _check_folder(output: Path) -> None:
    if output.is_dir():
        raise UsageError(
            f"The output {output} is a folder. Pass the name of a file, such as {output / 'answers.parquet'}."
        )
    if not output.absolute().parent.is_dir():
        raise UsageError(f"The folder of the output {output} does not exist. Create it, or pass another --output.")
