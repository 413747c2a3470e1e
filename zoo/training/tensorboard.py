"""What TensorBoard shows of a run: scalars, weights as histograms, and the graph of the model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import keras
import tensorflow as tf

from zoo import storage
from zoo.errors import one_line

_TRAIN, _VALIDATION = "train", "validation"
_NAMES = "events.out.tfevents.*"


class TensorBoard:
    """Event files of a run: training and validation as runs of their own, so that they share a chart.

    A resumed run appends to the existing files. An epoch that was written but never checkpointed is dropped first, so that no
    epoch appears twice.

    Args:
        directory: the folder that `tensorboard --logdir` gets.

    Example:
        >>> board = TensorBoard("runs/first/tensorboard")
        >>> board.write_scalars([{"epoch": 1, "loss": 0.5, "val_loss": 0.6}])
        >>> board.close()
    """

    def __init__(self, directory: str | Path) -> None:
        self._directory = Path(directory)
        self._writers: dict[str, tf.summary.SummaryWriter] = {}
        self._written: dict[str, set[int]] = {}  # epochs whose scalars are there

    def write_scalars(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Adds the rows that are not there yet, as scalars over the epoch.

        Args:
            rows: the rows of history.csv so far, all of them or the last ones; `val_NAME` is NAME of validation. Where a
                row of the past is missing in the files, because the run was killed before it was written, it is added.

        Raises:
            OSError: the files cannot be written.
        """
        if not rows:
            return
        with self._writing():
            for name in (_TRAIN, _VALIDATION):
                writer = self._writer(name, epoch=int(rows[-1]["epoch"]))
                for row in rows:
                    epoch = int(row["epoch"])
                    if epoch not in self._written[name]:
                        _write_row(writer, row, validation=name == _VALIDATION)
                        self._written[name].add(epoch)
                writer.flush()

    def write_histograms(self, model: keras.Model, epoch: int) -> None:
        """Adds a histogram of every weight, under its path such as `dense/kernel`.

        Args:
            model: the model as it is now.
            epoch: number of the epoch, from 1 on, as in history.csv.

        Raises:
            OSError: the files cannot be written.
        """
        with self._writing():
            writer = self._writer(_TRAIN, epoch=epoch)
            with writer.as_default(step=epoch):
                for weight in model.weights:
                    tf.summary.histogram(weight.path, tf.convert_to_tensor(weight.value))
            writer.flush()

    def write_graph(self, traced: tf.types.experimental.ConcreteFunction | tf.Graph) -> None:
        """Adds the graph of a function, unless there is one already.

        Args:
            traced: the model's forward pass, such as `tf.function(model).get_concrete_function(inputs)`.

        Raises:
            OSError: the files cannot be written.
        """
        graph = traced if isinstance(traced, tf.Graph) else traced.graph
        with self._writing():
            files = sorted((self._directory / _TRAIN).glob(_NAMES))
            if not any(event.HasField("graph_def") for file in files for event in _events(file)):
                writer = self._writer(_TRAIN)
                with writer.as_default(step=0):
                    tf.summary.graph(graph)
                writer.flush()

    def close(self) -> None:
        """Closes the files; the next call of another method opens new ones."""
        for writer in self._writers.values():
            writer.close()
        self._writers, self._written = {}, {}

    def _writer(self, name: str, epoch: int | None = None) -> tf.summary.SummaryWriter:
        """Returns the writer of a folder; before its first epoch is written, makes room for it."""
        folder = self._directory / name
        if name not in self._written and epoch is not None:
            self._close(name)  # the file that holds the graph: it may not change while a writer has it open
            self._written[name] = _drop_from(folder, epoch)
        if name not in self._writers:
            self._writers[name] = tf.summary.create_file_writer(str(folder))
        return self._writers[name]

    def _close(self, name: str) -> None:
        if name in self._writers:
            self._writers.pop(name).close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            # In a strategy's scope, or where a GPU is, a summary would be made there.
            with tf.device("/cpu:0"):
                yield
        except tf.errors.OpError as error:
            raise OSError(f"{self._directory}: {one_line(error).split(' [Op:')[0]}") from error


def _write_row(writer: tf.summary.SummaryWriter, row: Mapping[str, float], *, validation: bool) -> None:
    with writer.as_default(step=int(row["epoch"])):
        for key, value in row.items():
            if key != "epoch" and key.startswith("val_") == validation:
                tf.summary.scalar(key.removeprefix("val_"), float(value))


def _events(file: Path) -> Iterator[tf.compat.v1.Event]:
    """Yields the events of a file, up to the one that a kill cut short."""
    with contextlib.suppress(tf.errors.DataLossError):
        for record in tf.data.TFRecordDataset(str(file)):
            yield tf.compat.v1.Event.FromString(record.numpy())


def _drop_from(folder: Path, epoch: int) -> set[int]:
    """Drops everything of an epoch and of later ones from a folder; returns the epochs whose scalars stay."""
    left: set[int] = set()
    for file in sorted(folder.glob(_NAMES)):
        events = list(_events(file))
        staying = [event for event in events if not (event.HasField("summary") and event.step >= epoch)]
        scalars = [e for e in staying if any(v.metadata.plugin_data.plugin_name == "scalars" for v in e.summary.value)]
        left.update(event.step for event in scalars)
        if len(staying) < len(events):
            with storage.replacing(file) as temporary, tf.io.TFRecordWriter(str(temporary)) as writer:
                for event in staying:
                    writer.write(event.SerializeToString())
    return left
