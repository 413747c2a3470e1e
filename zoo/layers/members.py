"""Layers of an ensemble in one network, whose members share most weights. Each member is trained by its own loss."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import layers, ops

from zoo.errors import UsageError
from zoo.layers import blocks

_LOG_PARTITIONS = {
    "softmax": lambda logits: ops.logsumexp(logits, axis=-1),
    "sigmoid": lambda logits: ops.mean(ops.softplus(logits), axis=-1),
    "linear": lambda values: ops.mean(ops.square(values), axis=-1),
}
"""For each last activation the part of its loss that does not depend on the target, (batch, ...)."""


@keras.saving.register_keras_serializable("zoo")
class MemberScale(layers.Layer):
    """Multiplies a vector by the factors of each member: (batch, channels) becomes (batch, members, channels).

    Source: Gorishniy, Kotelnikov and Babenko, TabM: advancing tabular deep learning with parameter-efficient ensembling,
    ICLR 2025, section 3 (TabM-mini). The factors begin as 1 or -1 at random.

    Args:
        members: number of members.

    Example:
        >>> MemberScale(3)(keras.ops.ones((2, 5))).shape
        TensorShape([2, 3, 5])
    """

    def __init__(self, members: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.members = members

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the factors, (members, channels)."""
        signs = keras.initializers.RandomUniform(-1.0, 1.0)
        shape = (self.members, input_shape[-1])
        self.factors = self.add_weight(
            shape=shape, initializer=lambda shape, dtype: ops.where(signs(shape, dtype) < 0, -1.0, 1.0), name="factors"
        )

    def call(self, inputs: Any) -> Any:
        """Returns the inputs of each member."""
        return ops.expand_dims(inputs, 1) * self.factors

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns (batch, members, channels)."""
        return input_shape[0], self.members, input_shape[1]

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "members": self.members}


@keras.saving.register_keras_serializable("zoo")
class MemberMean(layers.Layer):
    """A linear layer for each member, and their mean: (batch, members, channels) becomes (batch, units).

    Each member is trained by its own loss. If `members_apart` is true, a call in training therefore returns the output of
    each, (batch, members, units), and whoever trains takes the mean of the losses. Keras's `fit` does not: there, a call
    in training adds a loss, which makes the whole loss the mean of the members' own. A cross-entropy of logits z is a part
    that is linear in z, plus a part A(z) without the target. So the mean of the members' losses is the loss of their mean
    logits plus mean(A(z)) - A(mean(z)), which is added. The squared error has the same form. Weights of examples or classes
    do not apply to the added part.

    Attributes:
        members_apart: whether a call in training returns the output of each member.

    Args:
        units: outputs.
        activation: softmax, sigmoid or linear, which is applied to the mean later and determines the loss.

    Example:
        >>> MemberMean(4, "softmax")(keras.ops.ones((2, 3, 5))).shape
        TensorShape([2, 4])
    """

    def __init__(self, units: int, activation: str | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if activation not in _LOG_PARTITIONS:
            raise UsageError(
                f"classifier_activation is {activation!r}, which leaves the loss of the members open. Pass 'softmax', "
                "'sigmoid' or 'linear', or members=1."
            )
        self.units, self.activation = units, activation
        self.members_apart = False

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates a kernel (members, channels, units) and a bias (members, units)."""
        members, channels = int(input_shape[1] or 0), int(input_shape[2] or 0)
        bound = 1 / math.sqrt(channels)
        self.kernel = self.add_weight(
            shape=(members, channels, self.units),
            initializer=keras.initializers.RandomUniform(-bound, bound),
            name="kernel",
        )
        self.bias = self.add_weight(shape=(members, self.units), initializer="zeros", name="bias")

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns the mean of the members' outputs before the activation, or in training the outputs."""
        made = ops.matmul(ops.transpose(inputs, (1, 0, 2)), self.kernel) + ops.expand_dims(self.bias, 1)
        if training and self.members_apart:
            return ops.transpose(made, (1, 0, 2))
        mean = ops.mean(made, axis=0)
        if training:
            part = _LOG_PARTITIONS[self.activation]
            self.add_loss(ops.mean(ops.mean(part(made), axis=0) - part(mean)))
        return mean

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns (batch, units)."""
        return input_shape[0], self.units

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "units": self.units, "activation": self.activation}


def member_outputs(x: Any, num_classes: int, activation: str | None) -> Any:
    """The last layers of an ensemble: `blocks.classifier` for (batch, members, channels).

    Raises:
        UsageError: no activation, which would determine the members' loss.

    Example:
        >>> member_outputs(keras.Input((3, 8)), 4, "softmax").shape
        (None, 4)
    """
    name, dtype = blocks.output_name(num_classes, activation), blocks.output_dtype()
    mean = MemberMean(num_classes, activation, dtype=dtype, name="member_mean")(x)
    return layers.Activation(activation, dtype=dtype, name=name)(mean)
