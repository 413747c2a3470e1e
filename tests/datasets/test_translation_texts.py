"""Translation texts to subword tokens and back."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf

import zoo
from seq2seq_models import END, START
from translation_texts import ENGLISH, FRENCH, batch, data_of, encoded
from zoo.datasets.preprocessing import translation as pieces
from zoo.datasets.preprocessing.translation import TranslationPreprocessor

HOSTILE = [
    "",
    " ",
    "   two  inner   spaces at both ends   ",
    "\U0001f600 thumbs \U0001f44d\U0001f3fd and \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "x" * 80,
    "a b! " * 40,
    "e\u0301 combining, \u0627\u0644\u0639\u0631\u0628\u064a\u0629, \u4e2d\u6587, \ufdfa",
    "[PAD][UNK][START][END] %s {0} \\1 $1 ^ . * \\",
    "'' ’’ l'l'l' --- !!! ... \u00a0\u00a0! \u202f?",
]


def prepared(texts=ENGLISH, translations=FRENCH, vocab_size: int = 400, max_length: int = 60):
    # Each text occurs twice: tokens that occur once stay unknown.
    data = data_of([*texts, *texts], [*translations, *translations])
    needs = {"vocab_size": vocab_size, "max_length": max_length}
    return TranslationPreprocessor.for_model(data, needs, {})


@pytest.mark.parametrize("vocab_size", [70, 120, 400])
def test_texts_survive_a_round_trip(vocab_size):
    preprocessor, fixed = prepared(vocab_size=vocab_size)
    assert fixed["target_vocab_size"] <= vocab_size
    inputs, targets, weights = encoded(preprocessor, batch(ENGLISH, FRENCH))
    assert [t.decode() for t in preprocessor.to_text(targets).numpy()] == FRENCH
    assert inputs["target_ids"].numpy()[:, 0].tolist() == [START] * len(FRENCH)
    used = np.count_nonzero(targets, axis=1)
    assert [row[n - 1] for row, n in zip(targets.numpy(), used, strict=True)] == [END] * len(FRENCH)
    np.testing.assert_array_equal(
        inputs["target_ids"].numpy()[:, 1:] * (targets.numpy()[:, 1:] != 0), _shifted(targets)
    )
    np.testing.assert_array_equal(weights, targets.numpy() != 0)
    assert targets.dtype == inputs["source_ids"].dtype == tf.int32 and weights.dtype == tf.float32


def _shifted(targets: tf.Tensor) -> np.ndarray:
    ids = targets.numpy()
    return np.where(ids[:, 1:] != 0, ids[:, :-1], 0)


def test_hostile_texts_are_encoded_and_decoded():
    preprocessor, _ = prepared([*ENGLISH, *HOSTILE], [*FRENCH, *HOSTILE], 500, 300)
    _, targets, _ = encoded(preprocessor, batch(HOSTILE, HOSTILE))
    assert [t.decode() for t in preprocessor.to_text(targets).numpy()] == HOSTILE
    strange, _ = prepared()
    mixed = [
        *HOSTILE,
        "x" * 10_000,
        "a b! " * 2_000,
        b"\xff\xfe broken \xc3",
        "nul\x00 tab\t line\n end",
        "\u2581 itself",
        "\U0001f600",
    ]
    encode = tf.function(strange.encode)  # many steps are slow outside a graph
    inputs, targets = encode(batch(mixed, mixed))[:2]
    targets = targets["translation"]
    assert inputs["source_ids"].shape[1] <= 60 and targets.shape[1] <= 60
    assert (inputs["source_ids"].numpy()[:, 0] != 0).all(), "no source is empty"
    back = [t.decode() for t in strange.to_text(targets).numpy()]
    assert back[0] == "" and back[1] == " " and back[-1] == "\ufffd"
    assert "\x00" not in back[-3] and "\n" not in back[-3]


def test_an_empty_vocabulary_decodes_to_replacement_characters():
    preprocessor, fixed = prepared([""], [""])
    assert preprocessor.target_vocabulary == (pieces.MARK,) and fixed["target_vocab_size"] == 5
    _, targets, _ = encoded(preprocessor, batch(["new"], ["new words"]))
    assert preprocessor.to_text(targets).numpy()[0].decode() == "\ufffd\ufffd\ufffd \ufffd\ufffd\ufffd\ufffd\ufffd"


def test_texts_are_split_into_words_marks_and_digits():
    for text in [*FRENCH, *ENGLISH, *HOSTILE]:
        found = [c.decode() for c in pieces.chunks(tf.constant([text]))[0].numpy()]
        assert "".join(found) == pieces.MARK + text.replace(" ", pieces.MARK)
    (found,) = pieces.chunks(tf.constant(["L'été\u202f! Non : 19 l’a\u00a0?"])).to_list()
    mark = pieces.MARK
    assert [c.decode() for c in found] == [
        *(f"{mark}L'", "été", "\u202f!", f"{mark}Non", f"{mark}:", f"{mark}1", "9", f"{mark}l’", "a", "\u00a0?"),
    ]


def longest_first(chunk: str, known: list[str]) -> list[str]:
    found = []
    while chunk:
        piece = next((chunk[:n] for n in range(len(chunk), 0, -1) if chunk[:n] in known), None)
        found.append(piece or "?")
        chunk = chunk[len(piece or "?") :]
    return found


def test_tokens_are_matched_longest_first():
    known = ["a", "b", "ab", "abc", "ca", "bcab", "é"]
    keys = tf.lookup.KeyValueTensorInitializer(tf.constant(known), tf.range(4, 11, dtype=tf.int64))
    table = tf.lookup.StaticHashTable(keys, 1)
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abcéx"), rng.integers(1, 12))) for _ in range(200)] + known
    found = pieces.longest_pieces(tf.constant(texts), table).to_list()
    for text, numbers in zip(texts, found, strict=True):
        assert ["?" if n == 1 else known[n - 4] for n in numbers] == longest_first(text, known), text


def slow_pairs(words: dict[str, int], size: int) -> set[str]:
    """Joins pairs as in the paper's listing: counts all pairs again after every join."""
    spelled = {word: list(word) for word in words}
    known = {c for word in words for c in word}
    while len(known) < size:
        counts: dict[tuple[str, str], int] = {}
        for word, spelling in spelled.items():
            for pair in itertools.pairwise(spelling):
                counts[pair] = counts.get(pair, 0) + words[word]
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        if best is None or counts[best] < 2:
            break
        known.add("".join(best))
        for spelling in spelled.values():
            i = 0
            while i < len(spelling) - 1:
                if (spelling[i], spelling[i + 1]) == best:
                    spelling[i : i + 2] = ["".join(best)]
                i += 1
    return known


