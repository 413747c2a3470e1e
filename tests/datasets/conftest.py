"""WordPiece vocabularies, which take seconds to train."""

from __future__ import annotations

import pytest

from wordpiece_texts import corpus
from zoo.checkpoints.wordpiece_files import Rules
from zoo.datasets.preprocessing.vocabularies import train_pieces


@pytest.fixture(scope="session")
def vocabularies():
    """A vocabulary with cased and one with uncased letters."""
    return {lower: train_pieces(corpus(), 600, Rules(lower)) for lower in (True, False)}
