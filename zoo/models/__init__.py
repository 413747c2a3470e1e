"""One family of models per file; adding a file adds it everywhere (see `zoo.registry`)."""
