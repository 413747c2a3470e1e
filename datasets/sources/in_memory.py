"""Splits in memory: columns, sequences of unequal length, and paths of image files."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from zoo import storage
from zoo.datasets.data import Data
from zoo.datasets.preprocessing import image_files
from zoo.datasets.preprocessing.base import object_array
from zoo.datasets.raw import SPLITS, Feature, Split
from zoo.datasets.sources.labels import count_classes, note_on_lacking
from zoo.datasets.sources.splitting import SHARES, also_in_train, divide, is_undivided
from zoo.errors import UsageError, printable

_LARGEST_IMAGE = 512 << 20
"""Maximum bytes of an image file. The largest that is decoded, 2**25 pixels of 16 bits and four channels, has 256 MiB."""
_MOST_SHOWN = 20
"""Number of unreadable images that a message names."""


Column = np.ndarray | Sequence[np.ndarray]
"""An array of one entry per example, or a sequence of arrays whose first dimension varies."""


def texts(values: Sequence[str | bytes]) -> np.ndarray:
    """Returns strings as an array of bytes objects. NumPy's string types would drop a NUL at the end.

    Example:
        >>> texts(["a", "é"]).tolist()
        [b'a', b'\\xc3\\xa9']
    """
    return object_array([value.encode("utf-8", "replace") if isinstance(value, str) else value for value in values])


def split_of(columns: Mapping[str, Column], *, images: str | None = None, contents: Sequence[bytes] = ()) -> Split:
    """Returns a split of the rows of columns, in their order.

    Args:
        columns: columns by key, all of the same length.
        images: key of the column with the paths of image files, which are decoded when they are read.
        contents: hashes of the image files, from which the hash of the split is computed.

    Example:
        >>> split = split_of({"series": [np.zeros((2, 1)), np.ones((3, 1))], "label": np.array([0, 1])})
        >>> [len(e["series"]) for e in split.dataset().as_numpy_iterator()]
        [2, 3]
    """
    with tf.device("CPU"):
        plain = {k: tf.constant(v) for k, v in columns.items() if isinstance(v, np.ndarray)}
        varying = {
            k: (tf.constant(np.concatenate(v)), *_extents(v))
            for k, v in columns.items()
            if not isinstance(v, np.ndarray)
        }
    extents = {k: (start, length) for k, (_, start, length) in varying.items()}

    @tf.autograph.experimental.do_not_convert
    def example(row: dict[str, tf.Tensor], places: dict[str, Any]) -> dict[str, tf.Tensor]:
        cut = {k: flat[places[k][0] : places[k][0] + places[k][1]] for k, (flat, _, _) in varying.items()}
        whole = {**row, **cut}
        if images is not None:
            whole[images] = image_files.decoder()(tf.io.read_file(whole[images]))
        return {k: whole[k] for k in columns}

    def dataset(places: np.ndarray | None = None) -> tf.data.Dataset:
        held = (plain, extents)
        if places is not None:
            with tf.device("CPU"):
                held = tf.nest.map_structure(lambda column: tf.gather(column, places), held)
        rows = tf.data.Dataset.from_tensor_slices(held)
        return rows.map(example, num_parallel_calls=2, deterministic=True)

    size = len(next(iter(columns.values())))
    if images is None:
        return Split(dataset, size, chosen=dataset)
    files = {**columns, images: texts(contents)}
    return Split(dataset, size, lambda: tf.data.Dataset.from_tensor_slices(files), chosen=dataset)


def _extents(parts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.array([len(part) for part in parts], np.int64)
    return np.cumsum(lengths) - lengths, lengths


def features_of(split: Split) -> dict[str, Feature]:
    """Returns the features of a split, from the element spec of its `tf.data.Dataset`."""
    spec = split.dataset().element_spec
    return {k: Feature(tuple(part.shape), part.dtype.name) for k, part in spec.items()}


def positive(name: str, value: Any, example: int) -> int:
    """Returns the value if it is a whole number of at least 1.

    Raises:
        UsageError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"{name} is {value!r}; expected a whole number of at least 1. Pass {name}={example}, say.")
    return value


