"""Keras layers and blocks that several model families share."""
