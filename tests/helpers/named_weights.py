"""The weights of a model, listed under the names of its parts."""

from __future__ import annotations

import keras

from zoo.training.adaptations.parts import named_parts


def arrays(model):
    return {path: v.numpy() for path, v in zip(named_parts_of_weights(model), model.weights, strict=True)}


def named_parts_of_weights(model):
    names = {id(part): name for name, part in named_parts(model).items() if isinstance(part, keras.Variable)}
    return [names[id(v)] for v in model.weights]
