"""The registry: names, builders and messages. Importing and listing must not import TensorFlow."""

from __future__ import annotations

import inspect
import shutil
import sys
import types
from pathlib import Path

import pytest

import zoo
from zoo import registry


@pytest.fixture
def scratch(monkeypatch):
    """Lets a test register models; removes them afterwards."""
    zoo.list_models()  # scan all modules before copying the registry
    monkeypatch.setattr(registry.MODELS, "entries", dict(registry.MODELS.entries))


def builder(title: str = "build_thing_model", module: str = "somewhere.things", **namespace):
    """Makes a builder function with the given name and module."""
    exec(f"def {title}(size, depth=2):\n    '''Things.\n\n    More.\n    '''\n    return make(size, depth)", namespace)
    function = namespace[title]
    function.__module__ = module
    return function


def register(function, **arguments):
    return zoo.register_model(**{"tasks": ("image_classification",), "reference": "none", **arguments})(function)


def test_every_public_name_exists():
    assert {name for name in zoo.__all__ if not hasattr(zoo, name)} == set()
    assert zoo.cross_validate.__module__ == "zoo.cross_validation"


def test_list_is_sorted_and_every_name_has_a_spec():
    names = zoo.list_models()
    assert names == sorted(names)
    assert {"cnn", "mlp"} <= set(names)
    for name in names:
        spec = zoo.get_spec(name)
        assert spec.name == name
        assert spec.builder.__name__ == f"build_{name}_model"


def test_list_can_be_filtered_by_pattern():
    assert zoo.list_models("c*n") == ["cnn"]
    assert zoo.list_models("C*") == []
    assert zoo.list_models("no such model") == []


def test_list_can_be_filtered_by_task(scratch):
    register(builder(), tasks=("parsing",))
    assert zoo.list_models(task="parsing") == ["thing"]
    assert "thing" not in zoo.list_models(task="image_classification")
    assert zoo.list_models("c*", task="parsing") == []


def test_unknown_task_suggests_the_nearest_one():
    with pytest.raises(zoo.UsageError, match=r"No model serves the task 'image_clasification'. Did you mean 'image_c"):
        zoo.list_models(task="image_clasification")


def test_every_task_of_every_model_exists():
    from zoo.tasks import list_tasks

    for name in zoo.list_models():
        assert set(zoo.get_spec(name).tasks) <= set(list_tasks())


def test_unknown_model_suggests_the_nearest_name():
    with pytest.raises(zoo.UsageError, match=r"^Unknown model 'cn'. Did you mean 'cnn'\?$"):
        zoo.get_spec("cn")
    with pytest.raises(zoo.UsageError, match=r"Unknown model 'zzz'. `zoo list` prints the \d+ valid names."):
        zoo.build("zzz")


def test_long_lists_of_names_are_not_printed(scratch):
    for i in range(13):
        register(builder(f"build_thing{i}_model"))
    with pytest.raises(zoo.UsageError, match=r"Unknown model 'zzzzz'. `zoo list` prints the \d+ valid names.$"):
        zoo.get_spec("zzzzz")


def test_two_nearest_names_are_suggested(scratch):
    register(builder("build_cnn2_model"))
    with pytest.raises(zoo.UsageError, match="Did you mean 'cnn2' or 'cnn'"):
        zoo.get_spec("cnn2d")


def test_two_modules_cannot_register_the_same_name(scratch):
    register(builder(module="first.module"))
    with pytest.raises(ValueError, match=r"'thing' is registered twice: by first.module and by other.module. Rename"):
        register(builder(module="other.module"))
    assert zoo.get_spec("thing").builder.__module__ == "first.module"


def test_the_same_module_can_register_a_name_again(scratch):
    """This happens on a reload, or when a notebook cell runs twice."""
    register(builder(), reference="before")
    register(builder(), reference="after")
    assert zoo.get_spec("thing").reference == "after"


