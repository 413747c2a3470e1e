"""From a Hugging Face folder, or from pairs of texts, to a SavedModel of raw text."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo import checkpoints, pipeline
from zoo.checkpoints import bert_folder
from zoo.checkpoints.bert_config import read_classifier
from zoo.datasets.preprocessing.vocabularies import train_pieces
from zoo.datasets.preprocessing.wordpiece import WordPiecePreprocessor
from zoo.export.verification import verify
from zoo.scripts import cli

TINY = {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "intermediate_size": 32}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint for `commands` whose labels are in another order than in the data."""
    data = zoo.datasets.load("commands")
    pieces = train_pieces([example["text"].decode() for example in data.train.as_numpy_iterator()], 300)
    model = zoo.build_bert_model(vocab_size=len(pieces), num_classes=4, max_length=64, **TINY)
    for number, weights in enumerate(model.weights):  # random weights, because zeros and ones would hide errors
        weights.assign(np.random.default_rng(number).normal(0, 0.3, weights.shape))
    labels = list(reversed(data.class_names))
    return bert_folder.save_folder(model, tmp_path_factory.mktemp("hf") / "bert", vocabulary=pieces, labels=labels)


@pytest.fixture(scope="module")
def exported(folder, tmp_path_factory):
    return pipeline.export_checkpoint(folder, tmp_path_factory.mktemp("exported"), "commands")


@pytest.fixture(scope="module")
def served(exported):
    return tf.saved_model.load(str(exported))


@pytest.mark.slow
def test_an_exported_checkpoint_returns_its_own_labels(folder, exported, served):
    """Compares the label and the probabilities by name with the folder's model."""
    texts = ["turn the radio on", "what happened?"]
    answer = served.signatures["serving_default"](text=tf.constant(texts))
    labels = (exported / "assets" / "labels.txt").read_text().splitlines()
    names, probabilities = [name.decode() for name in answer["class_name"].numpy()], answer["probabilities"].numpy()
    model = checkpoints.build("bert", folder)
    preprocessor = zoo.datasets.load("commands").prepare("bert", weights=str(folder)).preprocessor
    expected = model(preprocessor(tf.constant(texts))).numpy()
    theirs = read_classifier(folder).labels
    assert labels == list(reversed(theirs)) and labels != list(theirs)
    np.testing.assert_allclose(probabilities[:, ::-1], expected, atol=1e-5)
    assert names == [theirs[row.argmax()] for row in expected]


def test_an_exported_checkpoint_needs_no_other_packages(exported, served, run_python):
    """Runs without Keras and this package."""
    text = "turn the radio on"
    done = run_python(
        """
        import json, sys
        sys.modules |= dict.fromkeys(["keras", "zoo", "tensorflow_text", "transformers", "tokenizers"])  # not importable
        import tensorflow as tf
        served = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
        print(json.dumps(served(text=tf.constant([sys.argv[2]]))["probabilities"].numpy().tolist()))
        """,
        exported,
        text,
        kind="tensorflow",
    )
    expected = served.signatures["serving_default"](text=tf.constant([text]))["probabilities"]
    np.testing.assert_allclose(json.loads(done.stdout), expected, atol=1e-6)


@pytest.mark.slow
def test_the_encoder_converts_to_other_runtimes(exported):
    verdict = verify(exported, runtimes=["openvino", "onnxruntime"])
    assert verdict.passed and verdict.runtimes["openvino"] == verdict.runtimes["onnxruntime"] == "agrees"


def test_features_are_two_vectors(served):
    features = served.signatures["features"](text=tf.constant(["lamp", "turn the lamp off"]))
    assert {k: tuple(v.shape) for k, v in features.items()} == {"pooled": (2, 16), "mean_pooled": (2, 16)}


