"""Preprocessors: one file each; raw feature in, model input out."""
