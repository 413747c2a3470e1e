"""Tokenizers of texts: words, characters and subwords in many scripts, their choice from the data, and the longest text."""

from __future__ import annotations

import collections
import unicodedata

import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo.config import read_yaml
from zoo.datasets.description import describe_data
from zoo.datasets.preprocessing.pair_encoding import MARK
from zoo.datasets.preprocessing.text import TextPreprocessor
from zoo.datasets.preprocessing.token_fitting import describe_lengths, longest
from zoo.datasets.preprocessing.tokenizers import TOKENIZERS, characters
from zoo.datasets.preprocessing.word_forms import clean

SAMPLES = {
    "Chinese": "这家酒店的服务很好，房间也很干净。",
    "Japanese": "このホテルのサービスはとても良かったです。ｶﾞｽ",
    "Thai": "โรงแรมนี้บริการดีมาก ห้องสะอาด",
    "Arabic": "كَانَ الفُنْدُقُ جَيِّدًا جدًا",
    "Hebrew": "הַמָּלוֹן הָיָה טוֹב",
    "Hindi": "यह होटल बहुत अच्छा है। ज़रूर",
    "Vietnamese": "Khách sạn này rất tuyệt vời",
    "Korean": "이 호텔은 정말 좋았어요",
    "emoji": "👍🏽 great 👩‍👩‍👧 ❤️",
    "no letters": "!!! 123 ???",
}


def python_characters(text: str) -> list[str]:
    """Applies the rules of `characters` with Python's own Unicode tables."""
    text = "".join(unicodedata.normalize("NFKC", c) if "\uff01" <= c <= "\uff5e" else c for c in text)
    text = "".join(unicodedata.normalize("NFKD", c) if "\uff61" <= c <= "\uff9f" else c for c in text)
    text = unicodedata.normalize("NFC", text)
    text = "".join(" " if unicodedata.category(c)[0] in "ZC" else c for c in text).lower()
    return [*MARK.join(text.split())]


def data_of(tmp_path, texts: list[str], **options) -> zoo.datasets.Data:
    """Returns a data set in which the labels of the texts alternate."""
    file = tmp_path / "a.csv"
    lines = [f'"{text}",{"ab"[i % 2]}\n' for i, text in enumerate(texts)]
    file.write_text("text,label\n" + "".join(lines), encoding="utf-8")
    return zoo.datasets.load(f"csv:{file}", **options)


def chinese(count: int) -> list[str]:
    """Returns different sentences without spaces."""
    things, qualities = "酒店房间早餐服务位置价格", "很好不错干净便宜一般太差"
    return [
        f"{things[i % 12]}{things[i // 12 % 12]}的{qualities[i % 11]}{qualities[i // 7 % 12]}{i}元"
        for i in range(count)
    ]


@pytest.mark.parametrize("text", SAMPLES.values(), ids=SAMPLES)
def test_characters_equal_those_of_python(text):
    assert [token.decode() for token in characters(tf.constant([text]))[0].numpy()] == python_characters(text)


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_equivalent_texts_have_equal_ids_in_every_script(tokenizer):
    counts: collections.Counter[bytes] = collections.Counter()
    for text in SAMPLES.values():
        counts.update(TOKENIZERS[tokenizer].split(tf.constant([text, text]), None).flat_values.numpy().tolist())
    preprocess = TextPreprocessor(tuple(TOKENIZERS[tokenizer].learn(counts, 500)), 99, tokenizer=tokenizer)
    texts = [*SAMPLES.values()]
    expected = preprocess(texts).numpy()
    assert (expected == 1).sum() == 0, "every token is known"
    for form in ("NFC", "NFD"):
        np.testing.assert_array_equal(preprocess([unicodedata.normalize(form, text) for text in texts]), expected)
    wide = "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in SAMPLES["no letters"])
    np.testing.assert_array_equal(preprocess([wide]), preprocess([SAMPLES["no letters"]]))


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_long_and_empty_texts_are_cut_and_filled(tokenizer):
    preprocess = TextPreprocessor((MARK, "a", "b", "ab"), 4, tokenizer=tokenizer)
    ids = preprocess(["", " \t\n", "a b " * 9, "ab" * 40_000, b"\xff\xfe"]).numpy()
    assert ids.shape == (5, 4) and (ids[:, 0] > 0).all()
    served, extras = preprocess.serve({"text": tf.constant(["a b", ""])})
    assert served["token_ids"].shape == extras["tokens"].shape
    assert preprocess.lengths({"text": tf.constant(["a b a b a b"])}).numpy()[0] > 4


