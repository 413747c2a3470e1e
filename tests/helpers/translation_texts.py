"""Sentences in two languages and their encoded batches."""

from __future__ import annotations

from types import SimpleNamespace

import tensorflow as tf

from zoo.datasets.preprocessing.translation import TranslationPreprocessor

FRENCH = [
    "Va !",
    "Ça alors\u202f!",
    "J'ai 19 ans, et toi\u00a0?",
    "«\u00a0L'économie\u00a0», a-t-il dit… aujourd’hui\u202f!",
    "Arrête-toi\u00a0!  Deux espaces,   trois.",
    "Je l'ai emporté : 3,50 € (50 %) !",
    "Œuvre, cœur, Noël, où, À BIENTÔT",
]
ENGLISH = [
    "Go.",
    "Wow!",
    "I'm 19, and you?",
    '"Economics", he said… today!',
    "Stop!  Two.",
    "I won: 3.50",
    "Work, heart",
]


def data_of(texts: list[str], translations: list[str]) -> SimpleNamespace:
    examples = {"text": texts, "translation": translations}
    return SimpleNamespace(train=tf.data.Dataset.from_tensor_slices(examples))


def encoded(preprocessor: TranslationPreprocessor, examples: dict[str, tf.Tensor]) -> tuple:
    """Returns the inputs by name, the only target, and its weights."""
    inputs, targets, weights = preprocessor.encode(examples)
    return inputs, targets["translation"], weights["translation"]


def batch(texts: list, translations: list) -> dict[str, tf.Tensor]:
    return {"text": tf.constant(texts, tf.string), "translation": tf.constant(translations, tf.string)}
