"""Compare tokenizers in the graph with other libraries: `zoo benchmark tokenization`."""

from __future__ import annotations

import dataclasses
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo import datasets
from zoo.errors import UsageError
from zoo.scripts.benchmarks import byte_pair_encoders
from zoo.scripts.benchmarks.tables import Figures
from zoo.scripts.console import Parser, import_tensorflow, run_command, take_option

_DESCRIPTION = """Measure how many texts per second each tokenizer converts to token ids, on one thread.

`--tokenizer wordpiece` is that of BERT, `byte_pairs` that of GPT-2; KerasHub is measured where it is installed.
All contenders use the same vocabulary and the same texts, and their outputs are compared before anything is measured.
Rounds alternate (A B C A B C), so that other load on the machine affects all contenders equally.
"""

CONTENDERS = {
    "zoo": "SavedModel of zoo",
    "tokenizers": "tokenizers",
    "transformers": "transformers BertTokenizer",
    "keras_hub": "KerasHub",
}
FIGURES = Figures(("tokenizer", "data", "batch"), "texts_per_second", (), CONTENDERS, ",.0f")
NOTES = (
    "Texts per second in calls from Python, on one thread; the median of all rounds. The SavedModel returns padded ids;",
    "tokenizers (encode_batch_fast) and transformers return lists of ids without offsets.",
    "Ratio: the SavedModel's texts per second divided by the contender's in the same round; the median of all rounds.",
)
_LENGTH = 128

Encode = Callable[[Any], Any]


@dataclasses.dataclass
class Row:
    """A contender's figures for one batch size."""

    contender: str
    batch: int
    rates: list[float]
    ratio: float = float("nan")


def saved_encoder(pieces: Sequence[str], folder: Path) -> Encode:
    """Writes the preprocessor as a SavedModel, loads it, and returns its function from string tensors to model inputs."""
    import tensorflow as tf

    from zoo.datasets.preprocessing.wordpiece import WordPiecePreprocessor

    assets = folder / "assets"
    assets.mkdir()
    served, resources = WordPiecePreprocessor(tuple(pieces), _LENGTH).for_export(assets)
    module = tf.Module()
    module.resources = resources
    encode = tf.function(lambda text: served.serve({"text": text})[0])
    function = encode.get_concrete_function(tf.TensorSpec([None], tf.string, "text"))
    tf.saved_model.save(module, str(folder / "saved"), signatures={"serving_default": function})
    loaded = tf.saved_model.load(str(folder / "saved"))
    signature: Callable[..., Any] = loaded.signatures["serving_default"]
    return lambda texts: signature(text=texts)


def library_encoder(pieces: Sequence[str]) -> Encode:
    """Returns the `tokenizers` library's function from lists of strings to encodings."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    numbers = {piece: number for number, piece in enumerate(pieces)}
    tokenizer: Any = Tokenizer(models.WordPiece(numbers, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", numbers["[SEP]"]), ("[CLS]", numbers["[CLS]"]))
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer.enable_truncation(_LENGTH)
    encode: Encode = tokenizer.encode_batch_fast
    return encode


def _encoders(pieces: Sequence[str], folder: Path, skipped: dict[str, str]) -> dict[str, Encode]:
    encoders = {"zoo": saved_encoder(pieces, folder), "tokenizers": library_encoder(pieces)}
    try:
        from transformers import BertTokenizer
    except ImportError:
        skipped["transformers"] = "not installed."
    else:
        reference = BertTokenizer(vocab={piece: number for number, piece in enumerate(pieces)})
        encoders["transformers"] = lambda texts: reference(texts, truncation=True, max_length=_LENGTH)
    return encoders


def numbers_of(contender: str, answer: Any) -> list[list[int]]:
    """Returns a contender's output as one list of token ids per text, without padding."""
    if contender == "zoo":
        ids, mask = answer["token_ids"].numpy(), answer["padding_mask"].numpy()
        return [row[real == 1].tolist() for row, real in zip(ids, mask, strict=True)]
    if contender == "tokenizers":
        return [encoding.ids for encoding in answer]
    return [list(row) for row in answer["input_ids"]]


def check_alike(
    encoders: Mapping[str, Encode],
    texts: Sequence[str],
    numbers: Callable[[str, Any], list[list[int]]] = numbers_of,
) -> None:
    """Raises `UsageError` if a contender gives other token ids for a text than the SavedModel; `numbers` returns its ids."""
    answers = {name: numbers(name, encode(_batch(name, texts))) for name, encode in encoders.items()}
    for name, answer in answers.items():
        for text, ours, theirs in zip(texts, answers["zoo"], answer, strict=True):
            if ours != theirs:
                raise UsageError(
                    f"{CONTENDERS[name]} converts the text {text[:60]!r} to {theirs[:9]}, the SavedModel to {ours[:9]}. "
                    "Pass an uncased vocabulary."
                )


def _batch(contender: str, texts: Sequence[str]) -> Any:
    if contender != "zoo":
        return list(texts)
    import tensorflow as tf

    return tf.constant(texts)


