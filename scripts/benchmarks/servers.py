"""The contenders of `zoo benchmark serving` except PyTorch. Each prints the time of a call on standard output."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.scripts.benchmarks.training import FAMILIES
from zoo.scripts.benchmarks.with_keras import plain_keras, say

if TYPE_CHECKING:
    import keras
    import numpy as np

Call = Callable[[dict[str, Any]], Any]


def write_artifact(job: dict[str, Any]) -> None:
    """Builds and exports the model, and writes weights, inputs and the model's outputs for the other contenders."""
    import numpy as np

    import zoo
    from zoo import registry
    from zoo.checkpoints import bert_folder
    from zoo.export.artifact import model_inputs

    prepared = zoo.datasets.load(job["data"]).prepare(job["family"], **job.get("model", {}))
    model = prepared.build(seed=0)
    folder = Path(job["folder"])
    zoo.export.save(model, folder / "artifact", interface=prepared.interface)
    model.save(folder / "model.keras")
    if job.get("hugging_face"):
        bert_folder.save_folder(model, folder / "huggingface")
    rng, arrays = np.random.default_rng(0), {}
    for name, spec in model_inputs(model).items():
        shape = [job["rows"], *(size or job["length"] for size in spec.shape[1:])]
        numbers = rng.normal(size=shape) if spec.dtype.is_floating else rng.integers(1, _least(model, name), shape)
        # No padding, one text, a prediction for every token.
        fixed: dict[str, Callable[[Any], np.ndarray]] = {
            "padding_mask": np.ones,
            "token_type_ids": np.zeros,
            "positions": lambda shape: np.indices(shape)[1],
        }
        arrays[name] = fixed.get(name, lambda _, numbers=numbers: numbers)(shape).astype(spec.dtype.as_numpy_dtype)
    answer = _plain(model(_as_input({k: v[:8] for k, v in arrays.items()}), training=False))
    weights = {f"w{i:03}": w for i, w in enumerate(model.get_weights())}
    np.savez(folder / "start.npz", answer=answer, **weights, **{f"x_{k}": v for k, v in arrays.items()})  # type: ignore[arg-type]
    (folder / "arguments.json").write_text(json.dumps(registry.describe_build(model)["arguments"]), encoding="utf-8")  # type: ignore[index]


def _least(model: keras.Model, name: str) -> int:
    """Returns an upper bound for integer inputs: the number of rows of the model's smallest embedding table."""
    tables = [w for w in model.weights if len(w.shape) == 2 and w.path.endswith(("embeddings", "table"))]
    sizes = [w.shape[0] for w in tables if not any(part in w.path for part in ("token_types", "positions"))]
    return min(sizes)


def _as_input(inputs: dict[str, Any]) -> Any:
    return inputs if len(inputs) > 1 else next(iter(inputs.values()))


def _plain(answer: Any) -> np.ndarray:
    """Returns the probabilities of an output, or its first array by name, as a NumPy array."""
    import numpy as np

    if isinstance(answer, dict):
        answer = answer.get("probabilities", answer[min(answer)])
    return np.asarray(answer)


