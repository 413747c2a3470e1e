"""Loads data sets with builders of TensorFlow Datasets and of this package."""

from __future__ import annotations

import contextlib
import importlib
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np

from zoo.datasets.sources import tfds_tables
from zoo.datasets.sources.names import TESTED, check_folder, check_options, list_datasets
from zoo.datasets.sources.registry import SOURCES
from zoo.datasets.sources.tfds_splits import Reader, raw_examples, split_of_builder
from zoo.errors import UsageError, did_you_mean, one_line

if TYPE_CHECKING:
    from zoo.datasets.data import Data
    from zoo.datasets.raw import Split


_MEASURED = 1_000
"""Training images whose sizes are read; the builders store the examples in a random order."""

_READERS = {
    "tiny_shakespeare": Reader(("text_generation",), {"text": "text"}),
    "clinc_oos": Reader(
        ("text_classification",),
        {"text": "text", "label": "intent"},
        label_names="intent_name",
        out_of_scope={"validation": "validation_oos", "test": "test_oos"},
    ),
    # A contraction ("don't", before "do" and "n't") has its own row with the tag "_".
    "universal_dependencies": Reader(
        ("tagging",), {"tokens": "tokens", "tags": "upos", "text": "text"}, placeholder="_"
    ),
}
"""Builders of TensorFlow Datasets whose features do not determine how to read them."""


def load_builder(
    name: str, *, data_dir: str | None, manual_dir: str | None, memory_limit: int, options: Mapping[str, Any]
) -> Data:
    """Loads a data set of TensorFlow Datasets. The arguments are those of `zoo.datasets.load`."""
    check_folder(manual_dir)
    from zoo.datasets.data import Data
    from zoo.datasets.sources.in_memory import features_of
    from zoo.datasets.sources.out_of_scope import unlabelled

    builder = _open(name, data_dir)
    reader = _reader(name, builder)
    if reader.table is None:
        check_options(name, options, ["window", "horizon"] if reader.windows else [])
    if not builder.data_path.exists():
        _prepare(builder, manual_dir)
    places = {"data_dir": data_dir, "manual_dir": manual_dir}
    places = {k: str(Path(v).expanduser().resolve()) for k, v in places.items() if v is not None}
    if reader.table is not None:
        return tfds_tables.load_table(builder, reader.table, name, memory_limit, places, options)
    chosen: dict[str, Any] = {}
    if reader.windows:
        chosen = {k: options.get(k, usual) for k, usual in zip(("window", "horizon"), reader.windows, strict=True)}
        splits = _windows(name, builder, reader, **chosen)
    else:
        roles = _choose_splits(name, list(builder.info.splits))
        splits = {role: split_of_builder(builder, reader, spec) for role, spec in roles.items()}
    sizes = {role: part.num_examples for role, part in splits.items()}
    if not all(sizes.values()):
        raise UsageError(f"Data set {name!r} is too small to split: {sizes}. Choose one with more examples.")
    licence = str(builder.info.redistribution_info.license or "")
    features = features_of(splits["train"])
    return Data(
        name=name,
        arguments={**places, **chosen},
        tasks=reader.tasks,
        splits=splits,
        features=features,
        class_names=_class_names(builder, reader),
        licence=licence or TESTED.get(name, "not stated by the source"),
        source=f"{builder.info.homepage} (TensorFlow Datasets {builder.info.full_name})",
        memory_limit=memory_limit,
        about={**_about(builder, chosen), **_median_size(splits["train"], features)},
        out_of_scope={
            role: unlabelled(split_of_builder(builder, reader, spec)) for role, spec in reader.out_of_scope.items()
        },
    )


def _open(name: str, data_dir: str | None) -> Any:
    """Returns TensorFlow Datasets' builder of a name."""
    import tensorflow_datasets as tfds

    for module in (
        "table_builders",
        "text_builders",
        "series_builders",
        "image_builders",
    ):  # which register all builders with TensorFlow Datasets
        importlib.import_module(f"zoo.datasets.sources.{module}")
    tfds.disable_progress_bar()
    try:
        return tfds.builder(name, data_dir=data_dir)
    except (ValueError, AssertionError, ImportError) as error:
        known = [*SOURCES.names(), *tfds.list_builders()]
        base = re.split("[:/]", name)[0]
        offered = _offered(name)
        if offered and base not in known:
            raise UsageError(f"Unknown data set {name!r}. Did you mean {' or '.join(offered)}?") from None
        if base not in known:
            nearest = did_you_mean(name.lower(), known, listing="tensorflow_datasets.list_builders()")
            raise UsageError(f"Unknown data set {name!r}. {nearest}") from None
        raise UsageError(f"Cannot open data set {name!r}: {one_line(error)} Try {base!r} alone.") from error


