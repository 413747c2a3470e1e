"""Multi-head attention and the Transformer block, for encoders, decoders, and decoders without a source.

A block computes a whole sequence at once, or a few more steps with the keys and values of earlier steps in a cache. Both
give the same numbers. Padded steps never affect the output at a real step.
"""

from __future__ import annotations

import functools
from typing import Any, Literal

import keras
from keras import layers, ops

from zoo.errors import UsageError, did_you_mean
from zoo.layers import blocks, dot_product
from zoo.layers.activations import ACTIVATIONS

Kernels = Literal["joined", "separate", "per_head"]
KERNELS = ("joined", "separate", "per_head")


def _fresh(initializer: Any) -> Any:
    """A separate initializer for one kernel. A shared one would give the same values to all kernels of a shape."""
    made = keras.initializers.get(initializer)
    return type(made).from_config(made.get_config()) if made is initializer else made


def _dense(owner: Any, name: str, inputs: int, units: int) -> layers.Dense:
    """A built dense layer with its owner's settings for biases, initial kernels and precision."""
    start, dtype = _fresh(owner.kernel_initializer), owner.dtype_policy
    layer = layers.Dense(units, use_bias=owner.use_bias, kernel_initializer=start, dtype=dtype, name=name)
    layer.build((None, inputs))
    return layer