@pytest.mark.parametrize("size", [8, 20, 60, 500])
def test_learned_tokens_equal_the_reference_algorithm(size):
    rng = np.random.default_rng(size)
    words = {
        pieces.MARK + "".join(rng.choice(list("abcd"), rng.integers(1, 9))): int(n) for n in rng.integers(2, 50, 80)
    }
    assert set(pieces.learn_pieces(words, size)) == slow_pairs(words, size)


def test_long_texts_are_truncated_without_an_end_id():
    preprocessor, _ = prepared(max_length=5)
    inputs, targets, weights = encoded(preprocessor, batch(["Go. " * 9, "Go."], ["Va ! " * 9, "Va !"]))
    assert inputs["source_ids"].shape == inputs["target_ids"].shape == targets.shape == weights.shape == (2, 5)
    assert END not in targets.numpy()[0] and END in targets.numpy()[1]
    np.testing.assert_array_equal(inputs["target_ids"][0, 1:], targets[0, :-1])


def test_padding_columns_are_trimmed():
    preprocessor, _ = prepared()
    examples = batch(["Go.", "I'm 19, and you?"], ["Va !", "Va !"])
    inputs, targets, weights = encoded(preprocessor, examples)
    wide = {name: tf.pad(ids, [[0, 0], [0, 3]]) for name, ids in inputs.items()}
    more = [{"translation": tf.pad(t, [[0, 0], [0, 3]])} for t in (targets, weights)]
    trimmed, cut_targets, cut_weights = preprocessor.trim(wide, *more)
    cut = ((trimmed, inputs), (cut_targets["translation"], targets), (cut_weights["translation"], weights))
    for found, expected in cut:
        tf.nest.map_structure(np.testing.assert_array_equal, found, expected)


def test_preprocessors_from_files_and_config_are_equal(tmp_path):
    preprocessor, _ = prepared()
    served, tables = preprocessor.for_export(tmp_path)
    again = TranslationPreprocessor(**preprocessor.config())
    assert served == preprocessor == again and len(tables) == 2
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["source_vocabulary.txt", "target_vocabulary.txt"]
    requests = {"text": tf.constant([*ENGLISH, *HOSTILE])}
    ids = tf.constant([[4, 5, 6, 1, 0, 0], [7, 9_999, -3, START, END, 8]])
    for other in (served, again):
        np.testing.assert_array_equal(
            other.serve(requests)[0]["source_ids"], preprocessor.serve(requests)[0]["source_ids"]
        )
        np.testing.assert_array_equal(other.to_text(ids), preprocessor.to_text(ids))
    sent = preprocessor.to_requests([{"text": b"Go.\x00"}, {"text": "\xe9"}])["text"]
    assert sent.dtype == object and sent.tolist() == [b"Go.\x00", b"\xc3\xa9"]


def test_a_traced_preprocessor_gives_the_same_outputs():
    preprocessor, _ = prepared()
    texts = batch([*ENGLISH, *HOSTILE], [*ENGLISH, *HOSTILE])
    traced = tf.function(preprocessor.encode, input_signature=[{k: tf.TensorSpec([None], tf.string) for k in texts}])
    tf.nest.map_structure(np.testing.assert_array_equal, traced(texts), preprocessor.encode(texts))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"source_vocab_size": 3},
            "source_vocab_size is 3; expected a whole number of at least 8. Pass source_vocab_size=400",
        ),
        ({"target_vocab_size": "all"}, "target_vocab_size is 'all'; expected"),
        ({"max_length": True}, "max_length is True; expected a whole number of at least 3. Pass max_length=60"),
    ],
)
def test_invalid_sizes_are_rejected(arguments, message):
    with pytest.raises(zoo.UsageError, match=message):
        TranslationPreprocessor.for_model(data_of(["a"], ["b"]), {"vocab_size": 400, "max_length": 60}, arguments)


def test_a_batch_without_text_is_rejected():
    with pytest.raises(zoo.UsageError, match=r"A text batch is string of shape \(\); expected string \(batch,\)"):
        prepared()[0].serve({"text": tf.constant("Go.")})
