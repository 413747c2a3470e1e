"""Compare text generation in the graph with Hugging Face's and KerasHub's `generate`: `zoo benchmark generation`."""

from __future__ import annotations

import dataclasses
import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.errors import UsageError, did_you_mean
from zoo.scripts.benchmarks import serving_memory
from zoo.scripts.benchmarks.tables import Figures
from zoo.scripts.console import Parser, import_tensorflow, run_command

_DESCRIPTION = """Measure how many tokens per second GPT-2 models of random weights write, greedily and with a cache.

All contenders have the same weights, read the same prompts of 16 tokens and write as many tokens; what they write is
compared before anything is measured. Rounds alternate (A B C A B C), so that other load on the machine affects all equally.
KerasHub is measured where it is installed. --saved_model measures memory instead.
"""
CONTENDERS = {"zoo": "zoo", "hugging_face": "Hugging Face generate", "keras_hub": "KerasHub generate"}
FIGURES = Figures(("model", "batch", "threads"), "tokens_per_second", (), CONTENDERS, ",.1f")
NOTES = (
    "Tokens per second of all texts of a batch, greedily, from tokens to tokens; the median of all rounds.",
    "Ratio: tokens per second divided by the contender's in the same round; the median of all rounds.",
)
SIZES: Mapping[str, Mapping[str, int]] = {
    "tiny": {"vocab_size": 512, "n_embd": 128, "n_layer": 4, "n_head": 4},
    "small": {"vocab_size": 512, "n_embd": 384, "n_layer": 6, "n_head": 6},
    "gpt2": {"vocab_size": 50_257, "n_embd": 768, "n_layer": 12, "n_head": 12},
}
_PROMPT = 16

Write = Callable[[], Any]


@dataclasses.dataclass
class Row:
    """A contender's figures for one model and batch size."""

    model: str
    batch: int
    threads: int
    contender: str
    rates: list[float]
    ratio: float = float("nan")


def writers(size: str, batch: int, new: int, folder: Path) -> dict[str, Write]:
    """Returns functions that write `new` tokens after random prompts, as NumPy arrays (batch, new).

    Raises:
        UsageError: the contenders write different tokens.
    """
    import numpy as np
    import tensorflow as tf
    import torch
    import transformers

    import zoo
    from zoo.checkpoints import gpt2_folder
    from zoo.registry import get_spec

    torch.manual_seed(0)
    sizes: dict[str, Any] = {**SIZES[size]}
    config = transformers.GPT2Config(**sizes, n_positions=256, bos_token_id=0, eos_token_id=None)
    theirs = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():  # so that texts differ
        for weight in theirs.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    theirs.save_pretrained(folder)
    arguments = {**gpt2_folder.read_config(folder), "dropout": 0.0, "attention_dropout": 0.0}
    ours = zoo.build("gpt", **arguments, weights=str(folder))
    prompts = np.random.default_rng(0).integers(0, SIZES[size]["vocab_size"] - 1, (batch, _PROMPT)).astype(np.int32)
    write = get_spec("gpt").functions["greedy"](ours)
    extras = {"lengths": tf.fill([batch], _PROMPT), "max_new_tokens": tf.fill([batch], new)}
    given, tokens = tf.constant(prompts), torch.tensor(prompts.astype(np.int64))
    mask = torch.ones_like(tokens)

    def hugging_face() -> Any:
        options = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False, "pad_token_id": 0}
        with torch.inference_mode():
            return theirs.generate(tokens, attention_mask=mask, **options)[:, _PROMPT:].numpy()

    found: dict[str, Write] = {
        "zoo": lambda: write({"token_ids": given}, extras)["tokens"].numpy(),
        "hugging_face": hugging_face,
    }
    if importlib.util.find_spec("keras_hub"):
        found["keras_hub"] = _keras_hub(folder, prompts, new)
    answers = {name: writer() for name, writer in found.items()}
    for name, answer in answers.items():
        if not np.array_equal(answer, answers["zoo"]):
            raise UsageError(
                f"zoo and {CONTENDERS[name]} write different tokens with the size {size}. Choose another one: --sizes tiny."
            )
    return found


