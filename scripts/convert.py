"""Convert a SavedModel to a file for another runtime: `zoo convert exports/digits --to onnx`."""

from __future__ import annotations

import sys

from zoo.scripts.console import Parser, import_tensorflow, run_command


def command(argv: list[str]) -> int:
    """Parses the options, converts the signature and prints what was compared."""
    parser = Parser(
        "convert",
        "Convert one signature of a SavedModel to a file for another runtime. The runtime's outputs are compared with "
        "the SavedModel's before the file is published.",
    )
    parser.add_argument("path", help="A version folder of a SavedModel, its parent folder, or a run directory.")
    parser.add_argument("--to", required=True, help="Format: onnx, openvino, litert or savedmodel.")
    parser.add_argument(
        "--signature", type=str | None, default=None, help="Signature to convert; by default the portable one."
    )
    parser.add_argument(
        "--sequence-length",
        type=int | None,
        default=None,
        help="Size for unknown dimensions after the batch, such as the number of steps.",
    )
    parser.add_argument(
        "--output", type=str | None, default=None, help="Folder for the versions; by default PATH-FORMAT."
    )
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
