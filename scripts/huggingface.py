"""Write a finished run as a folder that transformers loads: `zoo huggingface RUN FOLDER`."""

from __future__ import annotations

import sys

from zoo.scripts.console import Parser, import_tensorflow, load_plugins, run_command

_DESCRIPTION = """Write a finished run as a folder that transformers loads: weights, vocabulary, label names.
`zoo train --model NAME --model.weights FOLDER` fine-tunes from it; a masked language model gives it its body.
"""


def command(argv: list[str]) -> int:
    """Parses, writes, says where."""
    parser = Parser("huggingface", _DESCRIPTION)
    parser.add_argument("run_directory", help="A folder that `zoo train` made.")
    parser.add_argument("folder", help="Where to write; nothing but an empty folder may be there.")
    parser.add_plugins()
    options = parser.parse(load_plugins(argv))

    import_tensorflow()
    from zoo import checkpoints, pipeline

    folder = pipeline.save_huggingface(options.run_directory, options.folder)
    print(f"Folder: {folder}")
    print(f"Next:   zoo train --model {checkpoints.families(folder)[0]} --model.weights {folder} --data NAME")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(command))
