"""Text generation: tokens, windows, draws and decoding against independent references, and GPT-2 folders."""

from __future__ import annotations

import collections
import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import tokenizers
import torch
import transformers
from transformers.generation import logits_process

import zoo
from gpt2_reference import write_random_gpt2
from zoo import checkpoints, published_export
from zoo.checkpoints import byte_pair_files
from zoo.datasets.preprocessing.byte_pair_learning import learn_byte_pairs
from zoo.datasets.preprocessing.byte_pairs import BytePairs
from zoo.datasets.preprocessing.prompts import PromptPreprocessor
from zoo.evaluation.generation import language_report
from zoo.evaluation.ngrams import Ngrams
from zoo.export.standalone import compare
from zoo.layers import generation
from zoo.registry import get_spec

MIXED = [
    "one <|endoftext|> two",
    "a  b   c\n\nd ",
    "don't WE'LL x's",
    "naïve café 中文 😀 ـــ",
    "\x00\x1c\u2028\u3000x",
    "",
    " ",
]
WORDS = {b" the": 9, b" then": 5, b" there": 4, b"the": 3, b" other": 3, "é".encode(): 2, " naïve".encode(): 2}


@pytest.fixture(scope="module")
def merges():
    """Pairs that are learned from the words of this file and a few of other scripts."""
    return byte_pair_files.as_merges(learn_byte_pairs({**WORDS, "中文".encode(): 3, b"aaaaaaaa": 4}, 40))


# --- Tokens -----------------------------------------------------------------------------------------------------------


def reference(folder, merges):
    """Hugging Face's tokenizer of the same pairs."""
    byte_pair_files.write(folder, merges)
    model = tokenizers.models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    found = tokenizers.Tokenizer(model)
    found.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = tokenizers.decoders.ByteLevel()
    found.add_special_tokens(["<|endoftext|>"])
    return found


def test_tokens_equal_those_of_hugging_face(merges, tmp_path):
    pool = [*"ab 1\n\té中😀", "  ", "'s", "'ll", "the", " the", " there", "aaa", "\u00a0", "\u3000", "\x85", *MIXED]
    random = np.random.default_rng(0)
    texts = ["".join(random.choice(pool, random.integers(0, 12))) for _ in range(3000)]
    texts += [f"a{chr(c)} {chr(c)}b" for c in range(0, 0x110000, 97) if not 0xD800 <= c < 0xE000]
    theirs = reference(tmp_path, merges)
    tokens = BytePairs(merges)
    served, _ = tokens.for_export(tmp_path)
    found, from_files = (each.encode(tf.constant(texts)).to_list() for each in (tokens, served))
    expected = [encoding.ids for encoding in theirs.encode_batch(texts)]
    assert found == expected == from_files
    back = served.decode(tf.ragged.constant(found, tf.int32)).numpy().tolist()
    assert back == [text.replace("<|endoftext|>", "").encode() for text in texts]


def test_bytes_that_are_no_text_become_the_replacement_character(merges):
    tokens = BytePairs(merges)
    (found,) = tokens.encode(tf.constant([b"a\xff\xfe\xfeb"])).to_list()
    assert tokens.end not in found
    assert tokens.decode(tf.constant([found])).numpy().tolist() == ["a\ufffd\ufffd\ufffdb".encode()]
    alone = [[tokens.pieces.index(bytes([byte]))] for byte in (0xFD, 0xFE, 0xFF)]
    assert tokens.decode(tf.constant(alone)).numpy().tolist() == ["\ufffd".encode()] * 3
    half = tokens.encode(tf.constant(["é"])).to_list()[0]
    numbers = BytePairs().encode(tf.constant(["é"])).to_list()[0]
    assert len(half) == 1 and len(numbers) == 2
    assert tokens.decode(tf.constant([[numbers[0], -1, tokens.end]])).numpy().tolist() == ["\ufffd".encode()]