@pytest.mark.parametrize("title", ["make_thing_model", "build_thing", "thing", "build_model", "build__model"])
def test_builder_names_must_follow_the_pattern(scratch, title):
    with pytest.raises(ValueError, match=f"The name of a builder must be build_NAME_model; received {title}. Rename"):
        register(builder(title))


def test_build_passes_and_records_all_arguments(scratch):
    made = {}

    def make(size, depth):
        made.update(size=size, depth=depth)
        return types.SimpleNamespace()

    register(builder(make=make))
    model = zoo.build("thing", size=(3, 4))
    assert made == {"size": (3, 4), "depth": 2}
    assert registry.describe_build(model) == {"name": "thing", "arguments": {"size": [3, 4], "depth": 2}}
    assert registry.describe_build(zoo.build_thing_model(5, depth=1))["arguments"] == {"size": 5, "depth": 1}


def test_describe_build_returns_none_for_unknown_objects():
    assert registry.describe_build(types.SimpleNamespace()) is None


def test_unknown_argument_suggests_the_nearest_name(scratch):
    register(builder())
    with pytest.raises(zoo.UsageError, match=r"^Model 'thing' has no argument 'dept'. Did you mean 'depth'\?$"):
        zoo.build("thing", size=1, dept=3)


def test_missing_argument_message_shows_the_correct_call(scratch):
    register(builder())
    with pytest.raises(zoo.UsageError, match=r"needs size; received depth. Call zoo.build\('thing', size=...\)"):
        zoo.build("thing", depth=1)
    with pytest.raises(zoo.UsageError, match="needs size; received no arguments"):
        zoo.build("thing")


def test_type_error_names_the_builder(scratch):
    register(builder(make=lambda size, depth: None))
    with pytest.raises(TypeError, match=r"build_thing_model\(\) missing 1 required positional argument: 'size'"):
        zoo.build_thing_model()
    with pytest.raises(TypeError, match=r"build_thing_model.. got an unexpected keyword argument 'dept'"):
        zoo.build_thing_model(1, dept=3)


def test_builders_are_attributes_of_the_package():
    assert zoo.build_cnn_model is zoo.get_spec("cnn").builder
    for name in zoo.list_models():
        assert f"build_{name}_model" in dir(zoo)
    with pytest.raises(AttributeError, match="module 'zoo' has no attribute 'trian'"):
        _ = zoo.trian
    with pytest.raises(Exception, match="Did you mean 'cnn'"):
        _ = zoo.build_cn_model


def test_spec_is_immutable():
    spec = zoo.get_spec("cnn")
    with pytest.raises(AttributeError):
        spec.name = "other"
    with pytest.raises(TypeError):
        spec.tiny["num_classes"] = 5
    with pytest.raises(TypeError):
        spec.preprocessing["image_size"] = (1, 1)


def test_spec_reads_the_builder(scratch):
    register(builder())
    spec = zoo.get_spec("thing")
    assert spec.summary == "Things."
    assert list(spec.parameters) == ["size", "depth"]
    assert spec.parameters["depth"].default == 2


def test_plain_converts_values_to_yaml_types():
    assert registry.plain({"a": (1, [2, (3,)]), 4: "x"}) == {"a": [1, [2, [3]]], "4": "x"}


def test_variant_is_its_family_with_different_defaults(scratch):
    made = []

    def make(size, depth):
        made.append((size, depth))
        return types.SimpleNamespace()

    family = register(builder(make=make), tiny={"size": 1}, features_layer="f", heavy=True)
    variant = registry.register_variant(family, "thing_deep", "Deep things.", golden=(({"size": 1}, 7),), depth=9)
    spec, whole = zoo.get_spec("thing_deep"), zoo.get_spec("thing")
    assert spec.builder is variant is zoo.build_thing_deep_model
    assert (spec.variant_of, whole.variant_of, spec.golden) == ("thing", None, (({"size": 1}, 7),))
    for field in ("tasks", "reference", "features_layer", "preprocessing", "tiny", "heavy", "data_arguments"):
        assert getattr(spec, field) == getattr(whole, field), field
    assert spec.summary == "Deep things." and inspect.getdoc(variant).endswith("More.")
    assert {n: p.default for n, p in spec.parameters.items()} == {"size": inspect.Parameter.empty, "depth": 9}
    described = [registry.describe_build(m) for m in (zoo.build("thing_deep", size=3), variant(4, depth=1), family(5))]
    assert made == [(3, 9), (4, 1), (5, 2)]
    assert described == [
        {"name": "thing_deep", "arguments": {"size": 3, "depth": 9}},
        {"name": "thing_deep", "arguments": {"size": 4, "depth": 1}},
        {"name": "thing", "arguments": {"size": 5, "depth": 2}},
    ]
    assert zoo.list_models("thing*") == ["thing", "thing_deep"]
    assert zoo.list_models("thing*", variants=False) == ["thing"]


