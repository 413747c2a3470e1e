"""Writes an artifact: completes and verifies it in a hidden folder, then publishes it with one rename."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from zoo import lineage, quiet, registry, scores, storage
from zoo.errors import UsageError, naming_arguments, one_line
from zoo.export import accuracy, artifact_paths, live, metadata, publishing
from zoo.export.extras import verify_script
from zoo.export.extras.card import check_figures, model_card
from zoo.export.extras.request_examples import c_program
from zoo.export.extras.warmup import write_warmup
from zoo.export.graph import default_inputs, numbering
from zoo.export.graph.forms import FORMS, MOST_ROUNDING, SERVED, CannotRebuild, Content, Form, allowing, forms_for
from zoo.export.graph.signatures import by_input, model_inputs, served_model
from zoo.export.raw_requests import check_inputs, requests_to_publish
from zoo.export.runtimes import runtimes as known_runtimes
from zoo.export.runtimes.comparison import require
from zoo.export.standalone import arrays
from zoo.export.verification import Verification, check

if TYPE_CHECKING:
    from zoo.datasets.interface import Interface


@naming_arguments(
    "zoo.export.save",
    labels="class_names=['cat', 'dog'], say",
    classes="class_names=['cat', 'dog'], say",
    x="examples=x",
    inputs="examples=x",
)
def save(
    model: keras.Model,
    path: str | Path,
    *,
    interface: Interface | None = None,
    examples: Any = None,
    class_names: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    preprocessor: Any = None,
    golden: Any = None,
    report: Mapping[str, Any] | None = None,
    figures: Mapping[str, str | Path] | None = None,
    runtimes: str | Sequence[str] = (),
    forms: Sequence[Form] | None = None,
    licence: str | None = None,
    verbose: int = 1,
) -> Path:
    """Writes the next version of a SavedModel, verifies it, and publishes it only if the verification passes.

    With `interface`, the SavedModel takes raw input and answers as the task of its data declares. With `examples`, it can be
    any Keras model: Functional, Sequential, or subclassed and called. Its inputs and outputs keep their names, types and
    shapes.

    Args:
        model: the trained model; with `interface`, a Functional model.
        path: folder for the versions; the SavedModel is written to the next version, `PATH/1` in a new folder. It may
            be one of an object store, such as s3://bucket/digits.
        interface: the `interface` of `data.prepare(...)`: preprocessor, labels, golden examples.
        examples: instead of an interface: examples of the model's inputs, batch first: an array, a list of arrays in the
            order of the inputs, a DataFrame, or a dict of arrays by name. The first 64 become the golden examples, so they
            are published with the artifact. With `preprocessor`, they are raw: paths of images, or texts.
        class_names: with `examples`: labels for the output with as many values, in their order; or {OUTPUT: labels}. The
            SavedModel then answers the best one as `class_name`.
        preprocessor: with `examples`: turns raw requests into the model's only input, such as
            `zoo.datasets.image_files(...)`.
        golden: raw requests to publish as golden examples instead of test examples of the data: a list, a dict of lists by
            input name, or a list with one .npz file of such arrays; or "generated" for requests that are made up and hold
            no row of anybody's data; or "test" for test examples.
        report: the result of `zoo.evaluate`, for the model card and zoo.json.
        figures: PNG files for the model card by their names in assets.extra, such as `confusion_matrix`.
        runtimes: other runtimes that must agree: `openvino`, `onnxruntime`, `litert`, `c_api`. `zoo verify` requires
            them again.
        forms: ways to write the model, tried in order until one passes its verification.
        licence: the licence of the model, such as Apache-2.0, for the model card and zoo.json.
        verbose: 1 prints a line at the start, 0 nothing.

    Returns:
        The version folder, such as `PATH/1`. That of a remote folder is for functions of this
            package, such as `load`.

    Raises:
        UsageError: a runtime is unknown or not installed; the folder holds other files or cannot be written; the disk is
            full; a figure is not a PNG file; model and interface or examples do not match; the model cannot be exported; it
            is worse on raw test examples than in its report or training; or the SavedModel's outputs differ from the
            model's. Nothing is published.

    Example:
        >>> zoo.export.save(model, "exports/digits", interface=prepared.interface)
        PosixPath('exports/digits/1')
        >>> zoo.export.save(keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)]), "exports/line", examples=x)
        PosixPath('exports/line/1')
    """
    destination = publishing.Destination(path)
    require(runtimes)
    if (interface is None) == (examples is None):
        raise UsageError(
            f"zoo.export.save takes either an interface or examples; received {'neither' if interface is None else 'both'}. "
            "Pass interface=prepared.interface for a model of zoo.datasets data, or examples=x for any other Keras model."
        )
    if verbose:
        print(f"Exports {getattr(model, 'name', 'the model')} to {destination.name} and verifies it.", flush=True)
    ways: Sequence[Form] = forms or FORMS
    if interface is None:
        model, interface, ways = _given(model, examples, class_names, preprocessor, forms)
    elif class_names is not None or preprocessor is not None:
        raise UsageError("class_names and preprocessor belong to examples; the interface has its own. Leave them out.")
    interface = _fitting(model, interface)
    lineage.record_licence(model, licence)
    check_figures(figures or {})
    serve = live.compiled_serve(interface.preprocessor)
    shown, origin = requests_to_publish(interface, golden)
    held = live.golden(model, shown, serve)
    outputs = {k.removeprefix("answers/predict/"): v for k, v in held.items()}
    scores.check_probabilities(outputs, independent=interface.definition.objective.labels is not None)
    # A model with NaN outputs has no figure to compare; the verification names the output and the layer.
    if not (finite := _are_finite(held)):
        check_inputs(held)
    measured = accuracy.measure(model, interface, report or {}, serve) if finite else None
    contents = {"golden": held, "origin": origin, "report": report or {}, "figures": figures or {}}
    try:
        base = destination.base
        return destination.deliver(_publish_first(base, model, interface, ways, contents, runtimes, measured))
    except AssertionError as error:
        if "untracked" not in str(error):
            raise
        raise UsageError(
            f"Model {model.name!r} reads a variable or a table that Keras does not know, so it cannot be saved: "
            f"{one_line(error, 200)}. Make it with add_weight() in a layer, or keep the table in an attribute of a layer."
        ) from error
    except (OSError, tf.errors.OpError) as error:
        raise UsageError(
            f"Cannot write a SavedModel to {destination.name}: {one_line(error)}. Nothing was published. Free disk space or "
            "pass another folder, and try again."
        ) from error


def _are_finite(golden: Mapping[str, np.ndarray]) -> bool:
    """Whether all numbers in the outputs of golden examples are finite."""
    outputs = (values for name, values in golden.items() if name.startswith("answers/"))
    return all(np.isfinite(values).all() for values in outputs if values.dtype.kind == "f")


def _publish_first(
    base: Path,
    model: keras.Model,
    interface: Interface,
    ways: Sequence[Form],
    contents: Mapping[str, Any],
    runtimes: str | Sequence[str],
    measured: accuracy.Measured | None,
) -> Path:
    """Publishes the first form that passes its verification; `contents` are further arguments of `_write`."""
    tried: list[tuple[Form, Content]] = []
    verification: Verification | None = None
    for form in ways:
        try:
            content = form.content(model, interface)
            if any(form.is_like(was) and content.is_like(held) for was, held in tried):
                continue  # it would write the same files again
            tried.append((form, content))
            with publishing.hidden_folder(base) as temporary:
                _write(temporary, model, interface, form=form, content=content, **contents)
                verification = check(temporary, sums=False, runtimes=runtimes, measured=measured)
                if verification.passed:
                    _seal(temporary, verification)
                    return publishing.publish(temporary, base)
        except CannotRebuild:
            if form is ways[-1]:
                raise
    assert verification is not None, "the last form was written or has raised an error"
    own = live.own_rounding(model, interface, contents["golden"])
    if further := allowing(ways, own):
        return _publish_first(base, model, interface, further, contents, runtimes, measured)
    raise UsageError(
        f"The SavedModel was not published, because its verification failed: {verification.failures}. "
        f"Check {_advice(model, verification, own)}."
    )


def _given(
    model: Any, examples: Any, class_names: Any, preprocessor: Any, forms: Sequence[Form] | None
) -> tuple[keras.Model, Any, Sequence[Form]]:
    """Returns the network, the interface and the forms for a model that comes with examples alone."""
    from zoo.export.keras_models.interface import interface_of

    network, interface, rebuilds = interface_of(model, examples, class_names=class_names, preprocessor=preprocessor)
    return network, interface, forms or forms_for(network, rebuilds)


def _advice(model: keras.Model, verification: Verification, own: float) -> str:
    """Returns what to check after an export that failed its verification."""
    for layer in model.layers:
        if not all(np.isfinite(w).all() for w in layer.get_weights() if w.dtype.kind == "f"):
            return f"the training: weights of the layer {layer.name!r} are NaN or infinite"
    failed = {check.name for check in verification.checks if check.passed is False}
    others = [name for name, state in verification.runtimes.items() if state != "agrees"]
    if "ops" in failed:
        return "which layer uses the op, and remove it: a SavedModel must not use files, network or Python code"
    if others and all(name.startswith(tuple(known_runtimes()[other].title for other in others)) for name in failed):
        return f"whether you need {' and '.join(others)}: leave out runtimes that cannot agree"
    if own > MOST_ROUNDING:
        change = f"the model's own outputs change by {own:.1e} when each weight changes by its last bit"
        return f"the training: {change}, so rounding alone decides its answers"
    return (
        "your own layers, whose outputs must depend only on inputs and weights, and the training: after it diverged, "
        "rounding alone changes the outputs"
    )


def weights_hash(model: keras.Model) -> str:
    """Returns the SHA-256 of all weights in order. Equal weights have equal hashes, independent of their file."""
    return arrays.digest(model.get_weights())


def _fitting(model: keras.Model, interface: Interface) -> Interface:
    """Checks that model and interface match; returns the interface with the build arguments of this model."""
    if tf.distribute.has_strategy():
        raise UsageError(
            "A SavedModel cannot be written inside a distribution strategy. Call zoo.export.save after strategy.scope(), "
            "not inside it."
        )
    if not hasattr(model, "output_names"):
        raise UsageError(
            f"Export needs a Functional Keras model, whose inputs and outputs have names; received a "
            f"{type(model).__name__}. For a Sequential, pass keras.Model(model.inputs, model.outputs)."
        )
    takes = {name: spec.shape[1:] for name, spec in model_inputs(model).items()}
    given = by_input(model, interface.preprocessor.input_shapes)
    if set(given) != set(takes) or not all(takes[name].is_compatible_with(given[name]) for name in takes):
        shown: list[Any] = [{k: list(v) for k, v in shapes.items()} for shapes in (takes, given)]
        if len(takes) == 1:
            shown = [next(iter(shapes.values())) for shapes in shown]
        raise UsageError(
            f"Model {model.name!r} takes {shown[0]}, but the interface's preprocessor returns {shown[1]}. "
            "Pass the interface of the data that the model was trained on."
        )
    _check_labels(interface.class_names)
    objective = interface.definition.objective
    objective.check_outputs(model)
    classes, names = objective.num_classes(model), len(interface.class_names)
    if classes is not None and classes != names:
        raise UsageError(
            f"Model {model.name!r} has {classes} classes, the interface has {names}. "
            "Pass the interface of the data that the model was trained on."
        )
    if not all(len(values) for values in interface.examples.requests.values()):
        raise UsageError("The interface has no examples, so nothing could be verified. Use data with a test split.")
    own = getattr(model, "_zoo_own", None)
    build = registry.describe_build(model) or {**interface.build, **({"own": own} if own else {})}
    return dataclasses.replace(interface, build=build)


def _check_labels(names: Sequence[str]) -> None:
    for name in names:
        if not name or "\n" in name or "\r" in name:
            raise UsageError(
                f"The class name {name!r} is empty or has a line break. Rename it: labels.txt holds one name per line."
            )


def _write(
    directory: Path,
    model: keras.Model,
    interface: Interface,
    golden: Mapping[str, np.ndarray],
    report: Mapping[str, Any],
    figures: Mapping[str, str | Path],
    form: Form = SERVED,
    content: Content | None = None,
    origin: str = "real test examples",
) -> None:
    content = content or form.content(model, interface)
    assets = directory / "sources"  # tf.saved_model.save copies from here into assets/
    assets.mkdir()
    served, signatures = served_model(model, interface, assets, _labels_file(assets, interface), form, content)
    # Without custom gradients: served functions are not trained, and the extra ops slow down loading.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    with quiet.without_message("Assets written to"):
        tf.saved_model.save(served, str(directory), signatures=signatures, options=options)
    shutil.rmtree(assets)
    _write_defaults(directory, signatures, interface)
    numbering.renumber(directory)
    publishing.fix_fingerprint(directory)
    extra = directory / artifact_paths.EXTRA
    extra.mkdir(exist_ok=True)
    arrays.save(extra / "golden.npz", golden, compress=True)
    facts = metadata.of_artifact(model, interface, signatures, report)
    facts["form"], facts["golden"] = form.describe(content), origin
    facts["served_weights_sha256"] = arrays.digest(content.weights)
    storage.write_json(extra / "zoo.json", facts)
    called = [name for name, entry in facts["signatures"].items() if "continues" not in entry]
    examples = {name: arrays.examples(golden, facts["signatures"], name)[0] for name in called}
    if interface.statistics:
        storage.write_json(extra / artifact_paths.STATISTICS, interface.statistics)
    write_warmup(directory, facts["model"]["name"], examples)
    for name, file in figures.items():
        shutil.copyfile(file, extra / f"{name}.png")
    storage.write_text(extra / "request.c", c_program(directory))
    storage.write_text(extra / verify_script.NAME, verify_script.verify_script())
    storage.write_text(directory / "README.md", model_card(directory, report))


def _write_defaults(directory: Path, signatures: Mapping[str, Any], interface: Interface) -> None:
    """Writes the defaults of the raw inputs of each signature, if there are any."""
    requests = {
        name: request for name, request in interface.preprocessor.requests.items() if request.default is not None
    }
    declared = interface.definition.signatures
    raw = [name for name in signatures if name in declared and not declared[name].continues]
    taken = {name: [*(requests.keys() & signatures[name].structured_input_signature[1])] for name in raw}
    if found := {name: sorted(inputs) for name, inputs in taken.items() if inputs}:
        default_inputs.write(directory, found, requests)


def _labels_file(directory: Path, interface: Interface) -> Path | None:
    """Writes labels.txt into a folder and returns it; None for a task without labels."""
    if not interface.class_names:
        return None
    file = directory / "labels.txt"
    file.write_text("".join(f"{name}\n" for name in interface.class_names), encoding="utf-8")
    return file


def _seal(directory: Path, verification: Verification) -> None:
    storage.write_json(directory / artifact_paths.EXTRA / "verification.json", verification.to_dict())
    publishing.flush(directory)
    artifact_paths.write_sums(directory)
