"""The parts of a task.

All data is passed as dicts of named tensors, even a single tensor:

    examples -> preprocessor.encode -> inputs, targets, weights -> model -> outputs -> task.prediction -> predictions

The trainer reads the objective, the evaluator `prediction` and `report`, and the exporter `signatures`. None of them
contains the name of a task.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zoo.errors import UsageError
from zoo.tasks.kinds import ANSWER_KINDS, REQUEST_KINDS
from zoo.tasks.named_tensors import output_names

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from zoo.scores import Score


@dataclasses.dataclass(frozen=True)
class Request:
    """A raw input of a SavedModel's signatures.

    Attributes:
        name: the input's name.
        kind: the name of a `RequestKind`, which determines how clients read and encode it.
        dtype: string, float32, int32 or int64.
        shape: shape of one example, None for a size that varies; () for a string.
        description: its content, for the model card.
        columns: for a series, the names of its columns in a CSV file by key: `series`, the channels in order, and perhaps
            `time` and `sequence`; empty if they have no names.
        default: the value of an example where a client sends none; None if the input is required. It is in the SavedModel,
            where sessions and TensorFlow Serving's gRPC API find it, and `zoo predict`, `zoo serve` and `zoo.load` add it.
            The functions of `tf.saved_model.load` take every input.

    Raises:
        UsageError: the kind is unknown.

    Example:
        >>> Request("text", "text", "string", (), "UTF-8").typed
        '"a text"'
    """

    name: str
    kind: str
    dtype: str
    shape: tuple[int | None, ...]
    description: str
    columns: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    default: Any = None

    def __post_init__(self) -> None:
        REQUEST_KINDS.get(self.kind)

    @property
    def spec(self) -> tf.TensorSpec:
        """The input as a `tf.TensorSpec` with a batch dimension."""
        import tensorflow as tf

        return tf.TensorSpec([None, *self.shape], tf.as_dtype(self.dtype), self.name)

    @property
    def typed(self) -> str:
        """The placeholder of the request in a printed command line."""
        return REQUEST_KINDS.get(self.kind).placeholder


@dataclasses.dataclass(frozen=True)
class Shown:
    """How `zoo predict` prints an output, in one line.

    Attributes:
        kind: `values`: the outputs, all of them by default; `labels`: the best labels of one output of probabilities;
            `several_labels`: the labels of the first output with their probabilities in the second; `pairs`: two outputs of
            the same length as one/other, without pairs whose second part is empty; `entities`: the entities of a text, or the
            same pairs if the tags mark none; `rows`: outputs of the same length, in each row the first non-empty text and the
            last output, a number; `text`: one output unchanged; `forecast`: values that continue the first channel of the
            series in the request; or the name of a kind that `register_answer_kind` added.
        outputs: names of the outputs to print; by default those that the signature names by the data.
        digits: number of decimals.
    """

    kind: str = "values"
    outputs: tuple[str, ...] = ()
    digits: int = 4

    def format(self, answer: Mapping[str, Any], labels: Sequence[str], top: int = 1) -> str:
        """Returns the outputs for one example in one line; `top` is the number of labels.

        Example:
            >>> Shown("labels", ("p",)).format({"p": np.array([0.1, 0.9])}, ["no", "yes"])
            'yes 0.9000'
        """
        return ANSWER_KINDS.get(self.kind)(answer, self, labels, top)


@dataclasses.dataclass(frozen=True)
class Served:
    """The data from which a signature makes its outputs, in the served graph.

    Attributes:
        outputs: outputs of the signature's head by name, such as {"probabilities": (batch, classes)}.
        label: maps int64 class numbers of any shape to string tensors, from the artifact's `assets/labels.txt`.
        extras: side products of the preprocessor, such as the tokens of a text, or the `lengths` of sequences, int32
            (batch,).
        preprocessor: the run's preprocessor, which converts numbers for the client: a forecast to its unit, token ids to
            text.
        decided: what the task's `decide` returned after the training, such as thresholds; empty if it decided nothing.
        class_names: the labels in the order of their numbers, for outputs that depend on what the labels are.
    """

    outputs: Mapping[str, tf.Tensor]
    label: Callable[[tf.Tensor], tf.Tensor]
    extras: Mapping[str, tf.Tensor] = dataclasses.field(default_factory=dict)
    preprocessor: Any = None
    decided: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    class_names: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Signature:
    """A function of the SavedModel that takes raw requests.

    Attributes:
        requests: names of its raw inputs, which the preprocessor must have.
        answer: makes the named outputs in the graph, with core TensorFlow ops.
        answers: description of each output by name, for README and the model card.
        head: the function that runs the model: its forward pass, `predict`, or a named function of its spec, such as `beam`.
        optional: names of further raw inputs, used if the preprocessor has them.
        all_but: takes all raw inputs of the preprocessor but these, such as one for each column of a table; None for those
            of `requests` and `optional`.
        shown: how the outputs are printed.
        named: describes further outputs, whose names depend on the data, from the preprocessor.
        exists: whether a SavedModel has it, from the preprocessor, such as a search that needs a corpus.
        state: names of outputs that only a signature which continues this one reads, such as the keys and values of earlier
            tokens. The golden examples do not hold them; verification compares what follows from them.
        continues: the signature whose outputs are the inputs of this one. Its own outputs have the same names, so that it can
            be called again with them. Verification calls both several times.
        starting: prefixes of further raw inputs but those of `all_but`: their names depend on the data, such as one for each
            feature of an item.
        parts_of: for such a signature, those whose `text` its own ones make, one after the other.
        generates: whether it writes a text token by token, so that requests of equal size may take very different times.
    """

    requests: tuple[str, ...]
    answer: Callable[[Served], dict[str, tf.Tensor]]
    answers: Mapping[str, str]
    head: str = "predict"
    optional: tuple[str, ...] = ()
    starting: tuple[str, ...] = ()
    all_but: tuple[str, ...] | None = None
    shown: Shown = Shown()
    named: Callable[[Any], Mapping[str, str]] = lambda preprocessor: {}
    exists: Callable[[Any], bool] = lambda preprocessor: True
    state: tuple[str, ...] = ()
    continues: str = ""
    parts_of: tuple[str, ...] = ()
    generates: bool = False

    @property
    def in_turn(self) -> dict[str, Any]:
        """What zoo.json holds of a signature that is called in turn with another one; empty for others."""
        found = {"state": list(self.state), "continues": self.continues, "parts_of": list(self.parts_of)}
        return {name: value for name, value in found.items() if value}

    def described(self, preprocessor: Any) -> dict[str, str]:
        """Returns the description of each output by name, given the preprocessor."""
        return {**self.answers, **self.named(preprocessor)}

    def takes(self, known: Collection[str]) -> tuple[str, ...]:
        """Returns the names of its raw inputs, given the inputs that the preprocessor has."""
        if self.starting:
            apart = (*self.requests, *(self.all_but or ()))
            further = (name for name in known if name.startswith(self.starting) and name not in apart)
            return (*self.requests, *further)
        if self.all_but is not None:
            return tuple(name for name in known if name not in self.all_but)
        return (*self.requests, *(name for name in self.optional if name in known))


@dataclasses.dataclass(frozen=True)
class Compared:
    """A target, and the output that it is compared with.

    Attributes:
        target: the target's name; its weights have the same name.
        outputs: allowed names of the output; empty for a model with one output of any name.
    """

    target: str
    outputs: tuple[str, ...]

    def output_of(self, names: Sequence[str], model: str) -> str:
        """Returns the name of the output of a model.

        Args:
            names: the names of the model's outputs.
            model: the model's name, for messages.

        Raises:
            UsageError: no output or several outputs have an allowed name.
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
                f"Model {model!r} ends with a layer named {names[0]!r}; expected {expected}. Rename its last layer."
            )
        raise UsageError(
            f"Model {model!r} has the outputs {list(names)}; expected exactly one of them to be {expected}. "
            "Rename the layers of its outputs."
        )


