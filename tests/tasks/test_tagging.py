"""Tagging from raw sentences to token ids: the tokenizer, lookup by word form, and the dictionary baseline."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo.datasets.preprocessing.tagging import TaggingPreprocessor
from zoo.datasets.preprocessing.treebank_words import tokenize
from zoo.datasets.preprocessing.word_forms import forms
from zoo.evaluation.tagging import MostFrequentTag, summary, word_report
from zoo.export import accuracy
from zoo.scores import right_tags


def tokens_of(text: str | bytes) -> list[str]:
    return [token.decode() for token in tokenize(tf.constant([text]), 1000).to_list()[0]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I can't, won't and don't.", "I ca n't , wo n't and do n't ."),
        ("She’s here; they’ll go, I'm sure we've won.", "She ’s here ; they ’ll go , I 'm sure we 've won ."),
        ("John's dogs' bones", "John 's dogs ' bones"),
        ("cannot gonna dont im thats", "can not gon na do nt i m that s"),
        ("'quoted' and \"quoted\" (twice)", "' quoted ' and \" quoted \" ( twice )"),
        ("It costs $5.50, or 1,200,000 won!", "It costs $ 5.50 , or 1,200,000 won !"),
        ("at 12:30pm on 11/28/2000, the 2nd of the 1990s", "at 12:30 pm on 11/28/2000 , the 2nd of the 1990s"),
        ("Call 713-853-3989 or 345-9945.", "Call 713-853-3989 or 345-9945 ."),
        ("Mail ann.lee+x@mail.example.org, please.", "Mail ann.lee+x@mail.example.org , please ."),
        (
            "See http://example.org/a?b=c&d, (www.example.com/x).",
            "See http://example.org/a?b=c&d , ( www.example.com/x ) .",
        ),
        ("Dr. J. Smith of the U.S. met Mr. O'Brien of AT&T.", "Dr. J. Smith of the U.S. met Mr. O'Brien of AT&T ."),
        ("well-known non-commercial e-mail", "well - known non-commercial e-mail"),
        ("No way... really?!! -- yes :)", "No way ... really ?!! -- yes :)"),
        ("naïve “café” – 東京 5€", "naïve “ café ” – 東京 5 €"),
    ],
)
def test_tokens_equal_those_of_the_treebanks(text, expected):
    assert tokens_of(text) == expected.split()


HOSTILE: list[str | bytes] = [
    "",
    " \t\n\u00a0\u2003\u200b ",
    "\x00",
    "a\x00b",
    "x" * 10_000,
    "'" * 10_000,
    "a.b-c@" * 2_000,
    "don't " * 2_000,
    "😀😀 smile 👩‍👩‍👧 ❤️",
    b"\xff\xfe not \xc3 UTF-8",
    "\\1 \\0 $1 [PAD] [UNK]",
    "\u0130stanbul \u1e9eTRASSE e\u0301",
]


def test_hostile_texts_are_tokenized():
    preprocess = TaggingPreprocessor(("smile", " :"), max_length=50)
    inputs, extras = preprocess.serve({"text": tf.constant(HOSTILE)})
    ids = inputs["token_ids"]
    counts, tokens = extras["lengths"].numpy(), extras["tokens"].numpy()
    assert ids.shape == tokens.shape == (len(HOSTILE), 50)
    assert counts[:3].tolist() == [1, 1, 1] and counts.max() == 50
    for row, (count, words) in enumerate(zip(counts, tokens, strict=True)):
        assert (ids.numpy()[row, :count] >= 1).all() and (ids.numpy()[row, count:] == 0).all()
        assert all(word == b"" for word in words[count:])
        assert all(word.decode() for word in words[: count if row > 2 else 0])
    assert tokens[3, :2].tolist() == [b"a", b"b"] and tokens[4, 0] == b"x" * 256
    assert ids[8, 2] == 2, "the word between the emoji is known"


def test_an_empty_batch_of_words_becomes_one_unknown_word():
    preprocess = TaggingPreprocessor(("a",), max_length=5)
    inputs, extras = preprocess.serve({"text": ["", " "]})
    assert inputs["token_ids"].numpy().tolist() == [[1], [1]] and extras["tokens"].numpy().tolist() == [[b""], [b""]]
    with pytest.raises(zoo.UsageError, match=r"A text batch is int32 of shape \(1,\); expected string \(batch,\)"):
        preprocess.serve({"text": tf.constant([3])})


def test_words_are_looked_up_as_written_then_lowercase_then_by_form():
    words = tf.constant(["Bush", "bush", "Trees", "Walking", "talking", "B-52", "NATO", "..", "Zz", "\u00c9t\u00e9"])
    assert [f.numpy()[3].decode() for f in forms(words)] == [" C:ing", " C:ng", " C:g", " C:"]
    assert [f.numpy()[5].decode() for f in forms(words)] == [" CD-:-00", " CD-:00", " CD-:0", " CD-:"]
    assert forms(words)[3].numpy()[6:8].tolist() == [b" CA:", b" S:"]
    vocabulary = ("Bush", "trees", " :ing", " CD-:0", " CA:", " C:", " S:")
    preprocess = TaggingPreprocessor(vocabulary, max_length=5)
    assert preprocess.numbers(words).numpy().tolist() == [2, 1, 3, 7, 4, 5, 6, 8, 7, 7]


def some_data(sentences: list[str]) -> SimpleNamespace:
    rows = [s.split() for s in sentences]

    def examples():
        return ({"tokens": row, "tags": [0] * len(row)} for row in rows)

    shape = {"tokens": tf.TensorSpec([None], tf.string), "tags": tf.TensorSpec([None], tf.int64)}
    train = tf.data.Dataset.from_generator(examples, output_signature=shape)
    return SimpleNamespace(name="words", arguments={}, train=train)


def test_vocabulary_contains_training_words_and_forms_of_rare_words():
    data = some_data(["the dog saw the Dog", "The singing ringing thing", "7 8 9 go"])
    needs = {"vocab_size": 100, "max_length": 9}
    preprocess, fixed = TaggingPreprocessor.for_model(data, needs, {})
    # "dog" and "Dog" together are frequent; "saw" and "go" are rare, and their word form is not frequent.
    expected = {"the", "dog", " :ing", " D:0"}
    assert set(preprocess.vocabulary) == expected and preprocess.vocabulary[0] in (" :ing", " D:0")
    assert fixed == {"vocab_size": 6} and preprocess.max_length == 9
    few, fixed = TaggingPreprocessor.for_model(data, needs, {"vocab_size": 4})
    assert few.vocabulary == preprocess.vocabulary[:2] and fixed == {"vocab_size": 4}
    assert TaggingPreprocessor(**json.loads(json.dumps(preprocess.config()))) == preprocess
    with pytest.raises(
        zoo.UsageError, match=r"vocab_size is 1; expected a whole number of at least 3. Pass vocab_size=100"
    ):
        TaggingPreprocessor.for_model(data, needs, {"vocab_size": 1})


def test_training_uses_the_gold_words():
    preprocess = TaggingPreprocessor(("don't", "go"), max_length=3)
    tokens = tf.constant([["don't", "go", "", "", ""], ["go", "go", "x", "go", ""], ["", "", "", "", ""]])
    tags = tf.constant([[4, 5, 0, 0, 0], [1, 2, 3, 4, 0], [0] * 5], tf.int64)
    inputs, targets, weights = preprocess.encode({"tokens": tokens, "tags": tags})
    assert inputs["token_ids"].numpy().tolist() == [[2, 3, 0], [3, 3, 1], [1, 0, 0]]
    assert targets["tags"].numpy().tolist() == [[4, 5, 0], [1, 2, 3], [0, 0, 0]]
    assert weights["tags"].numpy().tolist() == [[1, 1, 0], [1, 1, 1], [0, 0, 0]]
    trimmed = preprocess.trim(*tf.nest.map_structure(lambda part: part[::2], (inputs, targets, weights)))
    assert [t.shape for t in tf.nest.flatten(trimmed)] == [(2, 2)] * 3
    none = preprocess.encode({"tokens": tf.zeros([2, 0], tf.string), "tags": tf.zeros([2, 0], tf.int64)})
    assert [t.numpy().tolist() for part in none for t in part.values()] == [[[1], [1]], [[0], [0]], [[0], [0]]]


def test_requests_are_sentences_or_words():
    preprocess = TaggingPreprocessor((), max_length=9)
    rows = [
        {"tokens": np.array([b"do", b"n't"], object), "text": b"don't"},
        {"tokens": np.array([b"do", b"n't", b""], object)},
    ]
    assert preprocess.to_requests(rows)["text"].tolist() == [b"don't", b"do n't"]


def sentences(*words, tags="ab", count=30):
    """Returns a CSV file of sentences with these words."""
    lines = [f'{i},"{word}",{tags[k % 2]}' for i in range(count) for k, word in enumerate([*words, str(i)])]
    return "\n".join(["sentence,tokens,tags", *lines])


@pytest.mark.parametrize(
    ("words", "share"), [(("小红", "去了", "北京"), "25%"), (("New York", "Mr.Smith", "well-known"), "25%")]
)
def test_words_that_the_served_tokenizer_does_not_find_are_rejected(tmp_path, words, share):
    (tmp_path / "a.csv").write_text(sentences(*words))
    data = zoo.datasets.load(f"csv:{tmp_path}/a.csv", tokenizer="words")
    with pytest.raises(zoo.UsageError, match=rf", {share} are words of the tokenizer.*Use data whose words are split"):
        data.prepare("rnn")


def test_the_report_scores_the_words_of_raw_texts(tmp_path):
    """Every third word of the data is two words for the served tokenizer, so a third of the tags is lost."""
    (tmp_path / "a.csv").write_text(sentences("dogs", "well-known"))
    prepared = zoo.datasets.load(f"csv:{tmp_path}/a.csv").prepare("rnn", embedding_dim=4, rnn_units=4)
    model = prepared.build()
    report = zoo.evaluate(model, prepared)
    assert report["words_found"] == pytest.approx(2 / 3)
    tags = [e["tags"].tolist() for e in prepared.data.splits["test"].dataset().as_numpy_iterator()]
    texts = prepared.preprocessor.to_requests([*prepared.data.splits["test"].dataset().as_numpy_iterator()])["text"]
    inputs = prepared.preprocessor.serve({"text": texts.tolist()})[0]
    answers = np.argmax(model(inputs), axis=-1).tolist()
    right = [[row[0] == tag[0], row[4] == tag[2]] for row, tag in zip(answers, tags, strict=True)]
    expected = pytest.approx(np.sum(right) / (3 * len(tags)))
    assert report["raw_text_accuracy"] == expected
    headline = report["headline"][0]
    assert headline["metric"] == "accuracy in raw text" and headline["value"] == expected
    assert headline["baseline_value"] <= 2 / 3, "the baseline does not find more words"
    measured = accuracy.measure(model, prepared.interface, report)
    assert measured is not None and measured.figure == measured.reported == expected, "the export scores the same words"


def test_tags_are_paired_by_the_places_of_words_and_not_by_their_number():
    preprocess = TaggingPreprocessor(("can",), max_length=4)
    rows = [
        {"text": b"cannot stop", "tokens": [b"cannot", b"st", b"op"], "tags": [0, 1, 1]},  # served: can, not, stop
        {"text": b"I stop", "tokens": [b"I", b"stop"], "tags": [0, 1]},
        {"text": b" ", "tokens": [b"-"], "tags": [0]},
    ]
    targets = preprocess.to_targets(rows, lost=True)["tags"]
    assert targets.tolist() == [[-1, -1, -1, 0, 1, 1], [0, 1, -1, -1, -1, -1], [-1, 0, -1, -1, -1, -1]]
    assert preprocess.to_targets(rows, lost=False)["tags"].tolist() == [[-1, -1, -1], [0, 1, -1], [-1, -1, -1]]
    answered = {"tags": np.array([[b"A", b"B", b"B"], [b"A", b"A", b""], [b"A", b"", b""]], object)}
    right, count = right_tags(answered, targets, ("A", "B"))
    assert right.tolist() == [0, 1, 0] and count.tolist() == [3, 2, 1]


def test_a_reloaded_savedmodel_returns_the_same_ids(tmp_path):
    preprocess = TaggingPreprocessor(("smile", "not", " :", " S:", " C:"), max_length=9)
    (tmp_path / "assets").mkdir()
    exported, tables = preprocess.for_export(tmp_path / "assets")
    module = tf.Module()
    module.tables = tables
    signature = [preprocess.requests["text"].spec]
    module.serve = tf.function(lambda text: {"ids": exported.serve({"text": text})[0]["token_ids"]}, signature)
    tf.saved_model.save(module, str(tmp_path / "m"), signatures={"serving_default": module.serve})
    served = tf.saved_model.load(str(tmp_path / "m")).signatures["serving_default"]
    expected = preprocess.serve({"text": tf.constant(HOSTILE)})[0]["token_ids"]
    np.testing.assert_array_equal(served(text=tf.constant(HOSTILE))["ids"], expected)
    lines = (tmp_path / "m" / "assets" / "vocabulary.txt").read_text().splitlines()
    assert lines == ["[PAD]", "[UNK]", *preprocess.vocabulary] and exported == preprocess


# --- The dictionary baseline -----------------------------------------------------------------------------------------

TRAIN = ([["the", "dog", "runs"], ["the", "run"], ["a", "run", "run"]], [[0, 1, 2], [0, 1], [0, 2, 2]])


def test_the_dictionary_predicts_the_most_frequent_tag():
    dictionary = MostFrequentTag.fit(*TRAIN)
    assert dictionary.tags == {"the": 0, "dog": 1, "runs": 2, "run": 2, "a": 0}
    assert dictionary.unknown == 0, "dog 1, runs 2, a 0: a tie, of which the smallest is taken"
    assert dictionary.tag(["the", "run", "cow"]) == [0, 2, 0]
    assert MostFrequentTag.fit([["x", "x"]], [[3, 3]]).unknown == 3, "no word occurs once"


def test_known_and_unknown_words_are_scored_separately():
    report = word_report(
        [["the", "cow"], ["dog"]], [[0, 1], [1]], np.array([[0, 1, 9], [2, 9, 9]]).tolist(), MostFrequentTag.fit(*TRAIN)
    )
    assert report["all"] == {"num_words": 3, "accuracy": 2 / 3, "baseline_accuracy": 2 / 3}
    assert report["known"] == {"num_words": 2, "accuracy": 0.5, "baseline_accuracy": 1.0}
    assert report["unknown"] == {"num_words": 1, "accuracy": 1.0, "baseline_accuracy": 0.0}
    assert report["sentences_right"] == 0.5
    assert "unknown words      1.0000 of 1 right" in summary(json.loads(json.dumps(report, allow_nan=False)))
    known = word_report([["the"]], [[0]], [[0]], MostFrequentTag.fit(*TRAIN))
    assert known["unknown"] == {"num_words": 0, "accuracy": None, "baseline_accuracy": None}
    assert "unknown" not in summary(known)


@pytest.mark.parametrize(
    ("tokens", "tags", "predicted", "message"),
    [
        ([["a"]], [[0, 1]], [[0]], "Sentence 0 has 1 words and 2 tags. Pass a tag for every word"),
        ([["a"]], [], [[0]], "There are 1 sentences and 0 rows of tags. Pass one row per sentence"),
        ([["a"]], [[0]], [], "There are 1 sentences and predictions for 0. Pass one row per sentence"),
        ([["a", "b"]], [[0, 1]], [[0]], "Sentence 0 has 2 words and 1 predicted tags. Pass a tag"),
        ([[]], [[]], [[]], "There is no word to evaluate. Pass sentences"),
    ],
)
def test_sentences_with_unequal_lengths_are_rejected(tokens, tags, predicted, message):
    with pytest.raises(zoo.UsageError, match=message):
        word_report(tokens, tags, predicted, MostFrequentTag.fit(*TRAIN))
    with pytest.raises(zoo.UsageError, match="The training sentences hold no word"):
        MostFrequentTag.fit([[]], [[]])
