"""The PyTorch side of test_bert_transformers.py. It runs in a process that never imports TensorFlow.

Reads one JSON job per line from standard input, {"do": ..., ...}. Writes one line of JSON for each job.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "USE_TF": "0"}

import numpy as np
import torch
import transformers

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(1)


def batch_of(file: str) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    found = {key: value if value.dtype.kind == "f" else value.astype(np.int64) for key, value in np.load(file).items()}
    arrays = {key: torch.from_numpy(value) for key, value in found.items()}
    inputs = {
        "input_ids": arrays["token_ids"],
        "token_type_ids": arrays["token_type_ids"],
        "attention_mask": arrays["padding_mask"],
    }
    return inputs, arrays["labels"]


def make(folder: str, config: dict, seed: int = 0, sort: str = "BertForSequenceClassification") -> dict:
    """Writes a model with random weights in the format of save_pretrained. No bias is 0 and no scale is 1."""
    torch.manual_seed(seed)
    model = getattr(transformers, sort)(transformers.BertConfig(**config))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter) if parameter.ndim == 1 else 0.0
    model.save_pretrained(folder)
    return {"names": list(model.state_dict())}


def compute(folder: str, batch: str, output: str) -> dict:
    """Writes hidden states, pooled output, logits, loss and every gradient."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32
    ).eval()
    inputs, labels = batch_of(batch)
    told = model(**inputs, labels=labels, output_hidden_states=True)
    told.loss.backward()
    arrays = {f"hidden/{i}": state for i, state in enumerate(told.hidden_states)}
    arrays |= {"pooled": model.bert(**inputs).pooler_output, "logits": told.logits, "loss": told.loss}
    arrays |= {f"gradient/{name}": parameter.grad for name, parameter in model.named_parameters()}
    np.savez(output, **{name: value.detach().numpy() for name, value in arrays.items()})
    return {"labels": [model.config.id2label[i] for i in range(model.config.num_labels)]}


def body(folder: str, batch: str, output: str) -> dict:
    """Writes the last hidden states of the encoder without a head."""
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        np.savez(output, last=model(**batch_of(batch)[0]).last_hidden_state.numpy())
    return {}