@dataclasses.dataclass(frozen=True)
class Term(Compared):
    """A term of the loss.

    Attributes:
        loss: creates the Keras loss without reduction from the output's name and a label smoothing. The loss has one value
            per example, (batch,), or one per element. A target with several elements needs weights of that shape.
        weight: factor of the term's mean.
    """

    loss: Callable[[str, float], keras.losses.Loss]
    weight: float = 1.0


@dataclasses.dataclass(frozen=True)
class Measure(Compared):
    """Metrics of one output.

    Attributes:
        metrics: creates new Keras metrics. They are updated with (target, output, weights).
        by_output: whether `metrics` is called with the output's name, because the metrics of probabilities and of logits
            differ.
    """

    metrics: Callable[..., list[keras.metrics.Metric]]
    by_output: bool = False

    def create(self, output: str) -> list[keras.metrics.Metric]:
        """Returns new metrics for an output."""
        return self.metrics(output) if self.by_output else self.metrics()


@dataclasses.dataclass(frozen=True)
class Objective:
    """The losses and metrics of training.

    The loss of a step is the sum over all terms of weight x (sum of losses) / (number of real elements). It is computed over
    the whole batch, on any number of devices. An element is real if its weight is not 0. Without weights, every example is
    one real element. `zoo.training.objective` computes the loss.

    Attributes:
        loss: the terms.
        metrics: metrics in addition to the loss.
        monitor: the metric of the validation split that selects the best model, and its direction.
        classes: the target of named classes, to which class weights and mixed images apply; None without one.
        weighted: the target to whose classes class weights apply, if it holds shares or a probability; `classes` by default.
        labels: the target with 0 or 1 for each named label, of which an example may have several; None without one.
        quantiles: the levels of the quantiles that are predicted for every value, ascending; empty for none.
        paired: the target whose equal values stand next to each other in training batches, two by two, because the loss
            compares the examples of a batch, which is not divided. None for a loss of single examples.
    """

    loss: tuple[Term, ...]
    metrics: tuple[Measure, ...] = ()
    monitor: tuple[str, str] = ("val_loss", "min")
    classes: str | None = None
    weighted: str | None = None
    labels: str | None = None
    quantiles: tuple[float, ...] = ()
    paired: str | None = None

    def check_outputs(self, model: keras.Model) -> None:
        """Checks that the outputs of a model are exactly those that the objective uses.

        Raises:
            UsageError: an output is missing, has another name, or is not used.
        """
        if not (self.loss or self.metrics):
            return  # nothing is compared, so the model may have any outputs
        names = output_names(model)
        used = {part.output_of(names, model.name) for part in (*self.loss, *self.metrics)}
        unused = [name for name in names if name not in used]
        if unused:
            raise UsageError(
                f"Model {model.name!r} has the outputs {names}, of which this task uses {sorted(used)}. "
                f"Build it without {', '.join(unused)}."
            )

    def num_classes(self, model: keras.Model) -> int | None:
        """Returns the last dimension of the output for named classes or labels, or None without such names."""
        names = output_names(model)
        for term in self.loss:
            if term.target in (self.classes, self.labels):
                return int(model.outputs[names.index(term.output_of(names, model.name))].shape[-1])
        return None


