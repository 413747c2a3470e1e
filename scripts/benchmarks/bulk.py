"""Measure predictions for files: `zoo benchmark bulk --data adult`."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import datasets
from zoo.errors import UsageError
from zoo.scripts.benchmarks.tables import Figures
from zoo.scripts.console import Parser, import_tensorflow, run_command, take_option

if TYPE_CHECKING:
    import numpy as np

_DESCRIPTION = """Measure how many rows of a file `zoo predict --output` answers in a second, with one process and with two,
each on a core of its own, next to a plain loop over the SavedModel on one core.

The rows of the data are repeated. The plain loop reads the file with pandas, calls the SavedModel with batches of the same
size, and writes a CSV file; it checks nothing, and ends at the first invalid row. Its answers are compared with the others.
Loading the SavedModel is not part of the time. Memory is that of all processes of a contender together.
"""
CONTENDERS = {"two": "two processes", "one": "one process", "loop": "plain loop"}
FIGURES = Figures(("family", "data", "rows"), "rows_per_second", ("megabytes", "growth", "seconds"), CONTENDERS, ",.0f")
NOTES = (
    "Rows per second without the start of the processes. Ratio: that of two processes, divided by the contender's.",
    "Weights are untrained.",
)
BATCH = 256
_KEPT = 4096
"""Different rows of a file."""
_MODELS = {"table": "mlp", "texts": "transformer"}
_BETWEEN = 0.1


@dataclasses.dataclass(frozen=True)
class Job:
    """A SavedModel, and a file to predict for."""

    family: str
    data: str
    path: Path
    file: Path
    rows: int


def write_job(name: str, family: str, data: datasets.Data, rows: int, folder: Path) -> Job:
    """Exports an untrained model, and writes a CSV file with a column for each input."""
    import zoo
    from zoo.export import zoo_json

    prepared = data.prepare(family)
    path = zoo.export.save(prepared.build(seed=0), folder / name, interface=prepared.interface)
    examples = list(data.train.take(_KEPT).as_numpy_iterator())
    entries = zoo_json.signatures(zoo_json.read(path))["serving_default"]["inputs"]
    requests = prepared.preprocessor.to_requests(examples)
    columns = {entry.get("columns", {}).get("column", key): requests[key] for key, entry in entries.items()}
    texts = {column: [_cell(value) for value in values] for column, values in columns.items()}
    different = list(zip(*texts.values(), strict=True))
    file = folder / f"{name}.csv"
    with file.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(texts)
        for start in range(0, rows, len(different)):
            writer.writerows(different[: rows - start])
    return Job(family, name, path, file, rows)


def _cell(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode()
    return "" if value != value else f"{float(value):g}"


LOOP = """
import csv, json, sys, time
import numpy as np, pandas as pd, tensorflow as tf
path, file, output, batch = sys.argv[1:]
served = tf.saved_model.load(path).signatures["serving_default"]
specs = served.structured_input_signature[1]
columns = json.loads(sys.stdin.read())
texts = {columns[name]: str for name, spec in specs.items() if spec.dtype == tf.string}
served(**{name: tf.constant(["" if spec.dtype == tf.string else 0] * 2, spec.dtype) for name, spec in specs.items()})
begun, rows, names = time.perf_counter(), 0, sorted(served.structured_outputs)
with open(output, "w", newline="") as lines:
    writer = csv.writer(lines)
    writer.writerow(names)
    for frame in pd.read_csv(file, chunksize=4096, dtype=texts, keep_default_na=False, na_values={
        column: [""] for column in columns.values() if column not in texts
    }):
        for start in range(0, len(frame), int(batch)):
            part = frame.iloc[start : start + int(batch)]
            answers = served(**{
                name: tf.constant(part[columns[name]].to_numpy(object if spec.dtype == tf.string else np.float32), spec.dtype)
                for name, spec in specs.items()
            })
            values = [answers[name].numpy() for name in names]
            writer.writerows(zip(*(v.astype(str) if v.dtype == object else v.tolist() for v in values)))
            rows += len(part)
