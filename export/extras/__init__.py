"""What an artifact carries beside its graph: model card, request examples, warm-up requests."""