def test_unsuitable_folders_and_data_are_rejected(folder, tmp_path, capfd):
    assert cli.main(["export", str(folder), str(tmp_path / "out")]) == 2
    said = "needs a data set to prepare its requests. Pass --data with a data set that has its classes, such as csv:texts.csv"
    assert said in capfd.readouterr().err
    assert cli.main(["export", str(tmp_path), str(tmp_path / "out"), "--data", "commands"]) == 2
    assert "holds no config.json. Pass a folder that save_pretrained wrote." in capfd.readouterr().err
    file = tmp_path / "other.csv"
    file.write_text("text,label\n" + "".join(f"word {i},{'yes' if i % 2 else 'no'}\n" for i in range(60)))
    with pytest.raises(
        zoo.UsageError,
        match=r"has the classes .*; data set .* has no, yes. If they mean the same, pass labels=no, yes in",
    ):
        pipeline.export_checkpoint(folder, tmp_path / "out", f"csv:{file}")
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_sets_the_arguments_that_were_not_passed(folder):
    prepare = zoo.datasets.load("commands").prepare
    chosen = prepare("bert", weights=str(folder), dropout=0.3, max_length=20)
    assert chosen.arguments["hidden_size"] == 16 and chosen.arguments["dropout"] == 0.3
    assert chosen.arguments["max_length"] == chosen.preprocessor.max_length == 20
    assert chosen.arguments["load_classifier"] and chosen.arguments["labels"] == sorted(read_classifier(folder).labels)
    assert chosen.describe()["model"] == {
        "name": "bert",
        "dropout": 0.3,
        "max_length": 20,
        "weights": str(folder),
        "vocabulary": None,
        "pooling": "pooler",
        "tags_words": False,
        "classifier_activation": "softmax",
    }
    assert prepare("bert", weights=str(folder)).arguments["max_length"] == 64  # the checkpoint's positions
    with pytest.raises(zoo.UsageError, match=r"hidden_size is 256; the checkpoint .* has 16. Pass hidden_size=16"):
        prepare("bert", weights=str(folder), hidden_size=256).build()
    with pytest.raises(
        zoo.UsageError, match=r"activation is 'relu'; the checkpoint .* has 'gelu'. Pass activation='gelu'"
    ):
        prepare("bert", weights=str(folder), activation="relu").build()
    with pytest.raises(zoo.UsageError, match=r"bert_base has hidden_size=768; .* has 16. Choose bert, which uses"):
        prepare("bert_base", weights=str(folder))


def test_a_reordered_classifier_gives_the_same_probabilities(folder):
    prepared = zoo.datasets.load("commands").prepare("bert", weights=str(folder))
    inputs = prepared.preprocessor(tf.constant(["turn the radio on"]))
    theirs = dict(
        zip(read_classifier(folder).labels, checkpoints.build("bert", folder)(inputs).numpy()[0], strict=True)
    )
    ours = dict(zip(prepared.data.class_names, prepared.build()(inputs).numpy()[0], strict=True))
    assert ours == pytest.approx(theirs, abs=1e-6)


@pytest.mark.slow
def test_a_finished_run_does_not_need_its_folder(folder, tmp_path):
    moved = Path(shutil.copytree(folder, tmp_path / "bert"))
    config = zoo.TrainConfig(epochs=1, batch_size=32)
    arguments = {"weights": str(moved)}
    done = zoo.run(
        "bert", "commands", config=config, model_arguments=arguments, run_directory=tmp_path / "run", verbose=0
    )
    shutil.rmtree(moved)
    assert str(tmp_path) not in (done.saved_model / "assets.extra" / "zoo.json").read_text()
    model, prepared, _ = pipeline.open_run(tmp_path / "run")
    assert zoo.evaluate(model, prepared)["accuracy"] == done.report["accuracy"]
    assert pipeline.export_run(tmp_path / "run", tmp_path / "again").is_dir()
    back = pipeline.save_huggingface(tmp_path / "run", tmp_path / "back")
    again = checkpoints.build("bert", back)
    for one, two in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_vocabulary_file_can_be_passed(folder):
    prepare = zoo.datasets.load("commands").prepare
    given = prepare("bert", vocabulary=str(folder / "vocab.txt"), **TINY)
    assert given.preprocessor.vocabulary == prepare("bert", weights=str(folder)).preprocessor.vocabulary
    assert given.arguments["vocab_size"] == len(given.preprocessor.vocabulary)


