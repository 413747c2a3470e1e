"""The registry of models, with the metadata of each.

A family is a file in `zoo/models/`. `@register_model` on its builder adds it to `zoo list`, the command line, training,
export, the tests and README. Nothing here imports TensorFlow, and a family's file imports Keras inside its builder, so
that `zoo list` and `--help` are fast.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from zoo.errors import UsageError, did_you_mean
from zoo.registries import Registry

if TYPE_CHECKING:
    import keras

    from zoo.checkpoints.contract import PublishedFile

Builder = Callable[..., "keras.Model"]
BuilderT = TypeVar("BuilderT", bound=Builder)
Golden = tuple[tuple[Mapping[str, Any], int], ...]
_SAME: Mapping[str, Any] = MappingProxyType({})


@dataclasses.dataclass(frozen=True)
class Situation:
    """What a model is trained for, from which its family recommends arguments and options.

    Attributes:
        task: the task's name.
        examples: number of training examples.
        arguments: arguments of the builder: those that the user chose, and for options of the training all of them.
        facts: what the preprocessor found in the data, such as whether `mirrored` images keep their classes.
    """

    task: str
    examples: int
    arguments: Mapping[str, Any]
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)


Recommend = Callable[[Situation], Mapping[str, Any]]


def _nothing(_: Situation) -> Mapping[str, Any]:
    """Recommends what every builder and `TrainConfig` have as their defaults."""
    return {}


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """The metadata of a model. All other parts of the package read it from here.

    Attributes:
        name: the registered name; `build_NAME_model` is the builder.
        builder: pure function that returns an uncompiled Functional model with named inputs and layers.
        tasks: the names of the tasks (`zoo.tasks`) that the family serves; empty for a user's function, which may serve
            any task.
        reference: the source of the architecture.
        features_layer: the layer whose output is the `features` signature; None without such a signature.
        levels: groups of layers that have the same learning rate with `layer_decay`, as patterns of their names, such as
            (("pooler", "probabilities", "logits"),). Any other layer is a separate group.
        preprocessing: settings for the preprocessor: `image_size` (height, width) for images of smaller or varying size, the
            `longest_side` of its input, the number of training images below which they are compared with their mirror images
            (`mirrored_below`), a vocabulary size, a maximum length, whether the model `reads_pairs` of texts or
            `reads_forms` of words. Its `preprocessor` replaces that of the task; it is a kind, or a kind for each of the
            tasks that it replaces.
        data_arguments: the builder's arguments that the data determines (classes, vocabulary), never the user.
        checkpoints: the formats of published weights (`zoo.checkpoints`) that the builder's argument `weights` accepts.
        published: files of weights by their name, such as `imagenet`, which the argument `weights` accepts too. Each is a
            function of the builder's arguments, because sizes may have files of their own.
        initial_arguments: the builder's arguments that are only the source of initial weights and vocabularies, such as
            local paths.
        recommended_arguments: function that returns the builder's arguments that suit a situation better than the defaults.
        recommended_options: function that returns the options of `TrainConfig` that suit a situation.
        search_space: what `zoo tune` varies, as {"config.learning_rate": "1e-4:1e-2:log", "model.dropout": "0:0.5"}.
        tiny: the smallest valid arguments, for tests.
        heavy: whether even the smallest model is large, so that tests that train it are marked slow.
        golden: arguments and the exact number of parameters that they must give, as (arguments, count) pairs.
        functions: named functions in addition to the forward pass, such as `beam`. Each takes a model and returns a function
            from model inputs and the preprocessor's extras to named tensors. They become part of the SavedModel.
        side_outputs: layers whose outputs are returned in addition to the model's outputs, if a model has such a layer.
        closed_form: sets a model's weights directly from all training inputs and targets, dicts of arrays. With a parameter
            `levels`, it also sets those of quantiles; `overlap` is the number of neighbours that may share targets.
        adapt: sets weights of a new model from the data, before the first step; it is called with the model and the
            prepared data (`zoo.datasets.prepared.Prepared`). It may use the validation split for choices.
        jit_compile: whether XLA makes training faster on a CPU; measured with `zoo benchmark training`.
        variant_of: the family of a named size; None for a family.
    """

    name: str
    builder: Builder
    tasks: tuple[str, ...]
    reference: str
    features_layer: str | None = None
    levels: tuple[tuple[str, ...], ...] = ()
    preprocessing: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    data_arguments: tuple[str, ...] = ("num_classes",)
    checkpoints: tuple[str, ...] = ()
    published: Mapping[str, Callable[[Mapping[str, Any]], PublishedFile]] = dataclasses.field(default_factory=dict)
    initial_arguments: tuple[str, ...] = ()
    recommended_arguments: Recommend = _nothing
    recommended_options: Recommend = _nothing
    search_space: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tiny: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    golden: Golden = ()
    functions: Mapping[str, Callable[..., Any]] = dataclasses.field(default_factory=dict)
    side_outputs: tuple[str, ...] = ()
    closed_form: Callable[..., None] | None = None
    adapt: Callable[..., None] | None = None
    heavy: bool = False
    jit_compile: bool = False
    variant_of: str | None = None

    @property
    def solves_quantiles(self) -> bool:
        """Whether `closed_form` also sets the weights of quantiles."""
        return self.closed_form is not None and "levels" in inspect.signature(self.closed_form).parameters

    @property
    def summary(self) -> str:
        """The first line of the builder's docstring."""
        return (inspect.getdoc(self.builder) or "").split("\n", 1)[0]

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The builder's parameters by name, in order."""
        return inspect.signature(self.builder).parameters


