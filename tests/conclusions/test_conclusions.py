"""The lines that end a run, from its own figures."""

import dataclasses

import pytest

import zoo
from zoo.conclusions import Facts, advise, conclude, describe_exported, gathering, lines
from zoo.conclusions.advice import RULES
from zoo.option_words import COMMAND, RUN, option, read_by

ACCURACY = ("val_accuracy", "max")


def run(*rows, names=("accuracy", "val_accuracy", "loss", "val_loss"), **facts):
    """Returns the facts of a run whose last epoch was exported; each row holds the figures of an epoch."""
    history = [{"epoch": n, **dict(zip(names, row, strict=True))} for n, row in enumerate(rows, 1)]
    given = {"history": history, "epochs": len(rows), "exported": len(rows), "monitor": ACCURACY, **facts}
    return Facts(**given)


GOOD = run((0.8, 0.8, 0.5, 0.5), (0.9, 0.9, 0.3, 0.3), (0.9, 0.9, 0.3, 0.31))
"""Nothing can be said: the last epoch is as good as the one before it, and validation is as good as training."""


def test_nothing_is_said_without_a_reason():
    assert [rule(GOOD) for rule in RULES] == [""] * len(RULES)
    assert advise(GOOD) == advise(Facts()) == ""
    assert conclude(GOOD, "") == {"exported": "epoch 3 of 3, the last one"}


@pytest.mark.parametrize(
    ("facts", "phrase"),
    [
        (GOOD, "epoch 3 of 3, the last one"),
        (dataclasses.replace(GOOD, exported=2, selected=True), "epoch 2 of 3, with the best val_accuracy, 0.9000"),
        (
            dataclasses.replace(GOOD, exported=2, selected=True, epochs=20, options={"patience": 1}),
            "epoch 2 of 3, with the best val_accuracy, 0.9000; patience 1 ended the training after 3 of 20",
        ),
        (
            dataclasses.replace(GOOD, epochs=20, options={"patience": None}),
            "epoch 3 of 3, the last one; a callback ended the training after 3 of 20",
        ),
        (
            dataclasses.replace(GOOD, epochs=20, options={"patience": 40, "time_limit": 20.0}),
            "epoch 3 of 3, the last one; the time limit ended the training after 3 of 20",
        ),
        (
            dataclasses.replace(GOOD, options={"ema_momentum": 0.99}),
            "epoch 3 of 3, the last one; the moving average of the weights",
        ),
        (dataclasses.replace(GOOD, options={"closed_form": True}), "the closed-form solution, without epochs"),
        (Facts(), "the weights that the run began with"),
    ],
)
def test_the_exported_epoch_and_the_reason(facts, phrase):
    assert describe_exported(facts) == phrase


