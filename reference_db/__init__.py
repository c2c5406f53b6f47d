"""Fingerpost's reference database: the fingerprints of each cell, versioned, stored and searchable.

Units are SI. Positions are metres east and north of the cell's base station.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reference_db.exports import *  # noqa: F403
    from reference_db.exports import __all__  # noqa: F401


def __getattr__(name: str) -> object:
    """Imports the exports on first use. Code that only needs a submodule does not wait for FAISS to load."""
    exports = import_module("reference_db.exports")
    if name not in (*exports.__all__, "__all__"):
        raise AttributeError(f"module 'reference_db' has no attribute {name!r}")
    return getattr(exports, name)
