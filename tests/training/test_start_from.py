"""Runs that begin with the weights of another run."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

import zoo
from untrained_runs import untrained
from zoo import starting_point
from zoo.config import read_yaml
from zoo.finished_runs import load_model

CONFIG = zoo.TrainConfig(epochs=1, batch_size=16)
TINY = {"embedding_dim": 6, "lstm_units": 5}
TEXTS = {"pos": ("warm and lovely film", "lovely great film"), "neg": ("awful and dull film", "poor dull film")}


def texts(labels=("neg", "pos"), extra=""):
    """Returns 60 sentences, and their labels."""
    rows = [(TEXTS[("neg", "pos")[i % 2]][i // 2 % 2], i % 2, i) for i in range(60)]
    return [f"{text} {extra} number {i}" for text, _, i in rows], [labels[number] for _, number, _ in rows]


def images(seed=0, size=(9, 9), classes=3):
    x = np.random.default_rng(seed).integers(0, 256, (60, *size), np.uint8)
    return x, np.arange(60) % classes


def run(directory, data=None, model="mlp", arguments=None, **others):
    settings = {"config": CONFIG, "export": False, "verbose": 0, **others}
    return zoo.run(model, data or images(), model_arguments=arguments, run_directory=directory, **settings)


def weights(directory):
    return load_model(Path(directory) / "model.keras").get_weights()


def first_weights(directory, data, start_from, model="embedding_lstm", **arguments):
    """Returns the weights of a new run before its first step, by name, and what is printed about them."""
    loaded = zoo.datasets.load(data, model=model)
    start = starting_point.find(start_from, model, CONFIG, Path(directory))
    prepared = start.prepare(loaded, model, arguments)
    network = prepared.build(seed=3)
    selected = start.select(prepared)
    selected.assign(network)
    return dict(zip(selected.paths, network.get_weights(), strict=True)), str(selected), prepared


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A run on texts."""
    folder = tmp_path_factory.mktemp("source") / "texts"
    untrained(folder, texts(), "embedding_lstm", **TINY)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A trained run on images."""
    folder = tmp_path_factory.mktemp("source") / "pictures"
    run(folder, arguments={"hidden_units": (5, 4), "input_shape": (9, 9, 1)})
    return folder


def test_a_new_run_begins_with_the_same_bits_and_a_new_optimizer(pictures, tmp_path, capsys):
    config = dataclasses.replace(CONFIG, learning_rate=1e-30, optimizer="sgd")
    done = run(tmp_path / "new", start_from=pictures, config=config, verbose=2)
    assert f"Starts with 6 of 6 weights of {pictures}.\n" in capsys.readouterr().out
    for one, two in zip(weights(pictures), done.model.get_weights(), strict=True):
        assert one.tobytes() == two.tobytes()  # the learning rate is too small to change a bit
    recorded = read_yaml(tmp_path / "new" / "config.yaml")
    assert recorded["start_from"]["run"] == str(pictures) and len(recorded["start_from"]["sha256"]) == 64
    assert recorded["model"]["hidden_units"] == [5, 4] and recorded["config"]["optimizer"] == "sgd"


@pytest.mark.slow
def test_frozen_layers_keep_the_other_runs_bits_and_a_run_resumes_without_it(pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / "a")
    config = dataclasses.replace(CONFIG, freeze=["hidden_1"], learning_rate=0.1)
    longer = dataclasses.replace(config, epochs=2)
    run(tmp_path / "b", start_from=tmp_path / "a", config=config)
    whole = run(tmp_path / "whole", start_from=tmp_path / "a", config=longer)
    with pytest.raises(
        zoo.UsageError, match=r"began with the weights of .* this one begins with initial weights\. Pass"
    ):
        run(tmp_path / "b", arguments={"hidden_units": (5, 4), "input_shape": (9, 9, 1)}, config=longer)
    shutil.rmtree(tmp_path / "a")
    resumed = run(tmp_path / "b", start_from=tmp_path / "a", config=longer)
    assert [row["epoch"] for row in resumed.history] == [1, 2]
    before, after = weights(pictures), resumed.model.get_weights()
    for number, (one, two) in enumerate(zip(after, whole.model.get_weights(), strict=True)):
        np.testing.assert_array_equal(one, two)
        assert np.array_equal(one, before[number]) == (number < 2)
    shutil.copytree(tmp_path / "b", tmp_path / "a")
    with pytest.raises(zoo.UsageError, match=r"holds a run that began with the weights of .*a .sha256"):
        run(tmp_path / "b", start_from=tmp_path / "a", config=longer)


def test_other_texts_keep_the_vocabulary(source, tmp_path):
    found, text, prepared = first_weights(tmp_path, texts(extra="unseen words here"), source)
    fresh = zoo.datasets.load(texts(extra="unseen words here")).prepare("embedding_lstm").preprocessor.vocabulary
    assert "9 of 9 weights" in text and "unseen" in fresh
    assert (
        prepared.preprocessor.vocabulary == zoo.datasets.load(texts()).prepare("embedding_lstm").preprocessor.vocabulary
    )
    assert [*map(np.ndarray.tobytes, found.values())] == [*map(np.ndarray.tobytes, weights(source))]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "data", "arguments"),
    [
        ("lstm", "seasons", {"units": (3,)}),
        ("rnn", "tagged_commands", {"embedding_dim": 4, "rnn_units": 3}),
        ("seq2seq_rnn", "number_words", {"embedding_dim": 4, "rnn_units": 4}),
        (
            "bert",
            "commands",
            {"hidden_size": 4, "num_layers": 1, "num_heads": 2, "intermediate_size": 5, "vocab_size": 60},
        ),
    ],
)
def test_every_kind_of_data_starts_with_all_weights(tmp_path, model, data, arguments):
    earlier = untrained(tmp_path / "a", data, model, **arguments)
    found, text, prepared = first_weights(tmp_path / "b", data, tmp_path / "a", model)
    assert f"Starts with {len(found)} of {len(found)} weights of {tmp_path / 'a'}." == text
    assert zoo.registry.plain(prepared.arguments) == zoo.registry.plain(earlier.arguments)
    assert [*map(np.ndarray.tobytes, found.values())] == [*map(np.ndarray.tobytes, weights(tmp_path / "a"))]


def test_few_texts_are_enough_as_no_vocabulary_is_learned(source, tmp_path):
    few = ([f"lovely{i} dull{i} film" for i in range(12)], ["neg", "pos"] * 6)
    _, text, prepared = first_weights(tmp_path, few, source)
    assert text.startswith("Starts with 9 of 9 weights") and prepared.arguments["embedding_dim"] == 6


def test_other_classes_get_new_weights_and_are_named(source, tmp_path):
    found, text, _ = first_weights(tmp_path, texts(("bad", "good")), source)
    assert text == (
        f"Starts with 7 of 9 weights of {source}; probabilities/kernel, probabilities/bias belong to the classes and are new."
    )
    old = weights(source)
    assert all(np.array_equal(one, two) for one, two in zip(old[:-2], list(found.values())[:-2], strict=True))
    assert not np.array_equal(old[-2], found["probabilities/kernel"])
    x, y = texts()
    found, text, _ = first_weights(tmp_path, (x, [*y[:-6], *["other"] * 6]), source)
    assert "7 of 9 weights" in text and found["probabilities/kernel"].shape == (10, 3)


def test_the_same_classes_in_another_order_keep_their_weights(source, tmp_path):
    x, y = texts()
    data = zoo.datasets.from_arrays(x, [int(label == "neg") for label in y], class_names=["pos", "neg"])
    found, text, prepared = first_weights(tmp_path, data, source)
    assert prepared.class_names == ("pos", "neg") and "9 of 9 weights" in text
    assert np.array_equal(found["probabilities/kernel"], weights(source)[-2][:, ::-1])
    assert np.array_equal(found["probabilities/bias"], weights(source)[-1][::-1])


def test_images_take_the_size_of_the_other_run(pictures, tmp_path):
    larger = np.random.default_rng(1).integers(0, 256, (40, 12, 12, 3), np.uint8)
    found, text, prepared = first_weights(tmp_path, (larger, np.arange(40) % 4), pictures, "mlp")
    assert prepared.preprocessor.shape == (9, 9, 1) and "4 of 6 weights" in text
    assert found["probabilities/kernel"].shape == (4, 4)


REJECTED = {
    "arguments": ({"embedding_dim": 7}, {}, r"embeddings is \[\d+, 6\] there, \[\d+, 7\] here.*embedding_dim=6\. Pass"),
    "itself": ({}, {"itself": True}, "cannot start from itself. Pass another run_directory"),
    "another model": (
        {},
        {"model": "attention"},
        "has the model embedding_lstm; this run has attention. Choose --model",
    ),
    "other weights": ({}, {"sha256": "0" * 64}, "has other weights than recorded: sha256 .*Put the old run back"),
    "no run": ({}, {"missing": True}, "is not a run.*Pass a folder"),
    "no folder": ({}, {"given": 3}, r"start_from is 3; expected the folder of a run\. Pass"),
}


@pytest.mark.parametrize("case", REJECTED)
def test_what_does_not_fit_is_rejected_before_anything_is_written(source, tmp_path, case):
    arguments, how, message = REJECTED[case]
    directory = source if "itself" in how else tmp_path / "new"
    given = tmp_path / "no" if "missing" in how else how.get("given", source)
    given = {"run": str(source), "sha256": how["sha256"]} if "sha256" in how else given
    with pytest.raises(zoo.UsageError, match=message):
        run(directory, texts(), how.get("model", "embedding_lstm"), arguments, start_from=given)
    assert not (tmp_path / "new").exists()


def test_ids_that_have_other_numbers_are_rejected(tmp_path):
    untrained(tmp_path / "a", "tastes", "matrix_factorization")
    other = tmp_path / "ratings.csv"
    other.write_text("user_id,item_id,rating\n" + "".join(f"u{i % 7},i{i % 11},{i % 5}\n" for i in range(200)))
    with pytest.raises(zoo.UsageError, match=r"belong to other rows: the user_ids had .* entries.* Train on this data"):
        run(tmp_path / "b", f"csv:{other}", "matrix_factorization", start_from=tmp_path / "a")
    with pytest.raises(zoo.UsageError, match="start_from has no effect with closed_form=true"):
        closed = zoo.TrainConfig(closed_form=True)
        run(tmp_path / "b", "tastes", "matrix_factorization", start_from=tmp_path / "a", config=closed)


def test_cross_validation_does_not_start_from_a_run_on_its_test_examples(pictures, tmp_path):
    with pytest.raises(zoo.UsageError, match="was trained on examples of arrays that are in the test split of a fold"):
        run(tmp_path / "new", start_from=pictures, data_arguments={"folds": 3, "fold": 0})
