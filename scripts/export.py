"""Write and verify the SavedModel of a finished run: `zoo export runs/digits-cnn exports/digits`.

It also exports published weights without training: classifiers of images and text encoders as they are, other classifiers
with `--data`.
With `--examples`, it exports any Keras model in a .keras file.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from zoo import checkpoints, remote
from zoo.errors import UsageError
from zoo.scripts.console import Parser, golden_of, import_tensorflow, load_plugins, quiet_output, run_command
from zoo.scripts.verify import as_json, asked_runtimes


def _parser() -> Parser:
    parser = Parser(
        "export",
        "Verify the SavedModel of a finished run, or of any Keras model, and publish it as the next version in the folder "
        "PATH.",
    )
    parser.add_argument(
        "run_directory",
        help="A folder that `zoo train` wrote, a .keras file, or a file, folder or name of published weights.",
    )
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
        help="For published weights: class names in the order of the classifier's outputs, with --data those of the data "
        "set. For a .keras file: labels in the order of the model's classes. Also one text file with one label per line.",
    )
    parser.add_argument(
        "--examples",
        nargs="+",
        help="For a .keras file: examples of the model's inputs, a .npy or .npz file, or a CSV file with a column per input; "
        "with --images, image files. For published weights without --data: image files. They are published with the "
        "SavedModel.",
    )
    parser.add_golden()
    parser.add_licence()
    parser.add_argument(
        "--corpus",
        help="For text encoders: the texts that the signature search searches, lines:FILE, or csv:FILE with the columns id "
        "and text.",
    )
    parser.add_argument(
        "--images",
        help="For a .keras file that takes images: let the SavedModel take image files, scaled by unit (0 to 1), bytes (0 to "
        "255), symmetric (-1 to 1), torch, caffe, or as a model of keras.applications, such as resnet50.",
    )
    parser.add_argument("--json", action="store_true", help="Print the path and the verdict as one JSON object.")
    parser.add_plugins()
    return parser


def command(argv: list[str]) -> int:
    """Parses the options, exports and prints the verdict."""
    options = _parser().parse(load_plugins(argv))
    with quiet_output(options.json):
        saved = _exported(options)
    from zoo.export.verification import Verification

    verification = Verification.read(saved)
    print(as_json(verification) if options.json else f"{verification.table()}\nSavedModel: {remote.shown(saved)}")
    return 0


def _exported(options: Any) -> Path:
    """Exports what the options name; returns the version folder."""
    if options.corpus is not None and (options.data is not None or options.run_directory.endswith(".keras")):
        raise UsageError(
            "--corpus is for runs and published weights of text encoders, without --data. Leave --corpus out, or pass such a "
            "folder alone."
        )
    if options.run_directory.endswith(".keras") and options.data is None:
        return _export_keras_file(options)
    published = checkpoints.is_name(options.run_directory) or checkpoints.families(options.run_directory)
    if options.data is None and published:
        return _export_as_it_is(options)
    if options.examples is not None:
        raise UsageError(
            f"--examples is for a .keras file, or for published weights without --data; received {options.run_directory}"
            f"{' and --data' if options.data else ''}. Save the model with model.save('model.keras') and pass this file."
        )
    if options.data is not None and os.path.isfile(os.path.join(options.run_directory, "config.yaml")):
        raise UsageError(
            f"--data is for published weights, but {options.run_directory} is a run. Leave --data out, or pass a folder "
            "with published weights."
        )

    import_tensorflow()
    from zoo import pipeline

    runtimes = asked_runtimes(options.runtimes)
    if options.data is not None:
        given = {"manual_dir": options.manual_dir} if options.manual_dir else {}
        saved = pipeline.export_checkpoint(
            options.run_directory,
            options.path,
            options.data,
            runtimes,
            _labels(options.labels),
            golden=golden_of(options.golden),
            licence=options.licence,
            **given,
        )
    else:
        saved = pipeline.export_run(
            options.run_directory,
            options.path,
            runtimes,
            golden=golden_of(options.golden),
            corpus=options.corpus,
            licence=options.licence,
        )
    return saved


def _export_as_it_is(options: Any) -> Path:
    import_tensorflow()
    from zoo.published_export import export_published

    return export_published(
        options.run_directory,
        options.path,
        options.examples,
        asked_runtimes(options.runtimes),
        _labels(options.labels),
        corpus=options.corpus,
        golden=golden_of(options.golden),
        licence=options.licence,
    )


def _labels(given: list[str] | None) -> list[str] | None:
    """Returns labels, which may be in one text file with a label per line."""
    if given is not None and len(given) == 1 and Path(given[0]).is_file():
        return Path(given[0]).read_text(encoding="utf-8").splitlines()
    return given


def _export_keras_file(options: Any) -> Path:
    file = Path(options.run_directory)
    if options.examples is None:
        raise UsageError(f"{file} needs examples of its inputs. Pass --examples with a .npy, .npz or CSV file.")
    if not file.is_file():
        raise UsageError(f"{file} does not exist. Pass a file that model.save('model.keras') wrote.")
    import_tensorflow()
    from zoo import datasets, export
    from zoo.export.keras_models.files import image_size, load_keras_file, read_examples

    model, preprocessor = load_keras_file(file), None
    if options.images is not None:
        *size, channels = image_size(model)
        preprocessor = datasets.image_files(size, channels=channels, scaling=options.images)
    return export.save(
        model,
        options.path,
        examples=read_examples(options.examples) if preprocessor is None else options.examples,
        preprocessor=preprocessor,
        class_names=_labels(options.labels),
        golden=golden_of(options.golden),
        runtimes=asked_runtimes(options.runtimes),
        licence=options.licence,
    )


if __name__ == "__main__":
    sys.exit(run_command(command))
