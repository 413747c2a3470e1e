"""Inputs and results of training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from zoo.config import TrainConfig
from zoo.resident import Resident
from zoo.tasks import Objective
from zoo.training import display


class TrainingData(Protocol):
    """What the loop needs of its data; `data.prepare(...)` returns it."""

    objective: Objective

    def describe(self) -> dict[str, Any]:
        """The `model` and `data` sections of config.yaml."""

    def complete(self, config: TrainConfig) -> TrainConfig:
        """The options with what suits the model and the data for those that were not passed."""

    def num_examples(self, split: str) -> int:
        """Number of examples of a split."""

    def batches(
        self,
        split: str,
        batch_size: int,
        *,
        seed: int | None = None,
        epoch: int = 0,
        start: int = 0,
        group_by_length: bool = False,
    ) -> tf.data.Dataset:
        """Batches (inputs, targets, weights), each a dict, whose order is a function of (seed, epoch)."""

    def some_inputs(self) -> Mapping[str, Any]:
        """The model inputs of a few training examples, the same at every call; it draws nothing from a dataset's order."""

    def resident(self, split: str) -> Resident | None:
        """The split in memory, None where it is read as a stream."""

    def target_counts(self, split: str) -> np.ndarray | None:
        """How often each class occurs, (classes,); None where targets are no classes."""

    @property
    def class_names(self) -> Sequence[str]:
        """The labels in the order of their numbers, empty where targets are no classes."""

    @property
    def interface(self) -> Any:
        """What the exporter needs. None for data that cannot be exported with.

        It has `save(directory)`, `fingerprint.sha256`, the hash of the data that it belongs to, and
        `changes_since(directory)`, phrases that say how that data differs from a saved interface's.
        """


@dataclasses.dataclass(frozen=True, repr=False)
class TrainResult:
    """The result of a training run.

    Attributes:
        history: a dict per epoch, as in history.csv.
        run_directory: the folder of the run, None without one.
        resumed_at: (epoch, step) at which this call resumed, None for a new run.
        model: the trained model, in float32 on one device, to be evaluated and exported. It is the model that was
            trained unless that one computes in half precision or on several devices.
        epoch: the epoch whose weights the model has, counted from 1; None if no epoch was trained.
        monitor: the metric that compares epochs, and its better direction, max or min.
        selected: whether this epoch was selected as the best one; otherwise it is the last one.
        chief: whether this process is the one that prints and writes, where several train together.
    """

    history: list[dict[str, float]]
    run_directory: Path | None
    resumed_at: tuple[int, int] | None
    model: keras.Model
    chief: bool = True
    epoch: int | None = None
    monitor: tuple[str, str] = ("val_loss", "min")
    selected: bool = False

    def __repr__(self) -> str:
        return display.as_text(self)

    def _repr_html_(self) -> str:
        return display.as_html(self)
