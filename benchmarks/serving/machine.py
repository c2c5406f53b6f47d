"""The machine and the versions that a report names."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import psutil


def describe(rivals_python: Path | None, generator: Path | None) -> dict[str, str]:
    """Names and values in the order of the report. None: without the rivals, without the load generator."""
    words = {
        "CPU": _cpu(),
        "cores": str(os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
    }
    if generator is not None:
        words["generator"] = f"benchmarks/serving/generator.c ({generator.name.removeprefix('generator-')})"
    words |= {name: version(name) for name in ("fingerpost", "onnxruntime", "numpy", "torch")}
    if rivals_python is not None:
        words |= {name: _version(rivals_python, name) for name in ("litserve", "bentoml")}
        words["onnxruntime of the rivals"] = _version(rivals_python, "onnxruntime")
    return words


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def _version(python: Path, package: str) -> str:
    words = [str(python), "-c", f"from importlib.metadata import version; print(version({package!r}))"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
