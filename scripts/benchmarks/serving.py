"""Measure one answer of a SavedModel beside Keras, PyTorch, ONNX Runtime and OpenVINO: `zoo benchmark serving`."""

from __future__ import annotations

import dataclasses
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.errors import UsageError, did_you_mean
from zoo.scripts.benchmarks import training
from zoo.scripts.benchmarks.tables import Figures
from zoo.scripts.benchmarks.training import Worker
from zoo.scripts.console import Parser, run_command

_DESCRIPTION = """Measure how long one call takes from a batch of model inputs to probabilities, side by side, in one run.

Every contender is a process of its own that stays alive: loading, compilation and first calls are not counted. Rounds
alternate, A B C D A B C D, so that what else the machine does meets all alike. All compute the same function: each answer
is compared with that of the Keras model before anything is measured.
"""

CONTENDERS = {
    "zoo": "SavedModel of zoo",
    "keras_export": "Keras's export",
    "keras_predict": "Keras predict",
    "keras_call": "Keras model(x)",
    "keras_xla": "Keras under XLA",
    "torch": "PyTorch",
    "torch_traced": "PyTorch traced",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
}
FIGURES = Figures(
    setting=("family", "steps", "batch", "threads"),
    value="milliseconds",
    extra=(),
    contenders=CONTENDERS,
    digits=",.3g",
)
_TEXT = {"data": "commands", "length": 100}
FAMILIES: dict[str, dict[str, Any]] = {
    "mlp": {"data": "digits", "model": {"input_shape": [28, 28, 1]}},
    "cnn": {
        "data": "digits",
        "model": {"input_shape": [28, 28, 1], "filters": [32, 64, 64], "dense_units": None},
    },
    "lstm": {"data": "digit_rows", "length": 50},
    "embedding_lstm": {**_TEXT},
    "rnn": {
        "data": "tagged_commands",
        "length": 50,
        "model": {"embedding_dim": 64, "rnn_units": 64, "bidirectional": False},
    },
    "transformer": {**_TEXT},
    "attention": {**_TEXT},
    "bert": {
        "data": "commands",
        "length": 128,
        "model": {"hidden_size": 512, "num_layers": 4, "num_heads": 8, "intermediate_size": 2048},
        "hugging_face": True,
    },
    "mobilenet_v2": {"data": "digits", "model": {"input_shape": [96, 96, 3]}},
    "resnet50": {"data": "digits", "model": {"input_shape": [64, 64, 3]}},
    "vgg16": {"data": "digits", "model": {"input_shape": [32, 32, 3]}},
    "matrix_factorization": {"data": "tastes"},
    "bert_mlm": {"data": "command_lines", "length": 50},
    "seq2seq_rnn": {"data": "number_words", "length": 20},
    "seq2seq_transformer": {"data": "number_words", "length": 20},
}
"""Of every family the embedded data that it is prepared for, the builder's arguments, the steps of a sequence, and whether
PyTorch runs it as Hugging Face's model of the same weights."""

NOTES = (
    "Milliseconds of one call from Python, arrays in and arrays out; the median of a round, the median of all rounds.",
    "Inputs are made up, without padding; weights are those of a model that is built and not trained.",
    "ONNX Runtime and OpenVINO read what is converted from Keras's export, in float32.",
)


@dataclasses.dataclass
class Row:
    """A contender's figures in one setting."""

    family: str
    batch: int
    threads: int
    contender: str
    rounds: list[float]
    ratio: float = float("nan")

    @property
    def milliseconds(self) -> float:
        """The median of all rounds."""
        return statistics.median(self.rounds)


def measure(family: str, options: Any, skipped: dict[str, str]) -> list[Row]:
    """Returns a family's rows; who cannot take part is added to `skipped`."""
    with tempfile.TemporaryDirectory() as folder:  # what is exported and converted serves every number of threads
        return [row for threads in options.threads for row in _measure(family, threads, folder, options, skipped)]


def _measure(family: str, threads: int, folder: str, options: Any, skipped: dict[str, str]) -> list[Row]:
    workers: dict[str, Worker] = {}
    rows: list[Row] = []
    try:
        for contender in options.contenders:
            job = {
                **FAMILIES[family],
                "serving": True,
                "family": family,
                "contender": contender,
                "threads": threads,
                "folder": folder,
                "rows": max(options.batch_sizes),
                **({} if options.length is None else {"length": options.length}),
            }
            in_torch = family in training.FAMILIES or "hugging_face" in FAMILIES[family]
            if contender.startswith("torch") and not in_torch:
                continue
            worker = Worker(_command(contender, options.torch_python), job)
            workers[contender] = worker
            first = worker.answer()
            if "skipped" in first:
                workers.pop(contender).close()
                skipped[f"{family}, {CONTENDERS[contender]}"] = first["skipped"]
        for batch in options.batch_sizes:
            rows += _alternate(workers, family, batch, threads, options.seconds)
    finally:
        for worker in workers.values():
            worker.close()
    return rows