@keras.saving.register_keras_serializable("zoo")
class Attention(layers.Layer):
    """Multi-head attention of (batch, steps, channels): self-attention, or attention to another sequence.

    Source: Vaswani et al., Attention is all you need, 2017, section 3.2.

    Args:
        num_heads: attention heads.
        head_dim: channels of a head; None for the inputs' channels divided by `num_heads`.
        causal: whether a step of self-attention reads only itself and earlier steps.
        dropout: dropout rate of the attention weights.
        use_bias: whether the projections have biases.
        kernels: how the projections' weights are stored. `separate`: four matrices with two axes. `joined`: one matrix for
            queries, keys and values, only for self-attention. `per_head`: four matrices with an axis for the heads, as in
            `keras.layers.MultiHeadAttention`; they are still used in one product.
        kernel_initializer: a Keras initializer, its name or configuration; every kernel gets a separate initializer.

    Example:
        >>> layer, memory = Attention(num_heads=4), keras.ops.zeros((2, 7, 16))
        >>> layer(memory).shape
        TensorShape([2, 7, 16])
        >>> layer(keras.ops.zeros((2, 5, 16)), layer.keys_values(memory)).shape
        TensorShape([2, 5, 16])
    """

    def __init__(
        self,
        num_heads: int,
        head_dim: int | None = None,
        causal: bool = False,
        dropout: float = 0.0,
        use_bias: bool = True,
        kernels: Kernels = "separate",
        kernel_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        blocks.check_positive(num_heads=num_heads)
        blocks.check_fraction(dropout=dropout)
        if head_dim is not None:
            blocks.check_positive(head_dim=head_dim)
        if kernels not in KERNELS:
            raise UsageError(f"kernels is {kernels!r}. {did_you_mean(str(kernels), KERNELS)}")
        self.num_heads, self.head_dim, self.causal, self.dropout = num_heads, head_dim, causal, dropout
        self.use_bias, self.kernels, self.kernel_initializer = use_bias, kernels, kernel_initializer
        self.supports_masking = True

    def build(self, inputs_shape: tuple[int | None, ...], memory_shape: tuple[int | None, ...] | None = None) -> None:
        """Creates the projections. With `memory_shape`, keys and values are projected from the memory's channels."""
        self.make(int(inputs_shape[-1] or 0), int((memory_shape or inputs_shape)[-1] or 0))
        self.weights_dropout = layers.Dropout(self.dropout, dtype=self.dtype_policy, name="weights_dropout")

    def make(self, dim: int, memory_dim: int) -> dict[str, layers.Layer]:
        """Creates the built projections as attributes, and returns them by the attributes' names."""
        if self.head_dim is None:
            blocks.check_divides(self.num_heads, channels=dim)
        self._size = self.head_dim or dim // self.num_heads
        heads, units = (self.num_heads, self._size), self.num_heads * self._size
        sides = {"query": dim, "key": memory_dim, "value": memory_dim}
        made: dict[str, layers.Layer]
        if self.kernels == "joined":
            made = {"query_key_value": _dense(self, "query_key_value", dim, 3 * units)}
            made["attention_output"] = _dense(self, "attention_output", units, dim)
        elif self.kernels == "separate":
            made = {f"{name}_dense": _dense(self, name, side, units) for name, side in sides.items()}
            made["output_dense"] = _dense(self, "output", units, dim)
        else:
            made = {f"{n}_dense": self._einsum(n, "abc,cde->abde", (side,), heads) for n, side in sides.items()}
            made["output_dense"] = self._einsum("attention_output", "abcd,cde->abe", heads, (dim,))
        for name, layer in made.items():
            setattr(self, name, layer)
        self._output = made["attention_output" if self.kernels == "joined" else "output_dense"]
        return made

    def _einsum(self, name: str, equation: str, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> layers.Layer:
        axes = equation.rpartition(">")[2][2:] if self.use_bias else None
        options = {"kernel_initializer": _fresh(self.kernel_initializer), "dtype": self.dtype_policy, "name": name}
        layer = layers.EinsumDense(equation, (None, *outputs), bias_axes=axes, **options)
        layer.build((None, None, *inputs))
        layer.supports_masking = True
        return layer

    def keys_values(self, memory: Any) -> tuple[Any, Any]:
        """Returns keys and values of (batch, steps, channels), each (batch, heads, steps, head_dim).

        Raises:
            UsageError: kernels are `joined`, because one product cannot read two sequences.
        """
        if self.kernels == "joined":
            raise UsageError(
                "kernels='joined' supports only self-attention, but has a memory. Pass kernels='separate'."
            )
        return self._heads(self.key_dense, memory), self._heads(self.value_dense, memory)

    def empty_cache(self, batch: Any) -> tuple[Any, Any]:
        """Returns the cache before the first step: keys and values of no step, (batch, heads, 0, head_dim)."""
        nothing = ops.zeros((batch, self.num_heads, 0, self._size), self.compute_dtype)
        return nothing, nothing

    def call(
        self,
        inputs: Any,
        keys_values: tuple[Any, Any] | None = None,
        key_mask: Any = None,
        cache: tuple[Any, Any] | None = None,
        training: bool | None = None,
    ) -> Any:
        """Returns (batch, steps, channels); with a cache also the cache extended by these steps.

        Args:
            inputs: (batch, steps, channels).
            keys_values: keys and values to read, from `keys_values`; None for self-attention.
            key_mask: (batch, key steps), false or 0 on padding; with a cache, it includes the cached steps.
            cache: keys and values of earlier steps, each (batch, heads, earlier steps, head_dim).
            training: whether to apply dropout, and whether gradients are needed.
        """
        batch, steps, dim = ops.shape(inputs)
        if keys_values is None:
            queries, keys, values = self._self_heads(inputs)
            # Rotary positions would go here: they rotate queries and keys by position, starting at the cache's length.
        else:
            queries, (keys, values) = self._heads(self.query_dense, inputs), keys_values
        if cache is not None:
            keys, values = (ops.concatenate(both, axis=2) for both in zip(cache, (keys, values), strict=True))
            cache = (keys, values)
        # For grouped-query attention, keys would be repeated here, after the cache, which stores each once. `make` and the
        # functions that split heads would need a separate number of heads for keys and values.
        kept = None
        if training and self.dropout:
            ones = ops.ones((batch, self.num_heads, steps, ops.shape(keys)[2]), dtype=queries.dtype)
            kept = self.weights_dropout(ones, training=True)
        causal = self.causal and keys_values is None and inputs.shape[1] != 1
        reachable = _reachable(steps, ops.shape(keys)[2], key_mask, causal)
        read = dot_product.attend(queries, keys, values, reachable, training, kept)
        rows = ops.reshape(ops.transpose(read, (0, 2, 1, 3)), (-1, self.num_heads * self._size))
        outputs = ops.reshape(self._rows_out(rows, dim), (batch, steps, dim))
        return outputs if cache is None else (outputs, cache)

    def _heads(self, dense: layers.Layer, x: Any) -> Any:
        """Returns one projection, (batch, heads, steps, head_dim)."""
        batch, steps, _ = ops.shape(x)
        return ops.transpose(ops.reshape(dense(x), (batch, steps, self.num_heads, self._size)), (0, 2, 1, 3))

    def _self_heads(self, x: Any) -> Any:
        """Returns queries, keys and values of the inputs, by one product unless the kernels are separate matrices."""
        batch, steps, dim = ops.shape(x)
        # As rows, because only then TensorFlow fuses the bias into the product.
        rows = ops.reshape(x, (-1, dim))
        if self.kernels == "joined":
            made = self.query_key_value(rows)
        else:
            parts = (self.query_dense, self.key_dense, self.value_dense)
            if self.kernels == "separate":
                return [self._heads(part, x) for part in parts]
            made = ops.matmul(rows, ops.concatenate([ops.reshape(p.kernel, (dim, -1)) for p in parts], axis=1))
            if self.use_bias:
                made = made + ops.concatenate([ops.reshape(part.bias, (-1,)) for part in parts], axis=0)
        split = ops.reshape(made, (batch, steps, 3, self.num_heads, self._size))
        return ops.unstack(ops.transpose(split, (2, 0, 3, 1, 4)))

    def _rows_out(self, rows: Any, dim: int) -> Any:
        if self.kernels != "per_head":
            return self._output(rows)
        made = ops.matmul(rows, ops.reshape(self._output.kernel, (-1, dim)))
        return made + self._output.bias if self.use_bias else made

    def compute_output_spec(self, inputs: Any, *_: Any, **__: Any) -> keras.KerasTensor:
        """Shape and dtype of what `call` returns."""
        return keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        names = ("num_heads", "head_dim", "causal", "dropout", "use_bias", "kernels", "kernel_initializer")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _reachable(steps: Any, keys: Any, key_mask: Any, causal: bool) -> Any:
    """The keys that each of the last `steps` steps may read: (batch or 1, 1, steps or 1, keys), or None for all keys."""
    reachable = None
    if key_mask is not None:
        real = key_mask if key_mask.dtype == "bool" else ops.not_equal(key_mask, 0)
        reachable = ops.expand_dims(real, (1, 2))
    if causal:
        places = ops.arange(keys)
        past = ops.expand_dims(places, 0) <= ops.expand_dims(places[keys - steps :], 1)
        past = ops.expand_dims(past, (0, 1))
        reachable = past if reachable is None else ops.logical_and(past, reachable)
    return reachable


@keras.saving.register_keras_serializable("zoo")
class TransformerBlock(layers.Layer):
    """Attention and a feed-forward net, each with dropout, a residual connection and layer normalisation.

    With `cross_attention`, attention to another sequence is between them. Sources: Vaswani et al., Attention is all you
    need, 2017, section 3.1; for `pre_norm` Xiong et al., On layer normalization in the Transformer architecture, 2020.

    Args:
        num_heads: attention heads.
        feed_forward_dim: units of the inner dense layer.
        dropout: dropout rate of the output of each part, before the residual sum.
        attention_dropout: dropout rate of the attention weights.
        activation: activation of the inner layer: gelu (exact), gelu_tanh, relu, silu or tanh.
        epsilon: epsilon of the layer normalisations.
        pre_norm: whether the inputs of a part are normalised, instead of the residual sum after it.
        causal: whether a step reads only itself and earlier steps.
        cross_attention: whether the block also reads another sequence, the memory.
        use_bias: whether the dense layers have biases.
        head_dim: as in `Attention`.
        kernels: as in `Attention`. With `joined`, the matrices are layers of the block itself, except with cross-attention,
            whose matrices are separate.
        kernel_initializer: as in `Attention`.

    Example:
        >>> TransformerBlock(num_heads=8, feed_forward_dim=512)(keras.ops.zeros((2, 10, 64))).shape
        TensorShape([2, 10, 64])
        >>> block = TransformerBlock(8, 512, causal=True, pre_norm=True, activation="gelu_tanh", kernels="joined")
        >>> x, cache = block(keras.ops.zeros((2, 10, 64))), block.empty_cache(2)
        >>> step, cache = block(keras.ops.zeros((2, 1, 64)), cache=cache)
    """

    def __init__(
        self,
        num_heads: int,
        feed_forward_dim: int,
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
        activation: str = "relu",
        epsilon: float = 1e-5,
        pre_norm: bool = False,
        causal: bool = False,
        cross_attention: bool = False,
        use_bias: bool = True,
        head_dim: int | None = None,
        kernels: Kernels = "separate",
        kernel_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        blocks.check_positive(num_heads=num_heads, feed_forward_dim=feed_forward_dim)
        blocks.check_fraction(dropout=dropout, attention_dropout=attention_dropout)
        if activation not in ACTIVATIONS:
            raise UsageError(f"activation is {activation!r}. {did_you_mean(str(activation), ACTIVATIONS)}")
        self.num_heads, self.feed_forward_dim, self.head_dim = num_heads, feed_forward_dim, head_dim
        self.dropout, self.attention_dropout, self.activation = dropout, attention_dropout, activation
        self.epsilon, self.pre_norm, self.causal, self.cross_attention = epsilon, pre_norm, causal, cross_attention
        self.use_bias, self.kernels, self.kernel_initializer = use_bias, kernels, kernel_initializer
        self.supports_masking = True

    def build(self, inputs_shape: tuple[int | None, ...], memory_shape: tuple[int | None, ...] | None = None) -> None:
        """Creates the layers for the channels of inputs and memory."""
        dim = int(inputs_shape[-1] or 0)
        own = self.kernels == "joined" and not self.cross_attention
        attention = self._attention("self_attention" if self.cross_attention else "attention", self.kernels)
        parts: dict[str, layers.Layer] = attention.make(dim, dim) if own else {attention.name: attention}
        if self.cross_attention:
            kernels: Kernels = "separate" if self.kernels == "joined" else self.kernels
            parts["source_attention"] = self._attention("source_attention", kernels)
        feed = {"inner": _dense(self, "inner", dim, self.feed_forward_dim)}
        feed["outer"] = _dense(self, "outer", self.feed_forward_dim, dim)
        names = ("norm_1", "norm_2", "norm_3") if self.cross_attention else ("attention_norm", "feed_forward_norm")
        norms = {n: layers.LayerNormalization(epsilon=self.epsilon, dtype=self.dtype_policy, name=n) for n in names}
        if not self.cross_attention:
            parts[names[0]] = norms[names[0]]
        # The layers are set in this order, which is the order of weights in checkpoints.
        for name, layer in {**parts, **feed, **norms}.items():
            setattr(self, name, layer)
            if not layer.built:
                layer.build(inputs_shape, *([memory_shape] if name == "source_attention" else ()))
        dropout = functools.partial(layers.Dropout, dtype=self.dtype_policy)
        if own:
            self.weights_dropout = attention.weights_dropout = dropout(self.attention_dropout, name="weights_dropout")
        self._norms = list(norms.values())
        self._dropouts = [dropout(self.dropout, name=f"dropout_{i}") for i in range(1, len(names) + 1)]
        # Only the methods are stored, so that Keras does not track the layers of `own` twice. The layer itself is not
        # called, so that its computation is part of this layer's call, in this layer's precision.
        self._attend, self._empty_cache = attention.call, attention.empty_cache

    def _attention(self, name: str, kernels: Kernels) -> Attention:
        return Attention(
            self.num_heads,
            self.head_dim,
            causal=self.causal and name != "source_attention",
            dropout=self.attention_dropout,
            use_bias=self.use_bias,
            kernels=kernels,
            kernel_initializer=self.kernel_initializer,
            dtype=self.dtype_policy,
            name=name,
        )

    def call(
        self,
        inputs: Any,
        memory: Any = None,
        mask: Any = None,
        inputs_mask: Any = None,
        memory_mask: Any = None,
        source: tuple[Any, Any] | None = None,
        cache: tuple[Any, Any] | None = None,
        training: bool | None = None,
    ) -> Any:
        """Returns (batch, steps, channels); with a cache also the cache that these steps were added to.

        Args:
            inputs: (batch, steps, channels).
            memory: the sequence for cross-attention: (batch, memory steps, channels).
            mask: the same as `inputs_mask`. Keras passes it by this name if there is no memory.
            inputs_mask: (batch, steps), false or 0 on padding; with a cache, it includes the cached steps.
            memory_mask: like `inputs_mask`, for the memory.
            source: the result of `source` instead of the memory, so that decoding computes it only once.
            cache: keys and values of earlier steps; `empty_cache` returns the initial cache.
            training: whether to apply dropout.
        """
        if self.cross_attention == (memory is None and source is None):
            has, received = ("has", "no") if self.cross_attention else ("has no", "a")
            raise UsageError(
                f"This block {has} cross_attention; received {received} memory. Pass a memory only to blocks with it."
            )
        mask, seen = inputs_mask if mask is None else mask, []

        def attend(x: Any) -> Any:
            read = self._attend(x, key_mask=mask, cache=cache, training=training)
            if cache is None:
                return read
            seen.append(read[1])
            return read[0]

        def read(x: Any) -> Any:
            keys_values = self.source(memory) if source is None else source
            return self.source_attention.call(x, keys_values, memory_mask, training=training)

        x, parts = inputs, [attend, *([read] if self.cross_attention else ()), self._feed]
        for part, norm, dropout in zip(parts, self._norms, self._dropouts, strict=True):
            if self.pre_norm:
                x = x + dropout(part(norm(x)), training=training)
            else:
                x = norm(x + dropout(part(x), training=training))
        return x if cache is None else (x, seen[0])

    def _feed(self, x: Any) -> Any:
        # As rows, because only then TensorFlow fuses the bias and the activation into the product.
        rows = ops.reshape(x, (-1, x.shape[-1]))
        return ops.reshape(self.outer(ACTIVATIONS[self.activation](self.inner(rows))), ops.shape(x))

    def source(self, memory: Any) -> tuple[Any, Any]:
        """Returns keys and values of the memory, each (batch, heads, memory steps, head_dim), for use at all steps."""
        return self.source_attention.keys_values(memory)

    def empty_cache(self, batch: Any) -> tuple[Any, Any]:
        """Returns the cache before the first step, for a batch size."""
        return self._empty_cache(batch)

    def compute_output_spec(self, inputs: Any, *_: Any, **__: Any) -> keras.KerasTensor:
        """Shape and dtype of what `call` returns."""
        return keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        sizes = ("num_heads", "feed_forward_dim", "dropout", "attention_dropout", "activation", "epsilon", "pre_norm")
        forms = ("causal", "cross_attention", "use_bias", "head_dim", "kernels", "kernel_initializer")
        return {**super().get_config(), **{name: getattr(self, name) for name in (*sizes, *forms)}}