def _offered(name: str) -> list[str]:
    """Returns the names SOURCE:PATH that a path, or a path after an unknown source, may mean."""
    kind, _, path = name.rpartition(":")
    place = Path(path).expanduser()
    source = {".csv": "csv", ".tsv": "csv", ".gz": "csv", ".parquet": "parquet", ".txt": "lines"}.get(
        place.suffix.lower()
    )
    if source or (path and place.is_file()):
        return [f"{source or 'csv'}:{path}"]
    is_version = re.fullmatch(r"[\d.*]+", path)
    return [f"images:{path}", f"text:{path}"] if path and (place.is_dir() or (kind and not is_version)) else []


def _reader(name: str, builder: Any) -> Reader:
    """Returns how to read a builder: from its own declaration, from `_READERS`, or from its features."""
    import tensorflow_datasets as tfds

    if hasattr(builder, "tasks") and hasattr(builder, "keys"):
        return Reader(builder.tasks, builder.keys, windows=builder.windows, table=builder.target)
    if builder.name in _READERS:
        return _READERS[builder.name]
    features = builder.info.features
    if isinstance(features, tfds.features.Translation):
        source, target = features.languages[:2]
        return Reader(("translation",), {"text": source, "translation": target})
    flat = features if isinstance(features, tfds.features.FeaturesDict) else {}
    images = [k for k in flat if type(flat[k]) is tfds.features.Image and np.dtype(flat[k].np_dtype) == np.uint8]
    texts = [k for k in flat if type(flat[k]) is tfds.features.Text]
    labels = [k for k in flat if type(flat[k]) is tfds.features.ClassLabel]
    if len(labels) == 1 and len(images) == 1:
        return Reader(("image_classification",), {"image": images[0], "label": labels[0]})
    several = isinstance((builder.info.supervised_keys or [""])[0], (dict, tuple))  # the inputs are several features
    if (
        len(labels) == 1
        and len(texts) == 1
        and not several
        and not any(type(f) is tfds.features.Image for f in flat.values())
    ):
        return Reader(("text_classification",), {"text": texts[0], "label": labels[0]})
    if (target := tfds_tables.target_of(builder)) is not None:
        return Reader((), {}, table=target)
    held = ", ".join(f"{k}: {type(flat[k]).__name__}" for k in flat) or type(features).__name__
    raise UsageError(
        f"Data set {name!r} holds {held}; expected exactly one uint8 Image or one Text, and one ClassLabel. "
        f"Known to work: {', '.join(list_datasets())}."
    )


def _windows(name: str, builder: Any, reader: Reader, window: int, horizon: int) -> dict[str, Split]:
    from zoo.datasets.sources.windows import window_splits

    (example,) = raw_examples(builder, "train").as_numpy_iterator()
    return window_splits(name, example[reader.keys["series"]], window, horizon)


def _about(builder: Any, chosen: Mapping[str, int]) -> dict[str, Any]:
    """Returns the metadata of this package's builders."""
    from zoo.datasets.sources.windows import useful_lags

    about = {**getattr(builder, "facts", {})}
    if about or hasattr(builder, "tasks"):
        about.update(builder.info.metadata or {})
    if "naive" in about:
        about["naive"] = useful_lags(about["naive"], chosen["window"], chosen["horizon"])
    return about


def _median_size(train: Split, features: Mapping[str, Any]) -> dict[str, list[int]]:
    """Returns the median height and width of the first training images, if their sizes vary."""
    import tensorflow as tf

    if "image" not in features or None not in features["image"].shape[:2]:
        return {}
    shapes = train.dataset().take(_MEASURED).map(lambda example: tf.shape(example["image"]))
    return {"median_image_size": np.median([*shapes.as_numpy_iterator()], axis=0).astype(int)[:2].tolist()}


def _class_names(builder: Any, reader: Reader) -> tuple[str, ...]:
    """Returns the names of the labels. If labels are plain numbers, the names are read from the training split."""
    key = reader.keys.get("label") or reader.keys.get("tags")
    if key is None:
        return ()
    if reader.label_names is None:
        held = builder.info.features[key]
        return tuple(n for n in getattr(held, "feature", held).names if n != reader.placeholder)
    names = {int(e[key]): e[reader.label_names].decode() for e in raw_examples(builder, "train").as_numpy_iterator()}
    if sorted(names) != list(range(len(names))):
        raise UsageError(f"The labels of {builder.name!r} are not numbered from 0. Choose another data set.")
    return tuple(names[i] for i in range(len(names)))


