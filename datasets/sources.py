"""Where data sets come from: embedded in a package that is there anyway, or TensorFlow Datasets' own builders."""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np

from zoo.datasets.embedded import EMBEDDED
from zoo.errors import UsageError, did_you_mean, one_line

if TYPE_CHECKING:
    from zoo.datasets.data import Data

TESTED = {"clinc_oos": "CC BY 3.0", "fashion_mnist": "MIT", "mnist": "CC BY-SA 3.0", "sms_spam": "CC BY 4.0"}
"""Data sets of TensorFlow Datasets, and of this package's builders for it, that this package has been run on, with their
licences, which the builders leave out; any other of one image or text and one class label loads too."""

_NUMBERED = {"clinc_oos": ("text", "intent", "intent_name")}
"""Text sets whose labels are plain numbers: the keys of the text, the number and its name."""


def list_datasets() -> list[str]:
    """Returns the names that are known to work: the embedded sets, and those of TensorFlow Datasets that were tried.

    Example:
        >>> zoo.datasets.list_datasets()
        ['clinc_oos', 'commands', 'digits', 'fashion_mnist', 'mnist', 'sms_spam']
    """
    return sorted([*EMBEDDED, *TESTED])


def load(name: str, *, data_dir: str | None, manual_dir: str | None, memory_limit: int) -> Data:
    """See `zoo.datasets.load`."""
    if name in EMBEDDED:
        if manual_dir is not None:
            raise UsageError(f"Data set {name!r} is embedded and takes no manual_dir. Leave it out.")
        return EMBEDDED[name](memory_limit)
    return _load_tfds(name, data_dir=data_dir, manual_dir=manual_dir, memory_limit=memory_limit)


def _load_tfds(name: str, *, data_dir: str | None, manual_dir: str | None, memory_limit: int) -> Data:
    if manual_dir is not None and not Path(manual_dir).expanduser().is_dir():
        raise UsageError(f"manual_dir {manual_dir} is not a folder. Pass the folder that holds the original files.")
    import tensorflow as tf
    import tensorflow_datasets as tfds

    from zoo.datasets.data import Data, Feature, Split

    importlib.import_module("zoo.datasets.builders")  # registers them with TensorFlow Datasets
    tfds.disable_progress_bar()
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except (ValueError, AssertionError, ImportError) as error:
        known = [*EMBEDDED, *tfds.list_builders()]
        base = re.split("[:/]", name)[0]
        if base not in known:
            nearest = did_you_mean(name.lower(), known, listing="tensorflow_datasets.list_builders()")
            raise UsageError(f"Unknown data set {name!r}. {nearest}") from None
        raise UsageError(f"Cannot open data set {name!r}: {one_line(error)} Try {base!r} alone.") from error
    task, feature, key, label = _features(name, builder.info.features)
    if not builder.data_path.exists():
        _prepare(builder, manual_dir)

    def split(spec: str) -> Split:
        def dataset() -> Any:
            read = tfds.ReadConfig(try_autocache=False, interleave_cycle_length=1)
            raw = builder.as_dataset(split=spec, shuffle_files=False, read_config=read)
            return raw.map(
                lambda e: {feature: e[key], "label": tf.cast(e[label], tf.int64)},
                num_parallel_calls=2,
                deterministic=True,
            )

        return Split(dataset, builder.info.splits[spec].num_examples)

    splits = {role: split(spec) for role, spec in _choose_splits(name, list(builder.info.splits)).items()}
    sizes = {role: part.num_examples for role, part in splits.items()}
    if not all(sizes.values()):
        raise UsageError(f"Data set {name!r} is too small to divide: {sizes}. Choose one with more examples.")
    places = {"data_dir": data_dir, "manual_dir": manual_dir}
    held = builder.info.features[key]
    return Data(
        name=name,
        arguments={k: str(Path(v).expanduser().resolve()) for k, v in places.items() if v is not None},
        task=task,
        splits=splits,
        features={feature: Feature(tuple(held.shape), np.dtype(held.np_dtype).name), "label": Feature((), "int64")},
        class_names=_class_names(builder, label),
        licence=str(builder.info.redistribution_info.license or "") or TESTED.get(name, "not stated by the source"),
        source=f"{builder.info.homepage} (TensorFlow Datasets {builder.info.full_name})",
        memory_limit=memory_limit,
    )


