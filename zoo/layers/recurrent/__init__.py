"""LSTM and GRU: the layers, their loops for training and their loops for inference."""
