"""The commands ``fingerpost`` (also ``python -m fingerpost``) and ``fingerpost-train``.

The server's packages `service`, `reference_db` and `models` lie below `fingerpost/_server` in the installed wheel, and
beside `fingerpost/` in a checkout. Other packages of these names may be installed, or lie in the current directory;
ours are found first.
"""

import signal
import sys
from importlib import import_module
from pathlib import Path

from fingerpost import __version__

_PACKAGE = Path(__file__).resolve().parent
_OURS = {"fingerpost", "models", "reference_db", "service"}
_INTERRUPTED = 128 + signal.SIGINT  # as shells report it


def main() -> None:
    """Runs ``fingerpost``."""
    _run("service.commands.cli", "fingerpost: this command needs the extra cpu, or gpu for CUDA", "fingerpost[cpu]")


def train() -> None:
    """Runs ``fingerpost-train``."""
    if sys.argv[1:] == ["--version"]:
        print(f"fingerpost-train {__version__}")
    else:
        _run("models.cli", "fingerpost-train: this command needs the extras cpu and train", "fingerpost[cpu,train]")


def _run(module: str, missing: str, requirement: str) -> None:
    bundled = _PACKAGE / "_server"
    sys.path.insert(0, str(bundled if bundled.is_dir() else _PACKAGE.parent))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(_INTERRUPTED))  # in place of a traceback
    try:
        import_module(module).main()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in _OURS:
            raise
        sys.exit(f"{missing} ({error.name!r} is not installed): pip install '{requirement}'")


if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]  # `python -m` puts the current directory there
    main()