def _choose_splits(name: str, available: list[str]) -> dict[str, str]:
    """Returns the split expressions of TensorFlow Datasets for train, validation and test.

    The source's test split stays the test split. If the source has only train and validation (or dev), the latter becomes
    our test split, because models are selected on our validation split. Missing splits are cut from the end of train.
    """
    if "train" not in available:
        held = ", ".join(available) or "none"
        raise UsageError(f"Data set {name!r} has the splits {held}; expected one named train. Choose another data set.")
    validation = next((s for s in ("validation", "dev") if s in available), None)
    if "test" in available and validation:
        return {"train": "train", "validation": validation, "test": "test"}
    held_out = "test" if "test" in available else validation
    if held_out:
        return {"train": "train[:90%]", "validation": "train[90%:]", "test": held_out}
    return {"train": "train[:80%]", "validation": "train[80%:90%]", "test": "train[90%:]"}


def _prepare(builder: Any, manual_dir: str | None) -> None:
    """Runs the builder on downloaded or original files. Errors are reported at once, not after minutes of retries."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.extractor import ExtractError
    from tensorflow_datasets.core.download.util import DownloadError

    folder = Path(manual_dir).expanduser() if manual_dir else None
    # One folder per data set: TFDS names an extracted file only after its archive, so fashion_mnist would silently read
    # the pixels of an mnist that was extracted earlier.
    extract_dir = Path(builder.data_dir_root) / "downloads" / "extracted" / builder.info.full_name.replace("/", "-")
    config = tfds.download.DownloadConfig(manual_dir=folder, extract_dir=extract_dir, try_download_gcs=False)
    print(f"Preparing {builder.info.full_name} in {builder.data_dir} (once) ...", flush=True)
    try:
        with _fast_download_errors(builder.name, folder):
            builder.download_and_prepare(download_config=config)
    except tfds.download.download_manager.NonMatchingChecksumError as error:
        what = " ".join(str(error).split("To debug")[0].split())
        raise UsageError(
            f"An original file of {builder.name!r} is damaged or has another version: {what}. Replace it with the "
            "published file."
        ) from error
    except AssertionError as error:
        if not builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
            raise
        raise UsageError(
            f"Data set {builder.name!r} needs files that you must download yourself: {one_line(error, 1000)} "
            "Pass their folder with --data.manual_dir FOLDER."
        ) from error
    except UsageError:
        raise
    except (
        KeyError,
        IndexError,
        ValueError,
        zipfile.BadZipFile,
    ) as error:  # an archive lacks a file, a line a cell, ...
        where = f" in {folder}" if folder else ""
        raise UsageError(
            f"An original file of {builder.name!r}{where} has other content than the published one: {one_line(error, 200)} "
            "Replace it with the published file."
        ) from error
    except (OSError, DownloadError, ExtractError) as error:
        raise UsageError(
            f"Cannot prepare {builder.name!r} in {builder.data_dir_root}: {one_line(error)}. Check that the folder is "
            "writable and has free space, or pass another --data.data_dir, and try again."
        ) from error


@contextlib.contextmanager
def _fast_download_errors(name: str, folder: Path | None) -> Iterator[None]:
    """Makes downloads that cannot succeed fail at once and in one message. TFDS retries an unreachable host for minutes.

    With a folder of original files nothing is downloaded: a file that TFDS does not find there is missing.
    """
    import requests
    from promise import Promise
    from tensorflow_datasets.core.download.download_manager import DownloadManager

    original = DownloadManager._download
    absent: dict[str, str] = {}

    def download(self: Any, resource: Any) -> Any:
        url = resource.url
        if folder is None and not absent:
            try:
                if url.startswith("http"):
                    requests.head(url, timeout=10, allow_redirects=True)
                return original(self, resource)
            except requests.RequestException:
                pass
        known = self._url_infos.get(url)
        absent[url] = (known and known.filename) or url.rsplit("/", 1)[1]
        return Promise.reject(FileNotFoundError(url))  # raised after all files of this call were requested

    try:
        with mock.patch.object(DownloadManager, "_download", download):
            yield
    except FileNotFoundError as error:
        if not absent:
            raise
        files = "; ".join(f"{filename} (from {url})" for url, filename in absent.items())
        if folder is not None:
            raise UsageError(
                f"manual_dir {folder} lacks original files of {name!r}: {files}. Put them there with these names, or "
                "leave manual_dir out to download them."
            ) from error
        raise UsageError(
            f"Cannot reach {next(iter(absent))} to download {name!r}. On a machine without network put the original "
            f"files into a folder and pass --data.manual_dir FOLDER: {files}."
        ) from error
