"""Measure requests of the rows of a table: `zoo benchmark rows --data adult`."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import datasets
from zoo.errors import UsageError, did_you_mean
from zoo.registry import list_models
from zoo.scripts.benchmarks.tables import Figures
from zoo.scripts.console import Parser, import_tensorflow, run_command, take_option

if TYPE_CHECKING:
    import keras
    import numpy as np

    from zoo.datasets.prepared import Prepared

_DESCRIPTION = """Measure how many rows per second the signatures of a table's SavedModel answer, on one thread.

The rows are those of the test split. All signatures must give the same outputs before anything is measured. Keras's side
is a FeatureSpace with two Dense layers, as model.export writes it; it takes the same columns and has other weights.
Calls alternate (A B C D A B C D), so that other load on the machine affects all contenders equally.
"""

CONTENDERS = {
    "columns": "an input per column",
    "examples": "tf.Example",
    "predict": "model inputs",
    "keras": "Keras FeatureSpace and Dense, an input per column",
}
FIGURES = Figures(("family", "data", "batch"), "rows_per_second", ("milliseconds",), CONTENDERS, ",.0f")
NOTES = (
    "Rows per second in calls from Python with tensors, on one thread; the median of all rounds. Weights are untrained.",
    "Ratio: rows per second of an input per column, divided by the contender's in the same round; the median of all rounds.",
)
_ROWS = 512

Call = Callable[[Mapping[str, Any]], Any]


@dataclasses.dataclass
class Contender:
    """A function of a SavedModel, and the arrays that it takes, of all rows."""

    call: Call
    inputs: Mapping[str, np.ndarray]


@dataclasses.dataclass
class Row:
    """A contender's figures for one batch size."""

    contender: str
    batch: int
    seconds: list[float]
    ratio: float = float("nan")

    @property
    def rate(self) -> float:
        """Rows per second."""
        return self.batch / statistics.median(self.seconds)


def contenders(model: str, data: datasets.Data, folder: Path) -> dict[str, Contender]:
    """Exports a model of a table, and for `mlp` Keras's counterpart, and returns their functions.

    Raises:
        UsageError: the data is no table, or the signatures give different outputs.
    """
    import tensorflow as tf

    import zoo

    prepared = data.prepare(model)
    requests = _requests(prepared)
    path = zoo.export.save(prepared.build(seed=0), folder / model, interface=prepared.interface)
    loaded = tf.saved_model.load(str(path))
    served = {name: loaded.signatures[name] for name in ("serving_default", "examples", "predict")}
    columns = {name: values for name, values in requests.items() if name != "examples"}
    inputs = prepared.preprocessor.serve({name: tf.constant(values) for name, values in columns.items()})[0]
    found = {
        "columns": Contender(lambda given: served["serving_default"](**given), columns),
        "examples": Contender(lambda given: served["examples"](**given), {"examples": requests["examples"]}),
        "predict": Contender(lambda given: served["predict"](**given), {k: v.numpy() for k, v in inputs.items()}),
    }
    check_alike(found)
    if model == "mlp":
        found["keras"] = _keras_contender(columns, prepared, folder / "keras")
    return found


def _requests(prepared: Prepared) -> dict[str, np.ndarray]:
    """Returns the first rows of the test split as requests, repeated if there are fewer."""
    import numpy as np

    if "examples" not in prepared.preprocessor.requests:
        raise UsageError(f"Data set {prepared.data.name!r} is no table. Pass --data with a table, such as adult.")
    rows = list(prepared.data.test.take(_ROWS).as_numpy_iterator())
    return {name: np.resize(values, _ROWS) for name, values in prepared.preprocessor.to_requests(rows).items()}


def check_alike(found: Mapping[str, Contender]) -> None:
    """Raises `UsageError` if a signature gives other outputs than the first one."""
    import numpy as np

    answers = {name: one.call(_tensors(one.inputs, 0, _ROWS)) for name, one in found.items()}
    ours = answers["columns"]
    for name, answer in answers.items():
        for output in answer.keys() & ours.keys():
            if ours[output].dtype == "string":
                continue
            gap = float(np.abs(np.asarray(answer[output], np.float64) - ours[output]).max())
            if not gap <= 1e-4 * max(1.0, float(np.abs(ours[output]).max())):
                raise UsageError(
                    f"The signature for {CONTENDERS[name]} differs by {gap:.2g} in {output} from that for an input per "
                    "column. Choose another model."
                )
        if not answer.keys() & ours.keys():
            raise UsageError(f"{CONTENDERS[name]} has no output of {', '.join(ours)}. Choose another model.")


