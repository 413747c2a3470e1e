"""Optimizers by name, and the update of the weights: fused, with decay, moving average and loss scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from zoo.config import TrainConfig
from zoo.training.adaptations.collection import Adaptations
from zoo.training.schedules import make_learning_rate

_REPLACED = ("_all_reduce_sum_gradients", "_apply_weight_decay", "_distributed_tf_update_step")
_SCALE = 2.0**15
_SCALE_GROWTH_STEPS = 2000


@keras.saving.register_keras_serializable("zoo")
class FusedAdam(keras.optimizers.Adam):
    """Keras's Adam, each variable updated by one TensorFlow kernel instead of a dozen.

    The formula is the same; a large embedding's update takes a fraction of the time. Source: Kingma and Ba, Adam: a
    method for stochastic optimization, ICLR 2015, algorithm 1 in the form at the end of section 2.

    Args:
        corrected_epsilon: whether epsilon is added to the root of the corrected second moment, as algorithm 1 itself and
            PyTorch have it; else before the correction, as Keras has it.
        **kwargs: arguments of Keras's Adam.

    Raises:
        ValueError: corrected_epsilon with amsgrad.

    Example:
        >>> FusedAdam(learning_rate=1e-3).apply([gradient], [variable])
    """

    def __init__(self, *args: Any, corrected_epsilon: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if corrected_epsilon and self.amsgrad:
            raise ValueError("corrected_epsilon does not go with amsgrad. Leave one of them out.")
        self.corrected_epsilon = corrected_epsilon

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "corrected_epsilon": self.corrected_epsilon}

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates a variable and its two moments; amsgrad goes Keras's way."""
        if self.amsgrad:
            super().update_step(gradient, variable, learning_rate)
            return
        dtype = variable.dtype
        step = tf.cast(tf.convert_to_tensor(self.iterations) + 1, dtype)
        beta_1, beta_2 = tf.constant(self.beta_1, dtype), tf.constant(self.beta_2, dtype)
        index = self._get_variable_index(variable)
        beta_2_power, epsilon = tf.pow(beta_2, step), tf.constant(self.epsilon, dtype)
        if self.corrected_epsilon:  # the kernel adds it before the correction, which divides by this root
            epsilon *= tf.sqrt(1 - beta_2_power)
        tf.raw_ops.ResourceApplyAdam(
            var=_handle(variable),
            m=_handle(self._momentums[index]),
            v=_handle(self._velocities[index]),
            beta1_power=tf.pow(beta_1, step),
            beta2_power=beta_2_power,
            lr=tf.cast(learning_rate, dtype),
            beta1=beta_1,
            beta2=beta_2,
            epsilon=epsilon,
            grad=tf.cast(gradient, dtype),
        )


@keras.saving.register_keras_serializable("zoo")
class FusedAdamW(FusedAdam):
    """`FusedAdam` with Keras's AdamW's default weight decay. Source: Loshchilov and Hutter, Decoupled weight decay
    regularization, ICLR 2019.

    Example:
        >>> FusedAdamW(learning_rate=1e-3).weight_decay
        0.004
    """

    def __init__(self, learning_rate: Any = 0.001, weight_decay: float = 0.004, **kwargs: Any) -> None:
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, **kwargs)


def _handle(variable: Any) -> Any:
    """The resource of a variable, of this device's copy where there are several."""
    variable = variable.value if isinstance(variable, keras.Variable) else variable
    if isinstance(variable, tf.distribute.DistributedValues):
        variable = variable._get()
    return variable.handle


def make_optimizer(config: TrainConfig, total_steps: int) -> keras.optimizers.Optimizer:
    """Makes the optimizer that a config names, with its learning rate's schedule.

    Raises:
        UsageError: the warm-up is too long.

    Example:
        >>> make_optimizer(TrainConfig(optimizer="sgd"), total_steps=100).name
        'sgd'
    """
    classes = {
        name.lower(): cls
        for name, cls in vars(keras.optimizers).items()
        if isinstance(cls, type)
        and issubclass(cls, keras.optimizers.Optimizer)
        and cls not in (keras.optimizers.Optimizer, keras.optimizers.LossScaleOptimizer)
    }
    fused: dict[str, Any] = {"adam": FusedAdam, "adamw": FusedAdamW}
    chosen = {**classes, **fused}[config.optimizer.lower()]
    asked = {"beta_1": config.adam_beta_1, "beta_2": config.adam_beta_2, "epsilon": config.adam_epsilon}
    options: dict[str, Any] = {name: float(value) for name, value in asked.items() if value is not None}
    if config.adam_epsilon is not None:
        options["corrected_epsilon"] = True
    return chosen(learning_rate=make_learning_rate(config, total_steps), **options)


def is_decayed(variable: keras.Variable) -> bool:
    """Returns whether weight decay applies: to matrices and kernels, not to biases and the weights of normalisation
    layers, which are vectors."""
    return len(variable.shape) > 1 and variable.path.rpartition("/")[2] not in ("bias", "gamma", "beta")


