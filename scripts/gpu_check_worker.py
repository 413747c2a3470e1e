"""The process of one check of `gpu_check`: trains a few steps of a model family and saves the weights."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.registry import get_spec
from zoo.scripts.console import import_tensorflow
from zoo.tasks import get_task

WARM_UP, STEPS = 15, 1
"""Warm-up steps, after each of which the weights are reset so that only the loss scale of float16 adapts, and compared
steps. Only one step is compared, because an untrained deep network multiplies any difference with every further step."""
ROUNDED_BITS = 20


def small_arguments(model: str, task: str) -> dict[str, Any]:
    """Returns the smallest arguments of a model family that are valid for the data set."""
    spec = get_spec(model)
    decided = {"num_classes", *spec.data_arguments, *get_task(task).arguments}
    if task != "image_classification":
        decided.add("input_shape")
    if task == "series_classification":
        decided.add("vocab_size")
    return {k: v for k, v in spec.tiny.items() if k not in decided and not k.endswith(("vocab_size", "max_length"))}


def work(job: Mapping[str, Any]) -> None:
    """Trains a few steps and writes start.npz, end.npz, all.npz and facts.json into the job's folder."""
    import_tensorflow()
    import tensorflow as tf

    import zoo
    from zoo.datasets.sources.embedded import EMBEDDED

    tf.config.experimental.enable_tensor_float_32_execution(job["tensor_float_32"])
    if replicas := job["config"].get("replicas"):
        # Loading the data sets initializes TensorFlow, and afterwards devices cannot be divided any more.
        card = tf.config.list_physical_devices(job["device"].upper())[0]
        part = tf.config.LogicalDeviceConfiguration(memory_limit=4096 if job["device"] == "gpu" else None)
        tf.config.set_logical_device_configuration(card, [part] * replicas)
    task = get_spec(job["model"]).tasks[0]
    data = next(name for name in sorted(EMBEDDED) if zoo.datasets.load(name).task == task)
    recorder = _recorder(job)
    folder = Path(job["folder"])
    folder.mkdir()
    result = zoo.run(
        job["model"],
        data,
        config=zoo.TrainConfig(**job["config"]),
        model_arguments=small_arguments(job["model"], task),
        run_directory=folder / "run",
        export=job["export"],
        verbose=0,
        callbacks=[recorder],
    )
    losses = {key: value for key, value in result.history[-1].items() if key in ("loss", "val_loss")}
    facts = {**recorder.facts, "losses": losses}
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")


def _recorder(job: Mapping[str, Any]) -> Any:
    """Makes the callback that prepares the model, ends the run after the last step and saves its weights."""
    import keras
    import numpy as np

    folder = Path(job["folder"])

    class Recorder(keras.callbacks.Callback):
        """Records the weights, devices and ops of a run."""

        facts: dict[str, Any]
        initial: list[Any]

        def on_train_begin(self, logs: Any = None) -> None:
            """Loads the reference's initial weights, because some initializers give other numbers on a GPU."""
            if job["initial"]:
                with np.load(Path(job["initial"]) / "all.npz") as file:
                    self.model.set_weights([file[name] for name in file.files])
            if job["rounded"]:
                self.model.set_weights([round_to(weight, ROUNDED_BITS) for weight in self.model.get_weights()])
            self.initial = self.model.get_weights()
            recurrent = [layer for layer in self.model._flatten_layers() if hasattr(layer, "use_cudnn")]
            for layer in recurrent:
                layer.use_cudnn = layer.use_cudnn if job["cudnn"] is None else "auto" if job["cudnn"] else False
            self.facts = {"recurrent": bool(recurrent), "steps": 0}
            np.savez(folder / "all.npz", *self.initial)
            self._keep("start")

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            """Resets the weights after every warm-up step."""
            self.facts["steps"] += 1
            if self.facts["steps"] <= WARM_UP:
                self.model.set_weights(self.initial)
            self.model.stop_training = self.facts["steps"] >= WARM_UP + STEPS

        def on_train_end(self, logs: Any = None) -> None:
            """Saves the values that are compared."""
            self._keep("end")
            self.facts["devices"] = sorted({str(v.value.device) for v in self.model.trainable_variables})
            self.facts["cudnn_ops"] = job["cudnn"] is not None and _has_cudnn_ops(self.model)

        def _keep(self, name: str) -> None:
            np.savez(folder / f"{name}.npz", *[keras.ops.convert_to_numpy(v) for v in self.model.trainable_variables])

    return Recorder()


def round_to(weight: Any, bits: int) -> Any:
    """Rounds float32 numbers to `bits` bits of precision (bfloat16 has 8). Other types are not changed."""
    import numpy as np

    if weight.dtype != np.float32:
        return weight
    fraction, exponent = np.frexp(weight)
    return np.ldexp(np.round(fraction * 2**bits) / 2**bits, exponent).astype(np.float32)


def _has_cudnn_ops(model: Any) -> bool:
    import tensorflow as tf

    specs = tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), model.input)
    graph = tf.function(lambda inputs: model(inputs, training=True)).get_concrete_function(specs).graph.as_graph_def()
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    return any("CudnnRNN" in node.op for node in nodes)


if __name__ == "__main__":
    work(json.loads(sys.argv[1]))