def zoo_call(job: dict[str, Any]) -> Call:
    """Returns the call of the SavedModel that `zoo.export.save` wrote, in TensorFlow."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(Path(job["folder"]) / "artifact" / "1"))
    function = loaded.signatures["predict"]
    function.keep = loaded
    return lambda inputs: function(**{k: tf.constant(v) for k, v in inputs.items()})


def raw_requests(job: dict[str, Any]) -> tuple[Call, dict[str, Any], Any]:
    """Returns the call of `serving_default`, golden requests, repeated as often as needed, and the first eight answers."""
    import numpy as np
    import tensorflow as tf

    from zoo.export import zoo_json
    from zoo.export.standalone import arrays

    path = Path(job["folder"]) / "artifact" / "1"
    golden = arrays.load(path / "assets.extra" / "golden.npz")
    inputs, answers = arrays.examples(golden, zoo_json.signatures(zoo_json.read(path)), "serving_default")
    loaded = tf.saved_model.load(str(path))
    function = loaded.signatures["serving_default"]
    function.keep = loaded
    count = min(len(values) for values in inputs.values())
    rows = np.arange(job["rows"]) % count
    repeated = {name: np.asarray(values)[rows] for name, values in inputs.items()}
    expected = _plain({name: np.asarray(values)[rows[:8]] for name, values in answers.items()})
    return lambda part: function(**{k: tf.constant(v) for k, v in part.items()}), repeated, expected


def keras_model(job: dict[str, Any]) -> keras.Model:
    """Returns the model built from Keras's own layers; for families without such a version, the zoo's Keras model."""
    import numpy as np

    folder = Path(job["folder"])
    if job["family"] in FAMILIES:
        arguments = json.loads((folder / "arguments.json").read_text(encoding="utf-8"))
        model = plain_keras(job["family"], arguments, job.get("length"))
    else:
        from zoo.pipeline import load_model

        model = load_model(folder / "model.keras")
    with np.load(folder / "start.npz") as start:
        model.set_weights([start[name] for name in sorted(start.files) if name.startswith("w")])
    return model


def keras_call(job: dict[str, Any]) -> Call:
    """Returns a call of the Keras model, in the way that the contender names."""
    import tensorflow as tf

    if job["contender"] == "keras_export":
        loaded = tf.saved_model.load(str(_keras_export(job)))
        (expected,), _ = loaded.serve.concrete_functions[0].structured_input_signature
        if isinstance(expected, list):  # Keras exports models with several inputs this way
            return lambda inputs: loaded.serve([tf.constant(inputs[spec.name]) for spec in expected])
        return lambda inputs: loaded.serve(tf.nest.map_structure(tf.constant, _as_input(inputs)))
    model = keras_model(job)
    if job["contender"] == "keras_predict":
        return lambda inputs: model.predict(_as_input(inputs), batch_size=job["rows"], verbose=0)
    if job["contender"] == "keras_call":
        return lambda inputs: model(_as_input(inputs), training=False)
    compiled = tf.function(lambda x: model(x, training=False), jit_compile=True)
    return lambda inputs: compiled(tf.nest.map_structure(tf.constant, _as_input(inputs)))


def _keras_export(job: dict[str, Any]) -> Path:
    folder = Path(job["folder"]) / "keras_export"
    if not folder.exists():
        with contextlib.redirect_stdout(sys.stderr):
            keras_model(job).export(folder, verbose=False)
    return folder


def onnx_call(job: dict[str, Any]) -> Call:
    """Returns the call of Keras's export, converted to ONNX."""
    import onnxruntime

    file = _converted(job, "onnx", "*.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job["threads"]
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    given = [value.name for value in session.get_inputs()]

    def call(inputs: dict[str, Any]) -> dict[str, Any]:
        return dict(zip(names, session.run(None, dict(zip(given, _in_order(inputs, given), strict=True))), strict=True))

    return call


def openvino_call(job: dict[str, Any]) -> Call:
    """Returns the call of Keras's export, converted by OpenVINO, in float32."""
    import openvino

    file = _converted(job, "openvino", "*.xml")
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": job["threads"],
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = openvino.Core().compile_model(str(file), "CPU", settings)
    names = [output.get_any_name() for output in compiled.outputs]
    given = [value.get_any_name() for value in compiled.inputs]

    def call(inputs: dict[str, Any]) -> dict[str, Any]:
        answer = compiled(_in_order(inputs, given))
        return {name: answer[i] for i, name in enumerate(names)}

    return call


def _in_order(inputs: dict[str, Any], names: list[str]) -> list[Any]:
    """Returns inputs in the order of the converted model; a single input may have any name."""
    return [inputs[name] for name in names] if len(names) > 1 else list(inputs.values())


def _converted(job: dict[str, Any], to: str, pattern: str) -> Path:
    """Converts Keras's export with `zoo convert`, which verifies the result."""
    output = Path(job["folder"]) / to
    if not output.exists():
        words = [sys.executable, "-P", "-m", "zoo.scripts.convert", str(_keras_export(job)), "--to", to]
        done = subprocess.run([*words, "--output", str(output)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise ImportError((done.stderr.strip().splitlines() or ["no message"])[-1])
    return next(output.rglob(pattern))


CALLS: dict[str, Callable[[dict[str, Any]], Call]] = {
    "zoo": zoo_call,
    "onnxruntime": onnx_call,
    "openvino": openvino_call,
}


def gap(answer: Any, expected: np.ndarray) -> float:
    """Returns the largest difference between an answer's array and the expected one; of texts, the share that differs.

    Answers are padded to the longest row of their batch: the expected ones may have more columns than the answer's batch.
    """
    import numpy as np

    found = _plain(answer)
    if found.ndim > 1:
        expected = expected[:, : found.shape[1]]
    if found.shape != expected.shape:
        return float("inf")
    if np.issubdtype(found.dtype, np.number):
        return float(np.max(np.abs(found - expected)))
    return float(np.mean(found != expected))


def serve(call: Call, inputs: dict[str, Any], expected: Any) -> None:
    """Compares the first output, then measures calls: each line of standard input gives a batch size and seconds."""
    import numpy as np

    small = {k: v[:8] for k, v in inputs.items()}
    difference = gap(call(small), expected)
    if not difference <= 1e-4:  # also NaN
        raise ValueError(
            f"The output differs from the Keras model's by {difference:.2g}. Leave it out with --contenders."
        )
    say(difference=difference)
    for line in sys.stdin:
        batch, seconds = line.split()
        part = {k: np.ascontiguousarray(v[: int(batch)]) for k, v in inputs.items()}
        times: list[float] = []
        end = time.perf_counter() + float(seconds)
        while len(times) < 3 or time.perf_counter() < end:
            started = time.perf_counter()
            _plain(call(part))
            times.append(time.perf_counter() - started)
        say(milliseconds=1000 * statistics.median(times))


def main(job: dict[str, Any]) -> None:
    """Runs one contender until its standard input ends."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import numpy as np
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(job["threads"])
    tf.config.threading.set_inter_op_parallelism_threads(job["threads"])
    if job["contender"] == "zoo" and not (Path(job["folder"]) / "start.npz").exists():
        write_artifact(job)
    with np.load(Path(job["folder"]) / "start.npz") as start:
        inputs = {k.removeprefix("x_"): start[k] for k in start.files if k.startswith("x_")}
        expected = start["answer"]
    try:
        if job["contender"] == "zoo_raw":
            call, inputs, expected = raw_requests(job)
        else:
            call = CALLS.get(job["contender"], keras_call)(job)
    except ImportError as error:
        say(skipped=str(error))
        return
    serve(call, inputs, expected)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