def naive_pairs(words, most):
    """Pairs in the order of the definition, counted anew after each one."""
    spelled = {word: [bytes([byte]) for byte in word] for word in words}
    made = []
    while len(made) < most:
        counts = collections.Counter()
        for word, count in words.items():
            for pair in zip(spelled[word], spelled[word][1:], strict=False):
                counts[pair] += count
        known = {left + right for left, right in made}
        counts = {pair: count for pair, count in counts.items() if count > 1 and pair[0] + pair[1] not in known}
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], [part.decode("latin-1") for part in pair]))
        made.append(best)
        for word, parts in spelled.items():
            joined, i = [], 0
            while i < len(parts):
                hit = tuple(parts[i : i + 2]) == best
                joined.append(parts[i] + parts[i + 1] if hit else parts[i])
                i += 1 + hit
            spelled[word] = joined
    return made


def test_pairs_are_learned_as_defined():
    random = np.random.default_rng(1)
    words = {
        bytes(random.choice(list(b"abc "), random.integers(1, 9)).tolist()): int(random.integers(1, 9))
        for _ in range(60)
    }
    for given in (WORDS, words):
        assert learn_byte_pairs(given, 50) == naive_pairs(given, 50)


def test_characters_are_tokens_and_others_are_bytes():
    data = zoo.datasets.from_arrays([*["größer 中", "Größe 文中"] * 20, *map(str, range(60))])
    prepared = with_tokenizer(data, "characters").prepare("gpt")
    tokens = prepared.preprocessor.tokens
    found = tokens.encode(tf.constant(["ö中 é"])).to_list()[0]
    assert len(found) == 5, "é was not in the data, and has two tokens"
    assert tokens.decode(tf.constant([found])).numpy().tolist() == ["ö中 é".encode()]
    assert prepared.arguments["vocab_size"] == tokens.size


def with_tokenizer(data, tokenizer):
    return dataclasses.replace(data.for_task("text_generation"), arguments={**data.arguments, "tokenizer": tokenizer})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((((300, 1),),), r"^Pair 0 joins \(300, 1\); expected tokens from 0 to 255\. Correct it\."),
        ((((1, 1), (1, 1)),), r"^Two pairs give the same bytes, so a text would have two spellings\. Leave one out\."),
        (((), "letters"), r"^The rule is 'letters'\. Pass one of words, characters\."),
    ],
)
def test_invalid_pairs_are_rejected(arguments, message):
    with pytest.raises(zoo.UsageError, match=message):
        BytePairs(*arguments)


# --- Windows ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prepared():
    return zoo.datasets.load("spoken_sums").prepare("gpt", max_length=16, hidden_size=16, num_layers=1, num_heads=2)


def stream_of(prepared, split):
    end = prepared.preprocessor.tokens.end
    texts = [example["text"] for example in prepared.data.splits[split].dataset().as_numpy_iterator()]
    rows = prepared.preprocessor.tokens.encode(tf.constant(texts)).to_list()
    return np.array([end, *(token for row in rows for token in [*row, end])], np.int32)


