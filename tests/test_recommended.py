"""What a model recommends for its data, and the options that the user passes instead."""

import numpy as np
import pandas as pd
import pytest

import zoo
from zoo import registry
from zoo.config import TrainConfig, read_yaml
from zoo.errors import UsageError
from zoo.scripts.console import Parser
from zoo.scripts.train import run_arguments, run_parser
from zoo.tasks import list_tasks


def test_the_options_that_were_passed_are_known():
    assert TrainConfig().given == frozenset()
    assert TrainConfig(3, batch_size=64).given == {"epochs", "batch_size"}
    assert TrainConfig.from_dict({"seed": 0}).given == {"seed"}


def test_a_recommendation_yields_to_what_was_passed_even_to_a_default():
    recommended = {"epochs": 300, "batch_size": 32, "patience": 40, "keep_best": 1}
    config = TrainConfig(batch_size=64, patience=None).completed(recommended)
    assert (config.epochs, config.batch_size, config.patience, config.keep_best) == (300, 64, None, 1)
    assert config.completed({"epochs": 7}).epochs == 300, "all options of the result count as passed"


def test_options_of_another_optimizer_are_left_out():
    recommended = {"optimizer": "adamw", "learning_rate": 5e-5, "weight_decay": 0.01, "epochs": 3}
    other = TrainConfig(optimizer="sgd").completed(recommended)
    assert (other.optimizer, other.learning_rate, other.weight_decay, other.epochs) == ("sgd", 1e-3, None, 3)
    same = TrainConfig(optimizer="adamw").completed(recommended)
    assert (same.learning_rate, same.weight_decay) == (5e-5, 0.01)
    assert TrainConfig(learning_rate=0.1).completed(recommended).optimizer == "adamw"


def test_warm_ups_do_not_contradict_each_other():
    assert TrainConfig(warmup_steps=10).completed({"warmup_fraction": 0.1}).warmup_fraction == 0.0


def test_without_a_validation_split_nothing_is_selected():
    recommended = {"patience": 5, "keep_best": 1, "monitor": "val_loss", "epochs": 30}
    config = TrainConfig().completed(recommended, validation=False)
    assert (config.patience, config.keep_best, config.monitor, config.epochs) == (None, 0, None, 30)


def test_a_closed_form_takes_no_recommendation():
    assert TrainConfig(closed_form=True).completed({"patience": 5, "epochs": 30}) == TrainConfig(closed_form=True)


@pytest.mark.parametrize("name", registry.list_models())
def test_recommendations_are_valid(name):
    spec = registry.get_spec(name)
    defaults = {key: part.default for key, part in spec.parameters.items() if part.default is not part.empty}
    for task in spec.tasks or list_tasks():
        for examples in (1, 100, 10_000, 10_000_000):
            situation = registry.Situation(task, examples, {})
            registry.check_arguments(spec, spec.recommended_arguments(situation))
            situation = registry.Situation(task, examples, {**defaults, **spec.recommended_arguments(situation)})
            TrainConfig().completed(spec.recommended_options(situation))


def arguments_of(*words):
    parsed = run_parser(["--model", "mlp", "--data", "iris", *words], lambda names: Parser("train", names))
    return run_arguments(*parsed)[0]


def test_the_command_line_passes_what_was_typed_and_nothing_else():
    given = arguments_of("--config.batch_size=64", "--config.epochs", "2", "--model.dropout", "0.0")
    assert given["config"].given == {"batch_size", "epochs"}
    assert given["model_arguments"] == {"dropout": 0.0}
    assert arguments_of()["config"].given == frozenset()


def test_a_recipe_passes_its_options(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("model: {name: mlp, hidden_units: [8]}\nconfig: {epochs: 10, seed: 3}\n")
    given = arguments_of("--config", str(file), "--config.seed", "4")
    assert (given["config"].given, given["config"].seed) == ({"epochs", "seed"}, 4)
    assert given["model_arguments"] == {"hidden_units": [8]}


def test_a_run_takes_prints_and_records_what_is_recommended(tmp_path, capsys):
    arguments = {"config": {"epochs": 2}, "run_directory": tmp_path / "run", "export": False, "baselines": "none"}
    zoo.run("mlp", "iris", **arguments)
    printed = capsys.readouterr().out
    recorded = read_yaml(tmp_path / "run" / "config.yaml")["config"]
    assert (recorded["epochs"], recorded["batch_size"], recorded["monitor"]) == (2, 32, "val_loss")
    assert "examples: batch_size 32, monitor val_loss, patience 40, keep_best 1" in printed
    zoo.run("mlp", "iris", **arguments)  # is finished, and has the same options
    with pytest.raises(UsageError, match="batch_size"):
        zoo.run("mlp", "iris", **{**arguments, "config": {"epochs": 2, "batch_size": 64}})


def test_train_takes_and_prints_them_too_but_not_for_a_model_that_its_owner_compiled(capsys):
    import keras

    import zoo

    prepared = zoo.datasets.load("iris").prepare("mlp", hidden_units=(4,))
    assert prepared.complete().batch_size == 32
    with zoo.strategy("one_device").scope():
        model = prepared.build(seed=0)
        own = prepared.build(seed=0)
        own.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    history = zoo.train(model, prepared, {"epochs": 2, "patience": 1}, verbose=2).history
    assert "val_loss" in history[-1]
    assert capsys.readouterr().out.startswith(
        "recommended for 119 examples: batch_size 32, monitor val_loss, keep_best 1"
    )
    assert len(zoo.train(own, prepared, {"epochs": 3}, verbose=0).history) == 3


def test_a_large_table_gets_an_ensemble_unless_the_user_says_otherwise():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=5_000), "label": rng.choice(["no", "yes"], 5_000)})
    data = zoo.datasets.load(frame, columns={"label": "label"})
    prepared = data.prepare("mlp", hidden_units=(4,))
    assert (prepared.arguments["members"], prepared.arguments["hidden_units"]) == (8, (4,))
    assert prepared.recommended == {"dropout": 0.1, "members": 8}
    assert prepared.describe()["model"]["members"] == 8, "so that config.yaml repeats the run"
    assert data.prepare("mlp", members=1).arguments["members"] == 1
    assert data.prepare("mlp", classifier_activation=None).arguments["members"] == 1
    assert zoo.datasets.load("iris").prepare("mlp").arguments["members"] == 1


def test_options_of_a_training_exclude_a_recommended_closed_form():
    assert TrainConfig().completed({"closed_form": True}).closed_form
    assert TrainConfig(seed=3).completed({"closed_form": True}).closed_form
    for given in ({"epochs": 3}, {"class_weights": "balanced"}, {"learning_rate": 0.01}):
        assert not TrainConfig(**given).completed({"closed_form": True}).closed_form