@dataclasses.dataclass
class Rows:
    """Examples that were read from files and are not yet split.

    Attributes:
        tasks: the tasks that the examples serve.
        columns: columns by key.
        digests: digest of every example; equal ones stay in one split, unless there are groups.
        groups: digest of the group of every example; a group stays in one split.
        strata: values to spread evenly over the splits.
        given: the split of every example, if the source states it.
        parts: the number of every example's split, if it does not depend on the content.
        class_names: the labels.
        about: further metadata.
        images: key of the column with the paths of image files.
    """

    tasks: tuple[str, ...]
    columns: Mapping[str, Column]
    digests: Sequence[bytes]
    strata: Sequence[Hashable] | None = None
    given: Sequence[str] | None = None
    parts: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    about: dict[str, Any] = dataclasses.field(default_factory=dict)
    images: str | None = None
    groups: Sequence[bytes] | None = None

    def to_data(self, name: str, arguments: Mapping[str, Any], source: str, memory_limit: int) -> Data:
        """Splits the rows and returns the data set.

        Raises:
            UsageError: a split would be empty.
        """
        if is_undivided():
            numbers = [SPLITS.index(role) for role in self.given or ["test"] * len(self.digests)]
            return self._data(np.array(numbers), name, arguments, source, memory_limit)
        parts = self.parts if self.parts is not None and self.given is None else self._assigned(name)
        sizes = {role: int((parts == number).sum()) for number, role in enumerate(SPLITS)}
        if not all(sizes.values()):
            equal = len(self.digests) - len(set(self.groups or self.digests))
            what = "in a group with others" if self.groups else "equal to others"
            why = f" {equal} of its {len(self.digests)} examples are {what}, which stay together." if equal else ""
            raise UsageError(f"Data set {name!r} is too small to split: {sizes}.{why} Choose one with more examples.")
        if self.digests:  # ratings of users have none
            places = {role: np.flatnonzero(parts == number).tolist() for number, role in enumerate(SPLITS)}
            if repeated := also_in_train({role: [self.digests[i] for i in rows] for role, rows in places.items()}):
                self.about["also_in_train"] = repeated
        key = next((key for key in ("label", "labels") if key in self.columns), None)
        if key is not None and self.class_names:
            labels = np.asarray(self.columns[key])
            held = {role: labels[parts == number] for number, role in enumerate(SPLITS)}
            given = set(self.given or ())
            counts = self.about["class_counts"] = count_classes(name, held, self.class_names, given)
            notes = note_on_lacking(counts, self.class_names, given) if key == "label" else []
            self.about["notes"] = [*self.about.get("notes", ()), *notes]
        return self._data(parts, name, arguments, source, memory_limit)

    def _data(self, parts: np.ndarray, name: str, arguments: Mapping[str, Any], source: str, memory_limit: int) -> Data:
        found = {role: np.flatnonzero(parts == number) for number, role in enumerate(SPLITS)}
        splits = {role: self._split(index) for role, index in found.items() if len(index)}
        if self.groups is not None:  # in the order of the examples, for folds
            self.about["groups"] = [self.groups[i] for index in found.values() for i in index.tolist()]
        features = features_of(next(iter(splits.values())))
        if self.images is not None:
            features[self.images] = Feature(self.about.pop("image_shape"), "uint8")
            sizes = self.about.pop("image_sizes")[found["train"]]
            self.about["median_image_size"] = (
                tuple(np.median(sizes, axis=0).astype(int).tolist()) if len(sizes) else None
            )
        return Data(
            name=name,
            arguments=arguments,
            tasks=self.tasks,
            splits=splits,
            features=features,
            class_names=self.class_names,
            licence="not stated by the source",
            source=source,
            memory_limit=memory_limit,
            about=self.about,
        )

    def _split(self, index: np.ndarray) -> Split:
        columns = {k: v[index] if isinstance(v, np.ndarray) else [v[i] for i in index] for k, v in self.columns.items()}
        contents = [self.digests[i] for i in index] if self.images is not None else ()
        return split_of(columns, images=self.images, contents=contents)

    def _assigned(self, name: str) -> np.ndarray:
        """The number of every example's split. A missing split is cut from train; a single held-out split becomes test."""
        if self.given is None:
            return divide(self.groups or self.digests, self.strata)
        found = set(self.given)
        if "train" not in found:
            held = ", ".join(sorted(found)) or "none"
            raise UsageError(f"Data set {name!r} has the splits {held}; expected one named train. Rename one of them.")
        number = {"train": 0, "validation": 1 if "test" in found else 2, "test": 2}
        parts = np.array([number[role] for role in self.given])
        lacking = [part for part in (1, 2) if not (parts == part).any()]
        if lacking:
            rest = np.flatnonzero(parts == 0).tolist()
            strata = None if self.strata is None else [self.strata[i] for i in rest]
            shares = (1 - 0.1 * len(lacking), *SHARES[1:])[: len(lacking) + 1]
            parts[rest] = np.array([0, *lacking])[divide([self.digests[i] for i in rest], strata, shares)]
        return parts