def test_subwords_split_unknown_words_into_known_parts():
    preprocess = TextPreprocessor((MARK, f"{MARK}low", "er", "l", "o", "w"), 9, tokenizer="subwords")
    inputs, extras = preprocess.serve({"text": tf.constant(["LOWER lowlow", "x"])})
    assert inputs["token_ids"].numpy().tolist() == [[3, 4, 3, 5, 6, 7], [2, 1, 0, 0, 0, 0]]
    assert [token.decode() for token in extras["tokens"][0].numpy()] == [
        f"{MARK}low",
        "er",
        f"{MARK}low",
        "l",
        "o",
        "w",
    ]
    assert extras["tokens"][1].numpy().tolist() == [MARK.encode(), "\ufffd".encode(), *[b""] * 4]


def test_scripts_without_spaces_are_read_by_characters(tmp_path):
    data = data_of(tmp_path, chinese(60))
    prepared = data.prepare("embedding_lstm")
    assert prepared.preprocessor.tokenizer == "characters"
    assert prepared.describe()["data"]["tokenizer"] == "characters"
    lines = describe_data(prepared).splitlines()
    assert any(line.startswith("tokenizer characters: 100% of the letters are of scripts without") for line in lines)
    assert "max_length 128: no training text has more characters." in lines
    thai = ["โรงแรม", "ห้องพัก", "อาหาร", "นี้ดีมาก", "ไม่อร่อย", "ราคาถูก"]
    texts = [f"{thai[i % 3]}{thai[i // 3 % 3]}{thai[3 + i % 3]}{i}" for i in range(60)]
    note = data_of(tmp_path, texts).prepare("embedding_lstm").preprocessor.choices.notes[0]
    assert note.startswith("tokenizer characters: 100% of the letters"), "marks of vowels are no letters"
    with pytest.raises(
        zoo.UsageError,
        match=r"different words in the training split .* too rare to learn.*choose another tokenizer: characters, subwords",
    ):
        data_of(tmp_path, chinese(60), tokenizer="words").prepare("embedding_lstm")


def test_clauses_between_commas_are_no_words(tmp_path):
    """Without unknown ones, too, because new texts have other clauses."""
    parts = ["耳机质量很好", "物流很快", "做工很精细", "不值得购买", "客服态度很差", "屏幕很清楚"]
    texts = [f"{parts[i % 6]}，{parts[(i // 6) % 6]}。" for i in range(120)]
    prepared = data_of(tmp_path, texts).prepare("attention")
    assert prepared.preprocessor.tokenizer == "characters"
    spaced = [" ".join(["质量", "很", parts[i % 6][:2], "物流", parts[i % 5][-2:]]) for i in range(120)]
    assert data_of(tmp_path, spaced).prepare("attention").preprocessor.tokenizer == "words"


def test_words_between_spaces_stay_words(tmp_path):
    for name in ("commands", "wishes", "baskets"):
        prepared = zoo.datasets.load(name).prepare("embedding_lstm")
        assert prepared.preprocessor.tokenizer == "words" and prepared.preprocessor.max_length == 128
    segmented = [" ".join(text) for text in chinese(60)]
    assert data_of(tmp_path, segmented).prepare("embedding_lstm").preprocessor.tokenizer == "words"
    found = data_of(tmp_path, [f"!!! {i} ???" for i in range(60)]).prepare("embedding_lstm")
    assert found.preprocessor.choices.notes[0] == "tokenizer words: the texts have no letters."


def test_many_unknown_words_of_many_texts_become_subwords(tmp_path):
    draw = np.random.default_rng(0)
    stems, endings = (["".join(draw.choice([*letters], 4)) for _ in range(60)] for letters in ("kptmn", "aeiouy"))
    texts = ["".join(stems[i] + endings[j] for i, j in draw.integers(0, 60, (3, 2))) for _ in range(1_400)]
    prepared = data_of(tmp_path, texts).prepare("embedding_lstm", vocab_size=400)
    assert prepared.preprocessor.tokenizer == "subwords", "every word is new, and has known parts"
    assert "Warning" not in describe_data(prepared)
    warned = data_of(tmp_path, [f"{text} ." for text in texts], tokenizer="words").prepare("embedding_lstm")
    assert "Warning: the model does not know 50% of the tokens. Pass --data.tokenizer subwords" in describe_data(warned)