def test_every_token_of_a_split_is_predicted_once(prepared):
    stream = stream_of(prepared, "test")
    inputs, targets, weights = zip(*prepared.batches("test", 7).as_numpy_iterator(), strict=True)
    real = np.concatenate([part["next"].ravel() for part in weights]) > 0
    np.testing.assert_array_equal(np.concatenate([part["next"].ravel() for part in targets])[real], stream[1:])
    np.testing.assert_array_equal(np.concatenate([part["token_ids"].ravel() for part in inputs])[real], stream[:-1])
    assert prepared.num_examples("test") == -(-(len(stream) - 1) // 16)


def test_windows_begin_elsewhere_in_every_epoch_and_a_resumed_run_repeats_them(prepared):
    stream = stream_of(prepared, "train").tobytes()
    first, second = (list(prepared.batches("train", 32, seed=3, epoch=e).as_numpy_iterator()) for e in (0, 1))
    begun = [batch[0]["token_ids"][:, 0] for batch in (first[0], second[0])]
    assert (begun[0] != begun[1]).any()
    for inputs, targets, weights in first[:3]:
        for ids, following, real in zip(inputs["token_ids"], targets["next"], weights["next"], strict=True):
            assert not real.all() or np.append(ids, following[-1]).astype(np.int32).tobytes() in stream
            np.testing.assert_array_equal(ids[1:][real[:-1] > 0], following[:-1][real[:-1] > 0])
    again = list(prepared.batches("train", 32, seed=3, epoch=1, start=2).as_numpy_iterator())
    for one, other in zip(second[2:], again, strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, one[0], other[0])


# --- Draws and decoding -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(0.7, 8, 0.9), (1.0, 0, 1.0), (1.3, 0, 0.6), (0.9, 3, 1.0)]
)
def test_draws_follow_the_limited_softmax_of_hugging_face(temperature, top_k, top_p):
    logits = np.random.default_rng(2).normal(0, 2, (1, 20)).astype(np.float32)
    count = 20_000
    ways = {"temperature": tf.fill([count], temperature), "top_k": tf.fill([count], top_k)}
    ways |= {"top_p": tf.fill([count], top_p), "seed": tf.range(count, dtype=tf.int64) - 50}
    drawn = tf.argmax(generation.draws(tf.repeat(logits, count, axis=0), tf.constant(3), ways), axis=1).numpy()
    wanted = torch.tensor(logits)
    for warper in (
        logits_process.TemperatureLogitsWarper(temperature),
        *([logits_process.TopKLogitsWarper(top_k)] if top_k else []),
        *([logits_process.TopPLogitsWarper(top_p)] if top_p < 1 else []),
    ):
        wanted = warper(None, wanted)
    chances = torch.softmax(wanted, -1)[0].numpy()
    found = np.bincount(drawn, minlength=20) / count
    assert not found[chances == 0].any()
    np.testing.assert_allclose(found, chances, atol=4 * np.sqrt(0.25 / count))


def test_the_noise_of_every_draw_is_finite():
    """Seeds whose hash of some token has only ones in its upper bits gave infinite noise."""
    noise = generation._gumbel(tf.range(128, dtype=tf.int64), tf.constant(4), tf.constant(50_257)).numpy()
    assert np.isfinite(noise).all() and noise.max() < 17


@pytest.fixture(scope="module")
def folder(tmp_path_factory, merges):
    """A GPT-2 of random weights."""
    path = tmp_path_factory.mktemp("gpt2")
    write_random_gpt2(path, merges, n_positions=48, n_embd=32, n_layer=2, n_head=4)
    return path


@pytest.fixture(scope="module")
def theirs(folder):
    return transformers.GPT2LMHeadModel.from_pretrained(folder).eval()


@pytest.fixture(scope="module")
def ours(folder):
    """The prepared data and the model of the folder."""
    prepared = zoo.datasets.load("spoken_sums").prepare("gpt", weights=str(folder), dropout=0.0, attention_dropout=0.0)
    return prepared, prepared.build()


PROMPTS = ["the other day there was", "naïve", "then: the 中文 of 10 aaaa", " the"]


def test_logits_and_gradients_equal_those_of_hugging_face(ours, theirs):
    prepared, model = ours
    assert (prepared.arguments["max_length"], model.count_params()) == (48, theirs.num_parameters())
    ids = np.random.default_rng(3).integers(0, prepared.arguments["vocab_size"], (3, 20))
    expected = theirs(torch.tensor(ids), labels=torch.tensor(ids))
    with tf.GradientTape() as tape:
        logits = model(ids)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(ids[:, 1:], logits[:, :-1])
    np.testing.assert_allclose(logits, expected.logits.detach().numpy(), atol=2e-4)
    np.testing.assert_allclose(loss, expected.loss.item(), rtol=1e-5)
    expected.loss.backward()
    table = model.get_layer("tokens").embeddings.value
    gradient = tf.convert_to_tensor(tape.gradient(loss, table))
    np.testing.assert_allclose(gradient, theirs.transformer.wte.weight.grad.numpy(), atol=1e-4)


def ways(count, **chosen):
    usual = {"seed": 0, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0, "max_new_tokens": 24}
    kinds = {"seed": tf.int64, **dict.fromkeys(("temperature", "top_p", "repetition_penalty"), tf.float32)}
    return {n: tf.cast(tf.zeros(count) + chosen.get(n, v), kinds.get(n, tf.int32)) for n, v in usual.items()}


