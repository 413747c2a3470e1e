"""What `zoo.run` would do, without training: data, model, options, steps and memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import remote
from zoo.config import TrainConfig, as_config, to_yaml
from zoo.option_words import by_command
from zoo.pipeline import begin
from zoo.preparation import Preparation
from zoo.registry import get_spec, plain

if TYPE_CHECKING:
    from zoo.starting_point import StartFrom

_MOST_CLASSES = 20


@dataclasses.dataclass(frozen=True, repr=False)
class Preview:
    """What a run would do; `print` shows all of it.

    Attributes:
        data: the data set: its splits, and its classes with their numbers of examples.
        summary: Keras's summary of the model.
        options: all options, as in the run's config.yaml, and under `decided` those that depend on the machine or the data.
        steps_per_epoch: optimizer steps of an epoch.
        memory: estimated bytes on each device: weights, gradients, optimizer and activations.
        held: bytes of the splits in memory, None for one that is read as a stream.
        directory: the folder of the run, and what is there.
        hint: how to train.
    """

    data: str
    summary: str
    options: Mapping[str, Any]
    steps_per_epoch: int
    memory: Mapping[str, int]
    held: Mapping[str, int | None]
    directory: str
    hint: str = "Call zoo.run with the same arguments to train."

    def __repr__(self) -> str:
        parts = ", ".join(f"{name} {_size(count)}" for name, count in self.memory.items())
        held = ", ".join(f"{name} {'streamed' if size is None else _size(size)}" for name, size in self.held.items())
        steps, total = self.steps_per_epoch, self.options["decided"]["steps"]
        return "\n\n".join(
            [
                self.data,
                self.summary,
                to_yaml(self.options).rstrip(),
                f"Steps:    {steps:,} an epoch, {total:,} in all\n"
                f"Memory:   about {_size(sum(self.memory.values()))} on each device: {parts}\n"
                f"Data:     {held}\n"
                f"Run:      {self.directory}\n"
                f"Nothing was trained or written. {self.hint}",
            ]
        )

    def _repr_html_(self) -> str:
        """Returns the preview for a notebook, with the summary of the model as it is in a terminal."""
        from zoo import display

        facts, *_, ending = repr(self).split("\n\n")
        parts = [facts, ending, self.summary, to_yaml(self.options).rstrip()]
        lines = [display.escaped_lines(part) for part in parts]
        for place, title in ((2, "Model"), (3, "All options")):
            lines[place] = f"<details><summary>{title}</summary><pre>{lines[place]}</pre></details>"
        return display.stacked([f"<pre>{line}</pre>" for line in lines[:2]] + lines[2:])


def preview(
    model: str | None,
    data: Any,
    *,
    validation: Any = None,
    test: Any = None,
    config: TrainConfig | Mapping[str, Any] | None = None,
    model_arguments: Mapping[str, Any] | None = None,
    data_arguments: Mapping[str, Any] | None = None,
    run_directory: str | Path | None = None,
    start_from: StartFrom | None = None,
    golden: Any = None,
    export: bool = True,
    overwrite: bool = False,
    baselines: str | Sequence[str] = "all",
    **devices: Any,
) -> Preview:
    """Returns what `zoo.run` would do with the same arguments. It trains nothing and writes no file of a run.

    The data is loaded and prepared and the model is built, so whatever `zoo.run` rejects before its first step is rejected
    here. A data set of TensorFlow Datasets that is not on the machine yet is prepared, as in `zoo.datasets.load`.

    Args:
        model: as in `zoo.run`, like all other arguments.
        data: the data.
        validation: inputs and targets of the validation split, for arrays.
        test: inputs and targets of the test split, for arrays.
        config: the training options, as `TrainConfig` or as a dict of its fields.
        model_arguments: arguments of the model's builder.
        data_arguments: arguments of `zoo.datasets.load`.
        run_directory: folder of the run; not needed here for data from memory.
        start_from: folder of a finished run.
        golden: what the SavedModel would publish.
        export: whether the run would write a SavedModel.
        overwrite: whether the run would delete an earlier one.
        baselines: the baselines of the report.
        **devices: further arguments of `zoo.strategy`.

    Raises:
        UsageError: as in `zoo.run`.

    Example:
        >>> print(zoo.preview("cnn", "digits", config=zoo.TrainConfig(epochs=5)))
        >>> zoo.preview("cnn", "digits").steps_per_epoch
        21
    """
    from zoo.training.outlook import look_ahead

    config = as_config(config)
    unnamed = run_directory is None and not isinstance(getattr(data, "name", data), str)
    with remote.working_copy(run_directory, writes=False) as local:
        ready, directory = begin(
            model,
            data,
            config,
            given={"validation": validation, "test": test},
            model_arguments=model_arguments,
            data_arguments=data_arguments,
            run_directory=Path("runs") / f"NAME-{model or 'MODEL'}" if unnamed else local,
            start_from=start_from,
            golden=golden,
            export=export,
            overwrite=overwrite,
            baselines=baselines,
            devices=devices,
        )
        state = (
            f"zoo.run needs a folder: pass run_directory='runs/NAME-{ready.prepared.model}'"
            if unnamed
            else _state(directory, overwrite)
        )
    prepared: Any = ready.prepared
    config = ready.config
    ahead = look_ahead(ready.network, prepared, config)
    options = {**ready.prepared.describe(), "config": config.to_dict(), "decided": dict(ahead.options)}
    decided = set(get_spec(ready.prepared.model).data_arguments)
    options["model"] |= plain(  # also those that the data decides
        {name: value for name, value in prepared.arguments.items() if name not in decided or value not in (None, ())}
    )
    described = f"{ready.describe(directory)}\n{_classes(ready)}".rstrip("\n")
    hint = {"hint": "Leave --dry-run out to train."} if by_command() else {}
    return Preview(described, ahead.summary, options, ahead.steps, ahead.memory, ahead.data, state, **hint)


def _classes(ready: Preparation) -> str:
    """Returns a table of the classes with their numbers of examples in each split; empty without classes."""
    prepared = ready.prepared
    splits = [name for name in prepared.data.splits if prepared.num_examples(name)]
    counts = {split: count for split in splits if (count := prepared.target_counts(split)) is not None}
    if not counts:
        return ""
    names = prepared.class_names[:_MOST_CLASSES]
    width = max(map(len, ("class", *names)))
    lines = [f"{'class':<{width}}" + "".join(f"{split:>12}" for split in splits)]
    for number, name in enumerate(names):
        lines.append(f"{name:<{width}}" + "".join(f"{count[number]:>12,}" for count in counts.values()))
    more = len(prepared.class_names) - len(names)
    return "\n".join(lines + [f"... {more} more classes"] * (more > 0))


def _state(directory: Path, overwrite: bool) -> str:
    """Returns a folder, and what a run would find there."""
    from zoo.training.run_directory import has_begun, is_run

    if not is_run(directory):
        return f"{remote.shown(directory)}, new"
    if overwrite:
        return f"{remote.shown(directory)}, whose run would be deleted"
    return (
        f"{remote.shown(directory)}, whose run would be resumed"
        if has_begun(directory)
        else f"{remote.shown(directory)}, whose run has not begun"
    )


def _size(count: float) -> str:
    """Returns a number of bytes with its unit."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
