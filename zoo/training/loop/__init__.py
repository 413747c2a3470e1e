"""The training loop: position, step, signals, progress."""