def test_greedy_texts_of_a_mixed_batch_equal_those_of_hugging_face(ours, theirs):
    prepared, model = ours
    inputs, extras = prepared.preprocessor.serve({"text": tf.constant(PROMPTS), **ways(4)})
    found = get_spec("gpt").functions["greedy"](model)(inputs, extras)
    for row, text in enumerate(PROMPTS):
        prompt = prepared.preprocessor.tokens.encode(tf.constant([text])).to_list()
        made = theirs.generate(torch.tensor(prompt), max_new_tokens=24, do_sample=False, pad_token_id=0)[0]
        expected = made[len(prompt[0]) :].numpy()
        tokens = found["tokens"][row].numpy()
        np.testing.assert_array_equal(tokens[tokens >= 0], expected[expected != prepared.preprocessor.tokens.end])
        likely = torch.log_softmax(theirs(made[None]).logits[0], -1)[len(prompt[0]) - 1 : -1]
        score = likely.gather(1, made[len(prompt[0]) :, None]).sum().item()
        np.testing.assert_allclose(found["log_probability"][row], score, rtol=1e-4)


def test_texts_with_a_penalty_equal_those_of_hugging_face(ours, theirs):
    prepared, model = ours
    chosen = ways(4, temperature=0.0, repetition_penalty=np.float32([1.2, 1.0, 1.7, 0.9]))
    inputs, extras = prepared.preprocessor.serve({"text": tf.constant(PROMPTS), **chosen})
    found = get_spec("gpt").functions["sample"](model)(inputs, extras)["tokens"].numpy()
    for row, text in enumerate(PROMPTS):
        prompt = torch.tensor(prepared.preprocessor.tokens.encode(tf.constant([text])).to_list())
        penalty = float(chosen["repetition_penalty"][row])
        options = {"max_new_tokens": 24, "do_sample": False, "pad_token_id": 0, "repetition_penalty": penalty}
        expected = theirs.generate(prompt, **options)[0, prompt.shape[1] :].numpy()
        tokens = found[row]
        np.testing.assert_array_equal(tokens[tokens >= 0], expected[expected != prepared.preprocessor.tokens.end])


def test_a_text_depends_on_its_seed_and_not_on_the_batch(ours):
    prepared, model = ours
    sample = get_spec("gpt").functions["sample"](model)
    seeds, limits = [5, 6, 7, 2**40], [0, 50, 3, 0]
    chosen = ways(4, seed=np.array(seeds), top_k=np.array(limits), top_p=np.array([1.0, 1.0, 0.9, 0.5]))

    def texts(rows):
        requests = {"text": tf.constant(PROMPTS), **chosen}
        requests = {name: tf.gather(value, rows) for name, value in requests.items()}
        return prepared.preprocessor.to_text(sample(*prepared.preprocessor.serve(requests))["tokens"]).numpy().tolist()

    together = texts([0, 1, 2, 3])
    assert [texts([row])[0] for row in range(4)] == together
    chosen["seed"] += 1
    assert texts([0])[0] != together[0]


def test_scores_equal_those_of_hugging_face(ours, theirs):
    prepared, model = ours
    inputs, extras = prepared.preprocessor.serve({"text": tf.constant(PROMPTS)})
    found = get_spec("gpt").functions["score"](model)(inputs, extras)
    for row, text in enumerate(PROMPTS):
        ids = torch.tensor(
            [[prepared.preprocessor.tokens.end, *prepared.preprocessor.tokens.encode([text]).to_list()[0]]]
        )
        likely = torch.log_softmax(theirs(ids).logits[0, :-1], -1)
        np.testing.assert_allclose(
            found["log_probability"][row], likely.gather(1, ids[0, 1:, None]).sum().item(), rtol=1e-4
        )
        assert found["count"][row] == ids.shape[1] - 1


