"""Check a SavedModel against its golden examples: `zoo verify exports/digits`."""

from __future__ import annotations

import datetime
import json
import sys
from typing import TYPE_CHECKING

from zoo.scripts.console import Parser, import_tensorflow, quiet_output, run_command

if TYPE_CHECKING:
    from zoo.export.verdict import Verification


def command(argv: list[str]) -> int:
    """Parses the options, verifies and prints the verdict; returns exit status 1 if a check fails, 3 if nothing could be
    checked for lack of disk space."""
    parser = Parser(
        "verify",
        "Replay the golden examples of a SavedModel in a process that can import neither Keras nor this package, and in "
        "other runtimes. A SavedModel without golden examples gets the checks that are possible without them.",
    )
    parser.add_argument("path", help="A version folder, its parent folder, or a run directory.")
    parser.add_argument(
        "--runtimes",
        nargs="+",
        default=["installed"],
        help="Other runtimes to check, such as openvino, onnxruntime, litert, c_api. A runtime named here must be installed "
        "and agree. none checks TensorFlow alone. The default checks all installed runtimes: those that agreed at the "
        "export must agree; others may report that they cannot convert the model.",
    )
    parser.add_argument(
        "--python", type=str | None, default=None, help="Another Python interpreter, whose TensorFlow runs the replay."
    )
    parser.add_argument("--json", action="store_true", help="Print the verdict as one JSON object.")
    options = parser.parse(argv)

    import_tensorflow()
    from zoo.export import scratch, verify

    try:
        with quiet_output(options.json):
            verification = verify(options.path, runtimes=asked_runtimes(options.runtimes), python=options.python)
    except scratch.TemporaryFilesError as error:
        print(f"zoo: {options.path} could not be verified. {error}", file=sys.stderr)
        return 3
    print(as_json(verification) if options.json else verification.table())
    return 0 if verification.passed else 1


def as_json(verification: Verification) -> str:
    """Returns a verdict as one line of JSON: the contents of verification.json, the path and the time."""
    time = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return json.dumps({"path": str(verification.path), "time": time, **verification.to_dict()}, ensure_ascii=False)


def asked_runtimes(words: list[str]) -> str | list[str]:
    """Returns the runtimes named on a command line, in the form that `zoo.export.verify` takes."""
    return "installed" if words == ["installed"] else [] if words == ["none"] else words


if __name__ == "__main__":
    sys.exit(run_command(command))
