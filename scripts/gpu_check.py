"""Compare training on a GPU with training on the CPU, for every model family: `bash scripts/gpu_check.sh`."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from zoo.errors import UsageError
from zoo.registry import list_models
from zoo.scripts.console import Parser, run_command
from zoo.scripts.gpu_check_worker import ROUNDED_BITS

_NO_GPU = "no GPU is visible to TensorFlow"
_REFERENCE, _ROUNDED = "reference", "rounded"
_FAMILIES = "Check only model families that match this shell-style pattern."


@dataclasses.dataclass(frozen=True)
class Check:
    """One way to train a model family, and the allowed difference from training in float32 on the CPU.

    Attributes:
        name: the name in the output.
        config: fields of TrainConfig, in addition to those that all checks share.
        bits: precision of the numbers in the computation.
        weights: largest difference of the trained weights from the reference, as a fraction of the reference's own
            change of the weights; both as Euclidean norms. The limit is higher for families whose training amplifies
            rounding, such as deep networks with batch normalization. The amplification is measured on the CPU, by
            training from weights rounded to 20 bits.
        loss: largest relative difference of the training and validation losses, or 8 times that of training from
            weights rounded to 20 bits, if that is more.
        cudnn: whether recurrent layers use cuDNN; None leaves the choice to Keras.
        tensor_float_32: whether the GPU may round the factors of products to 11 bits, as TensorFlow does by default.
        recurrent: whether the check applies only to families with recurrent layers.
        gpu_only: why the check cannot run without a GPU; empty if it can.
    """

    name: str
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    bits: int = 24
    weights: float = 1e-3
    loss: float = 1e-4
    cudnn: bool | None = None
    tensor_float_32: bool = False
    recurrent: bool = False
    gpu_only: str = ""


CHECKS = (
    # Every operation rounds in another order. In deep networks this adds up to the effect of weights with 20 bits: the
    # gradients of resnet50 differ by 3e-2 from those of float64, on a CPU as on a GPU.
    Check("float32", bits=20),
    Check("xla", {"jit_compile": True}, 20),
    # Batch normalization over replicas computes the variance as E[x^2] - E[x]^2, which loses precision.
    Check("mirrored", {"strategy": "mirrored", "replicas": 2}, 18),
    Check("cudnn on", cudnn=True, recurrent=True, gpu_only="cuDNN needs a GPU"),
    Check("cudnn off", cudnn=False, recurrent=True),
    # 11 bits in products, 24 in sums.
    Check(
        "tensorfloat-32", {}, 11, weights=0.05, loss=5e-3, tensor_float_32=True, gpu_only="TensorFloat-32 needs a GPU"
    ),
    # 8 bits everywhere except in the weights and the last layer.
    Check("mixed_bfloat16", {"precision": "mixed_bfloat16"}, 8, weights=0.15, loss=3e-2, tensor_float_32=True),
    # 11 bits, and small numbers become 0. A step with overflowing gradients is skipped, hence the warm-up.
    Check("mixed_float16", {"precision": "mixed_float16"}, 11, 0.05, loss=3e-2, tensor_float_32=True),
    Check("export", tensor_float_32=True),
)
_SHARED = {
    "epochs": 50,
    "batch_size": 64,
    "optimizer": "sgd",
    "learning_rate": 0.25,
    "clip_norm": 0.2,
    "steps_per_call": 1,
}


def command(argv: list[str]) -> int:
    """Runs every check in a separate process and prints one line for each; returns 1 if one failed."""
    parser = Parser("gpu-check", "Train every model family on a GPU and compare the results with the CPU.")
    parser.prog = "python -m zoo.scripts.gpu_check"
    parser.add_argument("pattern", nargs="?", default="*", help=_FAMILIES)
    parser.add_argument("--check", help="Run only this check.")
    parser.add_argument(
        "--device", choices=["gpu", "cpu"], default="gpu", help="Device to check. cpu tests this script without a GPU."
    )
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 1) // 4), help="Parallel processes.")
    parser.add_argument("--limit", type=float, default=300.0, help="Time limit of a process in seconds.")
    parser.add_argument("--logs", type=Path, help="Keep the logs of all processes in this folder.")
    options = parser.parse(argv)
    checks = [check for check in CHECKS if options.check in (None, check.name)]
    models = list_models(options.pattern, variants=False)
    if not checks:
        raise UsageError(f"Unknown check {options.check!r}. Pass one of {', '.join(c.name for c in CHECKS)}.")
    if not models:
        raise UsageError(f"No model matches {options.pattern!r}. Pass a name that `zoo list` prints.")
    if options.jobs < 1 or options.limit <= 0:
        raise UsageError(
            f"--jobs is {options.jobs} and --limit is {options.limit:g}; expected numbers above 0. Try --jobs 1 --limit 300."
        )
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        runner = Runner(Path(folder), options.device, options.jobs, options.limit)
        try:
            verdicts = [_print(*line) for line in runner.run(models, checks)]
        finally:
            if options.logs:
                options.logs.mkdir(parents=True, exist_ok=True)
                for log in Path(folder).glob("*.log"):
                    shutil.copy(log, options.logs)
    counts = [f"{verdicts.count(verdict)} {verdict}" for verdict in ("passed", "failed", "skipped")]
    print(f"{len(verdicts)} checks on {options.device}: {', '.join(counts)} in {time.monotonic() - started:.0f} s")
    return 1 if "failed" in verdicts else 0


def _print(model: str, check: Check, verdict: str, detail: str) -> str:
    print(f"{model:<22}{check.name:<16}{verdict}: {detail}", flush=True)
    return verdict


class Runner:
    """Runs checks in parallel, each in a separate process.

    Args:
        folder: folder for the results of the processes.
        device: `gpu` or `cpu`.
        jobs: number of parallel processes.
        limit: time limit of a process in seconds.
    """

    def __init__(self, folder: Path, device: str, jobs: int, limit: float) -> None:
        self.folder, self.device, self.jobs, self.limit = folder, device, jobs, limit

    def run(self, models: Sequence[str], checks: Sequence[Check]) -> Iterator[tuple[str, Check, str, str]]:
        """Yields model, check, verdict and reason, in order, as soon as they are available."""
        pairs = [(model, check) for model in models for check in checks]
        if self.device == "gpu" and not self._sees_gpu():
            yield from ((model, check, "skipped", _NO_GPU) for model, check in pairs)
            return
        with ThreadPoolExecutor(self.jobs) as pool:
            references = {model: pool.submit(self._references, model) for model in models}

            def verdict_on(pair: tuple[str, Check]) -> tuple[str, str]:
                model, check = pair
                problem = references[model].result()
                return ("failed", f"no reference: {problem}") if problem else self._judge(model, check)

            for (model, check), (verdict, detail) in zip(pairs, pool.map(verdict_on, pairs), strict=True):
                yield model, check, verdict, detail

    def _sees_gpu(self) -> bool:
        source = "import tensorflow as tf; print('GPUs', len(tf.config.list_physical_devices('GPU')))"
        done = self._process(["-c", source], "gpu", "sees-gpu")
        return done == "" and "GPUs 0" not in (self.folder / "sees-gpu.log").read_text(encoding="utf-8")

    def _judge(self, model: str, check: Check) -> tuple[str, str]:
        reference, rounded = (read_run(self.folder / f"{model}-{name}") for name in (_REFERENCE, _ROUNDED))
        if check.recurrent and not reference["recurrent"]:
            return "skipped", "no recurrent layer"
        if check.gpu_only and self.device == "cpu":
            return "skipped", check.gpu_only
        problem = self._train(model, check)
        if problem:
            return "failed", problem
        if check.name == "export":
            return self._verify(model, check)
        run = read_run(self.folder / f"{model}-{check.name}")
        return judge(
            reference, run, check, self.device, distance(reference, rounded), loss_distance(reference, rounded)
        )

    def _references(self, model: str) -> str:
        """Trains twice in float32 on the CPU; returns an error message, or an empty text."""
        return self._train(model, None) or self._train(model, None, rounded=True)

    def _train(self, model: str, check: Check | None, *, rounded: bool = False) -> str:
        """Trains in a separate process; returns an error message, or an empty text."""
        name = f"{model}-{check.name if check else _ROUNDED if rounded else _REFERENCE}"
        device = self.device if check else "cpu"
        job = {
            "model": model,
            "config": {**_SHARED, "strategy": "one_device", "jit_compile": False, **(check.config if check else {})},
            "device": device,
            "cudnn": check.cudnn if check else None,
            "tensor_float_32": bool(check and check.tensor_float_32),
            "export": bool(check and check.name == "export"),
            "folder": str(self.folder / name),
            "initial": str(self.folder / f"{model}-{_REFERENCE}") if check or rounded else None,
            "rounded": rounded,
        }
        return self._process(["-m", "zoo.scripts.gpu_check_worker", json.dumps(job)], device, name)

    def _verify(self, model: str, check: Check) -> tuple[str, str]:
        """Verifies the SavedModel in a process without a GPU."""
        name = f"{model}-{check.name}"
        words = ["-m", "zoo.scripts.cli", "verify", str(self.folder / name / "run"), "--runtimes", "none"]
        problem = self._process(words, "cpu", f"{name}-verify")
        text = (self.folder / f"{name}-verify.log").read_text(encoding="utf-8")
        verdict = next((line for line in text.splitlines() if "verified" in line.lower()), "")
        return ("failed", problem) if problem else ("passed", f"without a GPU {verdict.rsplit(': ', 1)[-1]}")

    def _process(self, words: Sequence[str], device: str, name: str) -> str:
        """Runs Python with the arguments; returns an empty text, or an error message in one line."""
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
        environment.setdefault("TF_NUM_INTRAOP_THREADS", str(max(1, (os.cpu_count() or 1) // self.jobs)))
        if device == "cpu":
            environment["CUDA_VISIBLE_DEVICES"] = "-1"
        log = self.folder / f"{name}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-P", *words],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
            try:
                status = process.wait(self.limit)
            except subprocess.TimeoutExpired:
                return f"took more than {self.limit:g} s"
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)  # including its children
                    process.wait()
        if not status:
            return ""
        lines = [
            line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()
        ]
        return f"exit status {status}: {lines[-1][:300] if lines else 'no output'}"


def distance(reference: Mapping[str, Any], run: Mapping[str, Any]) -> float:
    """Returns the difference between two weight changes, relative to the reference's change.

    Args:
        reference: the result of `read_run` for training in float32 on the CPU.
        run: the result of `read_run` for another run; its initial weights may differ slightly.
    """
    import numpy as np

    wanted, got = (
        np.concatenate([np.ravel(b - a) for a, b in zip(r["start"], r["end"], strict=True)]) for r in (reference, run)
    )
    return float(np.linalg.norm(got - wanted) / np.linalg.norm(wanted))


def loss_distance(reference: Mapping[str, Any], run: Mapping[str, Any]) -> float:
    """Returns the largest relative difference of the losses of two runs."""
    return max(abs(run["losses"][k] - v) / max(abs(v), 1e-3) for k, v in reference["losses"].items())


def judge(
    reference: Mapping[str, Any],
    run: Mapping[str, Any],
    check: Check,
    device: str,
    sensitivity: float = 0.0,
    loss_sensitivity: float = 0.0,
) -> tuple[str, str]:
    """Compares a run with the reference; returns the verdict and its reason.

    Args:
        reference: the result of `read_run` for training in float32 on the CPU.
        run: the result of `read_run` for the check.
        check: the check.
        device: the device on which the check should have run.
        sensitivity: `distance` of a CPU run that started from weights rounded to 20 bits.
        loss_sensitivity: `loss_distance` of that run.
    """
    import numpy as np

    if device == "gpu" and not all("GPU" in place for place in run["devices"]):
        return "failed", f"the weights are on {', '.join(run['devices'])}, not on the GPU"
    if check.cudnn is not None and run["cudnn_ops"] != check.cudnn:
        return "failed", f"the graph has {'' if run['cudnn_ops'] else 'no '}cuDNN ops"
    if run["steps"] != reference["steps"]:
        return "failed", f"the run has {run['steps']} steps, expected {reference['steps']}"
    if not all(np.isfinite(value) for value in run["losses"].values()):
        return "failed", f"the losses are {run['losses']}"
    pairs = list(zip(reference["start"], reference["end"], strict=True))
    moved = np.sqrt(sum(float(np.sum((b - a) ** 2)) for a, b in pairs))
    size = np.sqrt(sum(float(np.sum(a**2)) for a, _ in pairs))
    if not moved:
        return "failed", "the reference run has not changed its weights"
    weights = distance(reference, run)
    loss = loss_distance(reference, run)
    # Every operation rounds, not only the initial weights; the factor 8 allows for that. In addition, the update itself
    # rounds every weight to 24 bits, even if the weight changes little.
    most = max(check.weights, 8 * sensitivity * 2.0 ** (ROUNDED_BITS - check.bits)) + 2**-24 * size / moved
    # Whatever the precision: the limits of the losses in few bits are wide enough for deep networks too.
    most_loss = max(check.loss, 8 * loss_sensitivity)
    detail = f"weights {weights:.1e} (at most {most:.1e}), loss {loss:.1e} (at most {most_loss:.1e})"
    return "passed" if weights <= most and loss <= most_loss else "failed", detail


def read_run(folder: Path) -> dict[str, Any]:
    """Reads the results of a process: facts, and the initial and final trainable weights as float64 arrays."""
    import numpy as np

    facts: dict[str, Any] = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    for part in ("start", "end"):
        with np.load(folder / f"{part}.npz") as file:
            facts[part] = [file[name].astype(np.float64) for name in file.files]
    return facts


if __name__ == "__main__":
    sys.exit(run_command(command))
