"""Write a SavedModel as a file for another runtime: `zoo convert exports/digits --to onnx`."""

from __future__ import annotations

import sys

from zoo.scripts.console import Parser, import_tensorflow, run_command


def command(argv: list[str]) -> int:
    """Parses, converts, prints what was compared."""
    parser = Parser(
        "convert", "Write a signature as a file for another runtime; it is compared before it becomes visible."
    )
    parser.add_argument("path", help="A version folder of a SavedModel, the folder above it, or a run.")
    parser.add_argument("--to", required=True, help="onnx, openvino or litert.")
    parser.add_argument(
        "--signature", type=str | None, default=None, help="Which function; by default the portable one."
    )
    parser.add_argument(
        "--sequence-length", type=int | None, default=None, help="Fix unknown dimensions, such as steps."
    )
    parser.add_argument("--output", type=str | None, default=None, help="Folder of the versions; by default PATH-TO.")
    options = parser.parse(argv)

    import_tensorflow()
    from zoo.export import conversion

    saved = conversion.convert(
        options.path,
        options.to,
        signature=options.signature,
        sequence_length=options.sequence_length,
        output=options.output,
    )
    print(conversion.summary(saved))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(command))
