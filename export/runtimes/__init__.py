"""Other runtimes: convert, run, compare."""
