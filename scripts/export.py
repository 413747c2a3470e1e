"""Write and verify the SavedModel of a finished run: `zoo export runs/digits-cnn exports/digits`.

With `--data`, it also exports published weights that have a classifier, without training.
"""

from __future__ import annotations

import os
import sys

from zoo import checkpoints
from zoo.errors import UsageError
from zoo.scripts.console import Parser, import_tensorflow, load_plugins, run_command
from zoo.scripts.verify import asked_runtimes


def command(argv: list[str]) -> int:
    """Parses the options, exports and prints the verdict."""
    parser = Parser(
        "export", "Verify the SavedModel of a finished run and publish it as the next version in the folder PATH."
    )
    parser.add_argument("run_directory", help="A folder that `zoo train` wrote, or a folder with published weights.")
    parser.add_argument("path", help="Folder for the versions: PATH/1, then PATH/2, as TensorFlow Serving expects.")
    parser.add_argument(
        "--runtimes",
        nargs="+",
        default=[],
        help="Other runtimes that must agree, such as openvino, onnxruntime, litert, c_api. none checks TensorFlow alone.",
    )
    parser.add_argument(
        "--data", help="For published weights: a data set with the same classes, on which they are evaluated."
    )
    parser.add_argument(
        "--manual_dir", help="Folder with the original files of --data, for machines without a network."
    )
    parser.add_argument(
        "--labels",
        nargs="+",
        help="For published weights: the data set's class names, in the order of the classifier's outputs.",
    )
    parser.add_plugins()
    options = parser.parse(load_plugins(argv))
    if options.data is None and checkpoints.families(options.run_directory):
        raise UsageError(
            f"{options.run_directory} holds published weights. Pass --data with a data set that has the same classes, "
            "such as csv:texts.csv."
        )
    if options.data is not None and os.path.isfile(os.path.join(options.run_directory, "config.yaml")):
        raise UsageError(
            f"--data is for published weights, but {options.run_directory} is a run. Leave --data out, or pass a folder "
            "with published weights."
        )

    import_tensorflow()
    from zoo import pipeline
    from zoo.export.verification import Verification

    runtimes = asked_runtimes(options.runtimes)
    if options.data is not None:
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