print(json.dumps({"rows": rows, "seconds": time.perf_counter() - begun}))
"""


class Memory:
    """Samples the memory of a process and its children while it runs."""

    def __init__(self, pid: int) -> None:
        self.samples: list[float] = []
        self._pid, self._ended = pid, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(_BETWEEN):
            self.samples.append(sum(map(_megabytes, [self._pid, *_children(self._pid)])))

    def end(self) -> tuple[float, float]:
        """Returns the most memory in MB, and by how much the last quarter of the time exceeded the third."""
        self._ended.set()
        self._thread.join()
        count = len(self.samples)
        third, last = self.samples[count // 2 : 3 * count // 4], self.samples[3 * count // 4 :]
        most = max(self.samples, default=float("nan"))
        return most, max(last, default=most) - max(third, default=most)


def _megabytes(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        return int(status.partition("VmRSS:")[2].split()[0]) / 1000
    except (OSError, IndexError, ValueError):  # it has ended
        return 0.0


def _children(pid: int) -> list[int]:
    try:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return [int(word) for task in tasks for word in (task / "children").read_text().split()]
    except OSError:
        return []


def run(job: Job, contender: str, folder: Path) -> dict[str, Any]:
    """Runs a contender; returns its rows per second, memory and output.

    Raises:
        UsageError: it fails.
    """
    cores = sorted(os.sched_getaffinity(0))
    count = 2 if contender == "two" else 1
    if len(cores) < count:
        raise UsageError(f"Two processes need two cores; this machine has {len(cores)}. Pass --contenders one loop.")
    output = folder / f"{job.data}-{contender}.csv"
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    if contender == "loop":
        environment |= dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), "1")
        words = [sys.executable, "-P", "-c", LOOP, str(job.path), str(job.file), str(output), str(BATCH)]
    else:
        words = [sys.executable, "-P", "-m", "zoo.scripts.predict", str(job.path), str(job.file)]
        words += ["--output", str(output), "--workers", str(count), "--batch_size", str(BATCH)]
    begun = time.perf_counter()
    with subprocess.Popen(
        words,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores[:count]),
    ) as process:
        memory = Memory(process.pid)
        said, errors = process.communicate(json.dumps(_columns(job)))
    most, growth = memory.end()
    if process.returncode:
        raise UsageError(f"{CONTENDERS[contender]} failed: {errors.strip()[-300:]} Leave it out with --contenders.")
    if contender == "loop":
        found = json.loads(said.splitlines()[-1])
        rate = found["rows"] / found["seconds"]
    else:
        rate = float(said.rpartition(" s, ")[2].split()[0].replace(",", ""))
    seconds = time.perf_counter() - begun
    return {"output": output, "rate": rate, "megabytes": most, "growth": growth, "seconds": seconds}


def _columns(job: Job) -> dict[str, str]:
    from zoo.export import zoo_json

    inputs = zoo_json.signatures(zoo_json.read(job.path))["serving_default"]["inputs"]
    return {name: entry.get("columns", {}).get("column", name) for name, entry in inputs.items()}


def check_alike(outputs: Sequence[Path], rows: int) -> None:
    """Raises `UsageError` if files have other answers than the first, or not all rows."""
    import numpy as np
    import pandas as pd

    frames = [pd.read_csv(file) for file in outputs]
    for file, frame in zip(outputs, frames, strict=True):
        if len(frame) != rows:
            raise UsageError(f"{file.name} has {len(frame):,} of {rows:,} rows. Leave it out with --contenders.")
        for name in set(frame) & set(frames[0]) - {"input", "row"}:
            ours, theirs = (_values(part[name][:_KEPT]) for part in (frames[0], frame))
            if not (np.allclose(ours, theirs, atol=1e-5) if ours.dtype.kind == "f" else (ours == theirs).all()):
                raise UsageError(f"{file.name} has other answers in {name}. Leave it out with --contenders.")


def _values(cells: Any) -> np.ndarray:
    """Returns a column as an array; lists are JSON."""
    import numpy as np

    are_lists = cells.astype(str).str.startswith("[").all()
    return np.array([json.loads(cell) for cell in cells] if are_lists else cells.tolist())


def measure(job: Job, contenders: Sequence[str], folder: Path) -> list[Mapping[str, object]]:
    """Returns the figures of all contenders for a file."""
    found = {name: run(job, name, folder) for name in contenders}
    check_alike([one["output"] for one in found.values()], job.rows)
    first = next(iter(found.values()))["rate"]
    return [
        {
            "family": job.family,
            "data": job.data,
            "rows": f"{job.rows:,}",
            "contender": name,
            "rows_per_second": f"{one['rate']:.0f}",
            "ratio": f"{first / one['rate']:.3f}",
            "rounds": 1,
            "megabytes": f"{one['megabytes']:.0f}",
            "growth": f"{one['growth']:.0f}",
            "seconds": f"{one['seconds']:.1f}",
        }
        for name, one in found.items()
    ]


def _parser(data: str) -> Parser:
    parser = Parser("benchmark bulk", _DESCRIPTION)
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), help=f"Of {', '.join(CONTENDERS)}.")
    parser.add_argument("--texts", default="commands", help="Data set of texts.")
    parser.add_argument(
        "--table_rows", "--table-rows", type=int, default=1_000_000, help="Rows of the table; 0 for none."
    )
    parser.add_argument("--text_rows", "--text-rows", type=int, default=50_000, help="Number of texts; 0 for none.")
    parser.add_argument("--output", help="CSV file to add the figures to.")
    parser.add_argument("--markdown", action="store_true", help="Print the CSV file as a table. Nothing is measured.")
    parser.add_signature("data", datasets.load, f"data {data}", skip=("name", "model"), values={})
    return parser


def command(argv: list[str]) -> int:
    """Parses the options, measures and prints the table."""
    data, argv = take_option(argv, "data")
    data = data or "iris"
    options = _parser(data).parse(argv)
    output = Path(options.output) if options.output else None
    if options.markdown:
        print(FIGURES.table(FIGURES.read(output or Path(__file__).with_name("bulk.csv"))))
        return 0
    for name in options.contenders:
        if name not in CONTENDERS:
            raise UsageError(f"Unknown contender {name!r}. Choose of {', '.join(CONTENDERS)}.")
    import_tensorflow()
    arguments = {key: value for key, value in options.data.as_dict().items() if value is not None}
    given: dict[str, tuple[str, int, Callable[[], datasets.Data]]] = {
        "table": (data, options.table_rows, lambda: datasets.load(data, **arguments)),
        "texts": (options.texts, options.text_rows, lambda: datasets.load(options.texts)),
    }
    found: list[Mapping[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        for kind, (name, rows, load) in given.items():
            if rows:
                job = write_job(name, _MODELS[kind], load(), rows, Path(folder))
                found += measure(job, options.contenders, Path(folder))
                if output:
                    FIGURES.write(found, output)
    print(f"\n{FIGURES.table(found)}\n")
    for row in found:
        print(
            f"{row['data']}, {CONTENDERS[str(row['contender'])]}: {row['megabytes']} MB at most, {row['growth']} MB more in "
            f"the last quarter than in the third; {row['seconds']} s with the start"
        )
    print("\n".join(NOTES))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(command))