def _command(contender: str, torch_python: str) -> list[str]:
    if contender.startswith("torch"):
        return [torch_python, str(Path(__file__).with_name("with_torch.py"))]
    return [sys.executable, "-P", "-m", "zoo.scripts.benchmarks.servers"]


def _alternate(workers: Mapping[str, Worker], family: str, batch: int, threads: int, seconds: float) -> list[Row]:
    """Runs rounds in turn, five at least, until every contender has been measured for as long."""
    rows = {name: Row(family, batch, threads, name, []) for name in workers}
    for worker in workers.values():
        worker.answer(f"{batch} 0")  # the first calls
    rounds = 0
    while rounds < 5:
        for name, worker in workers.items():
            rows[name].rounds.append(worker.answer(f"{batch} {seconds / 5}")["milliseconds"])
        rounds += 1
    for row in rows.values():
        pairs = zip(row.rounds, rows["zoo"].rounds, strict=True)
        row.ratio = statistics.median(theirs / ours for theirs, ours in pairs)
    return list(rows.values())


def figures(rows: Sequence[Row], options: Any) -> list[dict[str, object]]:
    """Returns the rows as those of the CSV file."""
    return [
        {
            "family": row.family,
            "batch": row.batch,
            "threads": row.threads,
            "steps": options.length or FAMILIES[row.family].get("length", ""),
            "contender": row.contender,
            "milliseconds": f"{row.milliseconds:.4g}",
            "ratio": f"{row.ratio:.3f}",
            "rounds": len(row.rounds),
        }
        for row in rows
    ]


def _parser() -> Parser:
    parser = Parser("benchmark serving", _DESCRIPTION)
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), help="Families of models.")
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), help="Whom to compare; zoo is always one.")
    parser.add_argument("--batch_sizes", nargs="+", type=int, default=[1, 256], help="Examples in a call.")
    parser.add_argument("--length", type=int, help="Steps of a sequence, in the place of each family's own.")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="Threads of each contender.")
    parser.add_argument("--seconds", type=float, default=2.0, help="Seconds per contender and setting.")
    parser.add_argument("--torch-python", default=sys.executable, help="A Python that has PyTorch.")
    parser.add_argument("--output", help="CSV file to add the figures to.")
    parser.add_argument("--markdown", action="store_true", help="Print the CSV file as a table. Nothing is measured.")
    return parser


def _checked(options: Any) -> Any:
    for name, known in (("families", FAMILIES), ("contenders", CONTENDERS)):
        for value in getattr(options, name):
            if value not in known:
                raise UsageError(f"--{name} has {value!r}. {did_you_mean(value, known)}")
    for name, most in (("batch_sizes", 100_000), ("threads", os.cpu_count() or 1)):
        for value in getattr(options, name):
            if not 1 <= value <= most:
                raise UsageError(f"--{name} has {value}; expected 1 to {most}. Pass --{name} 1, say.")
    if options.length is not None and options.length < 1:
        raise UsageError(f"--length has {options.length}; expected at least 1. Pass --length 50, say.")
    # First zoo: it writes the SavedModel, the weights and the inputs that all others take.
    options.contenders = ["zoo", *(c for c in CONTENDERS if c in options.contenders and c != "zoo")]
    return options


def command(argv: list[str]) -> int:
    """Parses, measures, prints the table."""
    options = _checked(_parser().parse(argv))
    output = Path(options.output) if options.output else None
    if options.markdown:
        print(FIGURES.table(FIGURES.read(output or Path(__file__).with_name("serving.csv"))))
        return 0
    skipped: dict[str, str] = {}
    rows: list[Row] = []
    for family in options.families:
        found = measure(family, options, skipped)
        rows += found
        for row in found:
            setting = f"{row.family}, batch {row.batch}, {row.threads} threads"
            print(f"{setting}: {CONTENDERS[row.contender]} {row.milliseconds:.3g} ms", flush=True)
        if output:
            FIGURES.write(figures(found, options), output)
    print(f"\n{FIGURES.table(figures(rows, options))}\n")
    for who, why in skipped.items():
        print(f"{who}: skipped: {why}")
    print("\n".join(NOTES))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(command))
