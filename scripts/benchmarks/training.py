"""Compare training with Keras and PyTorch: `zoo benchmark training --families mlp`."""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.errors import UsageError, did_you_mean
from zoo.scripts.benchmarks.tables import Figures
from zoo.scripts.console import Parser, run_command

_DESCRIPTION = """Measure how many examples per second each framework trains on.

Every contender has its own process, which stays alive: imports, compilation and a first round are not counted. Rounds
alternate (A B C D A B C D), so that other load on the machine affects all contenders equally. All contenders train the
same architecture from the same weights with the same optimizer on the same data. Their losses over the first epoch, in
the same order of examples, must agree.
"""

CONTENDERS = {
    "zoo": "zoo.train",
    "keras": "Keras fit(x, y)",
    "keras_tf_data": "Keras fit, tf.data, steps_per_execution=32",
    "keras_jax": "Keras fit, JAX",
    "torch": "PyTorch, DataLoader",
    "torch_compile": "PyTorch, torch.compile",
    "lightning": "Lightning, DataLoader",
}
FIGURES = Figures(
    setting=("family", "batch_size", "threads", "precision"),
    value="examples_per_second",
    extra=("parameters", "loss", "megabytes"),
    contenders=CONTENDERS,
    digits=",.0f",
)
FAMILIES: dict[str, dict[str, Any]] = {
    "mlp": {"model": {"input_shape": [28, 28, 1], "num_classes": 10}, "steps": 400},
    "cnn": {
        "model": {"input_shape": [28, 28, 1], "num_classes": 10, "filters": [32, 64, 64], "dense_units": None},
        "steps": 48,
    },
    "lstm": {"model": {"input_shape": [10, 1], "num_classes": 10}, "steps": 96},
    "embedding_lstm": {"model": {"vocab_size": 10_000, "num_classes": 10}, "length": 100, "steps": 24},
    "rnn": {
        "model": {
            "vocab_size": 10_000,
            "embedding_dim": 64,
            "rnn_units": 64,
            "num_classes": 10,
            "bidirectional": False,
            "dropout": 0.0,
            "recurrent_dropout": 0.0,
        },
        "length": 50,
        "steps": 32,
    },
    "transformer": {"model": {"vocab_size": 10_000, "num_classes": 10}, "length": 100, "steps": 8},
    "gpt_tiny": {
        "model": {
            "vocab_size": 257,
            "dropout": 0.0,
            "attention_dropout": 0.0,
            "classifier_activation": "softmax",
        },
        "length": 64,
        "steps": 16,
    },
}
"""For each family: the builder's arguments, the length of a text in tokens, and the steps of one round."""

NOTES = (
    "Synthetic data without padding. Adam, learning rate 1e-3, epsilon 1e-7. Shuffled, except in the epoch of the loss.",
    "Loss: the mean over a first epoch in the data's order, from the same weights; for transformer it varies with dropout.",
    "PyTorch's LSTM has two biases per gate; the second is fixed to 0, so that all contenders train the same parameters.",
    "An example of gpt_tiny has 64 tokens, each with the next one as its target; PyTorch's model is written as nanoGPT's.",
    "MB: the most memory that the contender's process had, with its data, its framework and one epoch's measurements.",
    "JAX takes all cores of the process, whatever --threads says.",
    "Ratio: zoo's examples per second divided by the contender's in the same round; the median of all rounds.",
)


@dataclasses.dataclass
class Row:
    """A contender's figures for one family."""

    family: str
    contender: str
    parameters: int
    loss: float
    rates: list[float]
    megabytes: float = float("nan")
    ratio: float = float("nan")


class Worker:
    """A contender's process.

    Args:
        command: the command line, without the job.
        job: settings for the contender, passed as JSON.
    """

    def __init__(self, command: Sequence[str], job: Mapping[str, Any]) -> None:
        threads = str(job["threads"])
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": threads, "PYTHONUNBUFFERED": "1"}
        if job["contender"] == "keras_jax":
            environment["KERAS_BACKEND"] = "jax"
        self._log = Path(job["folder"]) / f"{job['contender']}.log"
        with self._log.open("w", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                [*command, json.dumps(job)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
            )

    def answer(self, request: str | None = None) -> dict[str, Any]:
        """Sends a request, if any, and returns the worker's next answer.

        Raises:
            UsageError: the process ended; the message contains its last line.
        """
        if request is not None:
            assert self._process.stdin is not None
            self._process.stdin.write(request + "\n")
            self._process.stdin.flush()
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("@@"):
                answer: dict[str, Any] = json.loads(line[2:])
                return answer
        said = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["nothing"]
        raise UsageError(
            f"A contender ended: {said[-1]} Leave it out with --contenders, or run it alone to find the cause."
        )

    @property
    def megabytes(self) -> float:
        """The most memory that the process has had, in MB."""
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="utf-8")
        return int(status.partition("VmHWM:")[2].split()[0]) / 1000

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()


def start(job: Mapping[str, Any], torch_python: str) -> tuple[Worker, dict[str, Any]]:
    """Starts a contender and returns it with its first answer: parameters and loss, or why it is skipped."""
    if job["contender"] in ("torch", "torch_compile", "lightning"):
        command = [torch_python, str(Path(__file__).with_name("with_torch.py"))]
    elif job["contender"] == "keras_jax":  # as a file: zoo itself needs TensorFlow's backend
        command = [sys.executable, "-P", str(Path(__file__).with_name("with_keras.py"))]
    else:
        command = [sys.executable, "-P", "-m", "zoo.scripts.benchmarks.with_keras"]
    worker = Worker(command, job)
    try:
        return worker, worker.answer()
    except BaseException:
        worker.close()
        raise


