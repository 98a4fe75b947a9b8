#!/usr/bin/env python3
"""Ten million rows grouped by three keys, count, mean and standard deviation: titer beside polars, whole processes in turns.

    cargo build --release && python benches/aggregate.py [--rows 10000000] [--times 5]

Needs polars and numpy (PyPI). titer runs its whole stage: hashing the file, a worker, a commit to an empty cache.
"""
import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
MANIFEST = """titer = 1
name = "groups"
[aggregate.groups]
from = "rows.parquet"
by = ["task", "n", "run"]
metrics = ["score"]
interval = "none"
"""
MAKE = """
import sys, numpy as np, polars as pl
rows, draw = int(sys.argv[1]), np.random.default_rng(0)
tasks = np.array([f"task{i:02}" for i in range(20)])
pl.DataFrame({
    "task": tasks[draw.integers(0, 20, rows)],
    "n": np.array([0, 10, 25, 50, 100, 200, 400, 1000])[draw.integers(0, 8, rows)],
    "run": draw.integers(1, 6, rows),
    "score": draw.random(rows),
}).write_parquet("rows.parquet")
"""
POLARS = """
import polars as pl
score = pl.col("score")
rows = pl.read_parquet("rows.parquet").group_by("task", "n", "run")
table = rows.agg(score.count().alias("count"), score.null_count().alias("nulls"),
                 score.mean().alias("mean"), score.std().alias("std"))
table.sort("task", "n", "run").write_csv("polars.csv")
"""


def run(command, folder):
    """Seconds of wall time and of processors, and the greatest memory in MiB of one process, all children together."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    process = subprocess.Popen(["/usr/bin/env", "time", "-f", "%M", "-o", "peak"] + command, cwd=folder,
                               stdout=subprocess.DEVNULL)
    if process.wait():
        sys.exit(f"{command} failed")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    with open(os.path.join(folder, "peak")) as peak:
        return time.monotonic() - begin, seconds, int(peak.read().split()[-1]) / 1024


def check(folder):
    import csv

    def table(path, names):
        with open(path) as file:
            return {(row["task"], row["n"], row["run"]): [float(row[name]) for name in names] for row in csv.DictReader(file)}

    names = ["count", "nulls", "mean", "std"]
    ours = table(os.path.join(folder, "out/groups/aggregate.groups/table.csv"), names)
    theirs = table(os.path.join(folder, "polars.csv"), names)
    assert ours.keys() == theirs.keys()
    off = max(abs(a / b - 1) if b else abs(a) for key in ours for a, b in zip(ours[key], theirs[key]))
    print(f"{len(ours)} groups, the greatest relative difference is {off:.1e}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--titer", default=os.path.join(HERE, "../target/release/titer"))
    arguments = parser.parse_args()
    titer = os.path.abspath(arguments.titer)
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(os.path.join(folder, "pipelines"))
        with open(os.path.join(folder, "pipelines/groups.toml"), "w") as file:
            file.write(MANIFEST)
        subprocess.check_call([sys.executable, "-c", MAKE, str(arguments.rows)], cwd=folder)
        found = {"titer": [], "polars": []}
        for _ in range(arguments.times):
            for name in ("cache", "out"):
                shutil.rmtree(os.path.join(folder, name), ignore_errors=True)
            found["titer"].append(run([titer, "run", "pipelines/groups.toml"], folder))
            found["polars"].append(run([sys.executable, "-c", POLARS], folder))
        check(folder)
    for name, runs in found.items():
        wall, seconds, peak = (statistics.median(run[part] for run in runs) for part in range(3))
        print(f"{name:7} {wall:.2f} s, processors {seconds:.2f} s, greatest process {peak:.0f} MiB")
    ratio = [statistics.median(a[part] / b[part] for a, b in zip(found["titer"], found["polars"])) for part in range(3)]
    print("titer / polars: wall {:.2f}, processors {:.2f}, memory {:.2f}".format(*ratio))


main()
