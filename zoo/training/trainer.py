"""`zoo.train`: one run, from the checks before it to the trained model."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from zoo import copies, environment, lineage, recommended, remote
from zoo.config import TrainConfig, as_config
from zoo.errors import UsageError, naming_arguments
from zoo.tasks import model_input
from zoo.training.adaptations.collection import adapted
from zoo.training.cluster import Workers, agree
from zoo.training.data.prepared_model import for_model
from zoo.training.data.user_data import wrap
from zoo.training.data.user_losses import keep_compiled
from zoo.training.loop.call_length import needs_every_batch
from zoo.training.loop.computation import Computation
from zoo.training.loop.loop import Loop
from zoo.training.loop.selection import Selection, directions
from zoo.training.mixed_precision import check_plain, check_precision, plain_model
from zoo.training.protocols import TrainingData, TrainResult
from zoo.training.run_checks import check_abstention, with_quantiles
from zoo.training.run_directory import RunDirectory
from zoo.training.strategies import check_strategy

_OF_OPTIMIZER = (
    *("optimizer", "learning_rate", "schedule", "warmup_steps", "warmup_fraction", "warmup_from_zero"),
    *("adam_beta_1", "adam_beta_2", "adam_epsilon"),
)


@naming_arguments(
    "zoo.train",
    **{field.name: f"config=zoo.TrainConfig({field.name}=...)" for field in dataclasses.fields(TrainConfig)},
    validation_data="validation=(x, y)",
    validation_split="validation=(x, y), with examples that are not in the data",
    x="data=(x, y)",
    y="data=(x, y)",
    sample_weight="data=(x, y, sample_weight)",
)
def train(
    model: keras.Model,
    data: Any,
    config: TrainConfig | Mapping[str, Any] | None = None,
    *,
    validation: Any = None,
    run_directory: str | Path | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int = 1,
    overwrite: bool = False,
    steps_per_epoch: int | None = None,
) -> TrainResult:
    """Trains a model under the strategy that it was built under.

    With a run directory the run is checkpointed, and the same call resumes it after a kill. Ctrl-C and SIGTERM save a
    checkpoint, and raise `Interrupted`. Of several workers only the chief, worker 0, needs the run directory.

    Args:
        model: a Keras model; its weights change.
        data: what `data.prepare(...)` returned, or (x, y), (x, y, sample_weight), a `tf.data.Dataset` of such, a
            `PyDataset`, a loader of PyTorch, or a function that returns an iterator of batches. A model brings the losses,
            metrics and optimizer that it is compiled with; one that is not compiled is trained for the task of the prepared
            data, or for its own first task. Of several inputs or outputs x, y and sample_weight are dicts by their names.
            Every worker is given the whole data, and takes its part of each batch.
        config: how to train, as `TrainConfig` or as a dict of its fields.
        validation: the same for after every epoch; what was prepared has its own.
        run_directory: the folder of config, history, checkpoints, plots and the trained model; None keeps nothing.
        callbacks: Keras callbacks. A resumed run restores their state: of those of Keras that stop early, lower the
            learning rate or keep the best model, and of every one that has `get_state` and `set_state`.
        verbose: 1 for a progress bar, 2 for a line per epoch, 0 for silence.
        overwrite: deletes the run that is in the directory.
        steps_per_epoch: batches of an epoch, for a dataset of batches that never ends; each epoch goes on behind the last.

    Returns:
        The history, the run directory, and the model to export.

    Raises:
        UsageError: settings that contradict the strategy, the model or the existing run, a run directory that
            cannot be used, a loss that is not finite, too little memory, a lost worker.
        Interrupted: SIGTERM or Ctrl-C came; what was done is saved.

    Example:
        >>> prepared = zoo.datasets.load("digits").prepare("cnn")
        >>> with zoo.strategy("one_device").scope():
        ...     model = prepared.build()
        >>> zoo.train(model, prepared, zoo.TrainConfig(epochs=5), run_directory="runs/digits-cnn").history[-1]
        >>> model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        >>> zoo.train(model, (images, labels), zoo.TrainConfig(epochs=5)).history[-1]
    """
    environment.check(None if remote.is_remote(run_directory) else run_directory)
    given, callbacks = as_config(config), _callbacks(callbacks)
    data = _training_data(model, data, validation, given, steps_per_epoch)
    config = with_quantiles(_with_batch_size(_completed(given, data, verbose), data, verbose), data)
    if config.closed_form:
        config = dataclasses.replace(config, epochs=1)
    check_abstention(config, data)
    check_strategy(model, config)
    check_precision(model, config.precision)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    # Before training: a model that cannot be copied to one device cannot be exported.
    copy = plain_model(model)
    if copy is not model:
        check_plain(model, copy, model_input(model, data.some_inputs()))
    workers = Workers(model.distribute_strategy)
    verbose = verbose if workers.chief else 0
    with contextlib.ExitStack() as open_parts:
        open_parts.enter_context(keep_compiled(model))
        adaptations = open_parts.enter_context(adapted(model, config))
        calls = _with_call_length(config, callbacks, verbose)
        computation = open_parts.enter_context(closing(Computation(model, data, calls, adaptations)))
        known = directions(computation.metrics, validation=computation.has_validation)
        selection = Selection(config, data.objective.monitor, known)
        if verbose and adaptations.summary:
            print(adaptations.summary, flush=True)
        settings = {**data.describe(), "config": config.to_dict()}
        if workers.count > 1:
            agree(workers, {**settings, "examples": _examples(data, config)})
        directory = None
        if run_directory is not None and workers.chief:
            local = open_parts.enter_context(remote.working_copy(run_directory))
            directory = RunDirectory(
                local or run_directory,
                settings,
                overwrite=overwrite,
                interface=data.interface,
                own=getattr(data, "own", False),
                untyped=_untyped(given, data),
            )
            open_parts.enter_context(closing(directory))
        # Not the interface, which holds examples of the data and takes seconds to make.
        own = getattr(getattr(data, "fingerprint", None), "sha256", None)
        copies.record(model, lineage.RECORD, directory.lineage if directory else lineage.started(settings, own))
        loop = Loop(computation, adaptations, selection, directory, workers, callbacks, verbose)
        return open_parts.enter_context(closing(loop)).run()


def _callbacks(given: Any) -> Sequence[keras.callbacks.Callback]:
    """Returns the callbacks as a list; one alone is allowed, as in `fit`."""
    callbacks = list(given) if isinstance(given, (list, tuple)) else [given]
    for callback in callbacks:
        if not isinstance(callback, keras.callbacks.Callback):
            raise UsageError(
                f"callbacks has {callback!r}; expected objects of keras.callbacks.Callback. Pass [EarlyStopping()], say."
            )
        if isinstance(callback, keras.callbacks.SwapEMAWeights):
            raise UsageError(
                "callbacks has SwapEMAWeights; the loop averages weights itself, and evaluates and returns the averages. "
                "Leave the callback and use_ema out, and pass TrainConfig(ema_momentum=0.99)."
            )
    return callbacks


def _with_call_length(config: TrainConfig, callbacks: Sequence[keras.callbacks.Callback], verbose: int) -> TrainConfig:
    """Returns the settings with one step per call if a callback has a hook for every batch."""
    names = [type(callback).__name__ for callback in callbacks if needs_every_batch(callback)]
    if not names or config.steps_per_call == 1:
        return config
    if verbose:
        print(f"{names[0]} is called at every batch, so a compiled call has one step, which is slower.", flush=True)
    return dataclasses.replace(config, steps_per_call=1)


def _examples(data: TrainingData, config: TrainConfig) -> dict[str, Any]:
    """Returns facts about the examples that must be equal on all workers, as each takes its part of every batch."""
    batch = next(iter(data.batches("train", config.batch_size, seed=config.seed)))
    digest = hashlib.sha256()
    for part in tf.nest.flatten(batch):
        digest.update(part.numpy().tobytes())
    counts = {split: data.num_examples(split) for split in ("train", "validation")}
    content = {} if data.interface is None else {"data_sha256": data.interface.fingerprint.sha256}
    return {**counts, "first_batch": digest.hexdigest(), **content}


def _completed(given: TrainConfig, data: TrainingData, verbose: int) -> TrainConfig:
    """Returns the options with what the model recommends for the data, which it prints."""
    config = data.complete(given)
    if verbose and (taken := recommended.describe(data.num_examples("train"), {}, given, config)):
        print(taken, flush=True)
    return config


def _untyped(given: TrainConfig, data: TrainingData) -> set[str]:
    """Returns the settings that nobody passed, as SECTION.NAME."""
    typed = given.given if given.typed is None else given.typed
    options = {f"config.{name}" for name in given.to_dict() if name not in typed}
    return options | {f"model.{name}" for name in getattr(data, "recommended", ())}


def _with_batch_size(config: TrainConfig, data: TrainingData, verbose: int) -> TrainConfig:
    """Returns the settings with the size of the batches that a dataset yields, unless another one was chosen."""
    own, chosen = getattr(data, "batch_size", None), config.batch_size
    if own is None or own == chosen:
        return config
    if getattr(data, "steps_per_epoch", None) or chosen == TrainConfig().batch_size:
        return dataclasses.replace(config, batch_size=own)
    if verbose:
        print(f"The dataset's batches of {own} are divided again, to batch_size={chosen}.", flush=True)
    return config


def _training_data(
    model: keras.Model, data: Any, validation: Any, config: TrainConfig, steps_per_epoch: int | None
) -> TrainingData:
    """Returns prepared data for the model, and arrays and datasets in the same form."""
    if hasattr(data, "batches") and hasattr(data, "objective"):
        for name, value in (("validation", validation), ("steps_per_epoch", steps_per_epoch)):
            if value is not None:
                raise UsageError(f"{name} came with prepared data, which has its own. Leave {name} out.")
        if not hasattr(data, "is_built"):
            own: TrainingData = data
            return own
        wrapped = for_model(model, data)
    else:
        wrapped = wrap(model, data, validation, steps_per_epoch)
    default = TrainConfig()
    if (optimizer := getattr(wrapped, "optimizer", None)) is not None:
        _check_optimizer(optimizer, model)
        for name in _OF_OPTIMIZER:
            if getattr(config, name) != getattr(default, name):
                raise UsageError(
                    f"The config says {name}={getattr(config, name)!r}, and the model is compiled with an optimizer of its "
                    f"own. Set it there, and leave {name} out."
                )
    return wrapped


def _check_optimizer(optimizer: keras.optimizers.Optimizer, model: keras.Model) -> None:
    """Raises UsageError for an optimizer with settings that the loop replaces, or one made outside the strategy."""
    for name, field in {
        "use_ema": "ema_momentum",
        "gradient_accumulation_steps": "accumulation_steps",
        "loss_scale_factor": "precision='mixed_float16'",
    }.items():
        value = getattr(optimizer, name, None)
        if value:
            raise UsageError(
                f"The model is compiled with {name}={value!r}, which the training loop does itself. Leave it out, and pass "
                f"{field} to TrainConfig."
            )
    if optimizer._distribution_strategy is not model.distribute_strategy:
        raise UsageError(
            "The model was built under a strategy, and compiled outside of its scope. Call model.compile in "
            "`with strategy.scope():`, too."
        )
