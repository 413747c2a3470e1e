"""What a task is made of.

Everything that flows is a dict of named tensors; a single one is a dict of one:

    examples -> preprocessor.encode -> inputs, targets, weights -> model -> outputs -> task.prediction -> predictions

The trainer reads the objective, the evaluator `prediction` and `report`, the exporter `signatures`. None of them knows a
task by name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from zoo.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from zoo.scores import Score

KINDS: Mapping[str, str] = MappingProxyType(
    {"file": "FILE", "text": '"a text"', "id": "ID", "series": "FILE.csv", "number": "NUMBER"}
)
"""The kinds of request, and how a person types one on a command line.

file: the bytes of a whole file; text: UTF-8; id: a string that is looked up as it is; series: numbers, a row for each step;
number: numbers of any shape, which a program sends.
"""


@dataclasses.dataclass(frozen=True)
class Request:
    """A raw input of a SavedModel's signatures.

    Attributes:
        name: the input's name.
        kind: one of `KINDS`; clients read there how it is typed and encoded.
        dtype: string, float32, int32 or int64.
        shape: of one example, None where a size varies; () for a string.
        description: what it holds, for the model card.

    Raises:
        ValueError: no such kind.

    Example:
        >>> Request("text", "text", "string", (), "UTF-8").typed
        '"a text"'
    """

    name: str
    kind: str
    dtype: str
    shape: tuple[int | None, ...]
    description: str

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"Request {self.name!r} has the kind {self.kind!r}. {did_you_mean(self.kind, KINDS)}")

    @property
    def spec(self) -> tf.TensorSpec:
        """The input as a `tf.TensorSpec` with a batch dimension."""
        import tensorflow as tf

        return tf.TensorSpec([None, *self.shape], tf.as_dtype(self.dtype), self.name)

    @property
    def typed(self) -> str:
        """Stands for the request where a command line is shown."""
        return KINDS[self.kind]


@dataclasses.dataclass(frozen=True)
class Shown:
    """How an answer is shown to a person, in one line.

    Attributes:
        kind: `values`: every output; `labels`: the best labels of one output of probabilities; `pairs`: two outputs of one
            length as one/other, where the second is not empty; `rows`: outputs of one length, the first text that is not
            empty and the number, which is the last; `text`: one output as it is.
        outputs: the outputs that it takes, by name.
        digits: digits after the point.
    """

    kind: str = "values"
    outputs: tuple[str, ...] = ()
    digits: int = 4


@dataclasses.dataclass(frozen=True)
class Served:
    """What an answer is made from, inside the served graph.

    Attributes:
        outputs: what the signature's head gives by name, such as {"probabilities": (batch, classes)}.
        label: maps int64 class numbers of any shape to string tensors, from the artifact's `assets/labels.txt`.
        extras: side products of the preprocessor that an answer may show, such as the tokens of a text, or the
            `lengths` of sequences, int32 (batch,).
        preprocessor: the run's preprocessor, which turns numbers back into what a client reads: a forecast into its
            unit, token ids into text.
    """

    outputs: Mapping[str, tf.Tensor]
    label: Callable[[tf.Tensor], tf.Tensor]
    extras: Mapping[str, tf.Tensor] = dataclasses.field(default_factory=dict)
    preprocessor: Any = None


@dataclasses.dataclass(frozen=True)
class Signature:
    """A function of the SavedModel that takes raw requests.

    Attributes:
        requests: the names of the raw inputs that it takes, of those that the preprocessor knows.
        answer: makes the named outputs, inside the graph, from core TensorFlow ops.
        answers: the outputs by name, with what each holds (for README and the model card).
        head: what runs the model: its forward pass, `predict`, or a named function of its spec, such as `beam`.
        optional: the names of those that it takes too where the preprocessor knows them.
        shown: how an answer is shown to a person.
    """

    requests: tuple[str, ...]
    answer: Callable[[Served], dict[str, tf.Tensor]]
    answers: Mapping[str, str]
    head: str = "predict"
    optional: tuple[str, ...] = ()
    shown: Shown = Shown()

    def takes(self, known: Collection[str]) -> tuple[str, ...]:
        """Returns the names of the raw inputs, of a preprocessor that knows these."""
        return (*self.requests, *(name for name in self.optional if name in known))


@dataclasses.dataclass(frozen=True)
class Compared:
    """A target, and the output that it is compared with.

    Attributes:
        target: the target's name; its weights have the same one.
        outputs: names that the model may give the output; empty for a model with one output, whatever its name.
    """

    target: str
    outputs: tuple[str, ...]

    def output_of(self, names: Sequence[str], model: str) -> str:
        """Returns which of a model's outputs it is.

        Args:
            names: the model's outputs.
            model: the model's name, for messages.

        Raises:
            UsageError: none of them, or several.
        """
        found = [name for name in names if name in self.outputs] if self.outputs else list(names)
        if len(found) == 1:
            return found[0]
        if not self.outputs:
            raise UsageError(
                f"Model {model!r} has the outputs {list(names)}; this task expects one. Build it with one output."
            )
        expected = " or ".join(map(repr, self.outputs))
        if len(names) == 1:
            raise UsageError(
                f"Model {model!r} ends with a layer called {names[0]!r}; expected {expected}. Call its last layer so."
            )
        raise UsageError(
            f"Model {model!r} has the outputs {list(names)}; expected exactly one of them to be {expected}. "
            "Call the layers of its outputs so."
        )


@dataclasses.dataclass(frozen=True)
class Term(Compared):
    """A term of the loss.

    Attributes:
        loss: makes the Keras loss without reduction, from the output's name and a label smoothing. It gives one value per
            example, (batch,), or one per element; a target with several elements brings weights of that shape.
        weight: factor of the term's mean.
    """

    loss: Callable[[str, float], keras.losses.Loss]
    weight: float = 1.0


@dataclasses.dataclass(frozen=True)
class Measure(Compared):
    """Metrics of one output.

    Attributes:
        metrics: makes fresh Keras metrics; they are updated with (target, output, weights).
    """

    metrics: Callable[[], list[keras.metrics.Metric]]


@dataclasses.dataclass(frozen=True)
class Objective:
    """What training minimises and measures.

    The loss of a step is the sum over all terms of weight x (sum of losses) / (number of real elements), over the whole
    batch, however it is divided among devices. An element is real where its weight is not 0; without weights every example
    is one. `zoo.training.objective` computes it.

    Attributes:
        loss: the terms.
        metrics: what is measured besides the loss.
        monitor: the metric of the validation split by which one model is better than another, and its direction.
        classes: the target that holds numbers of named classes, which class weights and mixed images are about; None for
            none.
    """

    loss: tuple[Term, ...]
    metrics: tuple[Measure, ...] = ()
    monitor: tuple[str, str] = ("val_loss", "min")
    classes: str | None = None

    def check_outputs(self, model: keras.Model) -> None:
        """Refuses a model whose outputs are not exactly those that the objective compares.

        Raises:
            UsageError: an output is missing, has another name, or is compared with nothing.
        """
        names = output_names(model)
        used = {part.output_of(names, model.name) for part in (*self.loss, *self.metrics)}
        unused = [name for name in names if name not in used]
        if unused:
            raise UsageError(
                f"Model {model.name!r} has the outputs {names}, of which this task uses {sorted(used)}. "
                f"Build it without {', '.join(unused)}."
            )

    def num_classes(self, model: keras.Model) -> int | None:
        """Returns the last dimension of the output that is compared with numbers of named classes, None without such."""
        names = output_names(model)
        for term in self.loss:
            if self.classes is not None and term.target == self.classes:
                return int(model.outputs[names.index(term.output_of(names, model.name))].shape[-1])
        return None


@dataclasses.dataclass(frozen=True)
class Task:
    """What a task means, once, for every part of the package; `register_task` adds one.

    Attributes:
        name: the name that specs and data sets use.
        targets: data: the keys of an example that hold what is right; empty where nobody has to label anything.
        preprocessor: data: the registered preprocessor that turns examples into inputs, targets and weights.
        arguments: data: arguments that the task decides for every builder that has them.
        follows_time: data: whether test examples come after training examples, so that folds would be a fraud.
        objective: training: losses and metrics.
        prediction: evaluation: what the report judges, from the model's outputs, such as probabilities from logits.
        report: evaluation: the registered report.
        signatures: serving: the SavedModel's functions of raw requests; one is `serving_default`.
        score: serving: how answers to raw requests are judged; None where no figure is a mean over examples, as with BLEU.
    """

    name: str
    targets: tuple[str, ...]
    preprocessor: str
    objective: Objective
    prediction: Callable[[Mapping[str, tf.Tensor]], dict[str, tf.Tensor]]
    report: str
    signatures: Mapping[str, Signature]
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    follows_time: bool = False
    score: Score | None = None

    @property
    def classes(self) -> str | None:
        """The target that holds numbers of named classes, None for none."""
        return self.objective.classes


# --- Keras models by named tensors ---------------------------------------------------------------------------------

SINGLE = ""
"""The name of the only input of a model that declares none, such as a subclassed one."""


def output_names(model: keras.Model) -> list[str]:
    """Returns the names of a model's outputs: those of their layers, such as `probabilities` or `logits`.

    Example:
        >>> output_names(zoo.build("mlp", input_shape=(8, 8, 1), num_classes=3))
        ['probabilities']
    """
    names, outputs = getattr(model, "output_names", None), getattr(model, "outputs", None) or [None]
    structure = getattr(model, "_outputs_struct", None)
    if isinstance(structure, Mapping):  # built with a dict: its keys, in the order of the outputs
        keys = {id(part): key for key, part in structure.items()}
        names = [keys.get(id(output), name) for output, name in zip(outputs, names or [], strict=True)]
    if names is None:
        names = ["output"] if len(outputs) == 1 else [f"output_{i}" for i in range(len(outputs))]
    return [str(name) for name in names]


def model_input(model: keras.Model, inputs: Mapping[str, Any]) -> Any:
    """Returns named inputs as a model takes them: by name where there are several, else the only one."""
    if set(inputs) == {SINGLE}:
        return inputs[SINGLE]
    declared = getattr(model, "inputs", None)
    by_name = len(inputs) > 1 or not declared or isinstance(getattr(model, "_inputs_struct", None), Mapping)
    return dict(inputs) if by_name else next(iter(inputs.values()))


def named_outputs(model: keras.Model, outputs: Any) -> dict[str, Any]:
    """Returns what a model answered by name, whether it is one tensor, a list or a dict."""
    if isinstance(outputs, Mapping):
        return dict(outputs)
    parts = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
    names = output_names(model)
    if len(names) != len(parts):
        names = [f"output_{i}" for i in range(len(parts))]
    return dict(zip(names, parts, strict=True))


def call_model(model: keras.Model, inputs: Mapping[str, Any], training: bool = False) -> dict[str, Any]:
    """Runs a model's forward pass from named inputs to named outputs.

    Example:
        >>> call_model(zoo.build("mlp", input_shape=(8, 8, 1), num_classes=3), {"image": np.zeros((2, 8, 8, 1))}).keys()
        dict_keys(['probabilities'])
    """
    return named_outputs(model, model(model_input(model, inputs), training=training))
