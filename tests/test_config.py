"""TrainConfig: the error message of every check, and reading and writing of YAML."""

from __future__ import annotations

import dataclasses
import inspect
import math

import docstring_parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zoo
from zoo.config import TrainConfig, as_config, read_yaml, to_yaml
from zoo.config_checks import OPTIMIZERS

FIELDS = [field.name for field in dataclasses.fields(TrainConfig)]


def test_defaults_are_valid():
    config = TrainConfig()
    assert (config.epochs, config.batch_size, config.optimizer, config.learning_rate) == (10, 64, "adam", 1e-3)
    assert zoo.TrainConfig is TrainConfig


def test_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig().epochs = 3


WHOLE = {
    "epochs": 1,
    "batch_size": 1,
    "warmup_steps": 0,
    "seed": 0,
    "replicas": 1,
    "steps_per_call": 1,
    "checkpoint_steps": 1,
    "keep_checkpoints": 1,
}


@pytest.mark.parametrize("name", WHOLE)
def test_integer_options_reject_other_values(name):
    least = WHOLE[name]
    for wrong in (least - 1, 2.5, 3.0, "3", True, [3]):
        with pytest.raises(zoo.UsageError) as caught:
            TrainConfig(**{name: wrong})
        assert str(caught.value).startswith(
            f"{name} is {wrong!r}; expected a whole number of at least {least}. Pass {name}="
        )
    strategy = {"strategy": "mirrored"} if name == "replicas" else {}
    assert getattr(TrainConfig(**{name: max(least, 1)}, **strategy), name) == max(least, 1)


@pytest.mark.parametrize("name", [n for n in WHOLE if n not in ("replicas", "checkpoint_steps")])
def test_none_is_rejected_for_integer_options(name):
    with pytest.raises(zoo.UsageError, match=f"^{name} is None; expected a whole number"):
        TrainConfig(**{name: None})


def test_none_is_accepted_where_it_is_the_default():
    config = TrainConfig(replicas=None, checkpoint_steps=None, clip_norm=None)
    assert config == TrainConfig()


@pytest.mark.parametrize("name", ["learning_rate", "clip_norm"])
@pytest.mark.parametrize("wrong", [0, -1e-3, math.inf, math.nan, "1e-3", True, [0.1]])
def test_nonpositive_and_nonnumeric_values_are_rejected(name, wrong):
    with pytest.raises(zoo.UsageError) as caught:
        TrainConfig(**{name: wrong})
    assert str(caught.value) == f"{name} is {wrong!r}; expected a number above 0. Pass {name}=0.001, say."


def test_integer_learning_rates_are_accepted():
    assert TrainConfig(learning_rate=1, clip_norm=5).clip_norm == 5
    with pytest.raises(zoo.UsageError, match="learning_rate is None"):
        TrainConfig(learning_rate=None)


@pytest.mark.parametrize("name", ["deterministic", "histograms"])
@pytest.mark.parametrize("wrong", ["no", 0, None])
def test_boolean_options_reject_other_values(name, wrong):
    """The non-empty text "no" is true in Python."""
    with pytest.raises(zoo.UsageError, match=f"^{name} is {wrong!r}; expected a boolean. Pass true or false.$"):
        TrainConfig(**{name: wrong})


def test_seeds_must_fit_in_32_bits():
    assert TrainConfig(seed=2**32 - 1).seed == 2**32 - 1
    with pytest.raises(
        zoo.UsageError, match=r"^seed is 4294967296; expected a 32-bit number. Pass a number below 4294967296.$"
    ):
        TrainConfig(seed=2**32)


def test_optimizer_must_be_a_name():
    with pytest.raises(zoo.UsageError, match=r"^optimizer is None; expected a name. Pass optimizer='adam', say.$"):
        TrainConfig(optimizer=None)


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("schedule", "cosin", r"^schedule is 'cosin'. Did you mean 'cosine'\?$"),
        ("schedule", "step", r"^schedule is 'step'. Valid: constant, cosine, linear.$"),
        ("schedule", None, r"^schedule is None. (Valid|Did you mean)"),
        ("strategy", "miror", r"^strategy is 'miror'. Did you mean 'mirrored'\?$"),
        ("strategy", "cuda", r"^strategy is 'cuda'. Valid: auto, mirrored, multi_worker, one_device, tpu.$"),
        ("jit_compile", "no", r"^jit_compile is 'no'. Pass true, false or auto.$"),
        ("jit_compile", 0, r"^jit_compile is 0. Pass true, false or auto.$"),
        ("strategy", ["auto"], r"^strategy is \['auto'\]. Did you mean 'auto'"),
    ],
)
def test_invalid_choices_are_rejected(name, wrong, message):
    with pytest.raises(zoo.UsageError, match=message):
        TrainConfig(**{name: wrong})


