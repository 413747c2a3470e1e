"""Splits of builders of TensorFlow Datasets, with our keys and dtypes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow as tf

    from zoo.datasets.raw import Access, Split


@dataclasses.dataclass(frozen=True)
class Reader:
    """How the examples of a builder become ours.

    Attributes:
        tasks: the tasks that the examples serve.
        keys: the builder's key by our key.
        label_names: the builder's key of a label's name, if labels are plain numbers.
        placeholder: the tag of tokens to leave out.
        windows: default steps of history and of forecast, if the examples are windows over one long series.
        table: the target, if the examples are rows of a table.
        out_of_scope: the builder's split of examples that belong to none of the classes, by the split with whose report they
            are scored.
    """

    tasks: tuple[str, ...]
    keys: Mapping[str, str]
    label_names: str | None = None
    placeholder: str | None = None
    windows: tuple[int, int] | None = None
    table: str | None = None
    out_of_scope: Mapping[str, str] = dataclasses.field(default_factory=dict)


def raw_examples(builder: Any, spec: str, decoders: Mapping[str, Any] | None = None) -> tf.data.Dataset:
    """Returns the examples of a split as TensorFlow Datasets reads them, in the order of its files."""
    import tensorflow_datasets as tfds

    read = tfds.ReadConfig(try_autocache=False, interleave_cycle_length=1)
    return builder.as_dataset(split=spec, shuffle_files=False, read_config=read, decoders=decoders or None)


def _undecoded(builder: Any, reader: Reader) -> dict[str, Any]:
    """Returns decoders that keep photographs as file bytes, for `Split.content`.

    Images of one size are excluded: TensorFlow Datasets compressed their pixels itself, and the bytes may depend on its
    version.
    """
    import tensorflow_datasets as tfds

    key = reader.keys.get("image", "")
    varies = key and None in builder.info.features[key].shape[:2]
    return {key: tfds.decode.SkipDecoding()} if varies else {}


def split_of_builder(builder: Any, reader: Reader, spec: str) -> Split:
    """Returns a split of a builder, with our keys and dtypes."""
    import tensorflow as tf

    from zoo.datasets.raw import Access, Split

    dtypes = {"label": tf.int64, "tags": tf.int64, "time": tf.int64, "rating": tf.float32, "series": tf.float32}
    dropped = None
    if reader.placeholder is not None:
        dropped = builder.info.features[reader.keys["tags"]].feature.str2int(reader.placeholder)

    def ours(example: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        found = {k: tf.cast(example[v], dtypes.get(k, example[v].dtype)) for k, v in reader.keys.items()}
        if dropped is not None:
            kept = found["tags"] != dropped
            found["tokens"] = tf.boolean_mask(found["tokens"], kept)
            tags = tf.boolean_mask(found["tags"], kept)
            found["tags"] = tags - tf.cast(tags > dropped, tf.int64)
        return found

    count, access = builder.info.splits[spec].num_examples, _access(builder, spec)

    def dataset(decoders: Mapping[str, Any] | None = None) -> tf.data.Dataset:
        if access is not None and not _is_stream(
            builder
        ):  # which TensorFlow Datasets does not read as a tf.data.Dataset
            stored = Access(access.fetch, lambda record: ours(_decoded(builder, record, decoders)))
            return stored.at(tf.data.Dataset.range(count))
        return raw_examples(builder, spec, decoders).map(ours, num_parallel_calls=2, deterministic=True)

    return Split(
        dataset,
        count,
        lambda: dataset(_undecoded(builder, reader)),
        None if access is None else access.mapped(lambda record: ours(_decoded(builder, record))),
    )


def _is_stream(builder: Any) -> bool:
    return builder.info.file_format.value != "array_record"


def _access(builder: Any, spec: str) -> Access | None:
    """Returns access to the serialized examples of a split; None for a format without an index."""
    from zoo.datasets.raw import Access
    from zoo.datasets.sources.record_files import Part, RecordFiles

    if builder.info.file_format.value not in ("tfrecord", "array_record"):
        return None
    parts = [Part(str(one.filename), one.skip, one.take) for one in builder.info.splits[spec].file_instructions]
    files = RecordFiles(parts)
    return Access(lambda number: {"record": files.fetch(number)}, fault=files.fault, costly=True)


def _decoded(builder: Any, record: Mapping[str, tf.Tensor], decoders: Mapping[str, Any] | None = None) -> Any:
    return builder.info.features.deserialize_example(record["record"], decoders=decoders or None)
