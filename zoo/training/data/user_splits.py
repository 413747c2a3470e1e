"""A user's own arrays and datasets as splits: checked once, then batches in an order that can be repeated."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from zoo.errors import UsageError
from zoo.training.data.user_structure import Inputs, Outputs, fits, format_shape


def make_split(
    data: Any, inputs: Inputs, outputs: Outputs, prefix: str = "", steps: int | None = None
) -> Arrays | Stream:
    """Returns a split for (x, y), (x, y, sample_weight) or a dataset of such.

    Args:
        data: what came.
        inputs: the model's.
        outputs: the model's.
        prefix: goes before names in messages, such as "validation ".
        steps: batches of an epoch, None for the whole dataset.

    Raises:
        UsageError: anything else, or what does not fit the model's inputs.
    """
    if isinstance(data, tf.data.Dataset):
        return Stream(data, inputs, outputs, prefix, steps)
    if steps:
        raise UsageError(
            f"steps_per_epoch={steps} goes with a dataset of batches; the {prefix}data is a {type(data).__name__}. Leave "
            "steps_per_epoch out."
        )
    if isinstance(data, tuple) and len(data) in ((2, 3) if outputs.names else (1, 2)):
        return Arrays(data, inputs, outputs, prefix)
    came = f"a tuple of {len(data)}" if isinstance(data, tuple) else f"a {type(data).__name__}"
    raise UsageError(
        f"The {prefix}data is {came}; expected (x, y), (x, y, sample_weight) or a tf.data.Dataset of such. "
        "Pass a tuple (x, y)."
    )


class Arrays:
    """Arrays in memory.

    Args:
        data: (x, y) or (x, y, sample_weight), each an array or a dict of arrays; (x,) where no output has a target.
        inputs: the model's.
        outputs: the model's.
        prefix: goes before names in messages.

    Raises:
        UsageError: what is no array of numbers, unequal lengths, no examples, shapes that the model does not take.
    """

    def __init__(self, data: Sequence[Any], inputs: Inputs, outputs: Outputs, prefix: str) -> None:
        self.x, self._prefix, self._outputs = f"{prefix}x", prefix, outputs
        columns = inputs.columns(data[0], self.x)
        self.inputs = {}
        for name, value in columns.items():
            dtype = inputs.dtypes.get(name)
            array = _array(value, f"{self.x}[{name!r}]" if len(columns) > 1 else self.x, text=dtype == "string")
            # What Keras would do at every step anyway.
            self.inputs[name] = array.astype(np.float32) if (array.dtype, dtype) == (np.float64, "float32") else array
        targets = outputs.targets(data[1] if len(data) > 1 else None, f"{prefix}y")
        weights = outputs.weights(data[2] if len(data) == 3 else None, f"{prefix}sample_weight")
        self.targets = {name: _array(value, self.label(name)) for name, value in targets.items()}
        self.weights = {name: _array(value, self.label(name, "sample_weight")) for name, value in weights.items()}
        lengths = {self.x: len(next(iter(self.inputs.values())))}
        lengths |= {f"{self.x}[{name!r}]": len(array) for name, array in list(self.inputs.items())[1:]}
        lengths |= {self.label(name): len(array) for name, array in self.targets.items()}
        lengths |= {self.label(name, "sample_weight"): len(array) for name, array in self.weights.items()}
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise UsageError(f"Arrays of unequal length: {listed}. Pass one entry for every example in each.")
        self.num_examples = lengths[self.x]
        if not self.num_examples:
            raise UsageError(f"{self.x} and {prefix}y hold no example. Pass at least one.")
        inputs.check({name: array.shape[1:] for name, array in self.inputs.items()}, self.x)
        self._rows: Any = None

    def label(self, output: str, what: str = "y") -> str:
        """Returns how messages call an output's targets, or its weights."""
        return self._outputs.label(f"{self._prefix}{what}", output)

    def first(self) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Returns all inputs, targets and weights."""
        return self.inputs, self.targets, self.weights

    def batches(self, batch_size: int, seed: int | None, epoch: int, start: int) -> tf.data.Dataset:
        """Returns batches (inputs, targets, weights), each a dict; the order is a function of (seed, epoch)."""
        order = np.arange(self.num_examples) if seed is None else self.order(seed, epoch)
        rows = self.columns()
        positions = tf.data.Dataset.from_tensor_slices(order[start * batch_size :]).batch(batch_size)

        @tf.autograph.experimental.do_not_convert
        def gather(index: tf.Tensor) -> Any:
            return tf.nest.map_structure(lambda column: tf.gather(column, index), rows)

        return positions.map(gather, num_parallel_calls=2, deterministic=True)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """Returns the numbers of the examples, shuffled."""
        return np.random.default_rng([seed, epoch]).permutation(self.num_examples)

    def columns(self) -> tuple[Any, ...]:
        """Returns inputs, targets and weights as dicts of tensors."""
        if self._rows is None:
            with tf.device("CPU"):  # a whole data set has no place on an accelerator
                self._rows = tf.nest.map_structure(tf.convert_to_tensor, (self.inputs, self.targets, self.weights))
        rows: tuple[Any, ...] = self._rows
        return rows

    def labels(self, output: str) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Yields an output's targets and weights, all of them once."""
        yield self.targets[output], self.weights.get(output)

    def describe(self) -> dict[str, Any]:
        """Returns facts that two equal splits share: shapes, types, and a hash of the contents."""
        several = len(self.inputs) > 1  # the name of a single input may be one that Keras has counted up
        parts = {f"x[{name}]" if several else "x": array for name, array in self.inputs.items()}
        for what, arrays in (("y", self.targets), ("sample_weight", self.weights)):
            parts |= {self._outputs.label(what, name): array for name, array in arrays.items()}
        digest = hashlib.sha256()
        for array in parts.values():
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).view(np.uint8).data if array.size else b"")
        return {
            "arrays": {name: f"{array.dtype} {format_shape(array.shape)}" for name, array in parts.items()},
            "sha256": digest.hexdigest(),
        }


