"""An FT-Transformer in PyTorch, with its attention. Runs as a script in a separate process.

    python ft_transformer_reference.py IN.npz OUT.npz

IN.npz holds `numbers` (batch, numbers), `categories` (batch, columns), `sizes` (columns,), `labels` (batch,), `heads` and the
weights under their paths, such as `block_1/attention/query/kernel`. OUT.npz gets `logits`, the mean cross-entropy as `loss`,
and its gradient for every weight under the weight's path. All in double precision, without dropout.
"""

from __future__ import annotations

import itertools
import sys

import numpy as np
import torch
from torch.nn import functional


def dense(x, w, name):
    return functional.linear(x, w[f"{name}/kernel"].T, w[f"{name}/bias"])


def norm(x, w, name):
    return functional.layer_norm(x, x.shape[-1:], w[f"{name}/gamma"], w[f"{name}/beta"], eps=1e-5)


def attention(x, w, name, heads):
    """PyTorch's own attention, over (tokens, batch, channels)."""
    parts = ("query", "key", "value")
    kernel = torch.cat([w[f"{name}/{part}/kernel"].T for part in parts])
    bias = torch.cat([w[f"{name}/{part}/bias"] for part in parts])
    out, out_bias = w[f"{name}/output/kernel"].T, w[f"{name}/output/bias"]
    x = x.transpose(0, 1)
    dim, rest = x.shape[-1], (None, None, False, 0.0, out, out_bias)
    read, _ = functional.multi_head_attention_forward(x, x, x, dim, heads, kernel, bias, *rest, need_weights=False)
    return read.transpose(0, 1)


def tokens(w, numbers, categories, sizes):
    """A vector per column: weight times number plus bias, or the category's vector plus bias; zeros if it is unknown."""
    found = [w["tokens/token"].expand(len(numbers), 1, -1)]
    kernel, bias = w["number_tokens/kernel"], w["number_tokens/bias"]
    found += [(numbers[:, j, None] * kernel[j, 0] + bias[j])[:, None] for j in range(numbers.shape[1])]
    tables = torch.split(w["category_tokens/table"], [int(size) - 1 for size in sizes])
    for j, table in enumerate(tables):
        table = torch.cat([table.new_zeros(1, table.shape[1]), table])
        found.append((functional.embedding(categories[:, j], table) + w["category_tokens/bias"][j])[:, None])
    return torch.cat(found, dim=1)


def logits(w, numbers, categories, sizes, heads):
    x = tokens(w, numbers, categories, sizes)
    for i in itertools.count(1):
        name = f"block_{i}"
        if f"{name}/inner/kernel" not in w:
            break
        x = x + attention(x if i == 1 else norm(x, w, f"{name}/attention_norm"), w, f"{name}/attention", heads)
        values, gates = dense(norm(x, w, f"{name}/feed_forward_norm"), w, f"{name}/inner").chunk(2, dim=-1)
        x = x + dense(values * functional.relu(gates), w, f"{name}/outer")
    return dense(functional.relu(norm(x[:, 0], w, "norm")), w, "logits")


def main(source: str, target: str) -> None:
    with np.load(source) as file:
        given = {name: file[name] for name in file.files}
    numbers, categories, labels = (torch.tensor(given.pop(n)) for n in ("numbers", "categories", "labels"))
    sizes, heads = given.pop("sizes"), int(given.pop("heads"))
    w = {name: torch.tensor(value, dtype=torch.float64, requires_grad=True) for name, value in given.items()}
    found = logits(w, numbers.double(), categories.long(), sizes, heads)
    loss = functional.cross_entropy(found, labels.long())
    loss.backward()
    np.savez(target, logits=found.detach(), loss=loss.detach(), **{name: value.grad for name, value in w.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
