"""Does the service's memory stay as it is? ``python -m benchmarks.soak --hours 1``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import msgspec

from benchmarks.soak.hours import soak
from service.settings import Settings


def main() -> None:
    parser = argparse.ArgumentParser(description="Ask a service for hours.")
    parser.add_argument("--hours", type=float, default=1.0)
    given = parser.parse_args()
    folder = Path("var/bench")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="soak-", dir=folder) as scratch:
        hours = soak(3600 * given.hours, Settings().artifact_directory, Path(scratch))
    (folder / "soak.json").write_bytes(msgspec.json.format(msgspec.json.encode(hours), indent=1) + b"\n")
    print(msgspec.json.encode(msgspec.structs.asdict(hours) if isinstance(hours, msgspec.Struct) else hours.trend))
    print(hours.kinds, hours.statuses, hours.wrong[:20], hours.versions, hours.error, hours.core)


if __name__ == "__main__":
    sys.exit(main())
