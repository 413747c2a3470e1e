"""Data sets that are on every machine: for tests and a first try without network, never evidence for a result."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from zoo.datasets.data import Data


def _load_digits(memory_limit: int) -> Data:
    """1,797 handwritten digits of 8x8 pixels and 16 grey levels, from scikit-learn.

    They are the test half of UCI's "Optical Recognition of Handwritten Digits" (13 writers), real but small: for tests
    and a first try. Levels 0 to 16 are spread over 0 to 255. A fifth of every class, drawn once with a fixed seed, is
    the test split; a tenth of the rest the validation split.
    """
    import tensorflow as tf
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    from zoo.datasets.data import Data, Feature, Split

    source = load_digits()
    images = np.round(source.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    labels = source.target.astype(np.int64)
    rest, test = train_test_split(np.arange(len(labels)), test_size=0.2, random_state=0, stratify=labels)
    train, validation = train_test_split(rest, test_size=0.1, random_state=0, stratify=labels[rest])

    def split(index: np.ndarray) -> Split:
        index = np.sort(index)
        arrays = {"image": images[index], "label": labels[index]}
        return Split(lambda: tf.data.Dataset.from_tensor_slices(arrays), len(index))

    return Data(
        name="digits",
        arguments={},
        task="image_classification",
        splits={"train": split(train), "validation": split(validation), "test": split(test)},
        features={"image": Feature((8, 8, 1), "uint8"), "label": Feature((), "int64")},
        class_names=tuple(str(n) for n in source.target_names),
        licence="CC BY 4.0",
        source="Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998, "
        "doi:10.24432/C50P49, as shipped with scikit-learn",
        memory_limit=memory_limit,
    )


_OBJECTS = ["lamp", "radio", "heater", "fan", "door", "window", "oven", "alarm", "curtain", "garage"]
_PLACES = ["", " in the kitchen", " in the bedroom", " upstairs", " next to the stairs", " of my office"]
_COMMANDS = {
    "switch on": ["switch on the {}{}", "turn the {}{} on", "please start the {}{}", "i want the {}{} on!"],
    "switch off": ["switch off the {}{}", "turn the {}{} off", "please stop the {}{}", "no more {}{}, please"],
    "ask": ["is the {}{} on or off?", "what about the {}{}?", "tell me the state of the {}{}", "how is the {}{}?"],
    "blame": ["the {}{} is broken", "why does the {}{} never work?", "i am angry with the {}{}", "that stupid {}{}!"],
}


def _load_commands(memory_limit: int) -> Data:
    """960 made-up commands to a house in four classes, from a grammar: every one can be told, so the best accuracy is 1.

    All combinations of four classes, four ways to say it, ten objects and six places, divided by a fixed seed.
    """
    import tensorflow as tf

    from zoo.datasets.data import Data, Feature, Split

    names = sorted(_COMMANDS)
    examples = [
        (way.format(thing, place), names.index(name))
        for name, ways in _COMMANDS.items()
        for way in ways
        for thing in _OBJECTS
        for place in _PLACES
    ]
    order = np.random.default_rng(0).permutation(len(examples))
    texts = np.array([examples[i][0] for i in order])
    labels = np.array([examples[i][1] for i in order], np.int64)

    def split(start: int, stop: int) -> Split:
        arrays = {"text": texts[start:stop], "label": labels[start:stop]}
        return Split(lambda: tf.data.Dataset.from_tensor_slices(arrays), stop - start)

    return Data(
        name="commands",
        arguments={},
        task="text_classification",
        splits={"train": split(0, 720), "validation": split(720, 820), "test": split(820, 960)},
        features={"text": Feature((), "string"), "label": Feature((), "int64")},
        class_names=tuple(names),
        licence="none needed, made by a program",
        source="a grammar in this package; made-up data for tests and a first try",
        memory_limit=memory_limit,
    )


EMBEDDED: dict[str, Callable[[int], Data]] = {"commands": _load_commands, "digits": _load_digits}
"""The embedded data sets by name."""