class Images(NamedTuple):
    """The readable ones of some image files.

    Attributes:
        kept: their positions.
        contents: the SHA-256 of each.
        shape: their common shape, with None for dimensions that differ.
        sizes: height and width of each, int64 (images, 2).
        left_out: which others were left out, and how many.
    """

    kept: list[int]
    contents: list[bytes]
    shape: tuple[int | None, int | None, int | None]
    sizes: np.ndarray
    left_out: dict[str, int]


def check_images(paths: Sequence[Path], where: Path, *, skip_broken: bool) -> Images:
    """Decodes every image once as a served model does, so that files that it would reject are reported before training.

    Args:
        paths: the files.
        where: the folder or file that lists them, for messages.
        skip_broken: whether unreadable files are left out.

    Raises:
        UsageError: files are not images that a served model can read, or none is. The message names them.
    """
    import concurrent.futures
    import hashlib

    def look(path: Path) -> tuple[tuple[int, ...], str, bytes]:
        try:
            content = storage.read_bytes(path, _LARGEST_IMAGE)
        except OSError as error:
            return (), error.strerror or "unreadable", b""
        except UsageError as error:
            return (), str(error).removeprefix(f"{path} ").split(". ")[0], b""
        shape, fault = image_files.check(content)
        return shape, fault, hashlib.sha256(content).digest()

    with concurrent.futures.ThreadPoolExecutor() as pool:
        found = list(pool.map(look, paths))
    folder = where if where.is_dir() else where.parent
    shown = [str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path) for path in paths]
    broken = [f"{printable(path)} ({fault})" for path, (_, fault, _) in zip(shown, found, strict=True) if fault]
    kept = [position for position, (_, fault, _) in enumerate(found) if not fault]
    if broken and (not skip_broken or not kept):
        more = "; ..." if len(broken) > _MOST_SHOWN else ""
        raise UsageError(
            f"{len(broken)} of {len(paths)} images of {where} cannot be read: {'; '.join(broken[:_MOST_SHOWN])}{more}. "
            "Convert or remove them, or pass --data.skip_broken true, which leaves them out."
        )
    shapes = np.array([found[position][0] for position in kept], np.int64)  # (images, 3)
    height, width, channels = (int(one[0]) if len(one := np.unique(axis)) == 1 else None for axis in shapes.T)
    left_out = {f"images that cannot be read: {'; '.join(broken)}": len(broken)} if broken else {}
    contents = [found[position][2] for position in kept]
    return Images(kept, contents, (height, width, channels), shapes[:, :2], left_out)