def test_replicas_require_the_mirrored_strategy():
    message = "^replicas=2 requires strategy='mirrored'; received strategy='auto'. Pass both, or leave replicas out.$"
    with pytest.raises(zoo.UsageError, match=message):
        TrainConfig(replicas=2)
    assert TrainConfig(replicas=2, strategy="mirrored").replicas == 2


def test_every_replica_needs_an_example():
    with pytest.raises(
        zoo.UsageError, match=r"^batch_size=3 is smaller than replicas=4: a device would get no example. Pass"
    ):
        TrainConfig(replicas=4, strategy="mirrored", batch_size=3)
    assert TrainConfig(replicas=4, strategy="mirrored", batch_size=4).batch_size == 4


def test_errors_are_value_errors():
    with pytest.raises(ValueError, match="epochs is 0"):
        TrainConfig(epochs=0)


def test_unknown_key_suggests_the_nearest_name():
    with pytest.raises(zoo.UsageError, match=r"^TrainConfig has no field 'epoch'. Did you mean 'epochs'\?$"):
        TrainConfig.from_dict({"epoch": 3})
    with pytest.raises(zoo.UsageError, match=r"no field 'learnign_rate'. Did you mean 'learning_rate'"):
        TrainConfig.from_dict({"epochs": 2, "learnign_rate": 0.1})
    with pytest.raises(zoo.UsageError, match=r"^TrainConfig has no field 5. Valid: .*batch_size"):
        TrainConfig.from_dict({5: 3})


def test_the_constructor_suggests_the_nearest_name():
    with pytest.raises(zoo.UsageError, match=r"^TrainConfig has no field 'lr'. Pass learning_rate=0.1\.$"):
        TrainConfig(lr=0.1)
    with pytest.raises(zoo.UsageError, match=r"^TrainConfig has no field 'epoch'. Did you mean 'epochs'\?$"):
        TrainConfig(epoch=3)
    assert list(inspect.signature(TrainConfig).parameters) == FIELDS


def test_optimizers_are_those_of_keras():
    import keras

    classes = {cls for cls in vars(keras.optimizers).values() if isinstance(cls, type)}
    others = {keras.optimizers.Optimizer, keras.optimizers.LossScaleOptimizer}
    own = {cls.__name__.lower() for cls in classes - others if issubclass(cls, keras.optimizers.Optimizer)}
    assert own - {"multioptimizer"} == set(OPTIMIZERS), "which needs the optimizers that it is made of"
    with pytest.raises(zoo.UsageError, match=r"Unknown optimizer 'addam'. Did you mean 'adam'"):
        TrainConfig(optimizer="addam")


def test_options_may_be_a_dict():
    assert as_config({"epochs": 3}) == TrainConfig(epochs=3) and as_config(None) == TrainConfig()
    with pytest.raises(zoo.UsageError, match=r"config is \[1\]; expected training options. Pass zoo.TrainConfig"):
        as_config([1])


def test_omitted_options_keep_their_defaults():
    assert TrainConfig.from_dict({}) == TrainConfig()
    assert TrainConfig.from_dict({"epochs": 3}) == TrainConfig(epochs=3)


def test_every_field_has_a_docstring_entry():
    told = {p.arg_name: p.description for p in docstring_parser.parse(inspect.getdoc(TrainConfig) or "").params}
    assert list(told) == FIELDS
    assert all(told.values())