def measure(family: str, options: Any, skipped: dict[str, str]) -> list[Row]:
    """Returns a family's rows; contenders that are not installed are added to `skipped`."""
    workers: dict[str, Worker] = {}
    rows: dict[str, Row] = {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            for contender in options.contenders:
                if contender in skipped:
                    continue
                worker, first = start(_job(family, contender, folder, options), options.torch_python)
                if "skipped" in first:
                    worker.close()
                    skipped[contender] = first["skipped"]
                    continue
                workers[contender] = worker
                rows[contender] = Row(family, contender, first["parameters"], first["loss"], [])
            _alternate(workers, rows, options.seconds)
            for contender, worker in workers.items():
                rows[contender].megabytes = worker.megabytes
        finally:
            for worker in workers.values():
                worker.close()
    _check_alike(list(rows.values()))
    for row in rows.values():
        pairs = zip(rows["zoo"].rates, row.rates, strict=True)
        row.ratio = statistics.median(ours / theirs for ours, theirs in pairs)
    return list(rows.values())


def _job(family: str, contender: str, folder: str, options: Any) -> dict[str, Any]:
    settings = {"batch_size": options.batch_size, "threads": options.threads, "precision": options.precision}
    job = {"family": family, "contender": contender, "folder": folder, **FAMILIES[family], **settings}
    return job if options.steps is None else {**job, "steps": options.steps}


def _alternate(workers: Mapping[str, Worker], rows: Mapping[str, Row], seconds: float) -> None:
    """Runs alternating rounds until every contender has been measured for `seconds`; at least three rounds."""
    spent = dict.fromkeys(workers, 0.0)
    for worker in workers.values():
        worker.answer("round")  # compiles
    while min(len(row.rates) for row in rows.values()) < 3 or min(spent.values()) < seconds:
        for name, worker in workers.items():
            found = worker.answer("round")
            spent[name] += found["seconds"]
            rows[name].rates.append(found["examples"] / found["seconds"])


def _check_alike(rows: Sequence[Row]) -> None:
    """Raises `UsageError` if a contender has another number of parameters or another loss."""
    for row in rows:
        if row.parameters != rows[0].parameters:
            raise UsageError(
                f"{row.contender} trains {row.parameters:,} parameters of {row.family}, {rows[0].contender} "
                f"{rows[0].parameters:,}. Correct the architecture in scripts/benchmarks/with_keras.py or with_torch.py."
            )
        if abs(row.loss - rows[0].loss) > 0.05 * abs(rows[0].loss):
            raise UsageError(
                f"{row.contender} has a loss of {row.loss:.4f} on {row.family}, {rows[0].contender} {rows[0].loss:.4f}. "
                "Correct the architecture in scripts/benchmarks/with_keras.py or with_torch.py."
            )


def figures(rows: Sequence[Row], options: Any) -> list[dict[str, object]]:
    """Returns the rows in the layout of the CSV file."""
    setting = {name: getattr(options, name) for name in ("batch_size", "threads", "precision")}
    return [
        {
            **setting,
            "family": row.family,
            "contender": row.contender,
            "examples_per_second": f"{statistics.median(row.rates):.1f}",
            "ratio": f"{row.ratio:.3f}",
            "rounds": len(row.rates),
            "parameters": row.parameters,
            "loss": f"{row.loss:.5f}",
            "megabytes": f"{row.megabytes:.0f}",
        }
        for row in rows
    ]


def _parser() -> Parser:
    parser = Parser("benchmark training", _DESCRIPTION)
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), help="Model families.")
    parser.add_argument(
        "--contenders", nargs="+", default=list(CONTENDERS), help="Contenders to compare; zoo is always included."
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="Seconds of measurement per contender.")
    parser.add_argument("--steps", type=int | None, help="Steps of a round, instead of each family's default.")
    parser.add_argument("--batch_size", type=int, default=64, help="Examples per step.")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="Threads of each contender.")
    parser.add_argument(
        "--precision", choices=["float32", "mixed_bfloat16"], default="float32", help="Precision of zoo and Keras."
    )
    parser.add_argument(
        "--torch-python", default=sys.executable, help="A Python interpreter with PyTorch and, optionally, Lightning."
    )
    parser.add_argument("--output", help="CSV file to add the figures to.")
    parser.add_argument("--markdown", action="store_true", help="Print the CSV file as a table. Nothing is measured.")
    return parser


def _checked(options: Any) -> Any:
    for name, known in (("families", FAMILIES), ("contenders", CONTENDERS)):
        for value in getattr(options, name):
            if value not in known:
                raise UsageError(f"--{name} has {value!r}. {did_you_mean(value, known)}")
    for name in ("batch_size", "threads", "steps"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name} is {value}; expected at least 1. Try --{name} 2.")
    # zoo runs first: it writes the data and the initial weights for the others.
    options.contenders = ["zoo", *(c for c in CONTENDERS if c in options.contenders and c != "zoo")]
    return options


def command(argv: list[str]) -> int:
    """Parses the options, measures and prints the table."""
    options = _checked(_parser().parse(argv))
    output = Path(options.output) if options.output else None
    if options.markdown:
        print(FIGURES.table(FIGURES.read(output or Path(__file__).with_name("training.csv"))))
        return 0
    skipped: dict[str, str] = {}
    rows: list[Row] = []
    for family in options.families:
        found = measure(family, options, skipped)
        rows += found
        for row in found:
            rate = f"{statistics.median(row.rates):,.0f} examples per second, {row.megabytes:,.0f} MB"
            print(f"{row.family} {row.contender}: {rate}", flush=True)
        if output:
            FIGURES.write(figures(found, options), output)
    print(f"\n{FIGURES.table(figures(rows, options))}\n")
    for contender, why in skipped.items():
        print(f"{CONTENDERS[contender]}: skipped: {why}")
    print("\n".join(NOTES))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(command))
