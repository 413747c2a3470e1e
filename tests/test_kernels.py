"""Contexts that decide which kernels compute a model."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo import kernels
from zoo.training.loop import step


def test_cudnn_is_off_inside_and_restored_after_an_error():
    inputs = keras.Input((5, 3))
    inner = keras.layers.Bidirectional(keras.layers.GRU(2, use_cudnn=True))
    model = keras.Model(inputs, keras.layers.Dense(2)(inner(keras.layers.LSTM(4, return_sequences=True)(inputs))))
    layers = [model.layers[1], inner.forward_layer, inner.backward_layer]
    before = [layer.use_cudnn for layer in layers]
    with pytest.raises(ZeroDivisionError), kernels.without_cudnn(model):
        assert [layer.use_cudnn for layer in layers] == [False] * 3
        raise ZeroDivisionError
    assert [layer.use_cudnn for layer in layers] == before == ["auto", True, True]


def test_a_step_for_xla_is_traced_without_cudnn():
    model = keras.Sequential([keras.Input((5, 3)), keras.layers.LSTM(4)])
    seen = []

    def record(x):
        seen.append(model.layers[0].use_cudnn)
        return x + 1

    assert step._unconverted(model, record, True)(tf.constant(1.0)).numpy() == 2
    assert step._unconverted(model, record, False)(tf.constant(1.0)).numpy() == 2
    assert seen == [False, "auto"]


def test_outputs_on_the_cpu_are_in_full_precision():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with kernels.on_cpu(model):
        assert not tf.config.experimental.tensor_float_32_execution_enabled()
        output = model(np.ones((1, 3), np.float32))
    assert "CPU:0" in output.device
    assert tf.config.experimental.tensor_float_32_execution_enabled()


def test_many_evaluations_in_a_process_give_no_warning(caplog):
    prepared = zoo.datasets.load("tastes").prepare("matrix_factorization")
    for seed in range(6):
        zoo.evaluate(prepared.build(seed=seed), prepared, baselines="none")
    assert "retracing" not in caplog.text
