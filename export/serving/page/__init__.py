"""The page of the server: one HTML file, put together from the files of this folder."""