def electra(folder: str, vocab_size: int, ids: list[list[int]]) -> dict:
    """Writes an ELECTRA with random weights, and its last hidden states for some token ids."""
    torch.manual_seed(0)
    sizes = {"num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 40, "max_position_embeddings": 37}
    config = transformers.ElectraConfig(vocab_size=vocab_size, embedding_size=24, hidden_size=24, **sizes)
    model = transformers.ElectraModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
        model.save_pretrained(folder)
        mask = torch.tensor([[int(i > 0) for i in row] for row in ids])
        last = model(input_ids=torch.tensor(ids), attention_mask=mask).last_hidden_state
    np.savez(Path(folder) / "told.npz", last=last.numpy())
    return {}


def sentences(folder: str, texts: list[str], output: str, max_length: int) -> dict:
    """Writes three poolings of the encoder's vectors: mean, cls and max, as sentence-transformers defines them."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    found: dict[str, list[np.ndarray]] = {"mean": [], "first": [], "max": []}
    with torch.no_grad():
        for start in range(0, len(texts), 64):
            batch = texts[start : start + 64]
            inputs = tokenizer(batch, padding=True, truncation=True, max_length=max_length, return_tensors="pt")
            if model.config.model_type == "distilbert":
                inputs.pop("token_type_ids", None)
            last = model(**inputs).last_hidden_state
            mask = inputs["attention_mask"].unsqueeze(-1).expand(last.size()).float()
            found["mean"].append(((last * mask).sum(1) / mask.sum(1).clamp(min=1e-9)).numpy())
            found["first"].append(last[:, 0].numpy())
            last[mask == 0] = -1e9
            found["max"].append(last.max(1).values.numpy())
    np.savez(output, **{name: np.concatenate(parts) for name, parts in found.items()})
    return {}


def distilbert_classifier(folder: str, vocab_size: int, batch: str, output: str) -> dict:
    """Writes a DistilBERT with a classifier and random weights, its hidden states, logits, loss and gradients."""
    torch.manual_seed(1)
    sizes = {"dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 40, "max_position_embeddings": 37, "num_labels": 4}
    config = transformers.DistilBertConfig(vocab_size=vocab_size, **sizes)
    model = transformers.DistilBertForSequenceClassification(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    inputs, labels = batch_of(batch)
    del inputs["token_type_ids"]
    told = model(**inputs, labels=labels, output_hidden_states=True)
    told.loss.backward()
    arrays = {f"hidden/{i}": state for i, state in enumerate(told.hidden_states)}
    arrays |= {"logits": told.logits, "loss": told.loss}
    arrays |= {f"gradient/{name}": parameter.grad for name, parameter in model.named_parameters()}
    np.savez(output, **{name: value.detach().numpy() for name, value in arrays.items()})
    return {}


def convert(folder: str, to: str, form: str) -> dict:
    """Converts a folder's weights to another file format."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    Path(to).mkdir()
    model.config.save_pretrained(to)
    state, file = model.state_dict(), Path(to) / "pytorch_model.bin"
    if form in ("float16", "bfloat16"):
        model.to(getattr(torch, form)).save_pretrained(to)
    elif form == "shards":
        model.save_pretrained(to, max_shard_size="20KB")
    elif form == "pickle":
        torch.save(state, file)
    elif form == "old pickle":
        torch.save(state, file, _use_new_zipfile_serialization=False)
    elif form == "bfloat16 pickle":
        torch.save({name: value.to(torch.bfloat16) for name, value in state.items()}, file)
    elif form == "strided pickle":  # transposed views, views of larger storages, and two tensors that share a storage
        state = {name: value.t().contiguous().t() if value.ndim == 2 else value for name, value in state.items()}
        query = "bert.encoder.layer.0.attention.self.query.weight"
        wide = torch.zeros(state[query].shape[0] + 3, state[query].shape[1] * 2)
        wide[3:, ::2] = state[query]
        state[query], state["bert.embeddings.position_ids"] = wide[3:, ::2], torch.arange(9).expand(1, -1)
        torch.save(state, file)
    elif form == "old names":
        norms = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
        for new, old in norms.items():
            state = {name.replace(new, old): value for name, value in state.items()}
        torch.save(state, file)
    elif form == "shards of pickles":
        names = sorted(state)
        parts = {"pytorch_model-00001-of-00002.bin": names[::2], "pytorch_model-00002-of-00002.bin": names[1::2]}
        for part, inside in parts.items():
            torch.save({name: state[name] for name in inside}, Path(to) / part)
        index = {"metadata": {}, "weight_map": {name: part for part, inside in parts.items() for name in inside}}
        (Path(to) / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    else:
        raise ValueError(form)
    return {"files": sorted(os.listdir(to))}


def tokenize(folder: str, texts: list[str]) -> dict:
    """Returns the token ids of texts, computed by the folder's tokenizer."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return {"ids": [list(tokenizer(text)["input_ids"]) for text in texts], "longest": tokenizer.model_max_length}


def tag(folder: str, sentences: list[list[str]], output: str) -> dict:
    """Writes the probabilities of the tags of each sentence, (words, tags) by its number, and returns the position of the
    first token of each word. Words are passed as they are, and sentences are truncated to the number of positions."""
    model = transformers.AutoModelForTokenClassification.from_pretrained(folder, attn_implementation="eager").eval()
    pieces = Path(folder, "vocab.txt").read_text(encoding="utf-8").splitlines()
    tokenizer = transformers.BertTokenizer(vocab={piece: number for number, piece in enumerate(pieces)})
    longest, firsts, arrays = model.config.max_position_embeddings, [], {}
    for row, words in enumerate(sentences):
        found = tokenizer(words, is_split_into_words=True, truncation=True, max_length=longest, return_tensors="pt")
        places: dict[int, int] = {}
        for position, word in enumerate(found.word_ids()):
            if word is not None:
                places.setdefault(word, position)
        firsts.append(list(places.values()))
        with torch.no_grad():
            arrays[str(row)] = model(**found).logits[0, firsts[-1]].softmax(-1).numpy()
    np.savez(output, **arrays)
    return {"firsts": firsts}


JOBS = (make, compute, body, electra, sentences, distilbert_classifier, convert, tokenize, tag)


def main() -> None:
    jobs = {function.__name__: function for function in JOBS}
    out, sys.stdout = sys.stdout, sys.stderr  # other output must not mix with the results
    for line in sys.stdin:
        job = json.loads(line)
        try:
            answer = jobs[job.pop("do")](**job)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        assert "tensorflow" not in sys.modules
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main()
