"""The files next to the graph of an artifact: model card, request examples, warm-up requests."""
