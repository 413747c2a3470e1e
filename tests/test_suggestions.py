"""What a message suggests to type: options of other sections, weights, settings of a run that is there."""

import numpy as np
import pytest

import zoo
from zoo import recommended
from zoo.cross_validation import CrossValidation
from zoo.registry import ModelSpec, Situation
from zoo.scripts import cli

ROWS = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)


@pytest.mark.parametrize(
    ("model", "words", "message"),
    [
        ("mlp", ["--epochs", "5"], r"Unknown option --epochs\. Pass --config\.epochs\."),
        ("embedding_lstm", ["--dropout", "0.5"], r"Unknown option --dropout\. Pass --model\.dropout\."),
        ("mlp", ["--units", "64"], r"Unknown option --units\. Pass .*--model\.hidden_units\."),
        ("mlp", ["--config.epoch", "5"], r"Unknown option --config\.epoch\. Did you mean '--config\.epochs'"),
        (
            "mlp",
            ["--model.weights", "imagenet"],
            r"Unknown option --model\.weights: bert, .*resnet50.* have it\. Choose one",
        ),
    ],
)
def test_a_mistyped_option_names_the_one_that_was_meant(model, words, message, capsys):
    assert cli.main(["train", "--model", model, "--data", "digits", *words]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(error)


def test_a_model_without_weights_names_those_that_have_them():
    with pytest.raises(zoo.UsageError, match=r"'mlp' has no argument 'weights'; bert, .* have it\. Choose one"):
        zoo.build("mlp", input_shape=(4,), num_classes=2, weights="imagenet")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("imagenet", r"'imagenet' is not the name of weights\. Pass --model \w+ too, or one of .*resnet50"),
        ("google-bert/bert-base-cased", r"Pass hf:google-bert/bert-base-cased\. `zoo list --pretrained`"),
        ("./folder", r"Pass hf:ORG/NAME, or imagenet with --model\."),
    ],
)
def test_a_name_that_is_fetched_without_its_prefix(name, message, capsys):
    assert cli.main(["fetch", name]) == 2
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(capsys.readouterr().err)


def test_an_argument_that_the_data_decides_is_not_ignored():
    data = zoo.datasets.load("iris")
    with pytest.raises(zoo.UsageError, match=r"input_shape=\[9\] contradicts data set 'iris'.*\(4,\) follows\. Leave"):
        data.prepare("mlp", input_shape=[9])
    assert data.prepare("mlp", input_shape=[4]).arguments["input_shape"] == (4,)
    images = zoo.datasets.load("digits").prepare("cnn", input_shape=[16, 16, 1])
    assert images.arguments["input_shape"] == (16, 16, 1), "the preprocessor of images uses it"


def test_rows_of_floats_with_a_float_each_need_a_task():
    with pytest.raises(
        zoo.UsageError, match=r"fit several tasks\. Pass task='forecasting' or task='tabular_regression'"
    ):
        zoo.datasets.load((ROWS, ROWS[:, 0] + 0.5))
    for task in ("forecasting", "tabular_regression"):
        assert zoo.datasets.load((ROWS, ROWS[:, 0] + 0.5), task=task).task == task
    assert zoo.datasets.load((ROWS, ROWS[:, 0] + 0.5), model="lstm").task == "forecasting"


def test_ratings_as_floats_are_classes_only_with_a_word(capsys):
    texts = [f"text {n}" for n in range(60)]
    zoo.datasets.load((texts, np.arange(60) % 3 * 1.0))
    said = (
        "y has floats without fractions, which are taken as 3 classes. Pass task='text_regression' to predict numbers."
    )
    assert said in capsys.readouterr().out
    zoo.datasets.load((texts, np.arange(60) % 3))
    zoo.datasets.load((texts, np.arange(60) % 3 * 1.0), task="text_classification")
    assert "y has floats" not in capsys.readouterr().out


def broken(situation):
    return {}["rows"]


@pytest.mark.parametrize(
    ("function", "of", "message"),
    [
        (broken, recommended.arguments_of, r"recommended_arguments of the model 'own' failed for 9 examples.*KeyError"),
        (
            lambda _: None,
            recommended.options_of,
            r"recommended_options of the model 'own' returned None; expected a dict",
        ),
        (lambda _: {"epoch": 3}, recommended.options_of, r"returned 'epoch', which is unknown\. Did you mean 'epochs'"),
        (lambda _: {"epochs": -3}, recommended.options_of, r"recommended_options of the model 'own': epochs is -3"),
        (
            lambda _: {"width": 3},
            recommended.arguments_of,
            r"'own' returned 'width', which is unknown\. Valid: situation\.",
        ),
    ],
)
def test_a_wrong_recommendation_names_the_model(function, of, message):
    spec = ModelSpec("own", broken, (), "none", recommended_arguments=function, recommended_options=function)
    with pytest.raises(zoo.UsageError, match=message):
        of(spec, Situation("tabular_regression", 9, {}))


def test_a_recommendation_that_has_changed_names_what_to_type(tmp_path, monkeypatch):
    arguments = {"run_directory": tmp_path / "run", "baselines": "none", "export": False, "verbose": 0}
    zoo.run("mlp", "iris", config={"epochs": 1}, **arguments)
    options = zoo.get_spec("mlp").recommended_options

    def changed(situation):
        return {**options(situation), "patience": 50}

    spec = zoo.get_spec("mlp")
    object.__setattr__(spec, "recommended_options", changed)
    try:
        message = (
            r"config\.patience=40; this one has 50, because patience was not passed\. .*"
            r"Pass patience=40 \(--config\.patience 40\) to resume, another run_directory, or overwrite=True"
        )
        with pytest.raises(zoo.UsageError, match=message):
            zoo.run("mlp", "iris", config={"epochs": 1}, **arguments)
        assert zoo.run("mlp", "iris", config={"epochs": 1, "patience": 40}, **arguments).report
        with pytest.raises(zoo.UsageError, match=r"config\.patience=40; this one has 41\. Pass another run_directory"):
            zoo.run("mlp", "iris", config={"epochs": 1, "patience": 41}, **arguments)
    finally:
        object.__setattr__(spec, "recommended_options", options)


def test_cross_validation_shows_the_baselines(tmp_path):
    runs = {
        f"fold-{n}": {
            "accuracy": 0.9,
            "accuracy, always a": 0.5,
            "accuracy, tree": 0.8 + n / 10,
            "F1": 0.7,
            "F1, tree": 0.6,
        }
        for n in range(2)
    }
    lines = repr(CrossValidation(tmp_path, runs, True)).splitlines()
    assert lines[1:] == [
        "accuracy: 0.9000 +- 0.0000 (baseline 0.5000 +- 0.0000 always a, 0.8500 +- 0.0500 tree)",
        "F1: 0.7000 +- 0.0000 (baseline 0.6000 +- 0.0000 tree)",
    ]


def test_a_run_without_data_says_how_to_pass_it():
    for arguments in (((np.zeros((4, 2)), np.arange(4)),), ("cnn",), ()):
        with pytest.raises(
            zoo.UsageError, match=r"^zoo\.run needs data\..*Pass zoo\.run\('cnn', \(x, y\)\), say, or zoo\.run\(data="
        ):
            zoo.run(*arguments)


def test_a_corpus_that_nobody_would_search_is_refused(capsys):
    for words in (["model.keras", "out"], ["folder", "out", "--data", "digits"]):
        assert cli.main(["export", *words, "--corpus", "lines:texts.txt"]) == 2
        assert "--corpus is for runs and published weights of text encoders, without --data" in capsys.readouterr().err