MODELS: Registry[ModelSpec] = Registry("model", "zoo.models")


def register_model(
    *,
    tasks: tuple[str, ...],
    reference: str,
    features_layer: str | None = None,
    levels: tuple[tuple[str, ...], ...] = (),
    preprocessing: Mapping[str, Any] | None = None,
    data_arguments: tuple[str, ...] = ("num_classes",),
    checkpoints: tuple[str, ...] = (),
    published: Mapping[str, Callable[[Mapping[str, Any]], PublishedFile]] | None = None,
    initial_arguments: tuple[str, ...] = (),
    recommended_arguments: Recommend = _nothing,
    recommended_options: Recommend = _nothing,
    search_space: Mapping[str, str] | None = None,
    tiny: Mapping[str, Any] | None = None,
    golden: tuple[tuple[Mapping[str, Any], int], ...] = (),
    functions: Mapping[str, Callable[..., Any]] | None = None,
    side_outputs: tuple[str, ...] = (),
    closed_form: Callable[..., None] | None = None,
    adapt: Callable[..., None] | None = None,
    heavy: bool = False,
    jit_compile: bool = False,
    variant_of: str | None = None,
) -> Callable[[BuilderT], BuilderT]:
    """Registers `build_NAME_model` as NAME; see `ModelSpec` for the arguments.

    The returned builder records its name and full arguments on every model that it makes
    (`zoo.registry.describe_build(model)`), so that the artifact includes them.

    Raises:
        ValueError: the function's name is not `build_NAME_model`, or another module has registered NAME.

    Example:
        >>> @register_model(tasks=("image_classification",), reference="none", tiny={"num_classes": 2})
        ... def build_constant_model(num_classes):
        ...     ...
    """

    given = dict(locals())  # nothing but the arguments, which are the fields of the spec; None is their default
    copied = {key: MappingProxyType({**value}) if isinstance(value, Mapping) else value for key, value in given.items()}
    fields: dict[str, Any] = {key: value for key, value in copied.items() if value is not None}

    def decorate(builder: BuilderT) -> BuilderT:
        title = builder.__name__
        name = title.removeprefix("build_").removesuffix("_model")
        if title != f"build_{name}_model" or not name:
            raise ValueError(f"The name of a builder must be build_NAME_model; received {title}. Rename the function.")
        recording = _recording(builder, name)
        MODELS.add(name, ModelSpec(name=name, builder=recording, **fields), builder.__module__)
        return recording  # type: ignore[return-value]

    return decorate


