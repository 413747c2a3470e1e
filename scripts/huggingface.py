"""Write a finished run as a folder that transformers loads: `zoo huggingface RUN FOLDER`."""

from __future__ import annotations

import sys

from zoo.scripts.console import Parser, import_tensorflow, load_plugins, run_command

_DESCRIPTION = """Write a finished run as a folder that transformers loads: weights, vocabulary and label names.
`zoo train --model NAME --model.weights FOLDER` fine-tunes from such a folder. From a masked language model, only the
encoder is used for fine-tuning.
"""


def command(argv: list[str]) -> int:
    """Parses the options, writes the folder and prints its path."""
    parser = Parser("huggingface", _DESCRIPTION)
    parser.add_argument("run_directory", help="A folder that `zoo train` wrote.")
    parser.add_argument("folder", help="The folder to write; it must be empty or not exist yet.")
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
