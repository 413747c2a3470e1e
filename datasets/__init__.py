"""Data sets: raw splits, what they hold, and the preprocessor that training and the SavedModel share.

Importing this package is cheap; TensorFlow comes in with the first `load`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.datasets.preprocessing.base import register_preprocessor
from zoo.datasets.sources.embedded import EMBEDDED
from zoo.datasets.sources.names import TESTED, list_datasets
from zoo.datasets.sources.registry import register_source

if TYPE_CHECKING:
    from zoo.datasets.data import Data
    from zoo.datasets.raw import Feature, Split

__all__ = [
    "EMBEDDED",
    "TESTED",
    "Data",
    "Feature",
    "Split",
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
    raise AttributeError(f"module 'zoo.datasets' has no attribute {name!r}")


def load(
    name: str,
    *,
    data_dir: str | None = None,
    manual_dir: str | None = None,
    memory_limit: int = 2 << 30,
    columns: dict[str, str | list[str]] | None = None,
    window: int | None = None,
    horizon: int | None = None,
    folds: int | None = None,
    fold: int | None = None,
    task: str | None = None,
    **options: Any,
) -> Data:
    """Loads a data set by its name.

    Embedded, without network, and never evidence for a result: `digits` (images), `commands` (texts), `digit_rows`
    (series), `seasons` (a series to forecast), `tagged_commands` (tokens with tags), `number_words` (translation),
    `tastes` (ratings) and `command_lines` (texts without labels).

    Own files: `csv:PATH` (any task, see `zoo.datasets.sources.csv_schemas`), `images:FOLDER` with FOLDER/class/*.png,
    `text:FOLDER` with FOLDER/class/*.txt, `lines:PATH` with one text per line. Data without splits is split 80/10/10
    (lines 98/1/1) by a hash of each example, so duplicates stay together.

    Every other name is one of TensorFlow Datasets, or of this package's builders for it: prepared in `data_dir` already,
    downloaded, or made from the original files in `manual_dir`, which are checked against TensorFlow Datasets'
    checksums.

    Args:
        name: Name of the data set.
        data_dir: Where prepared data sets are kept, null for TensorFlow Datasets' own folder.
        manual_dir: Folder with the original files, for machines without network; own files are looked for from here.
        memory_limit: Bytes that the model's view of one split may take in memory; a larger one is read as a stream.
        columns: Of a CSV file, the column or columns of every key, such as {"text": "message", "label": "kind"}; null
            where columns are named like the keys.
        window: Steps of history that a forecast is made from, null for the data set's own.
        horizon: Steps to forecast, null for the data set's own.
        folds: Joins the splits and divides all examples into this many parts, of which one is the test split.
        fold: Which of the folds is the test split, from 0.
        task: Of a data set that serves several tasks, the one that is wanted; null where the model decides.
        **options: What else the source takes, see `register_source`.

    Returns:
        The raw `train`, `validation` and `test` splits with features, class names and licence; see
        `zoo.datasets.data.Data`.

    Raises:
        UsageError: unknown name (the nearest is offered), features that no task fits, missing or damaged original
            files (each is named, with where to get it), no network, an option that the data set does not take, or what
            is wrong with a file (with its row).

    Example:
        >>> data = zoo.datasets.load("digits")
        >>> data.class_names[3], data.features["image"].shape
        ('3', (8, 8, 1))
    """
    from zoo.datasets.sources import loading

    return loading.load(
        name,
        data_dir=data_dir,
        manual_dir=manual_dir,
        memory_limit=memory_limit,
        options={"columns": columns, "window": window, "horizon": horizon, **options},
        folds=folds,
        fold=fold,
        task=task,
    )