configs = st.builds(
    TrainConfig,
    epochs=st.integers(1, 10**6),
    batch_size=st.integers(64, 10**6),
    optimizer=st.sampled_from(["adam", "sgd", "AdamW"]),
    monitor=st.sampled_from([None, "val_loss", "null", "1e3", "yes", "a: b", "ümlaut"]),
    learning_rate=st.floats(1e-300, 1e300),
    schedule=st.sampled_from(["constant", "linear", "cosine"]),
    clip_norm=st.none() | st.floats(1e-12, 1e12),
    seed=st.integers(0, 2**32 - 1),
    deterministic=st.booleans(),
    strategy=st.just("mirrored"),
    replicas=st.none() | st.integers(1, 64),
    checkpoint_steps=st.none() | st.integers(1, 10**9),
)


@settings(max_examples=50, deadline=None)
@given(configs)
def test_yaml_round_trip_preserves_the_config(tmp_path_factory, config):
    file = tmp_path_factory.getbasetemp() / "config.yaml"
    file.write_text(to_yaml({"config": config.to_dict()}), encoding="utf-8")
    again = read_yaml(file)
    assert again == {"config": config.to_dict()}
    assert TrainConfig.from_dict(again["config"]) == config


def test_yaml_is_written_in_plain_style():
    content = {"model": {"name": "cnn", "filters": [32, 64], "dense_units": None}, "config": {"seed": 0}}
    assert to_yaml(content) == "model:\n  name: cnn\n  filters: [32, 64]\n  dense_units: null\nconfig:\n  seed: 0\n"
    assert to_yaml({"source": "Größe"}) == "source: Größe\n"


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 0.001), ("1E-3", 0.001), ("3e4", 3e4), ("+1e3", 1e3), (".5e1", 5.0), ("2.e-1", 0.2), ("-1e-3", -0.001)],
)
def test_numbers_with_an_exponent_are_read_as_floats(tmp_path, text, value):
    """PyYAML follows YAML 1.1, which reads 1e-3 as text."""
    (tmp_path / "c.yaml").write_text(f"learning_rate: {text}\nlist: [{text}]\n")
    content = read_yaml(tmp_path / "c.yaml")
    assert content == {"learning_rate": value, "list": [value]}
    assert isinstance(content["learning_rate"], float)


@pytest.mark.parametrize("text", ["e3", "1e", "1e-", "1e3x", "v1e3", '"1e3"', "1e3 4"])
def test_text_that_resembles_numbers_stays_text(tmp_path, text):
    (tmp_path / "c.yaml").write_text(f"name: {text}\n")
    assert read_yaml(tmp_path / "c.yaml") == {"name": text.strip('"')}


def test_reading_a_missing_file_is_rejected(tmp_path):
    with pytest.raises(
        zoo.UsageError, match=r"^Cannot read .*none.yaml: No such file.*\. Pass the config.yaml of a run.$"
    ):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(zoo.UsageError, match=r"^Cannot read .*: Is a directory\. Pass"):
        read_yaml(tmp_path)


@pytest.mark.parametrize(
    "content", [b"a: [1, 2", b"a: b: c", b"\xff\xfe\x00\x01", b"a: !!python/object:os.system x", b"? [a, b]\n: c"]
)
def test_reading_invalid_yaml_is_rejected(tmp_path, content):
    (tmp_path / "c.yaml").write_bytes(content)
    with pytest.raises(zoo.UsageError, match=r"^[^\n]*c.yaml is not YAML: [^\n]*$"):
        read_yaml(tmp_path / "c.yaml")


@pytest.mark.parametrize(
    ("content", "held"), [("", "nothing"), ("- a\n- b", "a list"), ("5", "a int"), ("text", "a str")]
)
def test_reading_yaml_without_a_mapping_is_rejected(tmp_path, content, held):
    (tmp_path / "c.yaml").write_text(content)
    with pytest.raises(
        zoo.UsageError, match=f"c.yaml holds {held}; expected a mapping. Write `model:`, `data:` and `con"
    ):
        read_yaml(str(tmp_path / "c.yaml"))


def test_duplicate_keys_are_rejected(tmp_path):
    """PyYAML silently uses the last value."""
    (tmp_path / "c.yaml").write_text("config:\n  epochs: 5\n  seed: 1\n  epochs: 50\n")
    with pytest.raises(zoo.UsageError, match=r"c.yaml is not YAML: .*the key 'epochs' occurs twice.*line 4"):
        read_yaml(tmp_path / "c.yaml")
