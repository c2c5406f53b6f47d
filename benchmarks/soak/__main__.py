"""Does the service's memory stay as it is? ``python -m benchmarks.soak --hours 1``; less is a smoke test.

Writes ``benchmarks/results/soak.md``, ``.csv`` and ``.png``, or into ``var/bench/`` below an hour. Exits 1 where
anything was answered as it should not be or, from half an hour on, where memory, open files or threads grew.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.serving import machine
from benchmarks.soak.hours import Hours, soak
from benchmarks.soak.plot import draw
from benchmarks.soak.table import markdown
from service.settings import Settings

FOLDER = Path("var/bench")
RESULTS = Path("benchmarks/results")
_JUDGED_S = 1800.0  # in less time an update begun or ended makes a slope


@dataclass(frozen=True)
class Report:
    date: str
    command: str
    machine: dict[str, str]
    hours: Hours

    @property
    def is_good(self) -> bool:
        return not self.hours.wrong and (self.hours.seconds < _JUDGED_S or self.hours.trend.is_flat)

    def write(self, folder: Path) -> str:
        with (folder / "soak.csv").open("w", newline="") as file:
            rows = [asdict(sample) for sample in self.hours.samples]
            table = csv.DictWriter(file, rows[0], lineterminator="\n")
            table.writeheader()
            table.writerows({name: round(value, 1) for name, value in row.items()} for row in rows)
        draw(self.hours.samples, folder / "soak.png")
        text = markdown(self.date, self.command, self.machine, self.hours)
        (folder / "soak.md").write_text(text)
        return text


def main() -> None:
    parser = argparse.ArgumentParser(description="Ask a service for hours, and watch its memory.")
    parser.add_argument("--hours", type=float, default=1.0)
    given = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="soak-", dir=FOLDER) as scratch:
        hours = soak(3600 * given.hours, Settings().artifact_directory, Path(scratch))
    report = Report(
        date=datetime.now(UTC).date().isoformat(),
        command=f"python -m benchmarks.soak --hours {given.hours:g}",
        machine=machine.describe(None, None),
        hours=hours,
    )
    print(report.write(RESULTS if given.hours >= 1 else FOLDER))
    if not report.is_good:
        sys.exit("soak: see above")


if __name__ == "__main__":
    main()
