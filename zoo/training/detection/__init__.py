"""Finds out which workers train together, from the environment that their launcher made."""
