"""What a figure was measured on; printed above every table."""

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path


def describe(*packages: str) -> str:
    """Return the machine, its load, its BLAS settings and the versions of the packages that were measured."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor() or platform.machine(),
    )
    blas = {name: value for name, value in os.environ.items() if "BLAS" in name or name == "OMP_NUM_THREADS"}
    parts = [
        f"{cpu}, {os.cpu_count()} cores",
        f"load {os.getloadavg()[0]:.1f}",
        f"Python {sys.version.split()[0]}",
        *(f"{package} {version(package)}" for package in packages),
        f"BLAS settings {blas or 'none'}",
    ]
    return "; ".join(parts)


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []
