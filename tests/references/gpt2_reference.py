"""GPT-2 models of Hugging Face with random weights, as folders."""

from __future__ import annotations

import torch
import transformers

from zoo.checkpoints import byte_pair_files


def write_random_gpt2(path, merges, *, likely_end=0.0, **sizes):
    """Writes a model whose random weights are large enough to write different texts, and its tokenizer.

    `likely_end` is added to the logit of the token that ends a text, as a part of the last norm's bias.
    """
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=len(merges) + 257, **sizes)
    model = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
        end = model.transformer.wte.weight[-1]
        model.transformer.ln_f.bias.add_(likely_end * end / end.square().sum())
    model.save_pretrained(path)
    byte_pair_files.write(path, merges)
