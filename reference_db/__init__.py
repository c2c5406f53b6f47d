"""Fingerpost's reference database: each cell's fingerprints, versioned, stored and ready to be searched.

Units are SI; positions are metres east and north of the cell's base station.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reference_db.exports import *  # noqa: F403
    from reference_db.exports import __all__  # noqa: F401


def __getattr__(name: str) -> object:
    """Only whoever asks for something waits for FAISS: a client needs no more than the names of cells."""
    exports = import_module("reference_db.exports")
    if name not in (*exports.__all__, "__all__"):
        raise AttributeError(f"module 'reference_db' has no attribute {name!r}")
    return getattr(exports, name)
