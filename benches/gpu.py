"""Parity on a card, and training and generation beside transformers + PEFT: called by `gpu.sh`, which says how.

Cases: parity, lora-512 (32 x 512 tokens), lora-2048 (4 x 2048), generate (64 x (128 + 128)), mixed (64 prompts of 16 to
255 tokens, 128 new ones); without one, all. A Llama of the shape of 7B with random weights, bf16, read by both sides from
the same files. Seconds are of the wall; memory is what the card says is in use beyond what was before.
"""
import argparse
import glob
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from engine import make, with_lora, work  # noqa: E402

# Hidden size, layers, heads, key-value heads, feed-forward width, vocabulary.
SHAPES = {"7b": (4096, 32, 32, 32, 11008, 32000), "tiny": (64, 2, 4, 2, 172, 512)}
CASES = {
    "lora-512": {"7b": ["train", 32, 512, 5], "tiny": ["train", 4, 32, 2]},
    "lora-2048": {"7b": ["train", 4, 2048, 5], "tiny": ["train", 2, 64, 2]},
    "generate": {"7b": ["generate", 64, 128, 128], "tiny": ["generate", 4, 8, 8]},
    "mixed": {"7b": ["mixed", 64, 128], "tiny": ["mixed", 6, 8]},
}
# Tests of the library that compare a device with stored references and with the processor's own operations. Their limits
# stand in them: logits within 1e-4, losses of twenty steps within 1e-4, tokens equal, gradients within 2e-4 of the largest.
PARITY = [
    "every_family_learns_the_same_by_both_operations",
    "twenty_steps_are_those_of_peft",
    "answers_of_devices_are_those_of_transformers",
    "pieces_and_steps_of_devices_give_the_same",
]


def torch_side(case, folder, numbers):
    """One measurement, in a process of its own."""
    import torch
    from transformers import LlamaForCausalLM

    card = os.environ["DEVICE"] == "card"
    dtype = torch.bfloat16 if os.environ["DTYPE"] == "bf16" else torch.float32
    model = LlamaForCausalLM.from_pretrained(folder, dtype=dtype).to("cuda" if card else "cpu")
    if case == "train":
        if "CHECKPOINT" in os.environ:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            model.enable_input_require_grads()
        model = with_lora(model)

    def clock():
        if card:
            torch.cuda.synchronize()
        return time.perf_counter()

    start, count = work(model, case, numbers, clock)
    print(json.dumps({"wall": (clock() - start) / count}))


def card_mib():
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return int(subprocess.run(query, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[0])


def measure(command, env, card):
    """Runs a side; its figures, or None where its card ran out of memory."""
    before = card_mib() if card else 0
    peak = [before]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def watch():
        while card and process.poll() is None:
            peak[0] = max(peak[0], card_mib())
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    out, errors = process.communicate()
    watcher.join()
    if process.returncode:
        if "out of memory" in errors.lower() or "OUT_OF_MEMORY" in errors:
            return None
        sys.exit(f"{' '.join(map(str, command))}: {errors[-3000:]}")
    return dict(json.loads(out.splitlines()[-1]), memory=peak[0] - before)


def newest(pattern, what, fits=lambda path: True):
    found = [path for path in glob.glob(f"{HERE}/../target/{pattern}") if os.path.isfile(path) and os.access(path, os.X_OK)]
    for path in sorted(found, key=os.path.getmtime, reverse=True):
        if fits(path):
            return path
    print(f"gpu.py: {what} is not built: see benches/README.md", file=sys.stderr)
    sys.exit(4)


def has_tests(path):
    """Whether it is the tests of the library, not the program itself."""
    listed = subprocess.run([path, "--list"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return all(name in listed.stdout for name in PARITY)


def parity(tests, card):
    env = dict(os.environ, TITER_GOLDEN_ENGINE=f"{HERE}/../tests/golden/engine")
    env.update({"TITER_TEST_DEVICE": "card"} if card else {})
    failed = []
    for name in PARITY:
        run = subprocess.run([tests, name], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        ran = " 1 passed" in run.stdout or " 2 passed" in run.stdout
        print(f"parity: {name}: {'right' if run.returncode == 0 and ran else 'WRONG'}", flush=True)
        if run.returncode or not ran:
            failed.append(run.stdout[-3000:])
    print("".join(failed), end="", flush=True)
    return not failed


def paired(name, size, folder, bench, times, card):
    case, *numbers = map(str, CASES[name][size])
    env = dict(os.environ, DEVICE="card" if card else "plain", DTYPE="bf16" if card else "f32",
               TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")
    sides = {
        "titer": [bench, case, folder, *numbers],
        "torch": [sys.executable, __file__, "--torch", case, folder, *numbers],
    }
    for checkpoint in [False, True]:
        env.update({"CHECKPOINT": "1"} if checkpoint else {})
        runs = {side: [] for side in sides}
        for side, command in list(sides.items()) * times:
            runs[side].append(measure(command, env, card))
        how = " (blocks computed again)" if checkpoint else ""
        full = [side for side in sides if None in runs[side]]
        if not full:
            break
        print(f"{name}{how}: out of memory: {', '.join(full)}", flush=True)
        for side in set(sides) - set(full):
            print(f"{name}{how}: {side} alone {statistics.median(run['wall'] for run in runs[side]):.3f} s", flush=True)
        if case != "train":
            return False
    if full:
        return False
    middle = lambda side, what: statistics.median(run[what] for run in runs[side])
    seconds, memory = ([middle(side, what) for side in sides] for what in ("wall", "memory"))
    print(f"{name}{how}: {seconds[0]:.3f} s, torch {seconds[1]:.3f} s, ratio {seconds[0] / seconds[1]:.2f}; "
          f"memory {memory[0]:.0f} MiB, torch {memory[1]:.0f} MiB", flush=True)
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="a model of no size")
    parser.add_argument("--cpu", action="store_true", help="on the processor: to try this script")
    parser.add_argument("--bench", help="the built benchmark `engine`; by default the newest in target")
    parser.add_argument("--tests", help="the built tests of the library; by default the newest in target")
    options = parser.parse_args()
    unknown = set(options.cases) - {"parity", *CASES}
    if unknown:
        parser.error(f"no such case: {', '.join(sorted(unknown))}; there are parity, {', '.join(CASES)}")
    size, card, right = "tiny" if options.tiny else "7b", not options.cpu, True
    cases = options.cases or ["parity", *CASES]
    if "parity" in cases:
        tests = options.tests or newest("*/deps/titer-*", "the test program of the library", has_tests)
        right = parity(tests, card)
    speed = [case for case in cases if case != "parity"]
    if speed:
        bench = options.bench or newest("*/deps/engine-*", "the benchmark `engine`")
        with tempfile.TemporaryDirectory() as folder:
            make(folder, SHAPES[size], "bfloat16", positions=4096, spread=0.02)
            for name in speed:
                right &= paired(name, size, folder, bench, options.times, card)
    sys.exit(0 if right else 1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--torch"]:
        torch_side(sys.argv[2], sys.argv[3], [int(number) for number in sys.argv[4:]])
    else:
        main()
