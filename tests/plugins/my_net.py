"""A function that does not use this package: `zoo train --model my_net.py:build_my_model --data digits`."""

import keras


class Squash(keras.layers.Layer):
    """x / (1 + |x|), scaled by a learned factor; never registered with Keras."""

    def build(self, shape):
        self.factor = self.add_weight(name="factor", shape=(shape[-1],), initializer="ones")

    def call(self, x):
        return self.factor * x / (1.0 + keras.ops.abs(x))


def build_my_model(input_shape, num_classes, units=32):
    inputs = keras.Input(input_shape)
    x = Squash()(keras.layers.Dense(units)(keras.layers.Flatten()(inputs)))
    return keras.Model(inputs, keras.layers.Dense(num_classes, activation="softmax", name="probabilities")(x))


def fixed_net():
    inputs = keras.Input((28, 28, 1))
    x = keras.layers.Dense(10, name="logits")(keras.layers.Flatten()(inputs))
    return keras.Model(inputs, x)


def build_sequential_model(input_shape, num_classes):
    return keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(num_classes, activation="softmax")])