def _features(name: str, features: Any) -> tuple[str, str, str, str]:
    """Returns the task that a builder's features fit, the name of its feature, and the keys of feature and label."""
    import tensorflow_datasets as tfds

    if name in _NUMBERED:
        return "text_classification", "text", *_NUMBERED[name][:2]
    flat = features if isinstance(features, tfds.features.FeaturesDict) else {}
    images = [k for k in flat if type(flat[k]) is tfds.features.Image and np.dtype(flat[k].np_dtype) == np.uint8]
    texts = [k for k in flat if type(flat[k]) is tfds.features.Text]
    labels = [k for k in flat if type(flat[k]) is tfds.features.ClassLabel]
    if len(labels) == 1 and len(images) == 1:
        return "image_classification", "image", images[0], labels[0]
    if len(labels) == 1 and len(texts) == 1 and not any(type(f) is tfds.features.Image for f in flat.values()):
        return "text_classification", "text", texts[0], labels[0]
    held = ", ".join(f"{k}: {type(flat[k]).__name__}" for k in flat) or type(features).__name__
    raise UsageError(
        f"Data set {name!r} holds {held}; expected exactly one uint8 Image or one Text, and one ClassLabel. "
        f"Known to work: {', '.join(list_datasets())}."
    )


def _class_names(builder: Any, label: str) -> tuple[str, ...]:
    """Returns the names of the labels; for plain numbers they are read off the training split."""
    if builder.name not in _NUMBERED:
        return tuple(builder.info.features[label].names)
    _, number, name = _NUMBERED[builder.name]
    names = {int(e[number]): e[name].decode() for e in builder.as_dataset(split="train").as_numpy_iterator()}
    if sorted(names) != list(range(len(names))):
        raise UsageError(f"The labels of {builder.name!r} are not numbered from 0. Choose another data set.")
    return tuple(names[i] for i in range(len(names)))


def _choose_splits(name: str, available: list[str]) -> dict[str, str]:
    """Returns TFDS's split expressions for train, validation and test.

    What the source calls test is the test split; a source with train and validation only has its validation split as
    our test split, since models are chosen on ours. What is missing is cut from the end of train.
    """
    if "train" not in available:
        held = ", ".join(available) or "none"
        raise UsageError(
            f"Data set {name!r} has the splits {held}; expected one called train. Choose another data set."
        )
    if "test" in available and "validation" in available:
        return {"train": "train", "validation": "validation", "test": "test"}
    held_out = next((s for s in ("test", "validation") if s in available), None)
    if held_out:
        return {"train": "train[:90%]", "validation": "train[90%:]", "test": held_out}
    return {"train": "train[:80%]", "validation": "train[80%:90%]", "test": "train[90%:]"}


def _prepare(builder: Any, manual_dir: str | None) -> None:
    """Runs the builder on downloaded or original files; errors come at once, not after minutes of retries."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.extractor import ExtractError
    from tensorflow_datasets.core.download.util import DownloadError

    folder = Path(manual_dir).expanduser() if manual_dir else None
    # One per data set: TFDS names an extracted file after its archive alone, so fashion_mnist would silently get the
    # pixels of an mnist that was extracted before it.
    extract_dir = Path(builder.data_dir_root) / "downloads" / "extracted" / builder.info.full_name.replace("/", "-")
    config = tfds.download.DownloadConfig(manual_dir=folder, extract_dir=extract_dir, try_download_gcs=False)
    print(f"Preparing {builder.info.full_name} in {builder.data_dir} (once) ...", flush=True)
    try:
        with _refuse_hopeless_downloads(builder.name, folder):
            builder.download_and_prepare(download_config=config)
    except tfds.download.download_manager.NonMatchingChecksumError as error:
        what = " ".join(str(error).split("To debug")[0].split())
        raise UsageError(
            f"An original file of {builder.name!r} is damaged or of another version: {what}. Replace it with the "
            "published one."
        ) from error
    except AssertionError as error:
        if not builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
            raise
        raise UsageError(
            f"Data set {builder.name!r} needs files that are downloaded by hand: {one_line(error, 1000)} "
            "Pass their folder with --data.manual_dir FOLDER."
        ) from error
    except (OSError, DownloadError, ExtractError) as error:
        raise UsageError(
            f"Cannot prepare {builder.name!r} in {builder.data_dir_root}: {one_line(error)}. Check that the folder can be "
            "written and has room, or pass another --data.data_dir, and try again."
        ) from error


@contextlib.contextmanager
def _refuse_hopeless_downloads(name: str, folder: Path | None) -> Iterator[None]:
    """Makes downloads that cannot succeed fail at once and together: TFDS retries an unreachable host for minutes.

    With a folder of original files nothing is downloaded: what TFDS has not found there is missing.
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
        return Promise.reject(FileNotFoundError(url))  # raised once all files of this call have been asked for

    try:
        with mock.patch.object(DownloadManager, "_download", download):
            yield
    except FileNotFoundError as error:
        if not absent:
            raise
        files = "; ".join(f"{filename} (from {url})" for url, filename in absent.items())
        if folder is not None:
            raise UsageError(
                f"manual_dir {folder} lacks original files of {name!r}: {files}. Put them there under these names, or "
                "leave manual_dir out to download them."
            ) from error
        raise UsageError(
            f"Cannot reach {next(iter(absent))} to download {name!r}. On a machine without network put the original "
            f"files into a folder and pass --data.manual_dir FOLDER: {files}."
        ) from error