def test_a_long_prompt_keeps_its_last_tokens(ours):
    prepared, _ = ours
    text = " ".join(map(str, range(100)))
    inputs, extras = prepared.preprocessor.serve(
        {"text": tf.constant([text, ""]), **ways(2, max_new_tokens=np.array([40, 7]))}
    )
    tokens = prepared.preprocessor.tokens
    assert extras["lengths"].numpy().tolist() == [8, 1]
    assert inputs["token_ids"][0].numpy().tolist() == tokens.encode([text]).to_list()[0][-8:]
    assert inputs["token_ids"][1, 0] == tokens.end, "an empty prompt begins a text"


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"temperature": -0.5}, "temperature is out of range; expected a number of at least 0"),
        ({"temperature": np.nan}, "temperature is out of range; expected a number of at least 0"),
        ({"top_p": 0.0}, "top_p is out of range; expected a number above 0, at most 1"),
        ({"top_p": 1.5}, "top_p is out of range; expected a number above 0, at most 1"),
        (
            {"repetition_penalty": 0.0},
            "repetition_penalty is out of range; expected a number above 0, where 1 means no",
        ),
        ({"top_k": -1}, "top_k is out of range; expected a whole number of at least 0, where 0 means all tokens"),
        ({"max_new_tokens": 0}, "max_new_tokens is out of range; expected 1 to 47, less than the model's context"),
        ({"max_new_tokens": 48}, "max_new_tokens is out of range; expected 1 to 47, less than the model's context"),
    ],
)
def test_ways_out_of_range_are_rejected(ours, chosen, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        ours[0].preprocessor.serve({"text": tf.constant(["a"]), **ways(1, **chosen)})


# --- Folders ----------------------------------------------------------------------------------------------------------


def test_a_written_folder_gives_the_same_model_and_tokens(ours, theirs, tmp_path):
    prepared, model = ours
    (checkpoint,) = [each for each in checkpoints.FORMATS.names() if each == "gpt2_folder"]
    checkpoints.FORMATS.get(checkpoint).save(model, tmp_path / "out", prepared.preprocessor.config(), None)
    again = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "out").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    ids = prepared.preprocessor.tokens.encode(PROMPTS).to_list()
    assert [tokenizer(text)["input_ids"] for text in PROMPTS] == ids
    with torch.no_grad():
        np.testing.assert_allclose(again(torch.tensor(ids[:1])).logits, theirs(torch.tensor(ids[:1])).logits, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c, v: c.update(model_type="gptj"), r"config\.json is for 'gptj'; expected gpt2\."),
        (
            lambda c, v: c.update(scale_attn_by_inverse_layer_idx=True),
            "has scale_attn_by_inverse_layer_idx=True; expected False",
        ),
        (lambda c, v: c.update(n_layer=0), "has n_layer=0; expected a whole number of at least 1"),
        (lambda c, v: c.update(vocab_size=300), "has vocab_size=300; the tokenizer files have"),
        (lambda c, v: v.update({"!": 1, '"': 0}), "the token '!' has the number 1, expected 0: bytes, then pairs"),
        (lambda c, v: v.update({"<pad>": 400}), "has the further tokens"),
    ],
)
def test_folders_that_do_not_fit_are_rejected(folder, tmp_path, change, message):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    contents = {name: json.loads((tmp_path / name).read_text()) for name in ("config.json", "vocab.json")}
    change(*contents.values())
    for name, content in contents.items():
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(zoo.UsageError, match=message):
        zoo.datasets.load("spoken_sums").prepare("gpt", weights=str(tmp_path)).build()


def test_a_vocabulary_without_its_pairs_is_rejected(folder, tmp_path):
    for name in ("config.json", "vocab.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    data = zoo.datasets.load("spoken_sums")
    with pytest.raises(
        zoo.UsageError, match=r"has neither merges\.txt nor tokenizer\.json, which hold the tokens\. Put"
    ):
        data.prepare("gpt", weights=str(tmp_path))
    numbers = json.loads((folder / "vocab.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": numbers, "merges": []}}))
    with pytest.raises(zoo.UsageError, match=r"has the further tokens \[.*\]; expected <\|endoftext\|> alone\. Pass"):
        data.prepare("gpt", weights=str(tmp_path))


# --- Report -----------------------------------------------------------------------------------------------------------


