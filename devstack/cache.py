"""The cache folder that all checkouts of one user share."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder, creating it if it is missing."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "faust-orders"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
