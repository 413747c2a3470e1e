"""Serve SavedModels over HTTP, with a page to try them: `zoo serve runs/commands`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from zoo.errors import UsageError
from zoo.scripts.console import Parser, import_tensorflow, run_command


def command(argv: list[str]) -> int:
    """Parses the options and serves until it is stopped."""
    options = _parser().parse(argv)

    paths = _paths(options.models)
    sys.modules.setdefault("keras", None)  # type: ignore[arg-type]  # TensorFlow would import it, and works without it
    import_tensorflow()
    try:
        from zoo.export.serving.server import serve
        from zoo.export.serving.settings import Settings
    except ImportError as error:
        raise UsageError(
            f"zoo serve needs {error.name}, which is not installed. Run `pip install 'savedmodel-zoo[serve]'`."
        ) from error
    serve(
        paths,
        Settings(
            host=options.host,
            port=options.port,
            token=options.token or os.environ.get("ZOO_SERVE_TOKEN", ""),
            versions=options.versions,
            runtime=options.runtime,
            labels=_labels(options.label),
            max_body=options.max_body,
            max_queue=options.max_queue,
            max_batch=options.max_batch,
            timeout=options.timeout,
            drain=options.drain,
            poll=options.poll,
        ),
    )
    return 0


def _parser() -> Parser:
    parser = Parser(
        "serve",
        "Serve SavedModels over HTTP: TensorFlow Serving's REST API, the Open Inference Protocol, raw files and texts, and a "
        "page to try the models in a browser. New versions in a folder are served without a restart.",
    )
    parser.add_argument(
        "models", nargs="+", help="Run directories, folders of versions, or version folders; NAME=PATH names the model."
    )
    parser.add_argument("--host", default="127.0.0.1", help="Address to listen on; others than loopback need --token.")
    parser.add_argument("--port", type=int, default=8501, help="Port; 0 for a free one.")
    parser.add_argument(
        "--token", default="", help="What clients send as Authorization: Bearer TOKEN, or ZOO_SERVE_TOKEN."
    )
    parser.add_argument("--versions", default="latest", help="latest, all, or version numbers: 1,2.")
    parser.add_argument(
        "--label", nargs="+", default=[], help="Labels of versions: stable=1 canary=2, or MODEL:stable=1 for one model."
    )
    parser.add_argument(
        "--runtime",
        default="tensorflow",
        help="What computes the models: tensorflow, openvino or onnxruntime (extra `runtimes`). Raw inputs and labels stay "
        "in TensorFlow, and the golden examples are compared before anything is served.",
    )
    parser.add_argument("--max-body", type=int, default=32 << 20, help="Largest body of a request in bytes.")
    parser.add_argument(
        "--max-queue", type=int, default=256, help="Waiting requests of a model before 429 is answered."
    )
    parser.add_argument(
        "--max-batch", type=int, default=64, help="Rows of several requests that are computed together."
    )
    parser.add_argument("--timeout", type=float, default=30.0, help="Seconds until a request is answered with 504.")
    parser.add_argument("--drain", type=float, default=30.0, help="Seconds for requests in progress after SIGTERM.")
    parser.add_argument("--poll", type=float, default=1.0, help="Seconds between two looks for new versions.")
    return parser


def _paths(words: list[str]) -> dict[str, str]:
    """Returns the paths by the names of the models."""
    found: dict[str, str] = {}
    for word in words:
        name, equals, path = word.partition("=")
        if not equals or "/" in name or Path(word).exists():
            name, path = name_of(word), word
        if name in found:
            raise UsageError(f"Two models are named {name!r}. Pass NAME=PATH to name one of them.")
        found[name] = path
    return found


def name_of(path: str) -> str:
    """Returns the name of the folder of a run or of versions.

    Example:
        >>> name_of("runs/commands/saved_model/1")
        'commands'
    """
    parts = list(Path(path).absolute().parts)
    if len(parts) > 1 and parts[-1].isdecimal():
        parts.pop()
    if len(parts) > 1 and parts[-1] == "saved_model":
        parts.pop()
    return parts[-1]


def _labels(words: list[str]) -> dict[str, int]:
    found = {}
    for word in words:
        label, _, number = word.rpartition("=")
        if not label or not number.isdecimal():
            raise UsageError(f"--label is {word!r}. Pass LABEL=VERSION, such as stable=1.")
        found[label] = int(number)
    return found


if __name__ == "__main__":
    sys.exit(run_command(command))