@pytest.mark.parametrize(
    ("facts", "advice"),
    [
        (
            run((0.8, 0.80, 0.5, 0.5), (0.9, 0.90, 0.3, 0.3), (0.9, 0.86, 0.3, 0.4)),
            "--config.keep_best 1: val_accuracy was best in epoch 2, 0.9000, and is 0.8600 in the exported one",
        ),
        (
            run((0.5, 1.0), (0.4, 0.5), (0.3, 0.6), names=("loss", "val_loss"), monitor=("val_loss", "min")),
            "--config.keep_best 1: val_loss was best in epoch 2, 0.5000, and is 0.6000 in the exported one",
        ),
        (
            run((0.7, 0.7, 0.9, 0.9), (0.8, 0.8, 0.5, 0.5), (0.9, 0.9, 0.3, 0.3)),
            "--config.epochs 6: val_accuracy was still best in the last of 3 epochs",
        ),
        (run((0.7, 0.7, 0.9, 0.9)), "--config.epochs 5: val_accuracy was still best in the last of 1 epoch"),
        (
            dataclasses.replace(GOOD, full=(0.25, 32), arguments={"max_length": 32}),
            "--model.max_length 64: 25% of the training texts fill all 32 tokens, and may be cut",
        ),
        (
            dataclasses.replace(GOOD, class_counts=[900, 100, 0], macro_recall=0.7, accuracy=0.9),
            "--config.class_weights balanced: the classes have 100 to 900 training examples, and their mean recall on "
            "validation, 0.7000, is below the accuracy, 0.9000",
        ),
        (
            run((0.8, 0.8, 0.5, 0.5), (0.99, 0.85, 0.1, 0.6), (0.99, 0.85, 0.1, 0.6), arguments={"dropout": 0.1}),
            "--model.dropout 0.3: the model is over-fitted, accuracy 0.9900 on training examples, 0.8500 on validation",
        ),
        (
            run(
                *((0.4, 0.5), (0.1, 0.4), (0.1, 0.4)),
                names=("loss", "val_loss"),
                monitor=("val_loss", "min"),
                arguments={"dropout": 0.0},
            ),
            "--model.dropout 0.2: the model is over-fitted, loss 0.1000 on training examples, 0.4000 on validation",
        ),
        (
            run((0.8, 0.8, 0.5, 0.5), (0.99, 0.85, 0.1, 0.6), (0.99, 0.85, 0.1, 0.6), image_sizes=((28, 28), (28, 28))),
            "--config.augmentation '[\"crop\"]': the model is over-fitted, accuracy 0.9900 on training examples, 0.8500 on "
            "validation",
        ),
        (
            run(
                (0.99, 0.85, 0.1, 0.6),
                options={"closed_form": True},
                arguments={"weights": "minilm", "dropout": 0.1},
                class_counts=[1000, 1500],
            ),
            "--config.closed_form false --config.head_first true: the last layer alone was fitted; this trains the published "
            "weights after it",
        ),
        (
            dataclasses.replace(GOOD, published="imagenet"),
            "--model.weights imagenet: the model began with random weights",
        ),
        (
            dataclasses.replace(GOOD, transfer=("mobilenet_v2", "imagenet"), class_counts=[900, 300]),
            "--model mobilenet_v2 --model.weights imagenet: these published weights are on this machine, and the model "
            "learned 1,200 images from random weights",
        ),
        (
            dataclasses.replace(GOOD, image_sizes=((480, 640), (32, 32)), arguments={"input_shape": (32, 32, 3)}),
            "--model.input_shape '[64, 64, 3]': the images have 480 x 640 pixels, the model gets 32 x 32",
        ),
    ],
)
def test_each_reason_names_its_option(facts, advice):
    assert advise(facts) == advice


@pytest.mark.parametrize(
    "facts",
    [
        dataclasses.replace(GOOD, full=(0.25, 32)),  # the model has no max_length
        dataclasses.replace(GOOD, full=(0.05, 32), arguments={"max_length": 32}),
        dataclasses.replace(GOOD, full=(0.5, 512), arguments={"max_length": 512, "weights": "hf:bert"}),
        dataclasses.replace(
            GOOD, class_counts=[900, 9], macro_recall=0.7, accuracy=0.9, options={"class_weights": "balanced"}
        ),
        dataclasses.replace(GOOD, class_counts=[900, 9], macro_recall=0.9, accuracy=0.9),
        dataclasses.replace(GOOD, class_counts=[100, 90], macro_recall=0.7, accuracy=0.9),
        dataclasses.replace(GOOD, transfer=("mobilenet_v2", "imagenet"), class_counts=[9_000, 9_000]),
        dataclasses.replace(GOOD, image_sizes=((48, 48), (32, 32)), arguments={"input_shape": (32, 32, 3)}),
        run((0.8, 0.8, 0.5, 0.5), (0.99, 0.85, 0.1, 0.6), (0.99, 0.85, 0.1, 0.6), arguments={"dropout": 0.5}),
        run((0.99, 0.85, 0.1, 0.6), arguments={"dropout": 0.2}, options={"closed_form": True}),
        run((0.7, 0.7, 0.9, 0.9), (0.8, 0.8, 0.5, 0.5), options={"schedule": "cosine"}),
        run((0.99, 0.85, 0.1, 0.6), options={"closed_form": True}, arguments={"dropout": 0.1}),  # it draws nothing
        run(
            (0.99, 0.85, 0.1, 0.6), options={"closed_form": True}, arguments={"weights": "minilm"}, class_counts=[5, 5]
        ),
        run((0.7, 0.7, 0.9, 0.9), (0.8, 0.8, 0.5, 0.5), epochs=9),  # patience or a callback has ended it
        dataclasses.replace(run((0.9, 0.9, 0.3, 0.3), (0.8, 0.8, 0.5, 0.5)), exported=1, selected=True),
    ],
)
def test_an_option_that_cannot_help_is_not_named(facts):
    assert advise(facts) == ""


