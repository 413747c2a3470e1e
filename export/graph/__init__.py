"""The served graph: signatures, request checks, and the preparation of layers for serving."""
