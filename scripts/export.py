"""Write and verify the SavedModel of a finished run elsewhere: `zoo export runs/digits-cnn exports/digits`.

A Hugging Face folder is exported too, with `--data`: nothing is trained then.
"""

from __future__ import annotations

import os
import sys

from zoo.errors import UsageError
from zoo.scripts.console import Parser, import_tensorflow, run_command
from zoo.scripts.verify import asked_runtimes


def command(argv: list[str]) -> int:
    """Parses, exports, prints the verdict."""
    parser = Parser("export", "Write the SavedModel of a finished run as the next version of PATH, verified first.")
    parser.add_argument("run_directory", help="A folder that `zoo train` made, or a Hugging Face folder of BERT.")
    parser.add_argument("path", help="Folder of the model: PATH/1, then PATH/2, as TensorFlow Serving watches it.")
    parser.add_argument(
        "--runtimes", nargs="+", default=[], help="openvino, onnxruntime, litert, c_api: must agree too; none for none."
    )
    parser.add_argument("--data", help="Of a Hugging Face folder: a data set with its classes, to measure it on.")
    parser.add_argument(
        "--manual_dir", help="The folder with that data set's original files, where there is no network."
    )
    parser.add_argument(
        "--labels",
        nargs="+",
        help="Of a Hugging Face folder: the data set's names of its classes, in the folder's order.",
    )
    options = parser.parse(argv)
    is_checkpoint = os.path.isfile(os.path.join(options.run_directory, "config.json"))
    if is_checkpoint and options.data is None:
        raise UsageError(
            f"{options.run_directory} is a Hugging Face folder. Pass --data with a data set of its classes, such as "
            "csv:texts.csv."
        )
    if options.data is not None and not is_checkpoint:
        raise UsageError(
            f"--data goes with a Hugging Face folder; there is no config.json in {options.run_directory}. Pass such a "
            "folder, or leave --data out."
        )

    import_tensorflow()
    from zoo import pipeline
    from zoo.export.verification import Verification

    runtimes = asked_runtimes(options.runtimes)
    if is_checkpoint:
        given = {"manual_dir": options.manual_dir} if options.manual_dir else {}
        saved = pipeline.export_checkpoint(
            options.run_directory, options.path, options.data, runtimes, options.labels, **given
        )
    else:
        saved = pipeline.export_run(options.run_directory, options.path, runtimes)
    print(Verification.read(saved).table())
    print(f"SavedModel: {saved}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(command))
