"""Write and verify the SavedModel of a finished run elsewhere: `zoo export runs/digits-cnn exports/digits`.

Published weights with a classifier are exported too, with `--data`: nothing is trained then.
"""

from __future__ import annotations

import os
import sys

from zoo import checkpoints
from zoo.errors import UsageError
from zoo.scripts.console import Parser, import_tensorflow, load_plugins, run_command
from zoo.scripts.verify import asked_runtimes


def command(argv: list[str]) -> int:
    """Parses, exports, prints the verdict."""
    parser = Parser("export", "Write the SavedModel of a finished run as the next version of PATH, verified first.")
    parser.add_argument("run_directory", help="A folder that `zoo train` made, or published weights.")
    parser.add_argument("path", help="Folder of the model: PATH/1, then PATH/2, as TensorFlow Serving watches it.")
    parser.add_argument(
        "--runtimes", nargs="+", default=[], help="openvino, onnxruntime, litert, c_api: must agree too; none for none."
    )
    parser.add_argument("--data", help="Of published weights: a data set with their classes, to measure them on.")
    parser.add_argument(
        "--manual_dir", help="The folder with that data set's original files, where there is no network."
    )
    parser.add_argument(
        "--labels",
        nargs="+",
        help="Of published weights: the data set's names of their classes, in the order that they have there.",
    )
    parser.add_plugins()
    options = parser.parse(load_plugins(argv))
    if options.data is None and checkpoints.families(options.run_directory):
        raise UsageError(
            f"{options.run_directory} holds published weights. Pass --data with a data set of their classes, such as "
            "csv:texts.csv."
        )
    if options.data is not None and os.path.isfile(os.path.join(options.run_directory, "config.yaml")):
        raise UsageError(
            f"--data goes with published weights; {options.run_directory} is a run. Leave --data out, or pass such weights."
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
