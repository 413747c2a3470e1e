"""Names of remote paths: which texts are one, and how they are shown."""

from __future__ import annotations

import os
import re

_SCHEME = r"s3a?|gs|gcs|az|adl|abfss?|wasbs?|hdfs|r2|oss|hf|https?|memory"
_REMOTE = re.compile(rf"({_SCHEME}):/{{1,2}}(?=[^/])", re.IGNORECASE)
_ANYWHERE = re.compile(
    r"(?<![\w+.-])([a-z][a-z0-9+.-]*)://([^/\s\"'?#]*@)?([^\s\"'?#]*)([?#][^\s\"']*)?", re.IGNORECASE
)
_PAGES = ("http", "https", "ftp")


def is_remote(path: object) -> bool:
    """Returns whether a path is one of an object store or a web page.

    Example:
        >>> is_remote("s3://bucket/run"), is_remote("runs/s3"), is_remote("hf:google-bert/bert-base-cased")
        (True, False, False)
    """
    return isinstance(path, (str, os.PathLike)) and _REMOTE.match(os.fspath(path)) is not None


def url_of(path: str | os.PathLike[str]) -> str:
    """Returns a remote path as a text with two slashes, of which `pathlib` leaves one."""
    text = os.fspath(path)
    found = _REMOTE.match(text)
    return f"{found[1].lower()}://{text[found.end() :]}" if found else text


def is_page(url: str) -> bool:
    """Returns whether a remote path is of the web, which can be read only."""
    return url.lower().startswith(("http://", "https://"))


def masked(text: str) -> str:
    """Returns a text in which no URL has a password, a token or a signed query.

    Example:
        >>> masked("https://ann:secret@example.com/a.csv?X-Amz-Signature=1f")
        'https://example.com/a.csv'
        >>> masked("s3://bucket/part-?.csv"), masked("abfs://box@account.dfs.core.windows.net/a")
        ('s3://bucket/part-?.csv', 'abfs://box@account.dfs.core.windows.net/a')
    """

    def mask(found: re.Match[str]) -> str:
        scheme, user, rest, query = found[1], found[2] or "", found[3], found[4] or ""
        page = scheme.lower() in _PAGES
        if page or ":" in user:  # else the name of a container of Azure
            user = ""
        if page or "=" in query:  # else a pattern of file names
            query = ""
        return f"{scheme}://{user}{rest}{query}"

    return _ANYWHERE.sub(mask, text)
