"""Whether the service's memory stays flat: ``python -m benchmarks.soak --hours 1``; less is a smoke test.

Writes ``benchmarks/results/soak.md``, ``.csv`` and ``.png``; runs below an hour write to ``var/bench/``. Exits with 1
after a wrong answer and, from half an hour on, if memory, open files or threads grew.
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
from benchmarks.soak.report import draw, markdown
from benchmarks.soak.run import SoakResult, soak
from service.settings import Settings

FOLDER = Path("var/bench")
RESULTS = Path("benchmarks/results")
_JUDGED_S = 1800.0  # in less time a single update can make a slope


@dataclass(frozen=True)
class Report:
    date: str
    command: str
    machine: dict[str, str]
    result: SoakResult

    @property
    def is_good(self) -> bool:
        return not self.result.wrong and (self.result.seconds < _JUDGED_S or self.result.trend.is_flat)

    def write(self, folder: Path) -> str:
        with (folder / "soak.csv").open("w", newline="") as file:
            rows = [asdict(sample) for sample in self.result.samples]
            table = csv.DictWriter(file, rows[0], lineterminator="\n")
            table.writeheader()
            table.writerows({name: round(value, 1) for name, value in row.items()} for row in rows)
        draw(self.result.samples, folder / "soak.png")
        text = markdown(self.date, self.command, self.machine, self.result)
        (folder / "soak.md").write_text(text)
        return text


def main() -> None:
    parser = argparse.ArgumentParser(description="Load a service for hours and watch its memory.")
    parser.add_argument("--hours", type=float, default=1.0)
    given = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="soak-", dir=FOLDER) as scratch:
        result = soak(3600 * given.hours, Settings().artifact_directory, Path(scratch))
    report = Report(
        date=datetime.now(UTC).date().isoformat(),
        command=f"python -m benchmarks.soak --hours {given.hours:g}",
        machine=machine.describe(None, None),
        result=result,
    )
    print(report.write(RESULTS if given.hours >= 1 else FOLDER))
    if not report.is_good:
        sys.exit("soak: see above")


if __name__ == "__main__":
    main()