def slow_ngrams(train, test, size, n):
    """Witten and Bell's probabilities by counting tuples."""
    counts, totals, kinds = collections.Counter(), collections.Counter(), collections.defaultdict(set)
    for i, token in enumerate(train):
        for order in range(min(n, i + 1)):
            before = tuple(train[i - order : i])
            counts[(*before, token)] += 1
            totals[before] += 1
            kinds[before].add(token)
    found = []
    for i, token in list(enumerate(test))[1:]:
        chance = 1 / size
        for order in range(min(n, i + 1)):
            before = tuple(test[i - order : i])
            if not totals[before]:
                break
            chance = (counts[(*before, token)] + len(kinds[before]) * chance) / (totals[before] + len(kinds[before]))
        found.append(chance)
    return np.array(found)


def test_ngrams_equal_a_count_of_tuples():
    random = np.random.default_rng(4)
    train = random.integers(0, 5, 800) * random.integers(0, 2, 800)
    test = random.integers(0, 7, 100)
    for n in (1, 3, 5):
        found = Ngrams(train, 7, n).probabilities(test)
        np.testing.assert_allclose(found, slow_ngrams(train.tolist(), test.tolist(), 7, n), rtol=1e-12)


def test_report_figures_of_known_probabilities():
    found = language_report(np.log([2.0, 4.0, 8.0]), np.array([True, False, False]), np.array([1, 2, 0]), words=2)
    assert found["loss"] == pytest.approx(np.log(4))
    assert found["bits_per_byte"] == pytest.approx(2.0)
    assert found["word_perplexity"] == pytest.approx(8.0)
    with pytest.raises(zoo.UsageError, match=r"^The split has no token to predict\. Pass texts\."):
        language_report(np.zeros(0), np.zeros(0), np.zeros(0), words=0)


# --- Documents --------------------------------------------------------------------------------------------------------


def test_documents_are_cut_or_divided(tmp_path):
    file = tmp_path / "play.txt"
    file.write_text("".join(f"line {i}\n" for i in range(1000)), encoding="utf-8")
    data = zoo.datasets.load(f"documents:{file}")
    parts = [
        next(data.splits[s].dataset().as_numpy_iterator())["text"].decode() for s in ("train", "validation", "test")
    ]
    assert "".join(parts) == file.read_text() and data.task == "text_generation"
    assert len(parts[0]) == pytest.approx(0.9 * len(file.read_text()), abs=10)
    for i in range(120):
        (tmp_path / f"{i}.txt").write_text(f"text {i}", encoding="utf-8")
    data = zoo.datasets.load(f"documents:{tmp_path}")
    assert [data.splits[s].num_examples for s in ("train", "validation", "test")] == [109, 6, 6]


def test_documents_that_cannot_be_read_are_rejected(tmp_path):
    (tmp_path / "short.txt").write_text("a", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    for path, message in (
        ("shrt.txt", r"is not a file or folder\. Did you mean 'short\.txt'"),
        ("empty", r"holds no \*\.txt files\. Pass a UTF-8 text file, or a folder"),
        ("short.txt", r"has too little text for a training, a validation and a test split\. Pass a text"),
    ):
        with pytest.raises(zoo.UsageError, match=message):
            zoo.datasets.load(f"documents:{tmp_path / path}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_length": 2}, r"^max_length is 2; expected a whole number of at least 4\. Pass max_length=256\."),
        ({"vocab_size": 100}, r"^vocab_size is 100; expected a whole number of at least 257\. Pass vocab_size=8000\."),
    ],
)
def test_sizes_that_are_too_small_are_rejected(arguments, message):
    with pytest.raises(zoo.UsageError, match=message):
        zoo.datasets.load("spoken_sums").prepare("gpt", **arguments)


def test_words_are_no_tokens_of_a_language_model():
    data = with_tokenizer(zoo.datasets.load("spoken_sums"), "words")
    with pytest.raises(
        zoo.UsageError, match=r"^tokenizer='words' has no effect: a language model writes every text\. Pass"
    ):
        data.prepare("gpt")


def test_a_preprocessor_is_rebuilt_from_its_config(prepared):
    config = json.loads(json.dumps(prepared.preprocessor.config()))
    assert PromptPreprocessor(**config) == prepared.preprocessor


# --- Verification -----------------------------------------------------------------------------------------------------


