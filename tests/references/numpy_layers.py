"""Layers in NumPy, in double precision. They use the weights of a Keras layer where they need weights."""

from __future__ import annotations

import itertools

import numpy as np


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def f64(layer) -> list[np.ndarray]:
    return [np.asarray(w, np.float64) for w in layer.get_weights()]


def dense(x: np.ndarray, layer) -> np.ndarray:
    kernel, bias = f64(layer)
    return x @ kernel + bias


def norm(x: np.ndarray, layer) -> np.ndarray:
    gamma, beta = f64(layer)
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * gamma + beta


def numpy_positions(steps: int, dim: int) -> np.ndarray:
    table = np.zeros((steps, dim))
    for p, c in itertools.product(range(steps), range(dim)):
        angle = p / 10_000 ** (c // 2 * 2 / dim)
        table[p, c] = np.cos(angle) if c % 2 else np.sin(angle)
    return table


def numpy_attention(layer, x, memory, readable) -> np.ndarray:
    """Computes attention for one head of one row at a time; `readable` is (batch, queries, keys)."""
    parts = f64(layer)
    if layer.kernels == "joined":
        kernel, bias, out, out_bias = parts
        kernels, biases = np.split(kernel, 3, axis=1), np.split(bias, 3)
    else:
        kernels, biases, (out, out_bias) = parts[:6:2], parts[1:6:2], parts[6:]
    size, result = out.size // out.shape[-1] // layer.num_heads, np.tile(out_bias, (*x.shape[:2], 1))
    for b, h in itertools.product(range(len(x)), range(layer.num_heads)):
        here = slice(h * size, (h + 1) * size)
        q, k, v = (
            source[b] @ w.reshape(source.shape[-1], -1)[:, here] + bias.reshape(-1)[here]
            for source, w, bias in zip((x, memory, memory), kernels, biases, strict=True)
        )
        scores = np.where(readable[b], q @ k.T / np.sqrt(size), -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        result[b] += weights / weights.sum(-1, keepdims=True) @ v @ out.reshape(-1, out.shape[-1])[here]
    return result


def numpy_encoder_block(x: np.ndarray, mask: np.ndarray, block) -> np.ndarray:
    """Computes a post-norm Transformer block; `mask` (batch, steps) is True at real steps."""
    readable = np.broadcast_to(mask[:, None], (*mask.shape, mask.shape[1]))
    x = norm(x + numpy_attention(block.attention, x, x, readable), block.attention_norm)
    return norm(x + dense(np.maximum(dense(x, block.inner), 0), block.outer), block.feed_forward_norm)


def numpy_gru(x: np.ndarray, kernel, recurrent, biases, start=None) -> np.ndarray:
    """Processes one series. Gates: update, reset, candidate; the reset gate applies after the recurrent product."""
    h = np.zeros(recurrent.shape[0]) if start is None else start
    states = []
    for step in x:
        xz, xr, xh = np.split(step @ kernel + biases[0], 3)
        hz, hr, hh = np.split(h @ recurrent + biases[1], 3)
        z, r = sigmoid(xz + hz), sigmoid(xr + hr)
        h = z * h + (1 - z) * np.tanh(xh + r * hh)
        states.append(h)
    return np.array(states)
