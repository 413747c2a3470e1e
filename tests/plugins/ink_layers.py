"""The layer of the plugin `ink_boxes`, in a file of its own."""

import keras


class InkProfile(keras.layers.Layer):
    """How much ink every row and every column holds, through a steep sigmoid with a learned threshold.

    Args:
        sharpness: the sigmoid's steepness at the beginning.
        **options: of `keras.layers.Layer`.
    """

    def __init__(self, sharpness: float = 10.0, **options):
        super().__init__(**options)
        self.sharpness = sharpness

    def build(self, shape):
        self.threshold = self.add_weight(name="threshold", shape=(), initializer=keras.initializers.Constant(0.25))

    def call(self, pixels):
        """From (batch, rows, columns, 1) to (batch, rows + columns)."""
        ink = pixels[..., 0]
        most = keras.ops.concatenate([keras.ops.max(ink, axis=2), keras.ops.max(ink, axis=1)], axis=-1)
        return keras.ops.sigmoid(self.sharpness * (most - self.threshold))

    def compute_output_shape(self, shape):
        return shape[0], shape[1] + shape[2]

    def get_config(self):
        return {**super().get_config(), "sharpness": self.sharpness}