def register_function(function: Builder, reference: str) -> str:
    """Registers any function that returns a Functional model, for data of any task, and returns the model's name.

    The name is that of the function without `build_` and `_model`. A function that is already registered keeps its spec.

    Raises:
        ValueError: another module has registered the name.
    """
    for name, entry in MODELS.entries.items():
        if entry.value.builder is function:
            return name
    name = function.__name__
    if name.startswith("build_") and name.endswith("_model"):
        name = name.removeprefix("build_").removesuffix("_model") or name
    MODELS.add(name, ModelSpec(name, _recording(function, name), (), reference), function.__module__)
    return name


def _recording(builder: Builder, name: str) -> Builder:
    """Returns a builder that records its name and full arguments on every model that it makes."""

    @functools.wraps(builder)
    def recording(*args: Any, **kwargs: Any) -> Any:
        model = builder(*args, **kwargs)  # first, so that Python's message for a wrong argument names the builder
        record = _record(name, builder, *args, **kwargs)
        object.__setattr__(model, "_zoo_build", record)  # avoids Keras's attribute tracking, which would wrap it
        return model

    return recording


def _record(name: str, builder: Builder, /, *args: Any, **kwargs: Any) -> dict[str, Any]:
    bound = inspect.signature(builder).bind(*args, **kwargs)
    bound.apply_defaults()
    return {"name": name, "arguments": {k: plain(v) for k, v in bound.arguments.items()}}


def is_built_as(model: keras.Model, name: str, arguments: Mapping[str, Any]) -> bool:
    """Returns whether a model is one that `build(name, **arguments)` made.

    Example:
        >>> is_built_as(zoo.build("mlp", input_shape=(4,), num_classes=2), "mlp", {"input_shape": [4], "num_classes": 2})
        True
    """
    return describe_build(model) == _record(name, get_spec(name).builder, **arguments)


