"""Trains the same models in PyTorch and writes the loss of every step. Runs as a script in a separate process.

    python trainer_reference.py mlp IN.npz OUT.npz
    python trainer_reference.py bert IN.npz OUT.npz FOLDER
    python trainer_reference.py bert_loop IN.npz OUT.npz FOLDER
    python trainer_reference.py gpt IN.npz OUT.npz FOLDER

`mlp` is torch.optim.AdamW with transformers' linear schedule and clipping, on dense layers; `bert` is transformers' Trainer
(which needs the package accelerate) on the BertForSequenceClassification in FOLDER, without dropout; `bert_loop` is the same
by hand; `gpt` is the Trainer on the GPT2LMHeadModel in FOLDER. IN.npz holds `options`, a JSON object (learning_rate,
warmup_steps, weight_decay, adam_epsilon, clip_norm), and a batch per step, in order: for mlp `inputs` (steps, batch,
features), `labels` (steps, batch) and the weights `kernel_0`, `bias_0`, ...; for BERT `token_ids`, `token_type_ids`,
`padding_mask` (steps, batch, tokens) and `labels`; for GPT `input_ids` and `labels` (rows, tokens) of all batches, and
`size`, the rows of a batch. OUT.npz gets `losses` (steps,), float64, and for mlp the weights afterwards, under these names.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile

import numpy as np
import torch
import transformers


def optimize(parameters, options, steps):
    """Returns AdamW without weight decay on vectors, and the linear schedule."""
    matrices, vectors = ([p for p in parameters if (p.ndim > 1) == wanted] for wanted in (True, False))
    groups = [{"params": matrices, "weight_decay": options["weight_decay"]}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=options["learning_rate"], eps=options["adam_epsilon"])
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, options["warmup_steps"], steps)
    return optimizer, schedule


def train(parameters, losses_of_steps, options, steps):
    """Takes one step per loss and returns the losses."""
    optimizer, schedule = optimize(parameters, options, steps)
    losses = []
    for loss in losses_of_steps:
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, options["clip_norm"])
        optimizer.step()
        schedule.step()
    return losses


def train_mlp(data, options):
    """Trains dense layers with ReLU on the cross-entropy; returns the content of OUT.npz."""
    names = list(itertools.takewhile(lambda name: name in data, (f"kernel_{i}" for i in itertools.count())))
    weights = {n: torch.tensor(data[n], requires_grad=True) for k in names for n in (k, k.replace("kernel", "bias"))}

    def losses():
        for inputs, labels in zip(data["inputs"], data["labels"], strict=True):
            x = torch.tensor(inputs)
            for i in range(len(names)):
                x = (x if i == 0 else torch.relu(x)) @ weights[f"kernel_{i}"] + weights[f"bias_{i}"]
            yield torch.nn.functional.cross_entropy(x, torch.tensor(labels))

    found = train(list(weights.values()), losses(), options, len(data["inputs"]))
    return {"losses": found, **{name: w.detach().numpy() for name, w in weights.items()}}


def open_bert(folder):
    nothing = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "classifier_dropout": 0.0}
    return transformers.BertForSequenceClassification.from_pretrained(folder, **nothing)


COLUMNS = {"token_ids": "input_ids", "token_type_ids": "token_type_ids", "padding_mask": "attention_mask"}


def batches_of(data):
    columns = {theirs: torch.tensor(data[ours], dtype=torch.long) for ours, theirs in COLUMNS.items()}
    columns["labels"] = torch.tensor(data["labels"], dtype=torch.long)
    return [{name: column[i] for name, column in columns.items()} for i in range(len(data["labels"]))]


def loop_bert(data, options, folder):
    model, batches = open_bert(folder).train(), batches_of(data)
    losses = (model(**batch).loss for batch in batches)
    return {"losses": train(list(model.parameters()), losses, options, len(batches))}


def run_bert(data, options, folder):
    batches = batches_of(data)
    size = len(batches[0]["labels"])
    rows = [{name: column[i] for name, column in batch.items()} for batch in batches for i in range(size)]
    return run_trainer(open_bert(folder), rows, size, options)


def run_gpt(data, options, folder):
    nothing = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    model = transformers.GPT2LMHeadModel.from_pretrained(folder, **nothing)
    columns = {name: torch.tensor(data[name], dtype=torch.long) for name in ("input_ids", "labels")}
    rows = [{name: column[i] for name, column in columns.items()} for i in range(len(columns["labels"]))]
    return run_trainer(model, rows, int(data["size"]), options)


def run_trainer(model, rows, size, options):
    """Runs transformers' Trainer over the rows in the given order."""
    losses = []

    class Recording(transformers.Trainer):
        def compute_loss(self, *arguments, **named):
            loss = super().compute_loss(*arguments, **named)
            losses.append(float((loss[0] if isinstance(loss, tuple) else loss).detach()))  # logged losses are rounded
            return loss

    with tempfile.TemporaryDirectory() as scratch:
        arguments = transformers.TrainingArguments(
            output_dir=scratch,
            num_train_epochs=1,
            per_device_train_batch_size=size,
            optim="adamw_torch",
            learning_rate=options["learning_rate"],
            lr_scheduler_type="linear",
            warmup_steps=options["warmup_steps"],
            weight_decay=options["weight_decay"],
            adam_epsilon=options["adam_epsilon"],
            max_grad_norm=options["clip_norm"],
            report_to="none",
            train_sampling_strategy="sequential",
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
        )
        Recording(model=model, args=arguments, train_dataset=rows).train()
    return {"losses": losses}


if __name__ == "__main__":
    kind, source, target, *folder = sys.argv[1:]
    torch.use_deterministic_algorithms(True)
    with np.load(source) as file:
        data = {name: file[name] for name in file.files}
    options = json.loads(str(data.pop("options")))
    result = {"mlp": train_mlp, "bert": run_bert, "bert_loop": loop_bert, "gpt": run_gpt}[kind](data, options, *folder)
    result["losses"] = np.array(result["losses"], np.float64)
    np.savez(target, **result)
