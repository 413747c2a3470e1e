"""Texts for language models: windows of joined texts for training, prompts for serving, and tokens back to texts."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import tensorflow as tf

from zoo import stop_strings
from zoo.datasets.preprocessing.base import Choices, object_array, register_preprocessor
from zoo.datasets.preprocessing.byte_pair_learning import fit_byte_pairs
from zoo.datasets.preprocessing.byte_pairs import BytePairs
from zoo.datasets.preprocessing.generation_requests import DEFAULTS, checked, checked_stops, generation_requests
from zoo.datasets.preprocessing.text import random_texts, text_request
from zoo.datasets.raw import Access, Split
from zoo.errors import UsageError
from zoo.hashes import scrambled
from zoo.tasks import Request

if TYPE_CHECKING:
    from zoo.datasets.preprocessing.base import Batch, Tensors
    from zoo.datasets.raw import RawData

_BATCH = 256
_NONE = -1
"""The number of no token, after the last one of a split."""
_ENOUGH_FOR_WORDS = 4 << 20
"""Bytes of training texts from which on tokens are learned from words. A smaller text repeats too few of them."""
_FEWEST = 257
_MOST_NEW = 128


@register_preprocessor
@dataclasses.dataclass(frozen=True)
class PromptPreprocessor:
    """Texts to byte-level tokens, int32 (batch, tokens), and tokens to texts. No text is unknown.

    For training, the texts of a split are joined, with a token after each that ends it, and cut into windows of `max_length`
    tokens. The target of a token is the next one. Training windows begin at another place in every epoch.

    Attributes:
        merges: as in `BytePairs`.
        rule: likewise.
        max_length: the tokens that the model reads at once, of the prompt and the text that it generates.

    Example:
        >>> p = PromptPreprocessor((), "characters", 8)
        >>> inputs, extras = p.serve({"text": tf.constant(["hi"])})
        >>> inputs["token_ids"].numpy().tolist(), extras["lengths"].numpy().tolist()
        ([[71, 72]], [2])
    """

    kind: ClassVar[str] = "prompt"
    padding: ClassVar[float] = 0
    merges: tuple[tuple[int, int], ...]
    rule: str
    max_length: int
    choices: Choices = dataclasses.field(default=Choices(), compare=False, repr=False)
    _served: BytePairs | None = dataclasses.field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "merges", tuple(tuple(pair) for pair in self.merges))  # lists if read from a file

    @classmethod
    def for_model(
        cls, data: RawData, needs: Mapping[str, Any], arguments: Mapping[str, Any]
    ) -> tuple[PromptPreprocessor, dict[str, Any]]:
        """Takes the tokens of published weights or of an earlier run, or learns them from the training split.

        Raises:
            UsageError: a size is too small or not a whole number, or the option `tokenizer` is `words`.
        """
        checkpoint: Any = needs.get("checkpoint")
        length = arguments.get("max_length", needs["max_length"])
        if checkpoint and "max_length" in needs.get("open", ()):
            length = checkpoint.arguments()["max_length"]
        size = arguments.get("vocab_size", needs["vocab_size"])
        for name, value, least in (("max_length", length, 4), ("vocab_size", size, _FEWEST)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UsageError(
                    f"{name} is {value!r}; expected a whole number of at least {least}. Pass {name}={needs[name]}."
                )
        known: Any = getattr(needs.get("earlier"), "preprocessor", None)
        if known or checkpoint:
            given = {"merges": known.merges, "rule": known.rule} if known else checkpoint.preprocessing()
            made, choices = cls(**given, max_length=length), Choices({"max_length": length})
        else:
            name, reason = _tokenizer(data)
            tokens = fit_byte_pairs(data, name, size)
            note = f"Tokens: {tokens.size:,} of {name}, {reason}."
            choices = Choices(options={"tokenizer": name}, notes=(note,))
            made = cls(tokens.merges, tokens.rule, length)
        fixed = {"vocab_size": made.tokens.size, "max_length": length}
        return dataclasses.replace(made, choices=choices), fixed

    @classmethod
    def without_data(
        cls, needs: Mapping[str, Any], arguments: Mapping[str, Any]
    ) -> tuple[PromptPreprocessor, dict[str, Any]]:
        """The tokens are those of the checkpoint."""
        return cls(**needs["checkpoint"].preprocessing(), max_length=arguments["max_length"]), {}

    @property
    def tokens(self) -> BytePairs:
        """The tokens."""
        return self._served or self._own

    @functools.cached_property
    def _own(self) -> BytePairs:
        return BytePairs(self.merges, self.rule)

    @property
    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """{"token_ids": (max_length,)}."""
        return {"token_ids": (self.max_length,)}

    @property
    def most_new(self) -> int:
        """The number of tokens that `serving_default` generates at most."""
        return min(_MOST_NEW, self.max_length // 2)

    @property
    def requests(self) -> dict[str, Request]:
        """`text`: string (batch,), UTF-8, and for the signature `sample` how the text is generated, each (batch,)."""
        most = self.max_length - 1
        return {"text": text_request("text"), **generation_requests(most, self.most_new)}

    @property
    def described_inputs(self) -> dict[str, str]:
        """How tokens are numbered."""
        return {"token_ids": f"line numbers of `assets/tokens.txt`, from 0; {self.tokens.end} ends a text"}

    @property
    def limits(self) -> tuple[str, ...]:
        """How much of a prompt is used."""
        return (
            f"Prompt and generated text have at most {self.max_length:,} tokens. Of a longer prompt, the last ones are used "
            "that leave room for `max_new_tokens`. The rest is silently ignored. An empty prompt begins a new text.",
            f"`serving_default` generates at most {self.most_new} tokens, with "
            + ", ".join(f"{name} {value:g}" for name, value in DEFAULTS.items())
            + ". `sample` takes other values, and stop strings.",
            f"`score` reads the first {self.max_length - 1:,} tokens of a text.",
            "No text is rejected. Bytes that are not UTF-8 become U+FFFD. The text that is generated may be wrong or offend.",
        )

    def generated(self, generator: np.random.Generator, count: int) -> dict[str, Any]:
        """Returns prompts of random tokens, and ways to generate."""
        pieces = [text for piece in self.tokens.pieces if (text := piece.decode("utf-8", "ignore")).isprintable()]
        texts = random_texts([piece for piece in pieces if piece], generator, count, "")
        return {"text": texts, **self._ways(count)}

    # --- Training -----------------------------------------------------------------------------------------------------

    def arrange(self, split: Split) -> Split:
        """Returns the windows of a split of texts: `tokens`, int32 (2 x max_length + 1,), of which the first half is read.
        The second half is there to begin at another place; it belongs to the next window as well."""
        encode = tf.function(self._joined, [tf.TensorSpec([None], tf.string)], autograph=False)
        parts = [encode(batch["text"]).numpy() for batch in split.dataset().batch(_BATCH)]
        stream = np.concatenate([[self.tokens.end], *parts]).astype(np.int32)
        length = self.max_length
        count = -(-(len(stream) - 1) // length)
        padded = np.concatenate([stream, np.full(2 * length + 1, _NONE, np.int32)])
        places = np.arange(count)[:, np.newaxis] * length + np.arange(2 * length + 1)
        with tf.device("CPU"):
            held = tf.constant(padded[places])
        access = Access(lambda number: {"tokens": held[number]})
        return Split(lambda: tf.data.Dataset.from_tensor_slices({"tokens": held}), count, access=access)

    def _joined(self, texts: tf.Tensor) -> tf.Tensor:
        found = self.tokens.encode(texts)
        ends = tf.fill([found.nrows(), 1], self.tokens.end)
        joined: tf.Tensor = tf.concat([found, ends], axis=1).flat_values
        return joined

    def encode(self, examples: Tensors) -> Batch:
        """Turns `tokens` of `arrange` into a batch.

        Returns:
            The input `token_ids`, int32 (batch, max_length). The target `next`, int32 of the same shape: the token after
            each. Its weights, float32, 0 after the last token of the split. The target `following`, int32 (batch,
            max_length), the tokens after the window, -1 for none, which `redraw` needs.
        """
        tokens, length = tf.ensure_shape(examples["tokens"], (None, 2 * self.max_length + 1)), self.max_length
        return self._window(tokens[:, : length + 1], tokens[:, length + 1 :])

    def _window(self, tokens: tf.Tensor, following: tf.Tensor) -> Batch:
        real = tf.maximum(tokens, 0)
        weights = tf.cast(tokens[:, 1:] != _NONE, tf.float32)
        return {"token_ids": real[:, :-1]}, {"next": real[:, 1:], "following": following}, {"next": weights}

    def redraw(self, inputs: Tensors, targets: Tensors, weights: Tensors, key: tf.Tensor) -> Batch:
        """Begins the windows of a batch at other places, which depend only on their tokens and on the key, int64 (2,)."""
        following = tf.where(weights["next"] > 0, targets["next"], _NONE)
        tokens = tf.concat([inputs["token_ids"][:, :1], following, targets["following"]], axis=1)
        count = tf.reduce_sum(tf.cast(tokens != _NONE, tf.int32), axis=1)
        places = tf.clip_by_value(count - self.max_length, 1, self.max_length)
        seed = scrambled(scrambled(tf.cast(key[0], tf.uint32)) + tf.cast(key[1], tf.uint32))
        column = tf.range(tf.shape(tokens)[1], dtype=tf.int32)[tf.newaxis] * tf.constant(31, tf.int32)
        mixed = tf.reduce_sum(scrambled(tf.cast(tokens + column, tf.uint32)), axis=1)
        start = tf.cast(tf.cast(scrambled(mixed + seed), tf.int64) % tf.cast(places, tf.int64), tf.int32)
        chosen = start[:, tf.newaxis] + tf.range(self.max_length + 1)[tf.newaxis]
        return self._window(tf.gather(tokens, chosen, batch_dims=1), targets["following"])

    def trim(self, inputs: Tensors, targets: Tensors, weights: Tensors) -> Batch:
        """Returns the batch: windows have no padding but in the last one."""
        return inputs, targets, weights

    # --- Serving ------------------------------------------------------------------------------------------------------

    def serve(self, requests: Tensors) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Turns prompts into tokens.

        Returns:
            The input `token_ids`, int32 (batch, tokens), with 0 after the last token of a prompt. Of a long prompt they are
            the last ones. The extras `lengths`, int32 (batch,), and the ways to generate, each (batch,), with `stop`, string
            (batch, stops), and `pieces`, the bytes of every token, if there are stop strings; `scored_ids` and
            `scored_lengths` of the first tokens of the text after the end of another text.
        """
        found = self.tokens.encode(requests["text"])
        rows = found.nrows()
        ways = {
            name: tf.repeat(tf.constant([request.default], request.dtype), rows, axis=0)
            if requests.get(name) is None
            else requests[name]
            for name, request in self.requests.items()
            if request.default is not None
        }
        stops = checked_stops(ways.pop("stop"))
        ways = checked(ways, self.max_length - 1)
        ends = tf.fill([rows, 1], self.tokens.end)
        # A prompt without tokens begins a text.
        is_empty = found.row_lengths() == 0
        prompt = tf.concat([tf.ragged.boolean_mask(ends, is_empty[:, tf.newaxis]), found], axis=1)
        prompt = _last(prompt, self.max_length - ways["max_new_tokens"])
        scored = tf.concat([ends, found], axis=1)[:, : self.max_length]
        extras = {
            "lengths": tf.cast(prompt.row_lengths(), tf.int32),
            "scored_ids": scored.to_tensor(0),
            "scored_lengths": tf.cast(scored.row_lengths(), tf.int32),
            "stop": stops,
            "pieces": self._pieces_for(stops),
            **ways,
        }
        return {"token_ids": prompt.to_tensor(0)}, extras

    def _pieces_for(self, stops: tf.Tensor) -> tf.Tensor:
        """Returns the bytes of every token, string (vocabulary,), or of none if all stop strings are empty."""
        return tf.cond(
            tf.reduce_any(stops != ""),
            lambda: self.tokens.bytes_of(tf.range(self.tokens.size)),
            lambda: tf.zeros([0], tf.string),
        )

    def to_text(self, ids: tf.Tensor, stops: tf.Tensor | None = None) -> tf.Tensor:
        """Returns the texts of token numbers, int32 (batch, tokens): string (batch,). -1 is no token. With stop strings,
        string (batch, stops), a text ends before the first one."""
        if stops is None:
            return self.tokens.decode(ids)
        joined = tf.strings.reduce_join(self.tokens.bytes_of(ids), axis=1)
        return as_text(tf.cond(tf.reduce_any(stops != ""), lambda: stop_strings.before(joined, stops), lambda: joined))

    def next_text(
        self, ids: tf.Tensor, waiting: tf.Tensor, stops: tf.Tensor, ends: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns the next part of texts that are generated token by token; the parts make the text of `to_text`.

        Args:
            ids: the next token of each text, int32 (batch,); -1 is no token.
            waiting: bytes of earlier tokens that were not returned, string (batch,); empty at first.
            stops: string (batch, stops).
            ends: whether no token follows, bool (batch,).

        Returns:
            The next part, string (batch,); it may be empty. The bytes that wait for the next token, string (batch,): a part
            of a character, or of a stop string. Whether a stop string was found, bool (batch,).
        """
        added = self.tokens.bytes_of(ids[:, tf.newaxis])[:, 0]
        certain, waits, stopped = stop_strings.advance(waiting, added, stops)
        certain = tf.where(ends, tf.strings.join([certain, waits]), certain)
        return as_text(certain), tf.where(ends, "", waits), stopped

    def each_text(self, ids: tf.Tensor) -> tf.Tensor:
        """Returns the text of every token of `to_text`, strings of the shape of the numbers."""
        return as_text(self.tokens.bytes_of(ids))

    def to_requests(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Returns the last text in the first quarter of every window, or given texts, as prompts, with ways to generate."""
        texts = [_bytes(e["text"]) if "text" in e else self._last_text(e["tokens"].tolist()) for e in examples]
        whole = [text.decode("utf-8", "ignore").encode() or b"\n" for text in texts]
        return {"text": object_array(whole), **self._ways(len(whole))}

    def _last_text(self, tokens: list[int]) -> bytes:
        texts = [b""]
        for number in tokens[: max(1, self.max_length // 4)]:
            if number == self.tokens.end:
                texts.append(b"")
            elif number != _NONE:
                texts[-1] += self.tokens.pieces[number]
        return next(filter(None, reversed(texts)), b"")

    def _ways(self, count: int) -> dict[str, np.ndarray]:
        """Returns different ways to generate few tokens, each (count,), and stop strings, (count, 1)."""
        number = np.arange(count)
        return {
            "seed": number.astype(np.int64),
            "temperature": np.array([0.8, 1.0, 0.0, 0.5], np.float32)[number % 4],
            "top_k": np.array([50, 0, 0, 5], np.int32)[number % 4],
            "top_p": np.array([1.0, 0.9, 1.0, 0.8], np.float32)[number % 4],
            "repetition_penalty": np.array([1.0, 1.0, 1.0, 1.3], np.float32)[number % 4],
            "num_beams": np.array([4, 2, 1, 5], np.int32)[number % 4],
            "length_penalty": np.array([1.0, 0.0, 1.0, 2.0], np.float32)[number % 4],
            "max_new_tokens": np.full(count, min(16, self.most_new), np.int32),
            "stop": object_array([b"", b"\n", b"e", b""])[number % 4, np.newaxis],
        }

    def for_export(self, directory: Path) -> tuple[PromptPreprocessor, list[Any]]:
        """Returns an equal preprocessor whose tokens are files in `directory`, and the objects to save with it."""
        tokens, tables = self._own.for_export(directory)
        return dataclasses.replace(self, _served=tokens), tables

    def config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"merges": [list(pair) for pair in self.merges], "rule": self.rule, "max_length": self.max_length}


def as_text(joined: tf.Tensor) -> tf.Tensor:
    """Returns bytes as UTF-8; parts of a character that is not complete become U+FFFD."""
    return tf.strings.unicode_transcode(joined, "UTF-8", "UTF-8", errors="replace")


def _bytes(text: Any) -> bytes:
    return text.encode() if isinstance(text, str) else bytes(text)


def _last(tokens: tf.RaggedTensor, most: tf.Tensor) -> tf.RaggedTensor:
    """Returns the last `most` tokens, int32 (batch,), of every row."""
    limits = tokens.row_limits()
    starts = tf.maximum(tokens.row_starts(), limits - tf.cast(most, limits.dtype))
    places = tf.ragged.range(starts, limits)
    return places.with_flat_values(tf.gather(tokens.flat_values, places.flat_values))


def _tokenizer(data: RawData) -> tuple[str, str]:
    """Returns the tokenizer, and the reason."""
    given = data.arguments.get("tokenizer", "auto")
    if given == "words":
        raise UsageError(
            "tokenizer='words' has no effect: a language model writes every text. Pass tokenizer='subwords' or 'characters'."
        )
    if given != "auto":
        return given, "as chosen"
    size = 0
    for batch in data.train.batch(_BATCH):
        size += int(tf.reduce_sum(tf.strings.length(batch["text"])))
        if size >= _ENOUGH_FOR_WORDS:
            return "subwords", f"because there are {_ENOUGH_FOR_WORDS >> 20} MB of training texts or more"
    return "characters", f"because there are less than {_ENOUGH_FOR_WORDS >> 20} MB of training texts"
