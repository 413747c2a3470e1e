"""Preprocessors, one per file: they turn raw features into model inputs."""
