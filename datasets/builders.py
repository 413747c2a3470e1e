"""Builders for TensorFlow Datasets, of sets that it has none for; importing this module registers them there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds


class SmsSpam(tfds.core.GeneratorBasedBuilder):
    """5,574 English text messages, ham or spam, from the file `SMSSpamCollection`.

    The source has no splits, and about 400 messages that occur more than once. A message's SHA-256 decides where it goes,
    a tenth to test and a tenth to validation, so that no text is in two splits. Source: Almeida, Hidalgo and Yamakami,
    Contributions to the study of SMS spam filtering, ACM DocEng 2011.
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "the file SMSSpamCollection of UCI's data set 228, from https://archive.ics.uci.edu/dataset/228/sms+spam+collection"

    def _info(self) -> tfds.core.DatasetInfo:
        features = {"text": tfds.features.Text(), "label": tfds.features.ClassLabel(names=["ham", "spam"])}
        return tfds.core.DatasetInfo(
            builder=self,
            description="English text messages, ham or spam.",
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("text", "label"),
            homepage="https://archive.ics.uci.edu/dataset/228/sms+spam+collection",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, str]]]]:
        file = dl_manager.manual_dir / "SMSSpamCollection"
        if not file.exists():
            raise AssertionError(self.MANUAL_DOWNLOAD_INSTRUCTIONS)
        lines = file.read_text(encoding="utf-8").splitlines()
        return {split: self._generate_examples(lines, split) for split in ("train", "validation", "test")}

    def _generate_examples(self, lines: list[str], wanted: str) -> Iterator[tuple[int, dict[str, str]]]:
        for number, line in enumerate(lines):
            label, _, text = line.partition("\t")
            tenth = int(hashlib.sha256(text.encode()).hexdigest(), 16) % 10
            if {0: "test", 1: "validation"}.get(tenth, "train") == wanted:
                yield number, {"text": text, "label": label}