def test_the_longest_text_comes_from_the_training_split(tmp_path):
    texts = [" ".join(["good", "bad"] * (i + 1)) for i in range(200)]
    data = data_of(tmp_path, texts)
    prepared = data.prepare("transformer")
    lengths = sorted(len(e["text"].split()) for e in data.train.as_numpy_iterator())
    expected = lengths[int(np.ceil(0.95 * len(lengths))) - 1]
    assert prepared.arguments["max_length"] == expected == prepared.describe()["model"]["max_length"]
    cut = sum(length > expected for length in lengths)
    assert f"max_length {expected}: {cut} of {len(lengths)} training texts" in describe_data(prepared)
    assert prepared.batches("train", len(lengths)).get_single_element()[0]["token_ids"].shape[1] == expected
    for model in ("embedding_lstm", "attention", "transformer"):
        chosen = data.prepare(model, max_length=7)
        assert chosen.preprocessor.max_length == chosen.describe()["model"]["max_length"] == 7
    assert longest(np.array([9_999]), 128, 512) == 512
    assert longest(np.array([], int), 128, 512) == longest(np.array([3]), 128, 512) == 128
    assert describe_lengths("word", np.array([3, 5]), 5) == "max_length 5: no training text has more words."


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"tokenizer": "letters"},
            r"tokenizer is 'letters'; expected auto, words, characters, subwords. Pass tokenizer='auto'",
        ),
        (
            {"tokenizer": "words"},
            r"tokenizer='words' is for texts; data set 'digits' has image, label. Leave tokenizer out",
        ),
    ],
)
def test_unsuitable_tokenizers_are_rejected(options, message):
    with pytest.raises(zoo.UsageError, match=message):
        zoo.datasets.load("digits", **options)


def test_models_with_tokenizers_of_their_own_reject_the_option():
    with pytest.raises(
        zoo.UsageError, match=r"tokenizer='words' has no effect: model 'bert' splits texts in its own way"
    ):
        zoo.datasets.load("commands", tokenizer="words").prepare("bert", vocab_size=90)


def test_empty_texts_are_named():
    texts = (["good", "bad"], [0, 1])
    with pytest.raises(zoo.UsageError, match=r"The texts in the training split of data set .* are empty. Pass texts"):
        zoo.datasets.load((["", " "] * 20, [0, 1] * 20), validation=texts, test=texts).prepare("embedding_lstm")


@pytest.mark.slow
@pytest.mark.parametrize("tokenizer", [None, "subwords"])
def test_a_small_chinese_file_becomes_a_savedmodel_that_resumes(tmp_path, tokenizer):
    data = data_of(tmp_path, chinese(60), **({"tokenizer": tokenizer} if tokenizer else {}))
    config = zoo.TrainConfig(epochs=2, batch_size=16)
    run = zoo.run("attention", data, config=config, run_directory=tmp_path / "run", verbose=0)
    assert run.verification.passed
    recorded = read_yaml(tmp_path / "run" / "config.yaml")
    assert recorded["data"]["tokenizer"] == (tokenizer or "characters") and recorded["model"]["max_length"] == 128
    served = tf.saved_model.load(str(run.saved_model)).signatures["serving_default"]
    texts = ["早餐很好５元", "早餐很好5元"]
    first, second = served(text=tf.constant(texts))["probabilities"].numpy()
    np.testing.assert_array_equal(first, second)
    again = zoo.run("attention", data, config=config, run_directory=tmp_path / "run", verbose=0)
    assert again.report["accuracy"] == run.report["accuracy"]


def test_tagged_words_are_the_same_in_every_encoding_of_their_letters():
    words = ["Günther", "Köln", "Zoë", "straße", "ＡＢＣ"]
    found = [
        clean(tf.constant([unicodedata.normalize(form, word) for word in words])).numpy().tolist()
        for form in ("NFC", "NFD")
    ]
    assert found[0] == found[1] == [word.encode() for word in [*words[:-1], "ABC"]]
