"""Embedded data sets, for tests and first tries without network. They are never evidence for a result."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from zoo.datasets.sources import embedded_tables, embedded_targets, embedded_texts
from zoo.datasets.sources.registry import register_source
from zoo.datasets.sources.splitting import digest, divide_users_by_time

if TYPE_CHECKING:
    from zoo.datasets.data import Data
    from zoo.datasets.sources.in_memory import Rows


def _load_digits(memory_limit: int) -> Data:
    """1,797 handwritten digits of 8x8 pixels and 16 grey levels, from scikit-learn.

    They are the test half of UCI's "Optical Recognition of Handwritten Digits" (13 writers). They are real but few: for
    tests and first tries. Levels 0 to 16 are scaled to 0 to 255. The test split is a fifth of every class, drawn with a
    fixed seed. The validation split is a tenth of the rest.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    from zoo.datasets.data import Data
    from zoo.datasets.raw import Feature, Split
    from zoo.datasets.sources.in_memory import split_of

    source = load_digits()
    images = np.round(source.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    labels = source.target.astype(np.int64)
    rest, test = train_test_split(np.arange(len(labels)), test_size=0.2, random_state=0, stratify=labels)
    train, validation = train_test_split(rest, test_size=0.1, random_state=0, stratify=labels[rest])

    def split(index: np.ndarray) -> Split:
        index = np.sort(index)
        arrays = {"image": images[index], "label": labels[index]}
        return split_of(arrays)

    return Data(
        name="digits",
        arguments={},
        tasks=("image_classification",),
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
    """960 synthetic commands to a house in four classes, from a grammar without ambiguity: the best accuracy is 1.

    They are all combinations of four classes, four phrases per class, ten objects and six places, split with a fixed seed.
    """

    from zoo.datasets.data import Data
    from zoo.datasets.raw import Feature, Split
    from zoo.datasets.sources.in_memory import split_of

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
        return split_of({"text": texts[start:stop], "label": labels[start:stop]})

    return Data(
        name="commands",
        arguments={},
        tasks=("text_classification",),
        splits={"train": split(0, 720), "validation": split(720, 820), "test": split(820, 960)},
        features={"text": Feature((), "string"), "label": Feature((), "int64")},
        class_names=tuple(names),
        licence="none needed, made by a program",
        source="a grammar in this package; synthetic data for tests and first tries",
        memory_limit=memory_limit,
    )


def _load_command_lines(memory_limit: int) -> Data:
    """The texts of `commands` without their classes, in the same splits, for masked language modelling."""
    from zoo.datasets.sources.in_memory import features_of, split_of

    commands = _load_commands(memory_limit)
    splits = {}
    for role, part in commands.splits.items():
        lines = np.array([example["text"] for example in part.dataset().as_numpy_iterator()], object)
        splits[role] = split_of({"text": lines})
    return dataclasses.replace(
        commands,
        name="command_lines",
        tasks=("masked_language_modelling",),
        splits=splits,
        features=features_of(splits["train"]),
        class_names=(),
    )


def _load_paraphrases(memory_limit: int) -> Data:
    """The texts of `commands` in 240 groups of four that mean the same, for text embedding. A group is in one split."""
    from zoo.datasets.sources.in_memory import Rows, texts

    meanings = [(name, thing, place) for name in sorted(_COMMANDS) for thing in _OBJECTS for place in _PLACES]
    ways = [way.format(thing, place) for name, thing, place in meanings for way in _COMMANDS[name]]
    groups = np.repeat(np.arange(len(meanings)), len(ways) // len(meanings))
    digests = [digest(str(group)) for group in groups]
    rows = Rows(("text_embedding",), {"text": texts(ways), "label": groups}, digests)
    return _synthetic(rows, "paraphrases", "a grammar in this package", memory_limit)


_DAY, _WEEK = 8, 56
_PERSISTENCE, _NOISE = 0.7, 4.0


def _load_seasons(memory_limit: int, window: int = _WEEK, horizon: int = _DAY) -> Data:
    """A synthetic series of 4,032 steps: days of 8 steps, weeks of 7 days, and autocorrelated noise.

    The pattern is fixed and the noise is an autoregression of order 1, drawn with a fixed seed. So the best forecast is
    known: the pattern plus the last deviation from it, multiplied by 0.7 at every step. `about["best_rmse"]` is its
    expected root mean squared error over the horizon. Channels 1 and 2 are the sine and cosine of the time of day.
    """
    from zoo.datasets.data import Data
    from zoo.datasets.sources.in_memory import features_of
    from zoo.datasets.sources.windows import useful_lags, window_splits

    steps = np.arange(72 * _WEEK)
    angle = 2 * np.pi * steps / _DAY
    weekend = (steps // _DAY) % 7 >= 5
    pattern = 100 + 30 * np.sin(angle) + 10 * np.cos(2 * angle) - 20 * weekend
    shocks = np.random.default_rng(0).normal(0, _NOISE, len(steps))
    deviation = np.zeros(len(steps))
    for step in range(1, len(steps)):
        deviation[step] = _PERSISTENCE * deviation[step - 1] + shocks[step]
    values = np.stack([pattern + deviation, np.sin(angle), np.cos(angle)], axis=1).astype(np.float32)
    splits = window_splits("seasons", values, window, horizon)
    ahead = np.arange(1, horizon + 1)
    variances = _NOISE**2 * (1 - _PERSISTENCE ** (2 * ahead)) / (1 - _PERSISTENCE**2)
    return Data(
        name="seasons",
        arguments={"window": window, "horizon": horizon},
        tasks=("forecasting",),
        splits=splits,
        features=features_of(splits["train"]),
        class_names=(),
        licence=_SYNTHETIC_LICENCE,
        source="a formula in this package; synthetic data for tests and first tries",
        memory_limit=memory_limit,
        about={
            "channels": ["value", "day_sin", "day_cos"],
            "unit": "units",
            "naive": useful_lags({"same step yesterday": _DAY, "same step last week": _WEEK}, window, horizon),
            "best_rmse": float(np.sqrt(variances.mean())),
        },
    )


def _load_digit_rows(memory_limit: int) -> Data:
    """The images of `digits` as series: 8 steps, the rows from the top, of 8 values from 0 to 16, the columns.

    The images, splits and classes are the same. The data is real but small, for tests and first tries.
    """
    from zoo.datasets.sources.in_memory import features_of, split_of

    digits = _load_digits(memory_limit)
    splits = {}
    for role, part in digits.splits.items():
        examples = list(part.dataset().as_numpy_iterator())
        rows = np.stack([e["image"][..., 0] for e in examples]) / (255 / 16)
        splits[role] = split_of(
            {"series": np.round(rows).astype(np.float32), "label": np.array([e["label"] for e in examples])}
        )
    return dataclasses.replace(
        digits,
        name="digit_rows",
        tasks=("series_classification",),
        splits=splits,
        features=features_of(splits["train"]),
        about={"channels": [f"column {n}" for n in range(1, 9)]},
    )


_TAGGED = {
    "VERB": ["open", "close", "light", "watch", "clean", "warm", "paint"],
    "ADJ": ["open", "close", "light", "clean", "warm", "red"],
    "NOUN": ["light", "watch", "paint", "door", "oven", "lamp"],
    "DET": ["the", "a", "my"],
    "ADP": ["near", "behind"],
    "AUX": ["is", "was"],
    "PUNCT": [".", "!"],
}
_ORDERS = [
    "VERB DET NOUN PUNCT",
    "VERB DET ADJ NOUN PUNCT",
    "VERB DET NOUN ADP DET NOUN PUNCT",
    "DET NOUN AUX ADJ PUNCT",
    "DET ADJ NOUN AUX ADP DET NOUN PUNCT",
]


def _load_tagged_commands(memory_limit: int) -> Data:
    """1,200 different synthetic sentences from a grammar, with the part of speech of every token.

    Seven of the words have two or three parts of speech ("light the light oven near my light."). Their neighbours always
    determine which. So the best accuracy is 1, and a tagger that looks at single words cannot reach it.
    """
    from zoo.datasets.sources.in_memory import Rows, texts

    names = sorted(_TAGGED)
    generator = np.random.default_rng(0)
    sentences: dict[tuple[str, ...], list[str]] = {}
    while len(sentences) < 1200:
        tags = _ORDERS[len(sentences) % len(_ORDERS)].split()
        sentences[tuple(_TAGGED[tag][generator.integers(len(_TAGGED[tag]))] for tag in tags)] = tags
    rows = Rows(
        tasks=("tagging",),
        columns={
            "tokens": [texts(words) for words in sentences],
            "tags": [np.array([names.index(tag) for tag in tags], np.int64) for tags in sentences.values()],
            "text": texts([" ".join(words[:-1]) + words[-1] for words in sentences]),
        },
        digests=[digest(*words) for words in sentences],
        strata=[tuple(tags) for tags in sentences.values()],
        class_names=tuple(names),
    )
    return _synthetic(rows, "tagged_commands", "a grammar in this package", memory_limit)


def _words(text: str) -> list[str]:
    return text.split()


_ONES = [
    _words(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
        "eighteen nineteen"
    ),
    _words(
        "zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize dix-sept dix-huit "
        "dix-neuf"
    ),
]
_TENS = [
    _words("twenty thirty forty fifty sixty seventy eighty ninety"),
    _words("vingt trente quarante cinquante soixante soixante quatre-vingt quatre-vingt"),
]
_PHRASES = [
    ("{}.", "{}."),
    ("{}!", "{}\u202f!"),
    ("Why {}?", "Pourquoi {}\u202f?"),
    ("I see {} cats.", "Je vois {} chats."),
    ("Tom has {} dogs!", "Tom a {} chiens\u202f!"),
    ("It is {}, not more.", "C'est {}, pas plus."),
    ("He said: “{}.”", "Il a dit\u00a0: «\u00a0{}.\u00a0»"),
    ("Are {} enough?", "Est-ce que {} suffisent\u202f?"),
]


def _english(number: int) -> str:
    if number < 20:
        return _ONES[0][number]
    return _TENS[0][number // 10 - 2] + (f"-{_ONES[0][number % 10]}" if number % 10 else "")


def _french(number: int) -> str:
    if number < 20:
        return _ONES[1][number]
    tens = _TENS[1][number // 10 - 2]
    rest = number % 20 if number >= 60 else number % 10
    if rest == 0:
        return tens + ("s" if number == 80 else "")
    return tens + (" et " if rest in (1, 11) and number < 80 else "-") + _ONES[1][rest]


def _load_number_words(memory_limit: int) -> Data:
    """800 synthetic English sentences with a number from 0 to 99 in words, and their French translations, from a rule.

    There are eight phrases, with capitals, and with French quotes and narrow no-break spaces. Every sentence has exactly
    one translation. The split is by content, so most numbers of the test sentences occur in training sentences.
    """
    from zoo.datasets.sources.in_memory import Rows, texts

    def sentence(phrase: str, number: str) -> str:
        return phrase.format(number.capitalize() if phrase.startswith("{") else number)

    pairs = [
        (sentence(english, _english(number)), sentence(french, _french(number)))
        for english, french in _PHRASES
        for number in range(100)
    ]
    rows = Rows(
        tasks=("translation",),
        columns={"text": texts([pair[0] for pair in pairs]), "translation": texts([pair[1] for pair in pairs])},
        digests=[digest(text) for text, _ in pairs],
        strata=[i // 100 for i in range(len(pairs))],
    )
    return _synthetic(rows, "number_words", "a rule in this package", memory_limit)


def _load_tastes(memory_limit: int) -> Data:
    """About 4,800 synthetic ratings, 0 to 10, of 80 items by 120 users, from tastes of two dimensions and noise.

    A rating is 5 + the user's mood + the item's quality + taste times character + noise with standard deviation 0.5, drawn
    with a fixed seed. So the best root mean squared error is 0.5, `about["best_rmse"]`. Every user has rated half of the
    items in random order. The last fifth is the test split, and the tenth before it is the validation split.
    """
    from zoo.datasets.sources.in_memory import Rows, texts

    users, items, noise = 120, 80, 0.5
    generator = np.random.default_rng(0)
    mood, quality = generator.normal(0, 0.7, users), generator.normal(0, 0.7, items)
    taste, character = generator.normal(0, 1, (users, 2)), generator.normal(0, 0.7, (items, 2))
    expected = 5 + mood[:, np.newaxis] + quality + taste @ character.T
    user, item = np.nonzero(generator.random((users, items)) < 0.5)
    order = generator.permutation(len(user))
    user, item = user[order], item[order]
    ratings = np.clip(expected[user, item] + generator.normal(0, noise, len(user)), 0, 10)
    names, titles = [f"u{u}" for u in user], {f"i{i}": f"Item {i}" for i in range(items)}
    rows = Rows(
        tasks=("recommendation",),
        columns={
            "user_id": texts(names),
            "item_id": texts([f"i{i}" for i in item]),
            "rating": ratings.astype(np.float32),
            "time": np.arange(len(user), dtype=np.int64),
        },
        digests=[],
        parts=divide_users_by_time(names, list(range(len(user)))),
        about={"titles": titles, "rating_range": [0, 10], "best_rmse": noise},
    )
    return _synthetic(rows, "tastes", "a formula in this package", memory_limit)


_SYNTHETIC_LICENCE = "none needed, made by a program"


def _synthetic(rows: Rows, name: str, source: str, memory_limit: int) -> Data:
    data = rows.to_data(name, {}, f"{source}; synthetic data for tests and first tries", memory_limit)
    return dataclasses.replace(data, licence=_SYNTHETIC_LICENCE)


EMBEDDED: dict[str, Callable[..., Data]] = {
    "baskets": embedded_targets.load_baskets,
    "breast_cancer": embedded_tables.load_breast_cancer,
    "command_lines": _load_command_lines,
    "commands": _load_commands,
    "diabetes": embedded_tables.load_diabetes,
    "digit_ink": embedded_targets.load_digit_ink,
    "digit_rows": _load_digit_rows,
    "digit_shapes": embedded_targets.load_digit_shapes,
    "digits": _load_digits,
    "iris": embedded_tables.load_iris,
    "number_words": _load_number_words,
    "paraphrases": _load_paraphrases,
    "pastimes": embedded_tables.load_pastimes,
    "seasons": _load_seasons,
    "spoken_sums": embedded_texts.load_spoken_sums,
    "tagged_commands": _load_tagged_commands,
    "tastes": _load_tastes,
    "wine": embedded_tables.load_wine,
    "wishes": embedded_targets.load_wishes,
}
"""The embedded data sets by name: functions of the memory limit and of the options of the data set."""

for _name, _load in EMBEDDED.items():
    register_source(_name)(_load)