def register_variant(
    builder: Builder, name: str, summary: str, *, golden: Golden, spec: Mapping[str, Any] = _SAME, **defaults: Any
) -> Builder:
    """Registers a named size of a family: the same builder and metadata with other defaults.

    Args:
        builder: the family's registered builder.
        name: the name of the size, usually FAMILY_SIZE.
        summary: the first line of the docstring.
        golden: arguments and the exact number of parameters that they must give.
        spec: the fields of `ModelSpec` that differ from the family's, such as `preprocessing` or `reference`.
        **defaults: the sizes, by the names of the builder's arguments.

    Returns:
        `build_NAME_model`, with the arguments of the family's builder.

    Raises:
        ValueError: the builder is not registered, or has no such argument.

    Example:
        >>> build_flat_model = register_variant(build_mlp_model, "flat", "No hidden layer.", golden=(), hidden_units=())
    """
    family = next((entry.value for entry in MODELS.entries.values() if entry.value.builder is builder), None)
    if family is None:
        raise ValueError(f"{builder.__name__} is not registered. Put @register_model on it.")
    for argument in defaults:
        if argument not in family.parameters:
            raise ValueError(
                f"{builder.__name__} has no argument {argument!r}. {did_you_mean(argument, family.parameters)}"
            )
    signature = inspect.signature(builder)
    signature = signature.replace(
        parameters=[p.replace(default=defaults.get(n, p.default)) for n, p in signature.parameters.items()]
    )

    def variant(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return builder(**bound.arguments)

    variant.__name__ = variant.__qualname__ = f"build_{name}_model"
    variant.__module__ = builder.__module__
    variant.__doc__ = "\n".join([summary, *(inspect.getdoc(builder) or "").splitlines()[1:]])
    variant.__signature__ = signature  # type: ignore[attr-defined]
    own = {"name", "builder", "golden", "variant_of"}
    shared = {f.name: getattr(family, f.name) for f in dataclasses.fields(ModelSpec) if f.name not in own}
    return register_model(**{**shared, **spec}, golden=golden, variant_of=family.name)(variant)


def plain(value: Any) -> Any:
    """Returns the value as types that YAML and JSON support: a tuple becomes a list."""
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    return value


def list_models(pattern: str = "*", *, task: str | None = None, variants: bool = True) -> list[str]:
    """Returns the names of the registered models, sorted.

    Args:
        pattern: shell-style pattern of names, such as `"*transformer*"`.
        task: only models that serve this task, such as `"image_classification"`.
        variants: whether to include the named sizes of families.

    Raises:
        UsageError: no model serves the task.

    Example:
        >>> zoo.list_models("c*", task="image_classification")
        ['cnn']
    """
    specs = {name: MODELS.entries[name].value for name in MODELS.names()}
    known = {t for spec in specs.values() for t in spec.tasks}
    if task is not None and task not in known:
        raise UsageError(f"No model serves the task {task!r}. {did_you_mean(task, known)}")
    return sorted(
        name
        for name, spec in specs.items()
        if fnmatch.fnmatchcase(name, pattern) and (task is None or task in spec.tasks)
        if variants or spec.variant_of is None
    )


def get_spec(name: str) -> ModelSpec:
    """Returns the spec of a registered model.

    Raises:
        UsageError: the model is unknown; the message suggests the nearest name.

    Example:
        >>> zoo.get_spec("cnn").features_layer
        'features'
    """
    return MODELS.get(name, listing="zoo list")


def build(name: str, /, **arguments: Any) -> keras.Model:
    """Builds a registered model: `build("cnn", ...)` is `build_cnn_model(...)`.

    Raises:
        UsageError: the model or an argument is unknown (the message suggests the nearest), or an argument is missing.

    Example:
        >>> zoo.build("cnn", input_shape=(28, 28, 1), num_classes=10).count_params()
        688138
    """
    spec = get_spec(name)
    check_arguments(spec, arguments)
    missing = [
        n
        for n, p in spec.parameters.items()
        if p.default is p.empty and n not in arguments and p.kind is not p.VAR_KEYWORD
    ]
    if missing:
        raise UsageError(
            f"Model {name!r} needs {', '.join(missing)}; received {', '.join(arguments) or 'no arguments'}. "
            f"Call zoo.build({name!r}, {', '.join(f'{m}=...' for m in missing)})."
        )
    return spec.builder(**arguments)


def check_arguments(spec: ModelSpec, arguments: Mapping[str, Any]) -> None:
    """Raises `UsageError` for the first argument that the spec's builder does not have."""
    for argument in arguments:
        if argument not in spec.parameters:
            if able := families_with(argument):
                has = f"has no argument {argument!r}; {', '.join(able)} have it"
                raise UsageError(f"Model {spec.name!r} {has}. Choose one of these, or leave it out.")
            raise UsageError(
                f"Model {spec.name!r} has no argument {argument!r}. {did_you_mean(argument, spec.parameters)}"
            )


def families_with(argument: str) -> list[str]:
    """Returns the names of the families whose builder has an argument, sorted."""
    return [name for name in list_models(variants=False) if argument in get_spec(name).parameters]


def without_initial_arguments(build: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a record of `describe_build` without the spec's `initial_arguments`, which a trained model does not need.

    Of a custom model, whose record `own` names it, the name alone is returned.

    Example:
        >>> without_initial_arguments({"name": "vgg16", "arguments": {"num_classes": 2, "weights": "vgg16.h5"}})
        {'name': 'vgg16', 'arguments': {'num_classes': 2}}
    """
    if "own" in build:
        return {"name": build["own"]["name"], "arguments": {}}
    initial = get_spec(build["name"]).initial_arguments if build["name"] in MODELS.names() else ()
    kept = {name: value for name, value in build["arguments"].items() if name not in initial}
    return {"name": build["name"], "arguments": kept}


def describe_build(model: keras.Model) -> dict[str, Any] | None:
    """Returns {"name": ..., "arguments": {...}} for a model from a registered builder, otherwise None."""
    return getattr(model, "_zoo_build", None)
