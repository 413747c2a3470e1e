"""Checkpoints: a folder each, complete or not there at all."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from zoo import storage
from zoo.errors import UsageError, one_line

_REPLACED = ".replaced-"


class Checkpoints:
    """Saves and restores variables and the loop's own state.

    A checkpoint is written into a temporary folder and renamed, so a kill at any moment leaves the one before intact.

    Args:
        directory: where they are kept.
        variables: every Keras variable of model, optimizer and metrics, by group. Keras's seed generators are among the
            model's `variables`, though `tf.train.Checkpoint(model=...)` would leave them out.
        keep: how many stay.
    """

    def __init__(self, directory: Path, variables: Mapping[str, Sequence[keras.Variable]], keep: int) -> None:
        self._directory = directory
        self._keep = keep
        groups = {group: [v.value for v in members] for group, members in variables.items()}
        self._checkpoint = tf.train.Checkpoint(**groups)
        self._layout = {g: [[v.path, list(v.shape), str(v.dtype)] for v in members] for g, members in variables.items()}

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Writes the checkpoint of a step with the loop's state, then deletes the oldest beyond `keep`.

        One of the same step is replaced: it is a damaged one that `restore` passed over, or the end of a run whose
        callbacks changed the weights once more.
        """
        target = self._directory / f"step-{step:09d}"
        replaced = self._directory / f"{_REPLACED}{target.name}"
        temporary = self._directory / f".writing-{os.getpid()}"
        storage.remove_tree(temporary)
        try:
            temporary.mkdir(parents=True)
            self._checkpoint.write(str(temporary / "variables"))
            storage.write_json(temporary / "state.json", {**state, "step": step, "layout": self._layout})
            if target.exists():
                os.rename(target, replaced)  # `restore` takes it back if this is as far as it goes
            os.rename(temporary, target)
            storage.remove_tree(replaced)
        except (OSError, tf.errors.OpError) as error:
            raise UsageError(
                f"Cannot write a checkpoint to {self._directory}: {one_line(error)}. The checkpoint before it is intact; "
                "make room and start the same command again to go on from there."
            ) from error
        finally:
            storage.remove_tree(temporary)
        for old in self._all()[: -self._keep]:
            storage.remove_tree(old)

    def _all(self) -> list[Path]:
        return sorted(self._directory.glob("step-*"))

    def restore(self) -> dict[str, Any] | None:
        """Restores the newest checkpoint that is whole and returns its state, or None where there is none.

        Raises:
            UsageError: the newest belongs to another model.
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
                self._refuse_other_layout(path, state["layout"])
                self._checkpoint.read(str(path / "variables")).assert_consumed()
                return state
            except UsageError:
                raise
            except (OSError, ValueError, KeyError, AssertionError, tf.errors.OpError) as error:
                print(f"Checkpoint {path} is damaged ({one_line(error, 120)}); trying the one before.", flush=True)
        if paths:  # a failed read may have changed some variables: going on from here would be silently wrong
            raise UsageError(
                f"Every checkpoint in {self._directory} is damaged. Start anew with --overwrite, or pass another "
                "--run_directory."
            )
        return None

    def _refuse_other_layout(self, path: Path, layout: Mapping[str, Any]) -> None:
        for group, members in self._layout.items():
            old = [tuple(map(str, m[1:])) for m in layout.get(group, [])]
            new = [tuple(map(str, m[1:])) for m in members]
            if old != new:
                raise UsageError(
                    f"Checkpoint {path} belongs to another {group}: it holds {len(old)} variables, this one has "
                    f"{len(new)}, or their shapes differ. Pass another --run_directory."
                )