class Update:
    """Applies summed gradients to the weights: decay, the optimizer's step, what adaptations do after it.

    A step whose scaled loss gave gradients that are not finite is skipped.

    Make it in the strategy's scope. Keras would sum the gradients when it updates the variables, that is, after clipping:
    every replica then clips its own part, and the result depends on the number of devices. Here they arrive summed.

    Args:
        optimizer: a Keras optimizer; it is built here.
        weights: the trainable variables.
        config: weight decay.
        adaptations: their factors of the learning rate, and what they do after a step.
        scaled: whether the loss is scaled, as float16 needs it.
        brought: whether the user has made the optimizer, which then decides itself which weights it decays.
    """

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        weights: Sequence[keras.Variable],
        config: TrainConfig,
        adaptations: Adaptations,
        *,
        scaled: bool = False,
        brought: bool = False,
    ) -> None:
        for name in _REPLACED:
            if not hasattr(optimizer, name):
                raise RuntimeError(f"Keras {keras.__version__} updates weights in another place; install keras 3.15.")
        self.optimizer, self._adaptations = optimizer, adaptations
        # Eagerly, in scope: variables made while a replica's step is traced raise.
        optimizer.build(weights)
        own = optimizer.weight_decay if config.weight_decay is None else config.weight_decay
        applies = optimizer._use_weight_decay if brought and config.weight_decay is None else is_decayed
        self._decay = [float(own or 0) if applies(v) else 0.0 for v in weights]
        adaptations.build(weights)
        self._rates = [adaptations.rate(v) for v in weights]
        self._scale: list[keras.Variable] = []
        if scaled:
            self._scale = [
                keras.Variable(_SCALE, trainable=False, dtype="float32", name="loss_scale", aggregation="none"),
                keras.Variable(0, trainable=False, dtype="int64", name="finite_steps", aggregation="none"),
            ]
        self._finite: Any = None
        optimizer._all_reduce_sum_gradients = lambda pairs: pairs
        optimizer._apply_weight_decay = lambda variables: None  # applied here, so that a skipped step skips it
        optimizer._distributed_tf_update_step = self._update_all

    def close(self) -> None:
        """Gives the optimizer back as it came."""
        for name in _REPLACED:
            self.optimizer.__dict__.pop(name, None)

    @property
    def variables(self) -> list[keras.Variable]:
        """Everything that a checkpoint must hold."""
        return [*self.optimizer.variables, *self._adaptations.variables, *self._scale]

    def scale(self) -> Any:
        """Returns the factor of the loss, float32 scalar, or None where it is not scaled."""
        return tf.convert_to_tensor(self._scale[0].value) if self._scale else None

    def apply(self, gradients: Sequence[tf.Tensor], weights: Sequence[keras.Variable]) -> None:
        """Updates the weights; call it in a replica."""
        if self._scale:
            self._finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g in gradients])
        self.optimizer.apply(gradients, weights)
        if self._scale:
            # A step that was skipped was none.
            count = self.optimizer._iterations
            count.assign_add(tf.cast(self._finite, count.dtype) - 1)
            self._adapt_scale(self._finite)

    def _adapt_scale(self, finite: Any) -> None:
        """Halves the scale after an overflow, doubles it after many steps without one."""
        scale, count = (tf.convert_to_tensor(v.value) for v in self._scale)
        grown = finite & (count + 1 >= _SCALE_GROWTH_STEPS)
        steps = tf.where(finite & ~grown, count + 1, tf.zeros_like(count))
        factor = tf.where(grown, 2.0, tf.where(finite, 1.0, 0.5))
        values = [tf.maximum(scale * factor, 1.0), steps]

        def assign(strategy: Any, values: Any) -> None:
            for variable, value in zip(self._scale, values, strict=True):
                strategy.extended.update(variable.value, lambda v, new: v.assign(new), args=(value,), group=False)

        tf.__internal__.distribute.interim.maybe_merge_call(assign, self.optimizer._distribution_strategy, values)

    def _update_all(self, strategy: Any, pairs: Any, learning_rate: Any) -> None:
        for gradient, variable in pairs:
            index = self.optimizer._get_variable_index(variable)
            arguments = (gradient, learning_rate, self._adaptations.own(index))
            strategy.extended.update(variable, self._update_one, args=arguments, group=False)

    def _update_one(self, variable: Any, gradient: Any, learning_rate: Any, own: Any) -> None:
        def update() -> None:
            index = self.optimizer._get_variable_index(variable)
            decay, factor = self._decay[index], self._rates[index]
            scheduled = learning_rate if factor == 1.0 else learning_rate * tf.cast(factor, learning_rate.dtype)
            if decay:
                rate = tf.cast(scheduled, variable.dtype)
                variable.assign_sub(variable * tf.cast(decay, variable.dtype) * rate)
            self.optimizer.update_step(gradient, variable, scheduled)
            if own:
                step = tf.convert_to_tensor(self.optimizer.iterations)
                self._adaptations.after_step(variable, index, own, step)

        if self._finite is None:
            update()
        else:
            tf.cond(self._finite, lambda: _then(update), lambda: tf.constant(False))


def _then(action: Any) -> tf.Tensor:
    action()
    return tf.constant(True)