def test_variant_requires_a_registered_family_and_known_arguments(scratch):
    with pytest.raises(ValueError, match=r"^build_thing_model is not registered. Put @register_model on it.$"):
        registry.register_variant(builder(), "thing_deep", "Deep.", golden=())
    family = register(builder())
    with pytest.raises(ValueError, match=r"^build_thing_model has no argument 'dept'. Did you mean 'depth'"):
        registry.register_variant(family, "thing_deep", "Deep.", golden=(), dept=9)


NEW_FAMILY = '''
from zoo.registry import register_model

@register_model(tasks=("image_classification",), reference="none")
def build_dropped_in_model(num_classes):
    """Came with its file."""
'''


def test_new_file_in_the_models_folder_is_found(run_python, tmp_path):
    copy = shutil.copytree(Path(zoo.__file__).parent, tmp_path / "zoo", ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "models" / "dropped_in.py").write_text(NEW_FAMILY)
    done = run_python(
        """
        import sys
        import zoo
        assert zoo.__file__.startswith(sys.argv[1]), zoo.__file__
        assert "tensorflow" not in sys.modules
        print(zoo.list_models("drop*"), zoo.build_dropped_in_model.__doc__)
        """,
        tmp_path,
        PYTHONPATH=str(tmp_path),
    )
    assert done.stdout == "['dropped_in'] Came with its file.\n"
    assert "dropped_in" not in zoo.list_models()


def test_importing_and_listing_do_not_import_tensorflow(run_python):
    done = run_python(
        """
        import sys
        sys.modules["tensorflow"] = sys.modules["keras"] = None  # importing either raises
        import zoo
        import zoo.export
        from zoo.scripts import cli
        for name in zoo.list_models():
            print(zoo.get_spec(name).summary)
        zoo.TrainConfig(epochs=3).to_dict()
        assert "digits" in zoo.datasets.list_datasets()
        assert "build_cnn_model" in dir(zoo)
        assert zoo.build_cnn_model.__name__ == "build_cnn_model"
        assert cli.main(["list"]) == 0
        try:
            zoo.build("cnn", input_shape=(28, 28, 1), num_classes=10)
        except ImportError:
            print("and building does")
        """
    )
    assert "digits" in done.stdout
    assert done.stdout.endswith("and building does\n")


def test_registry_is_restored_after_tests():
    """The fixture `scratch` restored the registry."""
    assert "thing" not in zoo.list_models()
    assert "zoo.models.cnn" in sys.modules


def test_unknown_builder_raises_attribute_error():
    import zoo

    assert not hasattr(zoo, "build_nothing_model")
    with pytest.raises(AttributeError, match=r"Unknown model 'cn'. Did you mean 'cnn'"):
        _ = zoo.build_cn_model


def test_packages_that_readmes_name_need_no_import_of_their_own(run_python):
    names = [
        "checkpoints",
        "datasets",
        "evaluation",
        "export",
        "layers",
        "metrics",
        "pipeline",
        "scores",
        "tasks",
        "training",
    ]
    source = """
        import sys, zoo
        zoo.evaluation.register_report
        for name in sys.argv[1:]:
            print(getattr(zoo, name).__name__)
    """
    done = run_python(source, *names, kind="tensorflow")
    assert done.stdout.split() == [f"zoo.{name}" for name in names]
