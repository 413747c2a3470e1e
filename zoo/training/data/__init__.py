"""What users pass to `zoo.train`: arrays, datasets, compiled models."""
