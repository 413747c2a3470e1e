"""Ways to train a part of a model."""
