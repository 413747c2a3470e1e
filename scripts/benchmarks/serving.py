"""Compare a call of a SavedModel with Keras, PyTorch, ONNX Runtime and OpenVINO: `zoo benchmark serving`."""

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

_DESCRIPTION = """Measure the time of one call, from a batch of model inputs to probabilities, for several runtimes.

Every contender has its own process, which stays alive: loading, compilation and first calls are not counted. Rounds
alternate (A B C D A B C D), so that other load on the machine affects all contenders equally. All contenders compute the
same function: their outputs are compared with the Keras model's before anything is measured. The contender `zoo_raw` calls
`serving_default` with golden requests, such as texts or files: its time includes the preprocessor and the labels.
"""

CONTENDERS = {
    "zoo": "SavedModel of zoo",
    "zoo_raw": "its raw requests",
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
    "embedding_lstm": {**_TEXT, "model": {"bidirectional": False}},
    "rnn": {
        "data": "tagged_commands",
        "length": 50,
        "model": {"embedding_dim": 64, "rnn_units": 64, "bidirectional": False},
    },
    "bag_of_ngrams": {**_TEXT},
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
    "resnet_small": {"data": "digits", "model": {"input_shape": [28, 28, 1]}},
    "vgg16": {"data": "digits", "model": {"input_shape": [32, 32, 3]}},
    "efficientnet_lite0": {"data": "digits", "model": {"input_shape": [96, 96, 3]}},
    "keras_application": {"data": "digits", "model": {"input_shape": [96, 96, 3]}},
    "vit": {
        "data": "digits",
        "model": {
            "input_shape": [96, 96, 3],
            "hidden_size": 192,
            "num_heads": 3,
            "intermediate_size": 768,
        },
    },
    "nlinear": {"data": "seasons", "length": 24},
    "nbeats": {"data": "seasons", "length": 24},
    "rocket": {"data": "digit_rows", "length": 50},
    "matrix_factorization": {"data": "tastes"},
    "two_tower": {"data": "tastes"},
    "bert_mlm": {"data": "command_lines", "length": 50},
    "gpt": {"data": "spoken_sums", "length": 64},
    "sentence_bert": {"data": "paraphrases", "length": 50},
    "seq2seq_rnn": {"data": "number_words", "length": 20},
    "seq2seq_transformer": {"data": "number_words", "length": 20},
    "wide_deep": {"data": "pastimes"},
    "ft_transformer": {"data": "pastimes"},
}
"""For each family: the embedded data set, the builder's arguments, the steps of a sequence, and whether PyTorch runs
Hugging Face's model with the same weights."""

NOTES = (
    "Milliseconds per call from Python, with arrays as inputs and outputs; the median over rounds of each round's median.",
    "Inputs are synthetic, without padding; raw requests are golden ones of the SavedModel. Weights are untrained.",
    "ONNX Runtime and OpenVINO run models converted from Keras's export, in float32.",
)


@dataclasses.dataclass
class Row:
    """A contender's figures for one setting."""

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
    """Returns a family's rows; contenders that cannot run are added to `skipped`."""
    with tempfile.TemporaryDirectory() as folder:  # exported and converted once for all numbers of threads
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
    """Runs five alternating rounds, in which every contender is measured for the same time."""
    rows = {name: Row(family, batch, threads, name, []) for name in workers}
    for worker in workers.values():
        worker.answer(f"{batch} 0")  # warm-up
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
    """Returns the rows in the layout of the CSV file."""
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
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), help="Model families.")
    parser.add_argument(
        "--contenders", nargs="+", default=list(CONTENDERS), help="Contenders to compare; zoo is always included."
    )
    parser.add_argument("--batch_sizes", nargs="+", type=int, default=[1, 256], help="Examples per call.")
    parser.add_argument("--length", type=int, help="Steps of a sequence, instead of each family's default.")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="Threads of each contender.")
    parser.add_argument("--seconds", type=float, default=2.0, help="Seconds per contender and setting.")
    parser.add_argument("--torch-python", default=sys.executable, help="A Python interpreter with PyTorch.")
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
                raise UsageError(f"--{name} has {value}; expected 1 to {most}. Try --{name} 1.")
    if options.length is not None and options.length < 1:
        raise UsageError(f"--length has {options.length}; expected at least 1. Try --length 50.")
    # zoo runs first: it writes the SavedModel, the weights and the inputs for the others.
    options.contenders = ["zoo", *(c for c in CONTENDERS if c in options.contenders and c != "zoo")]
    return options


def command(argv: list[str]) -> int:
    """Parses the options, measures and prints the table."""
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
