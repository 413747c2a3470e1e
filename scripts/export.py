"""Write and verify the SavedModel of a finished run elsewhere: `zoo export runs/digits-cnn exports/digits`."""

from __future__ import annotations

import sys

from zoo.scripts.console import Parser, import_tensorflow, run_command
from zoo.scripts.verify import asked_runtimes


def command(argv: list[str]) -> int:
    """Parses, exports, prints the verdict."""
    parser = Parser("export", "Write the SavedModel of a finished run as the next version of PATH, verified first.")
    parser.add_argument("run_directory", help="A folder that `zoo train` made.")
    parser.add_argument("path", help="Folder of the model: PATH/1, then PATH/2, as TensorFlow Serving watches it.")
    parser.add_argument(
        "--runtimes", nargs="+", default=[], help="openvino, onnxruntime, litert, c_api: must agree too; none for none."
    )
    options = parser.parse(argv)

    import_tensorflow()
    from zoo import pipeline
    from zoo.export.verification import Verification

    saved = pipeline.export_run(options.run_directory, options.path, asked_runtimes(options.runtimes))
    print(Verification.read(saved).table())
    print(f"SavedModel: {saved}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(command))