def measure(encoders: Mapping[str, Encode], texts: Sequence[str], batch: int, seconds: float) -> list[Row]:
    """Returns the rows for one batch size. Contenders alternate for at least five rounds and at least `seconds` each."""
    rows = {name: Row(name, batch, []) for name in encoders}
    texts = [*texts] * -(-batch // len(texts))  # few texts are repeated
    calls = max(1, min(len(texts), 4096 if batch > 1 else 512) // batch)
    parts = [texts[i * batch : (i + 1) * batch] for i in range(calls)]
    batches = {name: [_batch(name, part) for part in parts] for name in encoders}
    spent = dict.fromkeys(encoders, 0.0)
    for name, encode in encoders.items():
        for part in batches[name]:
            encode(part)
    while min(spent.values()) < seconds or min(len(row.rates) for row in rows.values()) < 5:
        for name, encode in encoders.items():
            start = time.perf_counter()
            for part in batches[name]:
                encode(part)
            taken = time.perf_counter() - start
            spent[name] += taken
            rows[name].rates.append(sum(map(len, parts)) / taken)
    for row in rows.values():
        row.ratio = statistics.median(a / b for a, b in zip(rows["zoo"].rates, row.rates, strict=True))
    return list(rows.values())


def figures(rows: Sequence[Row], tokenizer: str, data: str) -> list[dict[str, object]]:
    """Returns the rows in the layout of the CSV file."""
    return [
        {
            "tokenizer": tokenizer,
            "data": data,
            "batch": row.batch,
            "contender": row.contender,
            "texts_per_second": f"{statistics.median(row.rates):.1f}",
            "ratio": f"{row.ratio:.3f}",
            "rounds": len(row.rates),
        }
        for row in rows
    ]


def _parser(data: str) -> Parser:
    parser = Parser("benchmark tokenization", _DESCRIPTION)
    parser.add_argument("--tokenizer", choices=("wordpiece", "byte_pairs"), default="wordpiece", help="The tokenizer.")
    parser.add_argument("--vocabulary", help="An uncased vocab.txt; by default one is trained on the training split.")
    parser.add_argument("--size", type=int, default=8000, help="Maximum size of the trained vocabulary.")
    parser.add_argument("--batch_sizes", nargs="+", type=int, default=[1, 256], help="Texts per call.")
    parser.add_argument("--seconds", type=float, default=2.0, help="Seconds per contender and batch size.")
    parser.add_argument("--output", help="CSV file to add the figures to.")
    parser.add_argument("--markdown", action="store_true", help="Print the CSV file as a table. Nothing is measured.")
    parser.add_signature("data", datasets.load, f"data {data}", skip=("name",), values={})
    return parser


def command(argv: list[str]) -> int:
    """Parses the options, measures and prints the table."""
    data, argv = take_option(argv, "data")
    data = data or "commands"
    options = _parser(data).parse(argv)
    output = Path(options.output) if options.output else None
    if options.markdown:
        print(FIGURES.table(FIGURES.read(output or Path(__file__).with_name("tokenization.csv"))))
        return 0
    if options.vocabulary and options.tokenizer != "wordpiece":
        raise UsageError("--vocabulary is for --tokenizer wordpiece; byte pairs are learned. Leave it out.")
    for batch in options.batch_sizes:
        if not 1 <= batch <= 100_000:
            raise UsageError(f"--batch_sizes has {batch}; expected 1 to 100000. Try --batch_sizes 1 256.")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import_tensorflow()
    import tensorflow as tf

    from zoo.checkpoints.wordpiece_files import read_pieces
    from zoo.datasets.preprocessing.vocabularies import train_pieces
    from zoo.scripts.vocabulary import texts_of

    if tf.config.threading.get_intra_op_parallelism_threads() != 1:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    loaded = datasets.load(data, **{k: v for k, v in options.data.as_dict().items() if v is not None})
    texts = list(texts_of(loaded, "test"))
    skipped: dict[str, str] = {}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        if options.tokenizer == "byte_pairs":
            merges = byte_pair_encoders.learn(texts_of(loaded, "train"), options.size)
            encoders, size = byte_pair_encoders.encoders(merges, Path(folder), skipped), len(merges) + 257
            texts = byte_pair_encoders.kept(encoders, texts, skipped)
            check_alike(encoders, texts, byte_pair_encoders.numbers_of)
        else:
            given = options.vocabulary
            pieces = read_pieces(given) if given else train_pieces(texts_of(loaded, "train"), options.size)
            encoders, size = _encoders(pieces, Path(folder), skipped), len(pieces)
            check_alike(encoders, texts)
        for batch in options.batch_sizes:
            rows += measure(encoders, texts, batch, options.seconds)
            if output:
                FIGURES.write(figures(rows, options.tokenizer, data), output)
    length = statistics.mean(map(len, texts))
    print(f"{data}: {len(texts):,} texts of {length:.0f} characters on average; {size:,} subword tokens.")
    print(f"\n{FIGURES.table(figures(rows, options.tokenizer, data))}\n")
    for name, why in skipped.items():
        print(f"{CONTENDERS[name]}: {'' if name in encoders else 'skipped: '}{why}")
    print("\n".join(NOTES))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(command))
