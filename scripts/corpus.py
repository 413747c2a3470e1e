"""Write the texts of data sets as lines: `zoo corpus --data clinc_oos --data fra_eng --path corpus.txt`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from zoo.errors import UsageError, one_line
from zoo.scripts.console import Parser, import_tensorflow, run_command
from zoo.storage import write_text

_DESCRIPTION = """Write the training texts of data sets to a file, one text per line. Duplicates are removed and the
order is kept. `zoo train --model bert_mlm --data lines:FILE` trains on such a file. Tagged data gives its sentences,
translation data its source texts. Validation and test splits are not included.
"""


def command(argv: list[str]) -> int:
    """Parses the options, writes the file and prints the number of texts of each data set."""
    parser = Parser("corpus", _DESCRIPTION)
    parser.add_argument("--data", action="append", help="A data set with texts; may be given several times.")
    parser.add_argument("--path", help="The file to write.")
    parser.add_argument("--data_dir", "--data-dir", help="Folder for prepared data sets.")
    parser.add_argument(
        "--manual_root", "--manual-root", help="Folder that holds one folder of original files per data set name."
    )
    options = parser.parse(argv)
    if not options.data or not options.path:
        raise UsageError(
            "zoo corpus needs data sets and a file. Pass --data NAME, once for each data set, and --path FILE."
        )
    if Path(options.path).exists():
        raise UsageError(f"{options.path} already exists and is not overwritten. Remove it, or pass another --path.")
    import_tensorflow()
    seen: dict[str, None] = {}
    for name in options.data:
        count, before = 0, len(seen)
        for text in training_texts(name, options.data_dir, options.manual_root):
            seen.setdefault(text)
            count += 1
        print(f"{name}: {count:,} texts, {len(seen) - before:,} of them new", flush=True)
    try:
        write_text(Path(options.path), "".join(f"{text}\n" for text in seen))
    except OSError as error:
        raise UsageError(f"Cannot write {options.path}: {one_line(error)}. Pass another --path.") from error
    print(f"{options.path}: {len(seen):,} lines")
    print(f"Next: zoo train --model bert_mlm --data lines:{options.path}")
    return 0


def training_texts(name: str, data_dir: str | None, manual_root: str | None) -> Iterator[str]:
    """Yields the non-empty texts of a data set's training split, each on one line."""
    from zoo import datasets

    folder = Path(manual_root or ".") / name.replace("/", "_")
    known = name in datasets.EMBEDDED or ":" in name
    manual_dir = str(folder) if manual_root and folder.is_dir() and not known else None
    data = datasets.load(name, data_dir=None if known else data_dir, manual_dir=manual_dir)
    keys = [key for key in ("text", "tokens") if key in data.features]
    if not keys:
        raise UsageError(f"Data set {name!r} holds {', '.join(data.features)}, but no text. Choose another data set.")
    for example in data.train.as_numpy_iterator():
        value = example[keys[0]]
        raw = value if keys[0] == "text" else b" ".join(value)
        if text := " ".join(raw.decode("utf-8", "replace").split()):
            yield text


if __name__ == "__main__":
    sys.exit(run_command(command))
