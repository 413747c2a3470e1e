"""Command line of savedmodel-zoo."""
