"""The protocols of the server, one file each. A file has `routes(repository, settings)`, which returns Starlette routes."""
