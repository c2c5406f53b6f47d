"""provisional"""

from pathlib import Path

from reference_db.directory_store import DirectoryStore
from reference_db.store import Store


def open_store(place: Path | str) -> Store:
    return DirectoryStore(Path(place))