@pytest.mark.slow
def test_different_class_names_require_labels(folder, tmp_path):
    """If the data names the classes differently, the user must pass the order."""
    data = zoo.datasets.load("commands")
    file = tmp_path / "numbers.csv"
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        names = read_classifier(folder).labels
        rows = [(e["text"].decode(), names.index(data.class_names[e["label"]])) for e in data.test.as_numpy_iterator()]
        writer.writerows(rows)
    with pytest.raises(
        zoo.UsageError, match=r"If they mean the same, pass labels=0, 1, 2, 3 in the checkpoint's order"
    ):
        pipeline.export_checkpoint(folder, tmp_path / "out", f"csv:{file}")
    path = pipeline.export_checkpoint(folder, tmp_path / "out", f"csv:{file}", labels=["0", "1", "2", "3"])
    answer = zoo.export.load(path).predict(["turn the radio on"])[0]
    tokens = zoo.datasets.load("commands").prepare("bert", weights=str(folder)).preprocessor
    expected = checkpoints.build("bert", folder)(tokens(tf.constant(["turn the radio on"]))).numpy()[0]
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Pairs of texts that are equal or different."""
    file = tmp_path_factory.mktemp("pairs") / "pairs.csv"
    words = ["red", "green", "blue", "dog", "cat", "house", "tree", "river", "cloud", "stone"]
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "text_pair", "label"])
        for i in range(200):
            one, other = words[i % 10], words[(i * 7 + i // 10) % 10]
            writer.writerow([f"a {one} {i}", f"the {other}", "same" if one == other else "other"])
    return file


@pytest.mark.slow
def test_pairs_of_texts_are_one_input(pairs, tmp_path):
    prepared = zoo.datasets.load(f"csv:{pairs}").prepare("bert", vocab_size=200, **TINY)
    inputs, _ = next(iter(prepared.keras_batches("test", 8)))
    assert inputs["token_type_ids"].numpy().max() == 1
    path = zoo.export.save(prepared.build(seed=0), tmp_path / "pairs", interface=prepared.interface)
    model = zoo.export.load(path)
    assert set(model.inputs("serving_default")) == set(model.inputs("features")) == {"text", "text_pair"}
    one, other = model.predict(["a dog\tthe dog", "a dog\t"])
    assert one["class_name"] in ("same", "other") and abs(one["probabilities"] - other["probabilities"]).max() > 1e-7
    with pytest.raises(zoo.UsageError, match=r"takes text and text_pair\. Pass 2 values separated by a tab"):
        model.predict(["a dog"])
    assert "text_pair" in (Path(path) / "README.md").read_text()
    with pytest.raises(zoo.UsageError, match="text and text_pair have different numbers of rows"):
        model({"text": ["a", "b"], "text_pair": ["b", "a", "a", "b"]})


def test_pairs_of_unequal_batches_are_rejected():
    preprocessor = WordPiecePreprocessor(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b"), 8, has_pairs=True)
    with pytest.raises(tf.errors.InvalidArgumentError, match="text and text_pair are batches of different sizes"):
        preprocessor(["a", "b"], ["b", "a", "a", "b"])


def test_a_model_of_single_texts_rejects_pairs(pairs):
    with pytest.raises(zoo.UsageError, match=r"would read only the first text. Choose bert, or leave"):
        zoo.datasets.load(f"csv:{pairs}").prepare("transformer")


@pytest.mark.slow
def test_a_folder_with_several_labels_is_exported(tmp_path):
    """Labels are found by name; their thresholds are chosen on the validation split of the data."""
    data = zoo.datasets.load("wishes")
    pieces = train_pieces([example["text"].decode() for example in data.train.as_numpy_iterator()], 200)
    sizes = {"vocab_size": len(pieces), "num_classes": 4, "max_length": 64, **TINY}
    model = zoo.build_bert_model(**sizes, classifier_activation="sigmoid")
    for number, weights in enumerate(model.weights):
        weights.assign(np.random.default_rng(number).normal(0, 0.3, weights.shape))
    theirs = list(reversed(data.class_names))
    folder = bert_folder.save_folder(model, tmp_path / "bert", vocabulary=pieces, labels=theirs)
    assert read_classifier(folder).several
    exported = pipeline.export_checkpoint(folder, tmp_path / "exported", "wishes")
    answer = tf.saved_model.load(str(exported)).signatures["serving_default"](text=tf.constant(["play a song"]))
    inputs = data.prepare("bert", weights=str(folder)).preprocessor(tf.constant(["play a song"]))
    expected = model(inputs).numpy()
    np.testing.assert_allclose(answer["probabilities"].numpy()[:, ::-1], expected, atol=1e-5)
    levels = json.loads((exported / "assets.extra" / "zoo.json").read_text())["decided"]["thresholds"]
    chosen = [name for name, p, t in zip(data.class_names, expected[0, ::-1], levels, strict=True) if p >= t]
    assert [name.decode() for name in answer["labels"].numpy()[0] if name] == chosen
    with pytest.raises(zoo.UsageError, match=r"has no single-label classifier\. Call zoo train .* to train one"):
        pipeline.export_checkpoint(folder, tmp_path / "other", "commands")
