"""Files that are not what they were."""

import os
from pathlib import Path


def damage(path: Path, content: bytes) -> None:
    """Puts other bytes in a file's place.

    By another file: whoever has the old one mapped would be killed if that were cut short.
    """
    other = path.with_name(path.name + ".damaged")
    other.write_bytes(content)
    os.replace(other, path)