def _keras_hub(folder: Path, prompts: Any, new: int) -> Write:
    """Returns a function that writes with KerasHub's model of the folder. It is compiled in the first call."""
    import keras_hub
    import numpy as np

    backbone = keras_hub.models.GPT2Backbone.from_preset(str(folder))
    model = keras_hub.models.GPT2CausalLM(backbone=backbone, preprocessor=None)
    model.compile(sampler="greedy")
    rows, width = len(prompts), _PROMPT + new
    ids, mask = np.zeros((rows, width), np.int32), np.zeros((rows, width), bool)
    ids[:, :_PROMPT], mask[:, :_PROMPT] = prompts, True

    def write() -> Any:
        written = model.generate({"token_ids": ids, "padding_mask": mask}, stop_token_ids=None)
        return np.asarray(written["token_ids"])[:, _PROMPT:]

    return write


def measure(size: str, batch: int, threads: int, new: int, seconds: float) -> list[Row]:
    """Returns the rows of one model and batch size. Contenders alternate for at least three rounds and `seconds` each."""
    with tempfile.TemporaryDirectory() as folder:
        found = writers(size, batch, new, Path(folder))
    taken = _rounds(found, seconds)
    rows = {name: Row(size, batch, threads, name, [batch * new / each for each in taken[name]]) for name in found}
    for row in rows.values():
        row.ratio = statistics.median(a / b for a, b in zip(rows["zoo"].rates, row.rates, strict=True))
    return list(rows.values())


def _rounds(writers: Mapping[str, Write], seconds: float) -> dict[str, list[float]]:
    """Returns the seconds of each writer in every round."""
    taken: dict[str, list[float]] = {name: [] for name in writers}
    while min(map(sum, taken.values())) < seconds or min(map(len, taken.values())) < 3:
        for name, write in writers.items():
            start = time.perf_counter()
            write()
            taken[name].append(time.perf_counter() - start)
    return taken


def figures(rows: Sequence[Row]) -> list[dict[str, object]]:
    """Returns the rows in the layout of the CSV file."""
    return [
        {
            **{name: getattr(row, name) for name in ("model", "batch", "threads", "contender")},
            "tokens_per_second": f"{statistics.median(row.rates):.1f}",
            "ratio": f"{row.ratio:.3f}",
            "rounds": len(row.rates),
        }
        for row in rows
    ]


def command(argv: list[str]) -> int:
    """Parses the options, measures and prints the table."""
    parser = Parser("benchmark generation", _DESCRIPTION)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), help="Sizes of the model.")
    parser.add_argument("--batch_sizes", nargs="+", type=int, default=[1, 8], help="Texts at once.")
    parser.add_argument("--new_tokens", type=int, default=48, help="Tokens that each text gets.")
    parser.add_argument("--threads", type=int, default=1, help="Threads of both contenders.")
    parser.add_argument("--seconds", type=float, default=5.0, help="Seconds per contender, size and batch size.")
    parser.add_argument("--saved_model", help="Instead print the memory of a process that serves this SavedModel.")
    parser.add_argument("--output", help="CSV file to add the figures to.")
    parser.add_argument("--markdown", action="store_true", help="Print the CSV file as a table. Nothing is measured.")
    options = parser.parse(argv)
    output = Path(options.output) if options.output else None
    if options.markdown:
        print(FIGURES.table(FIGURES.read(output or Path(__file__).with_name("generation.csv"))))
        return 0
    if options.saved_model:
        print("\n".join(serving_memory.lines(options.saved_model, options.batch_sizes)))
        return 0
    for size in options.sizes:
        if size not in SIZES:
            raise UsageError(f"Unknown size {size!r}. {did_you_mean(size, SIZES)}")
    try:
        import torch
        import transformers  # noqa: F401
    except ImportError as error:
        raise UsageError(f"{error}. Install it with pip install torch transformers.") from error
    import_tensorflow()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(options.threads)
    torch.set_num_threads(options.threads)
    rows: list[Row] = []
    for size in options.sizes:
        for batch in options.batch_sizes:
            rows += measure(size, batch, options.threads, options.new_tokens, options.seconds)
            if output:
                FIGURES.write(figures(rows), output)
    print(f"{FIGURES.table(figures(rows))}\n")
    print("\n".join(NOTES))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(command))
