"""The figures of a run from which its conclusions are drawn."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known of a finished run. Everything is plain, so that the conclusions are functions of numbers.

    Attributes:
        history: a dict per epoch, as in history.csv.
        epochs: the number of epochs that the config asks for.
        exported: the epoch whose weights were evaluated and exported, counted from 1; None without epochs.
        monitor: the metric that compares epochs, and its better direction, max or min.
        selected: whether the exported epoch was selected by the monitor (keep_best), rather than the last one.
        options: the options of `TrainConfig` by name.
        arguments: the arguments of the model's builder that a user may choose, with their values.
        class_counts: number of training examples of each class; empty for other tasks.
        macro_recall: mean recall over the classes of the validation split; None if it is not known.
        accuracy: accuracy on the validation split, likewise.
        full: share of the training examples that fill the longest input, and this length; None for inputs that are no texts.
        published: name of published weights that the model can begin with; empty if it began with weights, or none are known.
        transfer: a model of images and the name of its published weights, which are on this machine, if the trained model has
            none; empty otherwise.
        image_sizes: height and width of the images, and of the model's input; None for other inputs.
    """

    history: Sequence[Mapping[str, float]] = ()
    epochs: int = 0
    exported: int | None = None
    monitor: tuple[str, str] = ("val_loss", "min")
    selected: bool = False
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    class_counts: Sequence[int] = ()
    macro_recall: float | None = None
    accuracy: float | None = None
    full: tuple[float, int] | None = None
    published: str = ""
    transfer: tuple[str, str] | tuple[()] = ()
    image_sizes: tuple[tuple[int, int], tuple[int, int]] | None = None

    def values(self, name: str) -> list[float]:
        """Returns a figure of every epoch; empty unless all epochs have it."""
        found = [row[name] for row in self.history if name in row]
        return found if len(found) == len(self.history) else []

    def best_epoch(self, name: str, direction: str) -> int | None:
        """Returns the first epoch with the best value of a figure, counted from 1; None if not all epochs have it."""
        values = self.values(name)
        if not values:
            return None
        return values.index(max(values) if direction == "max" else min(values)) + 1
