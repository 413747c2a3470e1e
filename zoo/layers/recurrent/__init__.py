"""LSTM and GRU: the layers, their training loops and their inference forms."""
