"""Remote paths: object stores and the web, through fsspec. No other package knows of them.

`fetched` copies files to read, `published_version` an export; `working_copy` and `publish` keep a run.
"""

from zoo.remote.copies import fetched, fetched_model, shown
from zoo.remote.paths import is_remote, masked
from zoo.remote.runs import MANIFEST, publish, working_copy
from zoo.remote.versions import check_versions, published_version

__all__ = [
    "MANIFEST",
    "check_versions",
    "fetched",
    "fetched_model",
    "is_remote",
    "masked",
    "publish",
    "published_version",
    "shown",
    "working_copy",
]
