"""What a search varies, and how trials are drawn and judged."""

from __future__ import annotations

import math

import numpy as np
import pytest

import zoo
from zoo.config import TrainConfig
from zoo.errors import UsageError
from zoo.tuning import sampling
from zoo.tuning.records import COMPLETE, Records, Trial, best_of
from zoo.tuning.search import _open_parts
from zoo.tuning.space import read_value, search_space

SPEC = zoo.get_spec("mlp")


@pytest.mark.parametrize(
    ("text", "key", "values"),
    [
        ("learning_rate=1e-4:1e-2:log", "config.learning_rate", (1e-4, 1e-2, True, ())),
        ("model.dropout=0:0.5", "model.dropout", (0, 0.5, False, ())),
        ("epochs=5:20", "config.epochs", (5, 20, False, ())),
        ("hidden_units=[64],[64, 64], []", "model.hidden_units", (None, None, False, ("[64]", "[64, 64]", "[]"))),
        ("number-embedding=bins,waves,null", "model.number_embedding", (None, None, False, ("bins", "waves", "null"))),
    ],
)
def test_ranges_and_choices_are_read(text, key, values):
    (part,) = search_space([text], SPEC)
    assert part.key == key and (part.low, part.high, part.log, part.choices) == values
    assert search_space({part.key: str(part)}, SPEC) == (part,)


def test_word_vectors_decide_the_size_of_the_embedding(tmp_path):
    file = tmp_path / "vectors.txt"
    file.write_text("red 0.5 1 2\nblue 1 2 3\n")
    spec, config = zoo.get_spec("embedding_lstm"), zoo.TrainConfig()
    assert "model.embedding_dim" in {part.key for part in _open_parts(None, spec, config, {})}
    parts = _open_parts(None, spec, config, {"word_vectors": str(file)})
    assert parts and "model.embedding_dim" not in {part.key for part in parts}
    with pytest.raises(UsageError, match=r"model\.embedding_dim is set and is in the search space. Leave one"):
        _open_parts(["embedding_dim=32,64"], spec, config, {"word_vectors": str(file)})


def test_choices_keep_their_types():
    assert [read_value(text) for text in ("32", "0.5", "1e-3", "true", "null", "[64, 64]", "adamw")] == [
        *(32, 0.5, 1e-3, True, None, [64, 64], "adamw")
    ]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (["learning_rate"], r"has 'learning_rate'; expected NAME=VALUES. Pass learning_rate=1e-4:1e-2:log"),
        (["learning_rate=1e-2:1e-4"], r"is '1e-2:1e-4'; expected LOW:HIGH or LOW:HIGH:log"),
        (["learning_rate=0:1:log"], r"begins above 0. Pass 0.001:1:log, say"),
        (["learning_rate=0:1:lin"], r"expected LOW:HIGH or LOW:HIGH:log"),
        (["batch_size=32"], r"expected LOW:HIGH, LOW:HIGH:log, or two or more different choices"),
        (["batch_size=32,32"], r"two or more different choices"),
        (["dropuot=0:1"], r"'dropuot', which mlp does not have. Did you mean 'dropout'"),
        (["num_classes=2:3"], r"'num_classes', which mlp does not have"),
        (["config.dropout=0:1"], r"'config.dropout', which mlp does not have"),
        (["seed=0:9"], r"'seed', which mlp does not have"),
        (["dropout=0:1", "model.dropout=0:1"], r"has model.dropout twice. Leave one"),
        ([], r"The search space is empty. Pass learning_rate"),
    ],
)
def test_invalid_spaces_are_rejected(space, message):
    with pytest.raises(UsageError, match=message):
        search_space(space, SPEC)


@pytest.mark.parametrize("name", zoo.list_models())
def test_declared_spaces_are_valid(name):
    """Every declared value is one that the training takes."""
    for part in search_space(None, zoo.get_spec(name)):
        for value in [part.value(choice) for choice in part.choices] or [part.low, part.high]:
            if part.section == "config":
                TrainConfig(**{part.name: value})
            else:
                assert part.name in zoo.get_spec(name).parameters


def trials(count):
    rng = np.random.default_rng(0)
    found = [Trial(0, {}, COMPLETE, [0.5, 0.6], 0.6, 2)]
    for number in range(1, count):
        rate = float(10 ** rng.uniform(-4, -2))
        value = 0.9 - abs(math.log10(rate) + 3) / 5
        found.append(Trial(number, {"config.learning_rate": rate}, COMPLETE, [value - 0.1, value], value, 2))
    return found


def test_draws_depend_on_the_seed_and_the_earlier_trials_alone():
    space = search_space(["learning_rate=1e-4:1e-2:log"], SPEC)
    earlier = trials(12)
    first = sampling.draw(earlier, space, "max", 3)
    np.random.rand(5)
    assert sampling.draw(earlier, space, "max", 3) == first
    assert sampling.draw(earlier, space, "max", 4) != first
    assert sampling.draw(earlier[:-1], space, "max", 3) != first
    drawn = [sampling.draw(earlier, space, "max", seed)["config.learning_rate"] for seed in range(20)]
    assert np.mean([abs(math.log10(rate) + 3) < 0.5 for rate in drawn]) > 0.7  # at random it would be half of them


def test_trials_below_the_median_of_earlier_ones_are_hopeless():
    space = search_space(["learning_rate=1e-4:1e-2:log"], SPEC)
    earlier = trials(8)
    middle = float(np.median([trial.values[1] for trial in earlier]))
    for gap, hopeless in ((-0.01, True), (0.01, False)):
        trial = Trial(8, {"config.learning_rate": 1e-3})
        judge = sampling.Judge(earlier, trial, space, "max", 0)
        assert not judge.is_hopeless(1, 0.0)  # one epoch says nothing
        assert judge.is_hopeless(2, middle + gap) is hopeless


def test_records_are_read_back_and_another_search_is_rejected(tmp_path):
    records = Records(tmp_path / "search", {"model": "mlp", "space": {"config.learning_rate": "1e-4:1e-2:log"}})
    records.metric, records.trials = ("val_accuracy", "max"), trials(3)
    records.write()
    again = Records(tmp_path / "search", records.searched)
    assert again.trials == records.trials and again.metric == ("val_accuracy", "max")
    assert again.best() == max(records.trials, key=lambda trial: trial.value)
    assert best_of(records.trials, "min") == min(records.trials, key=lambda trial: trial.value)
    with pytest.raises(UsageError, match=r"holds a search with model 'mlp'; received 'cnn'. Pass the same again"):
        Records(tmp_path / "search", {**records.searched, "model": "cnn"})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("x")
    with pytest.raises(UsageError, match=r"is not a search: it holds files, but no search.json. Pass another"):
        Records(tmp_path / "full", {})