def _array(value: Any, where: str, text: bool = False) -> np.ndarray:
    try:
        array = np.asarray(value.toarray() if hasattr(value, "toarray") else value)  # a sparse matrix of SciPy
    except (ValueError, TypeError) as error:
        raise UsageError(f"{where} is no array: its rows differ in length. Make them one length by padding.") from error
    if array.ndim == 0:
        raise UsageError(f"{where} is a {type(value).__name__}, without an axis of examples. Pass an array.")
    if array.dtype.kind not in ("US" if text else "biuf"):
        held = "text" if array.dtype.kind in "US" else f"the type {array.dtype}"
        wanted = "text" if text else "numbers"
        cure = "np.asarray(x, dtype=str)" if text else "np.unique(labels, return_inverse=True)[1] or .astype('float32')"
        raise UsageError(f"{where} holds {held}; expected {wanted}. Convert it, such as by {cure}.")
    return array


class Stream:
    """A `tf.data.Dataset` of (x, y) or (x, y, sample_weight), batched or not.

    Its order is the user's: a run that is resumed is exactly the uninterrupted one only where the dataset yields the same
    order every time, such as with `shuffle(..., reshuffle_each_iteration=False)`.

    Args:
        dataset: finite; batches may be of any size. A subclassed model's must be batched, as for `Model.fit`.
        inputs: the model's.
        outputs: the model's.
        prefix: goes before names in messages.
        steps: batches of an epoch, where the next epoch goes on behind the last one; None for all of them.

    Raises:
        UsageError: no tuples, no plain tensors, an endless or empty dataset, shapes that vary or that the model does not
            take.
    """

    def __init__(
        self, dataset: tf.data.Dataset, inputs: Inputs, outputs: Outputs, prefix: str, steps: int | None = None
    ) -> None:
        self.steps = steps
        self.x, self._prefix, self._outputs = f"{prefix}x", prefix, outputs
        if not outputs.names:
            dataset = dataset.map(lambda x, *_: (x, {}))
        spec = dataset.element_spec
        if not isinstance(spec, tuple) or len(spec) not in (2, 3):
            raise UsageError(
                f"The {prefix}dataset yields {_describe_element(spec)}; expected (x, y) or (x, y, sample_weight). "
                "Map it to such a tuple: dataset.map(lambda e: (e['x'], e['y']))."
            )
        for part in tf.nest.flatten(spec):
            if not isinstance(part, tf.TensorSpec) or part.shape.rank is None:
                raise UsageError(
                    f"The {prefix}dataset yields {_describe_element(part)}; expected tensors of known rank. Map "
                    "ragged or sparse ones to dense ones, and set shapes by tf.ensure_shape or output_signature."
                )
        for name, part in outputs.targets(spec[1], f"{prefix}y").items():
            if not (part.dtype.is_floating or part.dtype.is_integer or part.dtype.is_bool):
                raise UsageError(
                    f"{self.label(name)} is of {part.dtype.name}; expected numbers. Map labels to numbers from 0."
                )
        columns = inputs.columns(spec[0], self.x)
        self.element_spec, self.names = spec, list(columns)
        self.batched = self._is_batched(columns, inputs)
        self.dataset = dataset.map(
            lambda x, y, *given: (
                inputs.columns(x, self.x),
                outputs.targets(y, f"{prefix}y"),
                outputs.weights(given[0] if given else None, f"{prefix}sample_weight"),
            )
        )
        self._first: Any = None
        self._following: tuple[int, Any] = (-1, None)  # the position of an iterator over an endless dataset
        self.num_examples = self._steps_times_rows() if steps else self._count(prefix)
        self.cardinality = int(dataset.cardinality())

    @property
    def batch_size(self) -> int | None:
        """The number of examples of its first batch, None for a dataset of single examples."""
        return len(next(iter(self.first()[0].values()))) if self.batched else None

    def _steps_times_rows(self) -> int:
        if self.batch_size is None:
            raise UsageError(
                f"steps_per_epoch={self.steps} counts batches, and {self.x} yields single examples. Pass dataset.batch(n)."
            )
        return int(self.steps or 0) * self.batch_size

    def label(self, output: str, what: str = "y") -> str:
        """Returns how messages call an output's targets, or its weights."""
        return self._outputs.label(f"{self._prefix}{what}", output)

    def _is_batched(self, columns: Mapping[str, Any], inputs: Inputs) -> bool:
        if inputs.shapes is None:
            return True
        expected, shapes = inputs.shapes, {name: tuple(part.shape) for name, part in columns.items()}
        for exact in (True, False):
            for batched in (True, False):
                if all(
                    len(shape) >= batched and fits(shape[batched:], expected[name], exact)
                    for name, shape in shapes.items()
                ):
                    return batched
        name, shape = next(
            (n, s) for n, s in shapes.items() if not fits(s, expected[n]) and not fits(s[1:], expected[n])
        )
        raise UsageError(
            f"{self.x} yields {name!r} of shape {format_shape(shape)}; the model takes "
            f"{format_shape(expected[name])}, or batches of it. Map the dataset to that shape."
        )

    def _count(self, prefix: str) -> int:
        """The number of examples: known, or counted in one pass."""
        cardinality = int(self.dataset.cardinality())
        if cardinality == tf.data.INFINITE_CARDINALITY:
            raise UsageError(
                f"The {prefix}dataset never ends. Pass steps_per_epoch for training, dataset.take(n), or leave repeat() out."
            )
        parts = tf.nest.flatten(self.dataset.element_spec)
        inner = [part.shape[1:] if self.batched else part.shape for part in parts]
        size = parts[0].shape[0] if self.batched else 1
        if cardinality >= 0 and size is not None and all(shape.is_fully_defined() for shape in inner):
            count = cardinality * int(size)
        else:
            count = self._counted(prefix)
        if not count:
            raise UsageError(f"The {prefix}dataset is empty. Pass one with at least one example.")
        return count

    def _counted(self, prefix: str) -> int:
        """Counts in a pass, which also finds examples that cannot share a batch."""
        shapes = self.dataset.map(lambda *element: tf.concat([tf.shape(part) for part in tf.nest.flatten(element)], 0))
        ranks = [part.shape.rank for part in tf.nest.flatten(self.dataset.element_spec)]
        leading = np.cumsum([0, *ranks[:-1]]) if self.batched else np.array([], np.int64)
        started, seen, first, told = time.monotonic(), 0, None, False
        for block in shapes.batch(64).as_numpy_iterator():
            seen += int(block[:, leading[0]].sum()) if self.batched else len(block)
            if not told and time.monotonic() - started > 5:
                told = True
                print(f"Counting the {prefix}dataset; if it never ends, pass steps_per_epoch.", flush=True)
            rest = np.delete(block, leading, axis=1)
            first = rest[0] if first is None else first
            if (other := np.flatnonzero((rest != first).any(axis=1))).size:
                raise UsageError(
                    f"The {prefix}dataset yields examples of several sizes, {format_shape(first.tolist())} and "
                    f"{format_shape(rest[other[0]].tolist())}: they make no batch. Make them one size by padding."
                )
        if (seconds := time.monotonic() - started) > 2:
            print(f"Counted {seen} examples of the {prefix}dataset in {seconds:.0f} s.", flush=True)
        return seen

    def first(self) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Returns the inputs, targets and weights of the first batch, or of the first example as a batch of one."""
        if self._first is None:
            self._first = tf.nest.map_structure(self._rows, next(iter(self.dataset.take(1))))
        first: tuple[Any, Any, Any] = self._first
        return first

    def _rows(self, part: tf.Tensor) -> np.ndarray:
        return np.asarray(part) if self.batched else np.asarray(part)[np.newaxis]

    def batches(self, batch_size: int, seed: int | None, epoch: int, start: int) -> tf.data.Dataset:
        """Returns batches (inputs, targets, weights), each a dict, in the dataset's own order."""
        if self.steps:
            return self._following_batches(batch_size, epoch, start)
        batches = self.dataset.rebatch(batch_size) if self.batched else self.dataset.batch(batch_size)
        return batches.skip(start)

    def _following_batches(self, batch_size: int, epoch: int, start: int) -> tf.data.Dataset:
        """Returns the batches of an epoch of `steps` batches; each epoch goes on where the last one ended."""
        steps = -(-self.num_examples // batch_size)
        first, left = epoch * steps + start, steps - start
        dataset = self.dataset.repeat()
        if batch_size != self.batch_size:
            return dataset.rebatch(batch_size).skip(first).take(left)
        position, iterator = self._following
        if position != first:
            iterator = iter(dataset.skip(first))
        self._following = (first + left, iterator)
        return tf.data.Dataset.range(left).map(tf.autograph.experimental.do_not_convert(lambda _: next(iterator)))

    def labels(self, output: str) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Yields an output's targets and weights, batch by batch."""
        epoch = self.dataset.repeat().take(self.steps) if self.steps else self.dataset
        for targets, weights in epoch.map(lambda x, y, weights: (y, weights)).as_numpy_iterator():
            given = weights.get(output)
            yield self._rows(targets[output]), None if given is None else self._rows(given)

    def describe(self) -> dict[str, Any]:
        """Returns facts that two equal splits share: what an element is, and how many there are."""
        facts = {"elements": str(self.element_spec), "cardinality": self.cardinality, "examples": self.num_examples}
        return facts | ({"steps_per_epoch": self.steps} if self.steps else {})


def _describe_element(spec: Any) -> str:
    """What a dataset's element is, in short."""
    if isinstance(spec, tuple):
        return f"tuples of {len(spec)}"
    if isinstance(spec, Mapping):
        return f"dicts with {', '.join(map(str, spec))}"
    return f"a {type(spec).__name__}" + (
        " of unknown shape" if getattr(spec, "shape", ...) == tf.TensorShape(None) else ""
    )
