"""Beam search of text generation, against `generate(num_beams=...)` of Hugging Face."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import torch
import transformers

import zoo
from gpt2_reference import write_random_gpt2
from zoo import checkpoints
from zoo.checkpoints import byte_pair_files
from zoo.datasets.preprocessing.byte_pair_learning import learn_byte_pairs
from zoo.registry import get_spec

PROMPTS = ["the other day there was", "naïve", "then: the 中文 of 10 aaaa", " the", "", "other"]
NEW = 20


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The preprocessor and a function that searches, and the same model of Hugging Face."""
    path = tmp_path_factory.mktemp("gpt2")
    merges = byte_pair_files.as_merges(learn_byte_pairs({b" the": 9, b" then": 5, b" other": 3, b"aaaa": 4}, 12))
    write_random_gpt2(path, merges, likely_end=3.5, n_positions=48, n_embd=32, n_layer=2, n_head=4)
    prepared = zoo.datasets.load("spoken_sums").prepare("gpt", weights=str(path), dropout=0.0, attention_dropout=0.0)
    return *searching(prepared, prepared.build()), transformers.GPT2LMHeadModel.from_pretrained(path).eval()


def searching(prepared, model):
    beam = get_spec("gpt").functions["beam"](model)

    def search(prompts, **ways):
        requests = {"text": tf.constant(prompts), **{k: tf.constant(v) for k, v in ways.items()}}
        found = beam(*prepared.preprocessor.serve(requests))
        return {name: value.numpy() for name, value in found.items()}

    return prepared.preprocessor, search


def expected(preprocessor, theirs, text, beams, penalty, new):
    """The tokens that Hugging Face finds, without the end, and their log-probability."""
    prompt = preprocessor.tokens.encode([text]).to_list()[0] or [preprocessor.tokens.end]
    end = preprocessor.tokens.end
    options = {"max_new_tokens": new, "do_sample": False, "pad_token_id": 0, "eos_token_id": end, "bos_token_id": end}
    with torch.no_grad():
        made = theirs.generate(
            torch.tensor([prompt]), num_beams=beams, length_penalty=penalty, early_stopping=False, **options
        )[:, : len(prompt) + new]
        likely = torch.log_softmax(theirs(made).logits[0], -1)[len(prompt) - 1 : -1]
    tokens = made[0, len(prompt) :].numpy()
    count = int(np.argmax(tokens == end)) + 1 if end in tokens else len(tokens)
    score = likely.gather(1, made[0, len(prompt) :, None])[:count].sum().item()
    return tokens[:count][tokens[:count] != end].tolist(), score, count


def compare_with_hugging_face(both, beams, new, penalty):
    """Returns how many texts ended before they were cut."""
    preprocessor, search, theirs = both
    found = search(PROMPTS, num_beams=beams, max_new_tokens=new, length_penalty=np.full(6, penalty, np.float32))
    ended = 0
    for row, text in enumerate(PROMPTS):
        tokens, score, count = expected(preprocessor, theirs, text, int(beams[row]), penalty, int(new[row]))
        ours = found["tokens"][row]
        assert ours[ours >= 0].tolist() == tokens
        np.testing.assert_allclose(found["log_probability"][row], score, rtol=1e-4)
        assert (found["margins"][row] > 0).sum() == count
        ended += count > len(tokens)
    return ended


BEAMS = np.int32([4, 1, 2, 5, 3, 8])


def test_texts_of_a_mixed_batch_equal_those_of_hugging_face(both):
    ended = compare_with_hugging_face(both, BEAMS, np.int32([12, 7, 12, 10, 12, 9]), 1.0)
    assert 0 < ended < 6, "some texts end, and others are cut"


@pytest.mark.slow
@pytest.mark.parametrize("penalty", [1.0, 0.0, 2.5, -1.0])
def test_texts_of_every_length_penalty_equal_those_of_hugging_face(both, penalty):
    for shift in range(3):
        compare_with_hugging_face(both, np.roll(BEAMS, shift), np.int32([NEW, 7, NEW, 12, NEW, 15]), penalty)


@pytest.mark.slow
def test_one_beam_is_greedy_and_more_find_more_probable_texts(both):
    _, search, _ = both
    fixed = {"length_penalty": np.zeros(6, np.float32), "max_new_tokens": np.full(6, NEW, np.int32)}
    one, four = (search(PROMPTS, num_beams=np.full(6, beams, np.int32), **fixed) for beams in (1, 4))
    alone = search(PROMPTS[:1], **{name: value[:1] for name, value in fixed.items()})
    np.testing.assert_allclose(alone["log_probability"], four["log_probability"][:1], rtol=1e-5)
    assert four["log_probability"].mean() > one["log_probability"].mean()


@pytest.mark.slow
def test_of_equal_scores_the_smaller_token_is_first():
    prepared = zoo.datasets.load("spoken_sums").prepare("gpt", max_length=16, hidden_size=8, num_layers=1, num_heads=1)
    model = prepared.build()
    for weight in model.weights:
        weight.assign(tf.zeros_like(weight))
    _, search = searching(prepared, model)
    found = search(["a"], num_beams=np.int32([3]), max_new_tokens=np.int32([4]))
    assert found["tokens"].tolist() == [[0, 0, 0, 0]] and (found["margins"] < 1e-6).all()
    size = prepared.preprocessor.tokens.size
    np.testing.assert_allclose(found["log_probability"], [-4 * np.log(size)], rtol=1e-5)


@pytest.mark.parametrize(
    ("ways", "message"),
    [
        ({"num_beams": np.int32([0])}, "num_beams is out of range; expected 1 to 8"),
        ({"num_beams": np.int32([9])}, "num_beams is out of range; expected 1 to 8"),
        ({"length_penalty": np.float32([np.nan])}, "length_penalty is out of range; expected -1 to 5"),
    ],
)
def test_ways_out_of_range_are_rejected(both, ways, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        both[1](["a"], **ways)


@pytest.mark.slow
def test_too_many_texts_for_their_beams_are_rejected(both):
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"too many; expected at most 4,096\. Send fewer texts"):
        both[1](["a"] * 513, num_beams=np.full(513, 8, np.int32))
    assert len(both[1](["a"], max_new_tokens=np.int32([1]))["tokens"]) == 1, "the next request is answered"


@pytest.mark.slow
def test_texts_of_a_trained_model_equal_those_of_hugging_face(tmp_path):
    prepared = zoo.datasets.load("spoken_sums").prepare("gpt_tiny", dropout=0.0, attention_dropout=0.0)
    model = zoo.train(prepared.build(seed=0), prepared, zoo.TrainConfig(epochs=2), run_directory=tmp_path / "run").model
    checkpoints.FORMATS.get("gpt2_folder").save(model, tmp_path / "folder", prepared.preprocessor.config(), None)
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "folder").eval()
    preprocessor, search = searching(prepared, model)
    prompts = ["two plus three is", "twenty-one times", "minus", ""]
    found = search(prompts, num_beams=np.full(4, 4, np.int32))
    for row, text in enumerate(prompts):
        tokens, score, _ = expected(preprocessor, theirs, text, 4, 1.0, preprocessor.most_new)
        ours = found["tokens"][row]
        assert ours[ours >= 0].tolist() == tokens
        np.testing.assert_allclose(found["log_probability"][row], score, rtol=1e-3, atol=1e-4)
