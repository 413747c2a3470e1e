"""A contender of `zoo benchmark`: PyTorch or Lightning, in any Python that has them. It does not import zoo.

The initial weights are read from the file that the contender zoo writes, as arrays in the order of Keras.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def say(**answer: Any) -> None:
    """Sends an answer to the benchmark process."""
    print("@@" + json.dumps(answer), flush=True)


def make_module(family: str, weights: Iterator[Any]) -> Any:
    """Returns the family's module with the given weights; its output is logits, with classes last."""
    import torch
    from torch import nn

    def dense(flatten: tuple[int, ...] = ()) -> Any:
        kernel, bias = next(weights), next(weights)
        if flatten:  # Keras flattens channels last, PyTorch channels first
            kernel = kernel.reshape(*flatten, -1).transpose(2, 0, 1, 3).reshape(-1, kernel.shape[-1])
        layer = nn.Linear(*kernel.shape)
        return _filled(layer, weight=kernel.T, bias=bias)

    def convolution() -> Any:
        kernel, bias = next(weights), next(weights)
        return _filled(nn.Conv2d(kernel.shape[2], kernel.shape[3], 3), weight=kernel.transpose(3, 2, 0, 1), bias=bias)

    def embedding() -> Any:
        table = next(weights)
        return _filled(nn.Embedding(*table.shape), weight=table)

    class Network(nn.Module):
        """An optional embedding, recurrent layers, and a classifier at every step or at the last step."""

        def __init__(self, first: Any, recurrent: list[Any], last_only: bool) -> None:
            super().__init__()
            self.first, self.recurrent, self.last_only = first, nn.ModuleList(recurrent), last_only
            self.classifier = dense()

        def forward(self, x: Any) -> Any:
            """Returns logits."""
            x = self.first(x)
            for layer in self.recurrent:
                x, _ = layer(x)
            return self.classifier(x[:, -1] if self.last_only else x)

    if family == "mlp":
        return nn.Sequential(nn.Flatten(), dense(), nn.ReLU(), dense(), nn.ReLU(), dense())
    if family == "cnn":
        parts: list[Any] = [convolution(), nn.ReLU(), nn.MaxPool2d(2), convolution(), nn.ReLU(), nn.MaxPool2d(2)]
        return nn.Sequential(*parts, convolution(), nn.ReLU(), nn.Flatten(), dense((3, 3, 64)))
    if family == "transformer":
        return _transformer(embedding(), weights, dense, torch)
    if family == "gpt_tiny":
        return _gpt(embedding(), embedding(), weights, dense, torch)
    table = nn.Identity() if family == "lstm" else embedding()
    layers = [_recurrent(nn.GRU if family == "rnn" else nn.LSTM, weights) for _ in range(2 if family == "lstm" else 1)]
    return Network(table, layers, family == "embedding_lstm")


def _filled(module: Any, **arrays: Any) -> Any:
    import numpy as np
    import torch

    with torch.no_grad():
        for name, array in arrays.items():
            getattr(module, name).copy_(torch.from_numpy(np.array(array)))
    return module


def _recurrent(kind: Any, weights: Iterator[Any]) -> Any:
    """Returns an LSTM or GRU. The first gate is the update gate in Keras's GRU, the reset gate in PyTorch's."""
    import numpy as np

    kernel, recurrent_kernel, bias = next(weights), next(weights), next(weights)
    units = recurrent_kernel.shape[0]
    layer = kind(kernel.shape[0], units, batch_first=True)
    if bias.ndim == 1:
        # Keras's LSTM has one bias, PyTorch's two: the second one stays 0.
        layer.bias_hh_l0.requires_grad_(False)
        arrays = [kernel.T, recurrent_kernel.T, bias, np.zeros_like(bias)]
    else:
        order = np.r_[units : 2 * units, :units, 2 * units : 3 * units]
        arrays = [kernel.T[order], recurrent_kernel.T[order], bias[0][order], bias[1][order]]
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    return _filled(layer, **dict(zip(names, arrays, strict=True)))


