"""Adaptations: changes of how a model trains, one file each, found by scanning this folder."""
