"""Check a SavedModel against the proof that it carries: `zoo verify exports/digits`."""

from __future__ import annotations

import sys

from zoo.scripts.console import Parser, import_tensorflow, run_command


def command(argv: list[str]) -> int:
    """Parses, verifies, prints the verdict; exit status 1 where it does not hold."""
    parser = Parser(
        "verify",
        "Check a SavedModel in a process that can import neither Keras nor this package, and in other runtimes. Of one "
        "that carries no proof, say what can be checked.",
    )
    parser.add_argument("path", help="A version folder, the folder above it, or a run.")
    parser.add_argument(
        "--runtimes",
        nargs="+",
        default=["installed"],
        help="openvino, onnxruntime, litert, c_api, which must be here and agree then; none for TensorFlow alone. By "
        "default all that are installed: one that agreed at the export must agree, others may say why they cannot.",
    )
    parser.add_argument("--python", type=str | None, default=None, help="Another Python, whose TensorFlow replays it.")
    options = parser.parse(argv)

    import_tensorflow()
    from zoo.export import verify

    verification = verify(options.path, runtimes=asked_runtimes(options.runtimes), python=options.python)
    print(verification.table())
    return 0 if verification.passed else 1


def asked_runtimes(words: list[str]) -> str | list[str]:
    """Returns the runtimes that a command line names, as `zoo.export.verify` takes them."""
    return "installed" if words == ["installed"] else [] if words == ["none"] else words


if __name__ == "__main__":
    sys.exit(run_command(command))
