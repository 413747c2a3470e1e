"""Data sets: raw splits, their features, and the preprocessor that training and the SavedModel share.

Importing this package is cheap: TensorFlow is imported by the first `load`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.datasets.preprocessing.base import register_preprocessor
from zoo.datasets.sources.embedded import EMBEDDED
from zoo.datasets.sources.names import TESTED, list_datasets
from zoo.datasets.sources.registry import register_source
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.datasets.data import Data
    from zoo.datasets.preprocessing.scaled_images import image_files
    from zoo.datasets.raw import Feature, Split
    from zoo.datasets.sources.arrays import from_arrays
    from zoo.datasets.sources.dataset_objects import from_dataset
    from zoo.datasets.sources.frames import from_frame

__all__ = [
    "EMBEDDED",
    "TESTED",
    "Data",
    "Feature",
    "Split",
    "from_arrays",
    "from_dataset",
    "from_frame",
    "image_files",
    "list_datasets",
    "load",
    "register_preprocessor",
    "register_source",
]


def __getattr__(name: str) -> Any:
    if name == "Data":
        from zoo.datasets.data import Data

        return Data
    if name in ("Feature", "Split"):
        from zoo.datasets import raw

        return getattr(raw, name)
    if name == "image_files":
        from zoo.datasets.preprocessing.scaled_images import image_files

        return image_files
    if name == "from_arrays":
        from zoo.datasets.sources.arrays import from_arrays

        return from_arrays
    if name == "from_frame":
        from zoo.datasets.sources.frames import from_frame

        return from_frame
    if name == "from_dataset":
        from zoo.datasets.sources.dataset_objects import from_dataset

        return from_dataset
    raise AttributeError(f"module 'zoo.datasets' has no attribute {name!r}")


def load(
    name: Any,
    *,
    data_dir: str | None = None,
    manual_dir: str | None = None,
    memory_limit: int = 2 << 30,
    cache: str | None = None,
    cache_dir: str | None = None,
    columns: dict[str, str | int | list[str | int]] | None = None,
    window: int | None = None,
    horizon: int | None = None,
    season: int | str | None = None,
    header: bool | None = None,
    skip_broken: bool | None = None,
    titles: str | None = None,
    items: str | None = None,
    users: str | None = None,
    log_values: bool | None = None,
    kinds: dict[str, str] | None = None,
    leave_out: list[str] | None = None,
    keep: list[str] | None = None,
    time: str | None = None,
    group: str | None = None,
    scaling: str | None = None,
    clip: bool | None = None,
    min_count: int | None = None,
    encoding: str | None = None,
    decimal: str | None = None,
    thousands: str | None = None,
    missing: list[str] | str | None = None,
    units: list[str] | str | None = None,
    out_of_scope: str | None = None,
    validation: Any = None,
    test: Any = None,
    folds: int | None = None,
    fold: int | None = None,
    task: str | None = None,
    model: str | None = None,
    tokenizer: str | None = None,
    examples_per_class: int | None = None,
    **options: Any,
) -> Data:
    """Loads a data set by its name, or makes one from arrays, a DataFrame or a data set of another library.

    Embedded data sets need no network. They are for tests and first tries, never evidence for a result: `digits`
    (images), `commands` (texts), `digit_rows` (series), `seasons` (a series to forecast), `tagged_commands` (tokens with
    tags), `number_words` (translation), `tastes` (ratings), `command_lines` (texts without labels), `spoken_sums`
    (texts to generate), `digit_shapes` and
    `wishes` (images and texts with several labels), `digit_ink` and `baskets` (images and texts with values), `pastimes`
    (rows with several labels). The tables `iris`, `wine`, `breast_cancer` and `diabetes` are real, but small.

    Your own files: `csv:PATH` (any task, tables included, see `zoo.datasets.sources.csv_files`; also compressed with gzip,
    and several files as `csv:part-*.csv`), `parquet:PATH` likewise, `images:FOLDER` with FOLDER/class/*.png, `text:FOLDER`
    with FOLDER/class/*.txt, `lines:PATH` with one text per line, `documents:PATH` with whole texts.
    Data without splits is split 80/10/10 (lines 98/1/1) by a hash of each example, so duplicates stay together.

    Every other name is a data set of TensorFlow Datasets, or of this package's builders for it. It is read from
    `data_dir` if it was prepared before. Otherwise it is downloaded, or made from the original files in `manual_dir`,
    which are checked against TensorFlow Datasets' checksums.

    Data from memory: a pair (x, y) as `from_arrays` takes it, a pandas DataFrame as `from_frame` takes it, a data set of
    another library as `from_dataset` takes it, or a data set that was loaded before.

    Args:
        name: Name of the data set, or the data.
        data_dir: Folder of prepared data sets. Null uses TensorFlow Datasets' default folder.
        manual_dir: Folder with the original files, for machines without network. Relative paths of your own files start
            here.
        memory_limit: Maximum bytes that the model inputs of one split take in memory. A larger split is read in every epoch,
            in the same order.
        cache: What is kept of images and records that are read in every epoch: memory keeps the bytes of their files, disk
            the decoded model inputs.
        cache_dir: Folder for decoded model inputs. Null uses savedmodel-zoo in the user's folder of caches.
        columns: Column or columns of a CSV file for every key, such as {"text": "message", "label": "kind"}, by name or
            by number from 0. Null if the columns are named like the keys.
        window: Steps of history for a forecast. Null uses the data set's default.
        horizon: Steps to forecast. Null uses the data set's default.
        season: Steps after which a series repeats itself, such as 24 or 168 for hours; 1 for the last value, `none` for no
            season. Null or `auto` takes what is best on the validation split, and prints it.
        header: Whether the first line of a CSV file names the columns. False needs numbers from 0 as columns.
        skip_broken: Whether to leave out image files that cannot be read, and to print their names.
        titles: For ratings in a CSV file: another CSV file in its folder, with the columns item_id and title.
        items: For interactions in a CSV file: another one in its folder, with the column item_id and features of each item,
            such as genre and year, from which the model `two_tower` learns.
        users: The same for users, with the column user_id.
        log_values: Whether a regression learns log(1 + value), for values such as prices, whose errors are relative.
        kinds: For a table of features, the kind of columns: number, category, yes_no or time (time_dmy or time_mdy, if
            01/02/2024 may be two days). Null lets the cells decide.
        leave_out: For a table of features, columns that are not used.
        keep: For a table of features, columns that are used although they look like identifiers or give the label away.
        time: For a table of features, a column of times: the latest rows are the test split, those before them validation.
        group: For a table of features, a column whose equal values stay in one split, such as a customer. It is no feature.
        scaling: For a table of features, how numbers are scaled: standard (mean 0, deviation 1) or quantile (by rank).
        clip: For a table of features, whether numbers beyond those of the training split become the nearest of them.
        min_count: For a table of features, how often a category must occur in the training split to be known.
        encoding: For a CSV file that is not UTF-8, its codec by the name in Python, such as cp1252, gb18030 or utf-16.
        decimal: For tables and CSV files, the decimal mark of all numbers, "." or ",". Null lets the cells of each column
            decide; what may be two numbers is an error.
        thousands: For tables and CSV files, the mark between groups of three digits: ".", ",", " ", "'" or "_".
        missing: For tables and CSV files, further cells that are missing values in any column, such as "k. A."; na_values
            in pandas.
        units: For tables and CSV files, units or signs before or after numbers, which are removed, such as "€".
        out_of_scope: A label whose examples belong to none of the classes, such as oos. They are not trained on. The report
            says how well the model tells them from the classes.
        validation: The validation split: another CSV file with the same columns, in the folder of the first; or inputs
            and targets, for arrays.
        test: The test split, in the same form.
        folds: Joins the splits and divides all examples into this many folds. One fold is the test split.
        fold: Number of the fold that is the test split, from 0.
        task: Task to use, for a data set that serves several. Null lets the model decide.
        model: Model that arrays are for, whose tasks say what they are if several tasks fit.
        tokenizer: How models with a vocabulary of their own split texts: words, characters, subwords (learned from the
            training split), or auto, the default, which decides from the texts. For tagging, what has a tag: words,
            characters, or auto.
        examples_per_class: Number of examples of each class that the training and the validation split keep, drawn with a
            fixed seed, to measure what a model learns from few. The test split stays whole. Null keeps all.
        **options: Further options of the source, see `register_source`.

    Returns:
        The raw `train`, `validation` and `test` splits with features, class names and licence; see
        `zoo.datasets.data.Data`.

    Raises:
        UsageError: the name is unknown (the message suggests the nearest), no task fits the features, original files
            are missing or damaged (the message lists them and their source), there is no network, the data set does
            not take an option, or a file has an error (the message gives the row).

    Example:
        >>> data = zoo.datasets.load("digits")
        >>> data.class_names[3], data.features["image"].shape
        ('3', (8, 8, 1))
    """
    from zoo.datasets.sources import loading

    held: dict[str, Any] = {"memory_limit": memory_limit, "cache": cache, "cache_dir": cache_dir, "model": model}
    common: dict[str, Any] = {"folds": folds, "fold": fold, "task": task, "validation": validation, "test": test}
    return loading.load(
        name,
        data_dir=data_dir,
        manual_dir=manual_dir,
        options={
            **{"columns": columns, "window": window, "horizon": horizon, "season": season},
            **{"header": header, "skip_broken": skip_broken, "titles": titles, "items": items, "users": users},
            **{"log_values": log_values, "scaling": scaling, "clip": clip, "min_count": min_count},
            **{"kinds": kinds, "leave_out": leave_out, "keep": keep, "time": time, "group": group},
            **{"encoding": encoding, "decimal": decimal, "thousands": thousands, "missing": missing, "units": units},
            **options,
        },
        **held,
        **{**common, "out_of_scope": out_of_scope, "tokenizer": tokenizer, "examples_per_class": examples_per_class},
    )


def load_of_run(source: Mapping[str, Any], run_directory: str | Path) -> Data:
    """Loads the data of a finished run from the `data` section of its settings.

    Raises:
        UsageError: it is not where it was; the message says what needs no data.
    """
    from zoo.datasets.sources.arrays import NAME

    if source["name"] == NAME:
        raise UsageError(
            f"The run in {run_directory} was trained on data in memory, which it does not hold. Pass the same data: "
            f"data=(x, y), or a DataFrame, to zoo.open_run or zoo.evaluate. zoo.load({str(run_directory)!r}) gives the model "
            "alone, which predicts."
        )
    try:
        return load(**source)
    except UsageError as error:
        raise UsageError(
            f"The data of the run in {run_directory}, {source['name']}, cannot be loaded again: "
            f"{str(error).split('. ')[0]}. Put it back where it was, or call zoo.evaluate in Python with the same data. "
            f"`zoo export {run_directory} FOLDER` needs no data."
        ) from error