@pytest.mark.parametrize(
    ("model", "data", "name"),
    [
        ("mlp", "digits", ""),
        ("mobilenet_v2", "digits", "imagenet"),
        ("convnext_tiny", "digits", "imagenet"),
        ("bert", "commands", "hf:sentence-transformers/all-MiniLM-L6-v2"),
        ("bert_tiny", "commands", ""),
    ],
)
def test_a_family_with_published_weights_names_some(model, data, name):
    prepared = zoo.datasets.load(data).prepare(model)
    assert gathering._published(prepared) == name
    assert gathering._published(dataclasses.replace(prepared, start={"run": "runs/earlier"})) == ""


def test_weights_of_another_model_are_named_only_if_they_are_on_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    digits = zoo.datasets.load("digits")
    prepared = digits.prepare("cnn")
    assert gathering._transfer(prepared) == ()
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224.h5").touch()
    assert gathering._transfer(prepared) == ("mobilenet_v2", "imagenet")
    assert gathering._transfer(digits.prepare("mobilenet_v2")) == (), "its own weights are named"
    assert gathering._transfer(zoo.datasets.load("iris").prepare("mlp")) == ()


def test_a_run_ends_with_the_lines_and_its_report_has_them(tmp_path, capsys):
    config = {"epochs": 3, "keep_best": 1}
    result = zoo.run("mlp", "iris", config=config, run_directory=tmp_path / "run", baselines="none", export=False)
    best = min(result.history, key=lambda row: row["val_loss"])
    found = result.report["conclusions"]
    assert found["exported"] == f"epoch {best['epoch']} of 3, with the best val_loss, {best['val_loss']:.4f}"
    accuracy, base = result.report["accuracy"], result.report["baseline"]["accuracy"]
    better = "this model is better than the most frequent class by"
    assert found["compared"].startswith(f"accuracy {accuracy:.4f}: {better} {accuracy - base:.4f}")
    ended = capsys.readouterr().out.rstrip()
    assert ended.endswith(lines(found, export=False)) and "\nModel:      epoch" in ended and "Exported:" not in ended
    assert zoo.evaluation.read_report(tmp_path / "run" / "evaluation.json")["conclusions"] == found


def test_options_are_in_the_words_of_the_command_line_or_of_python():
    advice = {"advice": "--config.augmentation '[\"crop\"]': the model is over-fitted"}
    assert lines(advice) == "Try next:   config={'augmentation': ['crop']}: the model is over-fitted"
    two = {"advice": "--config.closed_form false --config.head_first true --model.weights hf:org/name: the last layer"}
    assert lines(two) == (
        "Try next:   config={'closed_form': False, 'head_first': True}, model_arguments={'weights': 'hf:org/name'}: the last "
        "layer"
    )
    other = {"advice": "--model mobilenet_v2 --model.weights imagenet: these published weights"}
    assert lines(other) == (
        "Try next:   model='mobilenet_v2', model_arguments={'weights': 'imagenet'}: these published weights"
    )
    with read_by(COMMAND):
        assert lines(advice) == f"Try next:   {advice['advice']}"
        with read_by(RUN):
            assert option("data", "header", False) == "--data.header false"
    with read_by(RUN):
        assert option("data", "columns", {"label": "kind"}) == "data_arguments={'columns': {'label': 'kind'}}"
