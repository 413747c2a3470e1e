"""Export of any Keras model: its inputs and outputs by name, and what the exporter needs besides."""