def outputs(texts, margins):
    words = np.array([text.encode() for text in texts], object)
    tokens = np.array([[bytes([byte]) for byte in word] for word in words], object)
    return {"text": words, "tokens": tokens, "margins": np.array(margins, np.float32), "score": np.float32([1.0, 2.0])}


def test_texts_are_compared_up_to_a_near_tie():
    margins = [[0.5, 0.0005, 0.5], [0.5, 0.5, 0.5]]
    want = outputs(["abc", "abc"], margins)

    def passes(got, decided):
        rows = compare.compare(want, got, [], 1e-5, None, decided)
        return {row["output"]: row["passed"] for row in rows}, [row["detail"] for row in rows if row["detail"]]

    declared = {"margins": "margins"}
    got = outputs(["axy", "abc"], [[0.5, 0.3, 0.9], [0.5, 0.5, 0.5]])
    got["score"] = np.float32([7.0, 2.0])
    found, details = passes(got, declared)
    assert all(found.values())
    assert details == [f"0 of {n} differ, 1 of 2 compared up to a step that rounding may decide" for n in (2, 6)]
    assert not any(passes(got, {})[0].values()), "without a declaration everything is compared"
    for wrong in (["xbc", "abc"], ["abc", "abx"]):
        found, _ = passes(outputs(wrong, margins), declared)
        assert not found["tokens"] and found["text"] == (wrong[0] != "abc")
    shorter = {name: value[:, :2] if value.ndim > 1 else value for name, value in got.items()}
    assert not passes(shorter, declared)[0]["tokens"]


@pytest.mark.slow
def test_a_folder_of_gpt2_is_exported_as_it_is(folder, theirs, tmp_path):
    saved = published_export.export_published(str(folder), tmp_path / "export")
    ask = tf.saved_model.load(str(saved)).signatures
    found = ask["score"](text=tf.constant(PROMPTS))["log_probability"]
    tokens = PromptPreprocessor(byte_pair_files.read_merges(folder), "words", 48).tokens
    for text, score in zip(PROMPTS, found, strict=True):
        ids = torch.tensor([[tokens.end, *tokens.encode([text]).to_list()[0]]])
        likely = torch.log_softmax(theirs(ids).logits[0, :-1], -1)
        np.testing.assert_allclose(score, likely.gather(1, ids[0, 1:, None]).sum().item(), rtol=1e-4)


def test_ends_of_texts_in_training_texts_are_no_pairs(tmp_path):
    file = tmp_path / "stories.txt"
    file.write_text("A story.\n<|endoftext|>\nAnother story.\n" * 60, encoding="utf-8")
    for tokenizer in ("characters", "subwords"):
        data = zoo.datasets.load(f"documents:{file}", tokenizer=tokenizer)
        tokens = data.prepare("gpt").preprocessor.tokens
        assert tokens.encode(["<|endoftext|>"]).to_list() == [[tokens.end]]


def test_a_text_with_few_line_breaks_is_cut_near_the_marks(tmp_path):
    file = tmp_path / "letter.txt"
    file.write_text("Letter 1\n\n" + "word " * 2000, encoding="utf-8")
    data = zoo.datasets.load(f"documents:{file}")
    sizes = [len(next(part.dataset().as_numpy_iterator())["text"]) for part in data.splits.values()]
    assert sizes == pytest.approx([0.9 * 10_010, 500, 500], abs=20)


def test_low_temperatures_take_the_most_probable_token():
    logits = tf.constant([[-80.0, -70.0, -90.0]])
    low = {name: value[:1] for name, value in ways(1, temperature=1e-8, top_k=1).items()}
    assert tf.argmax(generation.draws(logits, tf.constant(0), low), axis=1).numpy().tolist() == [1]


def test_prompts_of_windows_do_not_join_texts(prepared):
    tokens = prepared.preprocessor.tokens
    ids = tokens.encode(["ab<|endoftext|>cd"]).to_list()[0]
    row = np.full(33, -1, np.int32)
    for start, expected in ((0, b"c"), (1, b"cd"), (2, b"cd")):
        row[:4] = ids[start : start + 4] + [-1] * max(0, 4 - len(ids[start:]))
        assert prepared.preprocessor.to_requests([{"tokens": row}])["text"].tolist() == [expected]
