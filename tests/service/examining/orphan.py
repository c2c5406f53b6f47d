"""Starts an examiner, prints its process id, and waits: ``python -m tests.service.examining.orphan FOLDER``."""

import signal
import sys
import time
from pathlib import Path

import psutil

from service.examining.examiner import ProcessExaminer
from service.settings import Settings
from service.telemetry.metrics import Metrics
from tests.service.tiny_cell import cell_of, uneven_street

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background of a shell
    examiner = ProcessExaminer(Settings(database_directory=Path(sys.argv[1])), Metrics().examiner)
    examiner.assemble(cell_of(uneven_street(600, 1)).contents, None)
    (child,) = psutil.Process().children()
    print(child.pid, flush=True)
    time.sleep(3600)