@dataclasses.dataclass(frozen=True)
class Task:
    """The definition of a task for all parts of the package. `register_task` adds one.

    Attributes:
        name: the name that specs and data sets use.
        targets: data: the keys of an example that hold the targets; empty for tasks without labels.
        preprocessor: data: the registered preprocessor that turns examples into inputs, targets and weights.
        default_model: the registered model that is trained where none is named; None if one must be named.
        arguments: data: arguments that the task sets for every builder that has them.
        follows_time: data: whether test examples are later than training examples, so that folds would be invalid.
        objective: training: losses and metrics.
        prediction: evaluation: computes the report's input from the model's outputs, such as probabilities from logits.
        report: evaluation: the registered report.
        signatures: serving: the SavedModel's functions of raw requests; one is `serving_default`.
        score: serving: the score of outputs for raw requests; None if no metric is a mean over examples.
        decide: training: computes what the outputs need besides the weights, such as thresholds, as plain values from the
            targets and predictions of the validation split; None if nothing is. The report and the signatures use it.
        abstain: training: computes from which probability on the model answers, for `TrainConfig.abstain`, from the targets,
            predictions and weights of the validation split and the least share of right answers; part of what `decide`
            returns. None for a task whose signatures always answer.
        margins: serving: the output, (batch, steps), that says by how much each step of an answer was ahead of another one; 0
            after the end. Verification compares answers up to the first step that rounding may decide. Empty without one.
        data_of: data: other tasks whose data sets it can be trained on too.
        suited: data: returns the task, from itself and a preprocessor, for preprocessors with other targets than the task's;
            None if all have the same.
        with_quantiles: training: returns the task for the prediction of quantiles, from itself and their levels; None for a
            task without values.
    """

    name: str
    targets: tuple[str, ...]
    preprocessor: str
    objective: Objective
    prediction: Callable[[Mapping[str, tf.Tensor]], dict[str, tf.Tensor]]
    report: str
    signatures: Mapping[str, Signature]
    default_model: str | None = None
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    follows_time: bool = False
    score: Score | None = None
    decide: Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]] | None = None
    abstain: Callable[[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any], float], dict[str, Any]] | None = None
    margins: str = ""
    data_of: tuple[str, ...] = ()
    suited: Callable[[Task, Any], Task] | None = None
    with_quantiles: Callable[[Task, tuple[float, ...]], Task] | None = None

    def for_targets(self, preprocessor: Any) -> Task:
        """Returns the task for a preprocessor: with its objective, the signatures that it has, and quantiles, if any."""
        suited = self.suited(self, preprocessor) if self.suited is not None else self
        found = {name: part for name, part in suited.signatures.items() if part.exists(preprocessor)}
        score = suited.score if suited.score and suited.score.signature in found else None
        task = dataclasses.replace(suited, signatures=found, score=score)
        levels = tuple(getattr(getattr(preprocessor, "targets", None), "quantiles", ()))
        return task.with_quantiles(task, levels) if task.with_quantiles and levels else task

    def recorded(self, decided: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what verification must know of the outputs: what was decided, and the name of the margins, if any."""
        return {**decided, **({"margins": self.margins} if self.margins else {})}

    @property
    def classes(self) -> str | None:
        """The target with numbers of named classes; None without such a target."""
        return self.objective.classes
