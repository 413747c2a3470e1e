"""The served graph: signatures, request checks, and how layers are prepared for serving."""
