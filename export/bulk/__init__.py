"""Predictions for files of any size: in chunks, by several processes, resumed after a kill."""
