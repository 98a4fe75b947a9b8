#!/usr/bin/env python3
"""The runner's own cost, beside ninja's on the same pipeline: W chains of ten trivial stages, N in all.

    cargo build --release && python3 benches/runner.py [CASE ...] [-n 1000]

Cases: start, first, worker, nothing, cutoff, lost, big, hash, kill, together; without one, all but `kill` and `together`.
Both programs take turns (A B A B …), whole processes are timed from outside, and medians are compared: figures of
one call, on one machine. Python 3 alone; `ninja` and `b3sum` from the distribution, where a case compares with them.

Layer 0 copies the first 16 bytes of its input, so that an edit behind them changes no output; all other layers copy.
"""
import argparse
import json
import os
import random
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
DEPTH = 10


def inputs(folder, n):
    os.makedirs(f"{folder}/in")
    for w in range(n // DEPTH):
        with open(f"{folder}/in/{w}.txt", "w") as file:
            file.write(f"{w:015d}\ntail 0\n")


def titer_manifest(folder, n):
    """One `[mix.…]` with a command per stage."""
    lines = ['titer = 1', 'name = "chains"', '']
    for layer in range(DEPTH):
        for w in range(n // DEPTH):
            source = f"in/{w}.txt" if layer == 0 else f"mix.s{layer - 1}_{w}"
            command = '["cp", "{input.of}", "{output}/train.jsonl"]'
            if layer == 0:
                command = '["sh", "-c", \'head -c 16 "$0" > "$1"\', "{input.of}", "{output}/train.jsonl"]'
            # A variable of its own: else equal copies of equal bytes are one stage, which is made once.
            lines += [f"[mix.s{layer}_{w}]", f"command = {command}", f'inputs = {{ of = "{source}" }}',
                      f'env = {{ STAGE = "{layer}_{w}" }}', ""]
    with open(f"{folder}/p.toml", "w") as file:
        file.write("\n".join(lines))


def ninja_manifest(folder, n):
    lines = ["rule sh", "  command = $cmd"]
    for layer in range(DEPTH):
        for w in range(n // DEPTH):
            source = f"in/{w}.txt" if layer == 0 else f"out/{layer - 1}_{w}.txt"
            target = f"out/{layer}_{w}.txt"
            command = f"head -c 16 {source} > {target}" if layer == 0 else f"cp {source} {target}"
            lines += [f"build {target}: sh {source}", f"  cmd = {command}"]
    os.makedirs(f"{folder}/out")
    with open(f"{folder}/build.ninja", "w") as file:
        file.write("\n".join(lines) + "\n")


def mixes_manifest(folder, n):
    """Built-in mixes of three rows, which share workers."""
    lines = ['titer = 1', 'name = "mixes"', "[axes]", f"i = [{', '.join(map(str, range(n)))}]", "[mix.rows]",
             'seed = "{i}"', 'sources = [{ path = "rows.jsonl" }]', ""]
    with open(f"{folder}/p.toml", "w") as file:
        file.write("\n".join(lines))
    with open(f"{folder}/rows.jsonl", "w") as file:
        for row in range(3):
            file.write(json.dumps({"instruction": f"q{row}", "output": "a"}) + "\n")


class Tool:
    def __init__(self, name, command, write):
        self.name, self.command, self.write = name, command, write
        self.folder = None

    def fresh(self, work, n):
        # What was deleted in the last minutes makes new files dear on ext4 without a journal, so that the old one stays.
        self.folder = tempfile.mkdtemp(prefix=f"{self.name}-{n}-", dir=work)
        if self.write is not mixes_manifest:
            inputs(self.folder, n)
        self.write(self.folder, n)

    def run(self, more=()):
        return run([*self.command, *more], self.folder)


def run(command, folder=None):
    """Wall and processor seconds of a process and all that it started."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{command}: exit code {done.returncode}\n{done.stderr.decode()[-2000:]}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def events(tool, more=()):
    """What ran, of one more run."""
    done = subprocess.run([*tool.command, "--json", *more], cwd=tool.folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{tool.command}: exit code {done.returncode}\n{done.stdout[-1000:]}{done.stderr[-1000:]}")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return [line["instance"] for line in lines if line["event"] in ("ran", "observed")]


def show(label, values, unit="ms", scale=1000.0):
    values = sorted(value * scale for value in values)
    print(f"  {label:34} {statistics.median(values):9.2f} {unit}  [{values[0]:.2f} … {values[-1]:.2f}]", flush=True)


def pairs(tools, times, more=()):
    seen = {tool.name: [] for tool in tools}
    for _ in range(times):
        for tool in tools:
            seen[tool.name].append(tool.run(more))
    for tool in tools:
        show(f"{tool.name}, wall", [wall for wall, _ in seen[tool.name]])
        show(f"{tool.name}, processor", [cpu for _, cpu in seen[tool.name]])
    if len(tools) == 2:
        for number, what in enumerate(["wall", "processor"]):
            one, two = ([run[number] for run in seen[tool.name]] for tool in tools)
            if statistics.median(two):
                print(f"  ratio of medians, {what:19} {statistics.median(one) / statistics.median(two):6.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*")
    parser.add_argument("-n", type=int, default=1000)
    parser.add_argument("--times", type=int, default=21)
    parser.add_argument("--work", help="folder for the pipelines; by default the system's for temporary files")
    parser.add_argument("--titer", default=f"{HERE}/../target/release/titer")
    options = parser.parse_args()
    program = os.path.abspath(options.titer)
    work = tempfile.mkdtemp(prefix="titer-bench-", dir=options.work)
    titer = Tool("titer", [program, "run", "p.toml"], titer_manifest)
    mixes = Tool("mixes", [program, "run", "p.toml"], mixes_manifest)
    ninja = [Tool("ninja", ["ninja", "--quiet"], ninja_manifest)] if shutil.which("ninja") else []
    cases = Cases(options, work, titer, ninja, mixes)
    try:
        for case in options.cases or ["start", "first", "worker", "nothing", "cutoff", "lost", "hash", "big"]:
            print(f"{case}: {getattr(cases, case).__doc__}", flush=True)
            getattr(cases, case)()
    finally:
        shutil.rmtree(work, ignore_errors=True)


class Cases:
    def __init__(self, options, work, titer, ninja, mixes):
        self.n, self.times, self.work = options.n, options.times, work
        self.titer, self.ninja, self.mixes = titer, ninja, mixes

    def made(self, tool):
        """The tool's pipeline, run before."""
        if tool.folder is None:
            tool.fresh(self.work, self.n)
            tool.run()
        # The run after the first may write down what makes the next ones fast.
        time.sleep(0.1)
        tool.run()

    def start(self):
        """a process that says its version"""
        for tool in [self.titer, *self.ninja]:
            tool.folder = None
            show(tool.name, [run([tool.command[0], "--version"])[0] for _ in range(self.times)])

    def first(self):
        """first run, all stages; per stage"""
        for tool in [self.titer, *self.ninja]:
            seen = []
            for _ in range(3):
                tool.fresh(self.work, self.n)
                seen.append(tool.run())
            show(f"{tool.name}, wall per stage", [wall / self.n for wall, _ in seen])
            show(f"{tool.name}, processor per stage", [cpu / self.n for _, cpu in seen])

    def worker(self):
        """first run of built-in mixes of three rows, which share workers; per stage"""
        seen = []
        for _ in range(3):
            self.mixes.fresh(self.work, self.n)
            seen.append(self.mixes.run())
        show("titer, wall per stage", [wall / self.n for wall, _ in seen])
        show("titer, processor per stage", [cpu / self.n for _, cpu in seen])

    def nothing(self):
        """nothing to do"""
        tools = [self.titer, *self.ninja]
        for tool in tools:
            self.made(tool)
        pairs(tools, self.times)

    def cutoff(self):
        """an input edited, the output of its stage stays the same"""
        self.made(self.titer)
        with open(f"{self.titer.folder}/in/0.txt", "a") as file:
            file.write("more\n")
        print(f"  ran: {events(self.titer)}")

    def lost(self):
        """a result deleted"""
        self.made(self.titer)
        path = f"{self.titer.folder}/out/chains/mix.s4_0/train.jsonl"
        os.remove(path)
        print(f"  ran: {events(self.titer)}; there again: {os.path.exists(path)}")

    def big(self):
        """an input of 2 GiB: read first, touched, untouched"""
        folder = f"{self.work}/big"
        os.makedirs(folder)
        write_big(f"{folder}/big.bin")
        with open(f"{folder}/p.toml", "w") as file:
            file.write('titer = 1\n[mix.head]\ncommand = ["sh", "-c", \'head -c 16 "$0" > "$1"\', "{input.of}", '
                       '"{output}/train.jsonl"]\ninputs = { of = "big.bin" }\n')
        command = ["/usr/bin/time", "-f", "%M", *self.titer.command]
        memory = lambda: int(subprocess.run(command, cwd=folder, capture_output=True, text=True).stderr.split()[-1])
        first = run(self.titer.command, folder)
        print(f"  first: {first[0]:.2f} s wall, {first[1]:.2f} s processor")
        touched = []
        for _ in range(3):
            time.sleep(0.1)
            os.utime(f"{folder}/big.bin")
            touched.append(run(self.titer.command, folder))
        show("touched, processor", [cpu for _, cpu in touched])
        os.utime(f"{folder}/big.bin")
        if os.path.exists("/usr/bin/time"):
            print(f"  touched, peak memory: {memory() / 1024:.1f} MiB")
        time.sleep(0.1)
        run(self.titer.command, folder)
        show("untouched, wall", [run(self.titer.command, folder)[0] for _ in range(5)])
        shutil.rmtree(folder)

    def hash(self):
        """2 GiB hashed, beside b3sum with one thread"""
        folder = f"{self.work}/hash"
        os.makedirs(folder)
        write_big(f"{folder}/big.bin")
        with open(f"{folder}/p.toml", "w") as file:
            file.write('titer = 1\n[mix.head]\ncommand = ["true"]\ninputs = { of = "big.bin" }\n')
        ours, theirs = [], []
        for _ in range(5):
            # `plan` reads the input and runs nothing.
            shutil.rmtree(f"{folder}/cache", ignore_errors=True)
            ours.append(run([self.titer.command[0], "plan", "p.toml"], folder))
            if shutil.which("b3sum"):
                theirs.append(run(["b3sum", "--num-threads", "1", "big.bin"], folder))
        for name, seen in [("titer", ours), ("b3sum", theirs)]:
            if seen:
                show(f"{name}, wall", [wall for wall, _ in seen])
                show(f"{name}, processor", [cpu for _, cpu in seen])
        shutil.rmtree(folder)

    def kill(self):
        """100 first runs killed (SIGKILL to the process) at random moments, each followed by a run"""
        random.seed(7)
        self.titer.fresh(self.work, 100)
        whole = self.titer.run()[0]
        good = 0
        for _ in range(100):
            self.titer.fresh(self.work, 100)
            process = subprocess.Popen(self.titer.command, cwd=self.titer.folder, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)
            time.sleep(random.uniform(0, whole))
            process.send_signal(signal.SIGKILL)
            process.wait()
            self.titer.run()
            good += self.is_right(100)
        print(f"  went on and ended with the right bytes: {good} of 100")

    def is_right(self, n):
        out = f"{self.titer.folder}/out/chains"
        for layer in range(DEPTH):
            for w in range(n // DEPTH):
                with open(f"{out}/mix.s{layer}_{w}/train.jsonl") as file:
                    if file.read() != f"{w:015d}\n":
                        return False
        return True

    def together(self):
        """two processes run one manifest at once, 20 times"""
        twice = failed = 0
        for _ in range(20):
            self.titer.fresh(self.work, 100)
            start = lambda: subprocess.Popen([*self.titer.command, "--json"], cwd=self.titer.folder,
                                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            both = [start(), start()]
            made = []
            for process in both:
                out, _ = process.communicate()
                failed += process.returncode != 0
                made += [line["instance"] for line in map(json.loads, out.splitlines()) if line["event"] == "ran"]
            twice += len(made) - len(set(made)) + abs(100 - len(set(made)))
            failed += not self.is_right(100)
        print(f"  made twice or not at all: {twice}; failed: {failed}")


def write_big(path):
    block = random.Random(1).randbytes(1 << 20)
    with open(path, "wb") as file:
        for number in range(2048):
            file.write(number.to_bytes(8, "little") + block[8:])
    subprocess.run(["cat", path], stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
