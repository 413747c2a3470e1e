"""A Keras model in a file, and files with examples of its inputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo import model_archive
from zoo.errors import UsageError, one_line

if TYPE_CHECKING:
    import keras


def load_keras_file(file: Path) -> keras.Model:
    """Loads a .keras file.

    Raises:
        UsageError: the file is damaged, or a class in it is not known.
    """
    return model_archive.load(
        file,
        "Register classes of your own with @keras.saving.register_keras_serializable(), and pass their file: --plugin "
        "my_layers.py (in Python, import it).",
    )


def image_size(model: keras.Model) -> tuple[int, int, int]:
    """Returns height, width and channels of a model's only input.

    Raises:
        UsageError: the model takes something else, or images of any size.
    """
    shapes = [tuple(tensor.shape[1:]) for tensor in getattr(model, "inputs", None) or []]
    if len(shapes) != 1 or len(shapes[0]) != 3 or None in shapes[0] or shapes[0][2] not in (1, 3):
        shown = ", ".join(str(list(shape)) for shape in shapes) or "inputs of unknown shape"
        raise UsageError(
            f"Model {model.name!r} takes {shown}; expected one image of a fixed size, (height, width, 1 or 3). Call "
            "zoo.export.save in Python with preprocessor=zoo.datasets.image_files(...)."
        )
    height, width, channels = shapes[0]
    return height, width, channels


def read_examples(files: Sequence[str]) -> Any:
    """Reads examples: an array of a .npy file, arrays by input name of a .npz file, or the columns of a CSV file.

    Raises:
        UsageError: there are several files, or a file cannot be read.
    """
    if len(files) != 1:
        raise UsageError(
            f"--examples has {len(files)} files; expected one .npy, .npz or CSV file. Pass --images for images."
        )
    file = Path(files[0])
    try:
        if file.suffix == ".csv":
            import pandas as pd

            frame, cells = pd.read_csv(file), pd.read_csv(file, dtype=str, keep_default_na=False)
            held = frame.loc[:, frame.notna().any()]  # a column of "NA" alone holds words
            numbers = [name for name in held.columns if pd.api.types.is_numeric_dtype(held[name])]
            return cells.assign(**{name: frame[name] for name in numbers})  # "NA" may be a word
        if file.suffix not in (".npy", ".npz"):
            raise UsageError(
                f"{file} has the ending {file.suffix or '(none)'}; expected .npy, .npz or .csv. Write the examples with "
                "numpy.savez(FILE, INPUT=array), or pass --images for images."
            )
        held = np.load(file, allow_pickle=False)
        return {name: held[name] for name in held.files} if file.suffix == ".npz" else held
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise UsageError(
            f"{file} cannot be read: {one_line(error, 200)} Pass a file that numpy.savez(FILE, INPUT=array) wrote, texts as "
            "an array of str."
        ) from error