def _transformer(table: Any, weights: Iterator[Any], dense: Any, torch: Any) -> Any:
    import numpy as np
    from torch import nn

    dim = table.weight.shape[1]

    def block() -> Any:
        layer = nn.TransformerEncoderLayer(dim, 8, 512, dropout=0.1, batch_first=True)
        layer.dropout.p = layer.self_attn.dropout = 0.0  # dropout only on the outputs of both sublayers
        kernels, biases = [], []
        for _ in range(3):
            kernels.append(next(weights).reshape(dim, dim).T)
            biases.append(next(weights).reshape(dim))
        _filled(layer.self_attn, in_proj_weight=np.concatenate(kernels), in_proj_bias=np.concatenate(biases))
        _filled(layer.self_attn.out_proj, weight=next(weights).reshape(dim, dim).T, bias=next(weights))
        _filled(layer.norm1, weight=next(weights), bias=next(weights))
        layer.linear1, layer.linear2 = dense(), dense()
        _filled(layer.norm2, weight=next(weights), bias=next(weights))
        return layer

    rates = 10_000.0 ** (-(np.arange(dim) // 2 * 2) / dim)
    angles = np.arange(128)[:, np.newaxis] * rates
    positions = np.where(np.arange(dim) % 2 == 0, np.sin(angles), np.cos(angles)).astype("float32")

    class Transformer(nn.Module):
        """An embedding with positions, two blocks, the mean over the tokens, and a classifier."""

        positions: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.table, self.dropout = table, nn.Dropout(0.1)
            self.register_buffer("positions", torch.from_numpy(positions), persistent=False)
            self.blocks = nn.ModuleList([block(), block()])
            self.classifier = dense()

        def forward(self, x: Any) -> Any:
            """Returns logits."""
            padding = x == 0
            h = self.dropout(self.table(x) * math.sqrt(dim) + self.positions[: x.shape[1]])
            for layer in self.blocks:
                h = layer(h, src_key_padding_mask=padding)
            real = (~padding).unsqueeze(-1).to(h.dtype)
            return self.classifier((h * real).sum(1) / real.sum(1))

    return Transformer()


def _gpt(tokens: Any, positions: Any, weights: Iterator[Any], dense: Any, torch: Any) -> Any:
    """Returns a GPT as in nanoGPT: fused causal attention, and the table of tokens as the last layer."""
    from torch import nn
    from torch.nn import functional

    dim, heads = tokens.weight.shape[1], 4

    def norm() -> Any:
        return _filled(nn.LayerNorm(dim), weight=next(weights), bias=next(weights))

    class Block(nn.Module):
        """Attention to earlier tokens, and two dense layers, each after a norm."""

        def __init__(self) -> None:
            super().__init__()
            self.joined, self.projection, self.first_norm = dense(), dense(), norm()
            self.inner, self.outer, self.second_norm = dense(), dense(), norm()

        def forward(self, x: Any) -> Any:
            """Returns (batch, tokens, dim)."""
            rows, steps, _ = x.shape
            parts = self.joined(self.first_norm(x)).split(dim, dim=2)
            query, key, value = (part.view(rows, steps, heads, dim // heads).transpose(1, 2) for part in parts)
            attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
            x = x + self.projection(attended.transpose(1, 2).contiguous().view(rows, steps, dim))
            return x + self.outer(functional.gelu(self.inner(self.second_norm(x)), approximate="tanh"))

    class Gpt(nn.Module):
        """Embeddings, blocks, a norm, and logits."""

        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.positions = tokens, positions
            self.blocks = nn.Sequential(*(Block() for _ in range(4)))
            self.norm = norm()

        def forward(self, x: Any) -> Any:
            """Returns logits."""
            h = self.tokens(x) + self.positions(torch.arange(x.shape[1]))
            return functional.linear(self.norm(self.blocks(h)), self.tokens.weight)

    return Gpt()


def run_torch(job: dict[str, Any], module: Any, loader: Any, ordered: Any) -> None:
    """Trains in the loop of PyTorch's tutorials."""
    import torch

    optimizer = torch.optim.Adam(module.parameters(), 1e-3, eps=1e-7)
    criterion = torch.nn.CrossEntropyLoss()

    def epoch(batches: Any) -> float:
        total = 0.0
        for x, y in batches:
            optimizer.zero_grad()
            logits = module(x)
            loss = criterion(logits.reshape(-1, logits.shape[-1]), y.reshape(-1))
            loss.backward()
            optimizer.step()
            total += loss.item()
        return total / len(batches)

    module.train()
    count = sum(p.numel() for p in module.parameters() if p.requires_grad)
    say(parameters=count, loss=epoch(ordered))
    while sys.stdin.readline().strip() == "round":
        started = time.perf_counter()
        epoch(loader)
        say(seconds=time.perf_counter() - started, examples=len(loader.dataset))


def run_lightning(job: dict[str, Any], module: Any, loader: Any, ordered: Any) -> None:
    """Trains with Lightning's Trainer, without logs, progress bars and checkpoints."""
    import lightning
    import torch

    class Task(lightning.LightningModule):
        """The module in the form that Lightning needs."""

        def __init__(self) -> None:
            super().__init__()
            self.module, self.total = module, 0.0

        def training_step(self, batch: Any, _: int) -> Any:
            """Returns the loss."""
            logits = self.module(batch[0])
            loss = torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), batch[1].reshape(-1))
            self.total += loss.item()
            return loss

        def configure_optimizers(self) -> Any:
            """Returns Adam."""
            return torch.optim.Adam(self.parameters(), 1e-3, eps=1e-7)

    class Rounds(lightning.Callback):
        """Waits for a request, measures an epoch and answers."""

        started = 0.0

        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            """Waits for the request."""
            if sys.stdin.readline().strip() != "round":
                sys.exit(0)
            self.started = time.perf_counter()

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            """Sends the duration of the round."""
            say(seconds=time.perf_counter() - self.started, examples=len(loader.dataset))

    task = Task()
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    lightning.Trainer(max_epochs=1, accelerator="cpu", **quiet).fit(task, ordered)
    count = sum(p.numel() for p in module.parameters() if p.requires_grad)
    say(parameters=count, loss=task.total / len(ordered))
    lightning.Trainer(max_epochs=-1, accelerator="cpu", callbacks=[Rounds()], **quiet).fit(task, loader)


def hugging_face_module(folder: Path) -> Any:
    """Returns a folder's text classifier as a module from token ids, token types and padding mask to probabilities."""
    import torch
    import transformers

    class Probabilities(torch.nn.Module):
        """The classifier, then a softmax."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = transformers.AutoModelForSequenceClassification.from_pretrained(folder)

        def forward(self, token_ids: Any, token_type_ids: Any, padding_mask: Any) -> Any:
            """Returns float32 (batch, classes)."""
            answer = self.inner(input_ids=token_ids, token_type_ids=token_type_ids, attention_mask=padding_mask)
            return torch.softmax(answer.logits, dim=-1)

    return Probabilities().eval()


def run_serving(job: dict[str, Any]) -> None:
    """Measures calls as `serve` in servers.py does: each line of standard input gives a batch size and seconds."""
    import numpy as np
    import torch

    with np.load(Path(job["folder"]) / "start.npz") as start:
        inputs = [start[name] for name in start.files if name.startswith("x_")]
        weights = iter([start[name] for name in sorted(start.files) if name.startswith("w")])
        expected = start["answer"]
    if job["family"] == "cnn":
        inputs = [np.ascontiguousarray(inputs[0].transpose(0, 3, 1, 2))]
    module: Any
    if job.get("hugging_face"):
        module = hugging_face_module(Path(job["folder"]) / "huggingface")
    else:
        module = torch.nn.Sequential(make_module(job["family"], weights), torch.nn.Softmax(-1)).eval()
    with torch.inference_mode():
        few = [torch.from_numpy(x[:8]) for x in inputs]
        if job["contender"] == "torch_traced":
            module = torch.jit.freeze(torch.jit.trace(module, few))
        gap = float(np.max(np.abs(module(*few).numpy() - expected)))
        if gap > 1e-4:
            raise ValueError(f"The output differs from the Keras model's by {gap:.2g}. Leave it out with --contenders.")
        say(difference=gap)
        for line in sys.stdin:
            batch, seconds = line.split()
            parts = [np.ascontiguousarray(x[: int(batch)]) for x in inputs]
            times: list[float] = []
            end = time.perf_counter() + float(seconds)
            while len(times) < 3 or time.perf_counter() < end:
                started = time.perf_counter()
                module(*(torch.from_numpy(part) for part in parts)).numpy()
                times.append(time.perf_counter() - started)
            say(milliseconds=1000 * statistics.median(times))


def main(job: dict[str, Any]) -> None:
    """Runs one contender until its standard input ends; reports a missing package."""
    try:
        import numpy as np
        import torch

        if job["contender"] == "lightning":
            import lightning  # noqa: F401
    except ImportError as error:
        say(skipped=f"{error.name} is not installed; pip install torch lightning, or pass --torch-python")
        return
    torch.manual_seed(0)
    torch.set_num_threads(job["threads"])
    if job.get("serving"):
        run_serving(job)
        return
    with np.load(Path(job["folder"]) / "start.npz") as start:
        x, y = start["x"], start["y"].astype("int64")
        weights = iter([start[name] for name in sorted(start.files) if name.startswith("w")])
    if job["family"] == "cnn":
        x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    data = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
    loaders = [torch.utils.data.DataLoader(data, job["batch_size"], shuffle=shuffle) for shuffle in (True, False)]
    module = make_module(job["family"], weights)
    if job["contender"] == "torch_compile":
        module = torch.compile(module)
    run = run_lightning if job["contender"] == "lightning" else run_torch
    run(job, module, *loaders)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
