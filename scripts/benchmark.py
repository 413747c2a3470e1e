"""`zoo benchmark NAME`: measures, and compares with other frameworks."""

from __future__ import annotations

import importlib
import sys

from zoo.errors import UsageError, did_you_mean
from zoo.scripts.console import run_command

BENCHMARKS = {
    "training": "examples per second in training, compared with Keras and PyTorch",
    "input": "images per second of the input pipeline, compared with tf.data, Keras, PyTorch and Grain",
    "serving": "milliseconds per call of a SavedModel, compared with other runtimes",
    "server": "requests per second, latency and memory of the HTTP server, compared with FastAPI and MLServer",
    "bulk": "rows per second of `zoo predict --output` for large files, compared with a plain loop",
    "rows": "rows per second of a table's SavedModel: inputs per column, tf.Example and model inputs",
    "tokenization": "texts per second of tokenizers in the graph, compared with the tokenizers library and KerasHub",
    "generation": "tokens per second of GPT-2, compared with Hugging Face's and KerasHub's generate",
    "exports": "SavedModels of other Keras models, compared with Keras's own export",
    "runtimes": "outputs of ONNX Runtime, OpenVINO and LiteRT, compared with TensorFlow's",
    "requests": "seconds and memory of requests that are made to be expensive",
}


def command(argv: list[str]) -> int:
    """Runs the benchmark named by the first argument with the remaining arguments."""
    if not argv or argv[0] in ("-h", "--help"):
        lines = [f"  {name:<14}{text}" for name, text in BENCHMARKS.items()]
        print(
            "\n".join(
                [
                    "usage: zoo benchmark BENCHMARK [options]",
                    "",
                    *lines,
                    "",
                    "zoo benchmark BENCHMARK --help shows its options.",
                ]
            )
        )
        return 0 if argv else 2
    if argv[0] not in BENCHMARKS:
        raise UsageError(f"Unknown benchmark {argv[0]!r}. {did_you_mean(argv[0], BENCHMARKS)}")
    status: int = importlib.import_module(f"zoo.scripts.benchmarks.{argv[0]}").command(argv[1:])
    return status


if __name__ == "__main__":
    sys.exit(run_command(command))
