"""Keras layers and blocks that families share."""