def _keras_contender(columns: Mapping[str, np.ndarray], prepared: Prepared, folder: Path) -> Contender:
    """Returns Keras's export of a network on the same columns; its outputs are compared with the network's."""
    import numpy as np
    import tensorflow as tf

    filled = {k: np.nan_to_num(v) if v.dtype != object else v.astype(str) for k, v in sorted(columns.items())}
    model = keras_network(filled, len(prepared.class_names) or 1)
    with contextlib.redirect_stdout(sys.stderr):
        model.export(str(folder), format="tf_saved_model", verbose=False)
    loaded = tf.saved_model.load(str(folder))
    (takes,), _ = loaded.serve.concrete_functions[0].structured_input_signature
    ordered = [spec.name for spec in (takes.values() if isinstance(takes, dict) else takes)]

    def call(given: Mapping[str, Any]) -> Any:
        return loaded.serve(dict(given) if isinstance(takes, dict) else [given[name] for name in ordered])

    shaped = {name: values.reshape(-1, 1) for name, values in filled.items()}
    whole = _tensors(shaped, 0, _ROWS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns about the types of its own FeatureSpace's inputs
        gap = float(np.abs(np.asarray(call(whole)) - np.asarray(model(whole, training=False))).max())
    if not gap <= 1e-4:
        raise UsageError(f"Keras's export differs from its model by {gap:.2g}. Choose other data.")
    return Contender(call, shaped)


def keras_network(columns: Mapping[str, np.ndarray], outputs: int) -> keras.Model:
    """Returns Keras's FeatureSpace, fitted to columns, with two Dense layers of 64 units and a softmax."""
    import keras
    import tensorflow as tf

    space = keras.utils.FeatureSpace(
        {
            name: keras.utils.FeatureSpace.float_normalized()
            if values.dtype.kind == "f"
            else keras.utils.FeatureSpace.string_categorical(output_mode="one_hot")
            for name, values in columns.items()
        },
        output_mode="concat",
    )
    space.adapt(tf.data.Dataset.from_tensor_slices(dict(columns)).batch(_ROWS))
    x = space.get_encoded_features()
    for _ in range(2):
        x = keras.layers.Dense(64, activation="relu")(x)
    output = keras.layers.Dense(outputs, activation="softmax" if outputs > 1 else None)(x)
    return keras.Model(space.get_inputs(), output)


def _tensors(inputs: Mapping[str, np.ndarray], start: int, count: int) -> dict[str, Any]:
    import tensorflow as tf

    return {name: tf.constant(values[start : start + count]) for name, values in inputs.items()}


def measure(found: Mapping[str, Contender], batch: int, seconds: float) -> list[Row]:
    """Returns the rows for one batch size. Calls alternate for at least five rounds and at least `seconds` each."""
    starts = range(0, _ROWS - batch + 1, batch)
    parts = {name: [_tensors(one.inputs, start, batch) for start in starts] for name, one in found.items()}
    rows = {name: Row(name, batch, []) for name in found}
    for name, one in found.items():
        for part in parts[name][:5]:
            one.call(part)
    round_number = 0
    while round_number < 5 or min(sum(row.seconds) for row in rows.values()) < seconds:
        for name, one in found.items():
            part = parts[name][round_number % len(parts[name])]
            started = time.perf_counter()
            _arrays(one.call(part))
            rows[name].seconds.append(time.perf_counter() - started)
        round_number += 1
    for row in rows.values():
        pairs = zip(row.seconds, rows["columns"].seconds, strict=True)
        row.ratio = statistics.median(theirs / ours for theirs, ours in pairs)
    return list(rows.values())


def _arrays(answer: Any) -> None:
    """Reads all outputs, as a client does."""
    for output in answer.values() if isinstance(answer, Mapping) else (answer,):
        output.numpy()


def figures(rows: Sequence[Row], data: str, model: str) -> list[dict[str, object]]:
    """Returns the rows in the layout of the CSV file."""
    return [
        {
            "family": model,
            "data": data,
            "batch": row.batch,
            "contender": row.contender,
            "rows_per_second": f"{row.rate:.1f}",
            "milliseconds": f"{1000 * statistics.median(row.seconds):.4g}",
            "ratio": f"{row.ratio:.3f}",
            "rounds": len(row.seconds),
        }
        for row in rows
    ]


def _parser(data: str) -> Parser:
    parser = Parser("benchmark rows", _DESCRIPTION)
    known = list_models(task="tabular_classification")
    parser.add_argument("--families", nargs="+", default=known, help=f"Models of tables: {', '.join(known)}.")
    parser.add_argument("--batch_sizes", nargs="+", type=int, default=[1, 256], help="Rows per call.")
    parser.add_argument("--seconds", type=float, default=2.0, help="Seconds per contender and batch size.")
    parser.add_argument("--output", help="CSV file to add the figures to.")
    parser.add_argument("--markdown", action="store_true", help="Print the CSV file as a table. Nothing is measured.")
    parser.add_signature("data", datasets.load, f"data {data}", skip=("name", "model"), values={})
    return parser


def command(argv: list[str]) -> int:
    """Parses the options, measures and prints the table."""
    data, argv = take_option(argv, "data")
    data = data or "breast_cancer"
    options = _parser(data).parse(argv)
    output = Path(options.output) if options.output else None
    if options.markdown:
        print(FIGURES.table(FIGURES.read(output or Path(__file__).with_name("rows.csv"))))
        return 0
    known = list_models(task="tabular_classification")
    for model in options.families:
        if model not in known:
            raise UsageError(f"--families has {model!r}. {did_you_mean(model, known)}")
    for batch in options.batch_sizes:
        if not 1 <= batch <= _ROWS:
            raise UsageError(f"--batch_sizes has {batch}; expected 1 to {_ROWS}. Try --batch_sizes 1 256.")
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import_tensorflow()
    import tensorflow as tf

    if tf.config.threading.get_intra_op_parallelism_threads() != 1:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.get_logger().setLevel("ERROR")  # many models are traced in one process, which TensorFlow takes for a mistake
    loaded = datasets.load(data, **{k: v for k, v in options.data.as_dict().items() if v is not None})
    found: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        for model in options.families:
            functions = contenders(model, loaded, Path(folder))
            for batch in options.batch_sizes:
                new = figures(measure(functions, batch, options.seconds), data, model)
                found += new
                if output:
                    FIGURES.write(new, output)
    print(f"\n{FIGURES.table(found)}\n")
    print("\n".join(NOTES))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(command))
