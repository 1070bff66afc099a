"""All speed tables in one run: clusters, graph, spreading, selection, each against its peers; and the memory.

    .venv/bin/python benchmarks/speed.py        (make bench installs the peers first)

Writes benchmarks/results/speed.csv.
"""

import csv
from pathlib import Path
from typing import Any

import speed_clusters
import speed_graph
import speed_memory
import speed_selection
import speed_spreading
from machine import describe

COLUMNS = ["what", "ours", "peer", "peer_name", "ratio", "must"]


def main() -> None:
    print(describe("numpy", "scipy", "scikit-learn", "faiss-cpu", "pynndescent", "scikit-activeml"), "\n")
    rows: list[dict[str, Any]] = []
    for part in (speed_clusters, speed_graph, speed_spreading, speed_selection, speed_memory):
        for row in part.rows():
            rows.append(row)
            print("  ".join(_cell(row.get(column)) for column in COLUMNS), flush=True)
        print()
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    with (folder / "speed.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def _cell(value: Any) -> str:
    return f"{value:10.4g}" if isinstance(value, float) else f"{'' if value is None else value!s:10}"


if __name__ == "__main__":
    main()
