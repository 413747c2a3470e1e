"""Checkpoints: a folder each, either complete or absent."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo import storage
from zoo.errors import UsageError, one_line
from zoo.training.cluster import Workers

_REPLACED, _PARTS = ".replaced-", "metrics_of_replicas"
_STATE = {"step": int, "epoch": int, "step_in_epoch": int, "epochs": int, "history": [{"epoch": int}], "stopped": bool}
_STATE |= {"selection": {"best": [[float]], "waited": int}, "callbacks": None, "layout": dict}
_DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError, LookupError, tf.errors.OpError)
Values = Mapping[str, Sequence[np.ndarray]]
"""Values of variables, by group."""


class Checkpoints:
    """Saves and restores values of variables, and the loop's own state.

    A checkpoint is written into a temporary folder and renamed, so a kill at any moment leaves the previous one intact.
    The values are in TensorFlow's checkpoint format, whose checksums find a damaged file.

    Args:
        directory: where they are kept.
        keep: how many stay.
    """

    def __init__(self, directory: Path, keep: int) -> None:
        self._directory = directory
        self._keep = keep

    def save(self, step: int, values: Values, state: Mapping[str, Any]) -> None:
        """Writes the checkpoint of a step with the loop's state, then deletes the oldest beyond `keep`.

        One of the same step is replaced: it is a damaged one that `restore` passed over, or the end of a run whose
        callbacks changed the weights once more.

        Raises:
            UsageError: the disk is full, or the folder cannot be written.
        """
        self._write(f"step-{step:09d}", values, {**state, "step": step})
        for old in self._all()[: -self._keep]:
            storage.remove_tree(old)
        best = list(self._directory.glob("best-*"))
        named = self._named() if best else set()
        for old in best:
            if int(old.name.removeprefix("best-")) not in named:
                storage.remove_tree(old)

    def save_best(self, epoch: int, weights: Sequence[np.ndarray]) -> None:
        """Writes the weights of one of the best epochs; `save` deletes them when no checkpoint names the epoch any more."""
        self._write(f"best-{epoch:06d}", {"model": weights}, {"epoch": epoch})

    def _named(self) -> set[int]:
        """The best epochs that the checkpoints name; a run may resume from any of these."""
        named = set()
        for path in self._all():
            with contextlib.suppress(*_DAMAGED):  # `restore` does not use a damaged one either
                named |= {int(epoch) for epoch, _ in storage.read_json(path / "state.json")["selection"]["best"]}
        return named

    def read_best(self, epoch: int, like: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Returns the weights of one of the best epochs.

        Raises:
            UsageError: they are damaged or gone.
        """
        path = self._directory / f"best-{epoch:06d}"
        try:
            return list(_read(path, {"model": like})["model"])
        except _DAMAGED as error:
            raise UsageError(
                f"The weights of the best epoch, {path}, cannot be read: {one_line(error, 120)}. Start again with "
                "overwrite=True (--overwrite), or pass another run_directory."
            ) from error

    def _write(self, name: str, values: Values, state: Mapping[str, Any]) -> None:
        target = self._directory / name
        replaced = self._directory / f"{_REPLACED}{name}"
        temporary = self._directory / f".writing-{os.getpid()}"
        storage.remove_tree(temporary)
        layout = {group: [[list(v.shape), str(v.dtype)] for v in members] for group, members in values.items()}
        names, arrays = _flat(values)
        try:
            temporary.mkdir(parents=True)
            with tf.device("CPU"):
                tensors = [tf.constant(a) for a in arrays]
                tf.raw_ops.SaveV2(
                    prefix=str(temporary / "variables"),
                    tensor_names=names,
                    shape_and_slices=[""] * len(names),
                    tensors=tensors,
                )
            storage.write_json(temporary / "state.json", {**state, "layout": layout})
            if target.exists():
                os.rename(target, replaced)  # `restore` takes it back if this is as far as it goes
            os.rename(temporary, target)
            storage.remove_tree(replaced)
        except (OSError, tf.errors.OpError) as error:
            raise UsageError(
                f"Cannot write a checkpoint to {self._directory}: {one_line(error)}. The previous checkpoint is intact; "
                "make room and start the same command again to resume from there."
            ) from error
        finally:
            storage.remove_tree(temporary)

    def _all(self) -> list[Path]:
        return sorted(self._directory.glob("step-*"))

    def restore(
        self, like: Values, optional: Values | None = None
    ) -> tuple[dict[str, list[np.ndarray]], dict[str, Any]] | None:
        """Returns the values and the state of the newest checkpoint that is whole, or None where there is none.

        Args:
            like: values of the same shapes and dtypes.
            optional: the same; a group of these is left out if the checkpoint holds others.

        Raises:
            UsageError: the newest belongs to another model, or all are damaged.
        """
        for stale in self._directory.glob(".writing-*"):
            storage.remove_tree(stale)
        for replaced in self._directory.glob(f"{_REPLACED}*"):
            target = self._directory / replaced.name.removeprefix(_REPLACED)
            storage.remove_tree(replaced) if target.exists() else os.rename(replaced, target)
        paths = self._all()
        for path in reversed(paths):
            try:
                state: dict[str, Any] = storage.read_json(path / "state.json")
                if wrong := storage.mismatch(state, _STATE):
                    raise ValueError(f"in state.json, {wrong}; expected the state of a run.")
                _reject_other_layout(path, state["layout"], like)
                return _read(path, {**like, **held(state, optional or {})}), state
            except UsageError:
                raise
            except _DAMAGED as error:
                print(f"Checkpoint {path} is damaged ({one_line(error, 120)}); trying the previous one.", flush=True)
        if paths:
            raise UsageError(
                f"Every checkpoint in {self._directory} is damaged. Start again with overwrite=True (--overwrite), or "
                "pass another run_directory."
            )
        return None


def _flat(values: Values) -> tuple[list[str], list[np.ndarray]]:
    names = [f"{group}/{i}" for group, members in values.items() for i in range(len(members))]
    return names, [array for members in values.values() for array in members]


def _read(path: Path, like: Values) -> dict[str, list[np.ndarray]]:
    names, arrays = _flat(like)
    with storage.without_pattern(path) as plain, tf.device("CPU"):
        tensors = tf.raw_ops.RestoreV2(
            prefix=str(plain / "variables"),
            tensor_names=names,
            shape_and_slices=[""] * len(names),
            dtypes=[a.dtype for a in arrays],
        )
    read = iter([t.numpy() for t in tensors])
    return {group: [next(read) for _ in members] for group, members in like.items()}


def _reject_other_layout(path: Path, layout: Mapping[str, Any], like: Values) -> None:
    for group, members in like.items():
        old = layout.get(group, [])
        if not _same_layout(old, members):
            raise UsageError(
                f"Checkpoint {path} belongs to another {group}: it holds {len(old)} variables, this one has "
                f"{len(members)}, or their shapes differ. Pass another run_directory."
            )


def held(state: Mapping[str, Any], values: Values) -> dict[str, Sequence[np.ndarray]]:
    """Returns those groups that the checkpoint of a state holds too, in the same shapes and dtypes."""
    return {group: v for group, v in values.items() if _same_layout(state["layout"].get(group, []), v)}


def _same_layout(old: Sequence[Any], members: Sequence[np.ndarray]) -> bool:
    return [tuple(map(str, m[-2:])) for m in old] == [(str(list(a.shape)), str(a.dtype)) for a in members]


def read_values(variables: Mapping[str, Sequence[keras.Variable]]) -> dict[str, list[np.ndarray]]:
    """Returns the values of Keras variables by group; under several workers all of them must call it."""
    return {group: [v.numpy() for v in members] for group, members in variables.items()}


def assign_values(variables: Mapping[str, Sequence[keras.Variable]], values: Values) -> None:
    """The inverse of `read_values`."""
    for group, members in variables.items():
        for variable, value in zip(members, values[group], strict=True):
            variable.assign(value)


def read_parts(strategy: tf.distribute.Strategy, workers: Workers, variables: Sequence[keras.Variable]) -> Values:
    """Returns what each replica of all workers holds of metric variables, whose value is the sum over the replicas.

    The sum is not enough: a float32 sum depends on how it was divided, in the last digit.

    Returns:
        One group of arrays, (replicas, *shape); none for a single replica.
    """
    count = strategy.num_replicas_in_sync
    if count == 1:
        return {}
    first, parts = workers.index * (count // workers.count), []
    for variable in variables:
        local = [part.numpy() for part in strategy.experimental_local_results(variable.value)]
        every = np.zeros((count, *variable.shape), local[0].dtype)
        every[first : first + len(local)] = local
        parts.append(workers.sum(every))
    return {_PARTS: parts}


def assign_parts(
    strategy: tf.distribute.Strategy, workers: Workers, variables: Sequence[keras.Variable], values: Values
) -> None:
    """The inverse of `read_parts`; does nothing if `values` holds no parts."""
    first = workers.index * (strategy.num_replicas_in_sync // workers.count)
    for variable, parts in zip(variables, values.get(_PARTS, []), strict=False):
        for part, value in zip(strategy.experimental_local_results(variable.value), parts[first:], strict=False):
            part.assign(value)
