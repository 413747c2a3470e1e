"""What a run computes with: objective, optimizer, metrics, and the compiled calls."""

from __future__ import annotations

import math
import warnings

import keras
import numpy as np
import tensorflow as tf

from zoo.config import TrainConfig
from zoo.errors import UsageError
from zoo.tasks import call_model, model_input
from zoo.training.adaptations.collection import Adaptations
from zoo.training.data.user_losses import as_saved
from zoo.training.devices import DeviceRecord
from zoo.training.figures import figures, own_metrics
from zoo.training.loop.draws import seed_generators
from zoo.training.loop.step import Steps
from zoo.training.mixed_precision import policy_of
from zoo.training.objective import ModelObjective
from zoo.training.optimizers import Update, make_optimizer
from zoo.training.protocols import TrainingData
from zoo.training.run_checks import check_images, class_factors, closed_form_of, is_compiled, takes_rows

_LARGEST = 2**31
"""Maximum bytes of the inputs from which the last layer is solved for before training."""


class Computation:
    """Model, data and config, and all that is made of them before the first step.

    Close it when the run ends: the optimizer may be the user's own.

    Attributes:
        steps: number of steps of an epoch.
        metrics: the mean loss first.
        optimizer: what trains the model.
        resident: the training split in memory, None where batches come from an input pipeline.
        calls: the compiled functions.
        compiled: whether XLA compiles the steps.

    Args:
        model: the model, built in its strategy's scope; it is compiled here.
        data: the data.
        config: the settings.
        adaptations: applied already.

    Raises:
        UsageError: the model, the data and the config do not go together.
    """

    def __init__(self, model: keras.Model, data: TrainingData, config: TrainConfig, adaptations: Adaptations) -> None:
        self.model, self.data, self.config = model, data, config
        self.strategy = model.distribute_strategy
        self._warned = self._told = False
        if not model.trainable_variables:
            raise UsageError(
                f"The model {model.name!r} has no trainable weights. Set layer.trainable = True for some of its layers."
            )
        parts = self.strategy.num_replicas_in_sync * config.accumulation_steps
        if (whole := getattr(data, "whole_batches", ())) and parts > 1:
            raise UsageError(
                f"{', '.join(whole)}: one number for a whole batch, but a batch is divided into {parts} parts here. Train on "
                "one device with accumulation_steps=1, or let it give one number for each example."
            )
        option = "closed_form" if config.closed_form else "head_first" if config.head_first else ""
        overlap = getattr(data, "overlap", 1)
        self._closed_form = closed_form_of(model, option, data.objective.quantiles, overlap) if option else None
        self.steps = math.ceil(data.num_examples("train") / config.batch_size)
        if not self.steps:
            raise UsageError("The train split is empty. Choose another data set or split.")
        factors = class_factors(config, data)
        check_images(config, data)
        objective = self._compile(adaptations)
        self._build_metrics(objective)
        self.resident = data.resident("train") if takes_rows(model, config) else None
        self._update = self._make_update(adaptations)
        self.compiled = is_compiled(model, config, self.steps * config.epochs)
        self.calls = Steps(
            model,
            objective,
            self._update,
            config,
            class_factors=factors,
            jit_compile=self.compiled,
            finish=self.resident.finish if self.resident else None,
        )

    def _compile(self, adaptations: Adaptations) -> ModelObjective:
        brought, config = getattr(self.data, "optimizer", None), self.config
        with self.strategy.scope():
            objective = ModelObjective(self.data.objective, self.model, config.label_smoothing)
            self.optimizer = adaptations.optimizer(brought or make_optimizer(config, self.steps * config.epochs))
            # Keras's callbacks expect a compiled model: they look up its optimizer and which way a metric is better.
            with as_saved(self.model):
                self.model.compile(optimizer=self.optimizer, **objective.compile_arguments(self.data.objective))
        self.metrics = [*objective.metrics, *own_metrics(self.model)]
        return objective

    def _make_update(self, adaptations: Adaptations) -> Update:
        brought = getattr(self.data, "optimizer", None) is not None
        scaled = policy_of(self.model) == "mixed_float16"
        with self.strategy.scope():
            weights = self.model.trainable_variables
            return Update(self.optimizer, weights, self.config, adaptations, scaled=scaled, brought=brought)

    def _build_metrics(self, objective: ModelObjective) -> None:
        """Makes the metrics' variables now: a metric that makes them while traced cannot be restored first."""
        inputs, targets, _ = next(iter(self.data.batches("train", 1)))
        outputs = call_model(self.model, inputs)
        objective.build_metrics(targets, outputs)
        self.reset_metrics()
        self.model.compute_metrics(model_input(self.model, inputs), *objective.compiled_pair(targets, outputs))
        self.model.reset_metrics()

    @property
    def has_validation(self) -> bool:
        """Whether there is a validation split."""
        return self.data.num_examples("validation") > 0

    @property
    def variables(self) -> dict[str, list[keras.Variable]]:
        """Everything that a checkpoint holds, by group."""
        return {"model": self.model.variables, "optimizer": self._update.variables, **self.metric_variables}

    @property
    def metric_variables(self) -> dict[str, list[keras.Variable]]:
        """The variables of the metrics, as a group."""
        return {"metrics": [v for m in self.metrics for v in m.variables]}

    def learning_rate(self) -> float:
        """Returns the learning rate of the next step."""
        return float(tf.convert_to_tensor(self.optimizer.learning_rate))

    def reset_metrics(self) -> None:
        """Sets all metrics to their start."""
        for metric in self.metrics:
            metric.reset_state()

    def logs(self) -> dict[str, float]:
        """Returns the values of all metrics by name."""
        return {name: value for metric in self.metrics for name, value in figures(metric).items()}

    def check_gradients(self) -> None:
        """Raises UsageError if no gradient reaches any weight, and warns once if some weights get none.

        Call it after the first training call.
        """
        missing, count = self.calls.without_gradient, len(self.model.trainable_variables)
        if not missing or self._warned:
            return
        names = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        if len(missing) == count:
            raise UsageError(
                f"No gradient reaches any of the {count} trainable weights ({names}): the loss does not depend on them. "
                "Use differentiable operations from weights to loss: no argmax, round, comparison, NumPy or stop_gradient."
            )
        self._warned = True
        warnings.warn(
            f"No gradient reaches {len(missing)} of {count} trainable weights, which stay as they are: {names}. Set "
            "layer.trainable = False, or connect them to the loss.",
            stacklevel=2,
        )

    def check_draws(self, record: DeviceRecord) -> None:
        """Warns once of random layers whose numbers depend on the devices.

        Call it after the first training call.

        Args:
            record: the devices of the run.
        """
        draws, several = self.calls.draws, self.strategy.num_replicas_in_sync > 1
        if self._told or (draws is None and not record.draws_changed):
            return
        self._told = True
        if draws is not None and draws.unplaced and several:
            warnings.warn(
                f"The random numbers of {', '.join(draws.unplaced)} depend on the number of devices: these layers draw more "
                "than dropout, uniform or normal numbers of rows. All other draws do not.",
                stacklevel=2,
            )
        if record.draws_changed and seed_generators(self.model):
            warnings.warn(
                "XLA compiled the steps on only some of this run's devices, and draws other random numbers. Pass jit_compile="
                "False (--config.jit_compile false) in a run that is to have the same draws on all devices.",
                stacklevel=2,
            )

    def solve(self) -> bool:
        """Sets the weights from the whole training split at once; False where the config does not ask for it."""
        if self._closed_form is None or not self.config.closed_form:
            return False
        self._solve(self.data.num_examples("train"))
        return True

    def solve_head(self, verbose: int) -> None:
        """Sets the last layer before the first epoch where the config asks for it, from as many examples as fit in memory."""
        if self._closed_form is None or not self.config.head_first:
            return
        inputs = next(iter(self.data.batches("train", 1)))[0]
        size = sum(np.asarray(part).nbytes for part in inputs.values())
        whole = self.data.num_examples("train")
        count = min(whole, max(1, _LARGEST // size))
        if verbose:
            shown = f"{count:,} of {whole:,}" if count < whole else f"{whole:,}"
            print(f"Phase 1 of 2: solves for the last layer, from the features of {shown} examples.", flush=True)
        self._solve(count)
        if verbose:
            trained = sum(math.prod(weight.shape) for weight in self.model.trainable_variables)
            print(f"Phase 2 of 2: trains {trained:,} parameters.", flush=True)

    def _solve(self, count: int) -> None:
        whole = count == self.data.num_examples("train")
        inputs, targets, _ = next(iter(self.data.batches("train", count, seed=None if whole else self.config.seed)))
        assert self._closed_form is not None
        self._closed_form(self.model, *tf.nest.map_structure(np.asarray, (inputs, targets)))

    def close(self) -> None:
        """Gives the optimizer back as it came."""
        self._update.close()
