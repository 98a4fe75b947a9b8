#!/usr/bin/env python3
"""Training and generation beside transformers + PEFT, on random Llamas, whole processes in turns (A B A B …).

    cargo bench --bench engine --no-run && python benches/engine.py [CASE ...] [--times 5]

Cases: lora, lora2 (two threads), whole, generate, mixed; without one, all. Needs torch, transformers and peft (PyPI).
Medians of processor seconds (of wall seconds where there are two threads) and peaks of memory are compared: figures of
one call, on one machine.
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
# Hidden size, layers, heads, key-value heads, feed-forward width, vocabulary.
SHAPE = (512, 8, 8, 4, 1408, 4096)
# As titer sets it for its workers.
KEEP_MEMORY = ("glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=1099511627776:"
               "glibc.malloc.top_pad=67108864:glibc.malloc.hugetlb=1")
CASES = {
    "lora": (["train", 4, 256, 3], 1, "cpu"),
    "lora2": (["train", 4, 256, 3], 2, "wall"),
    "whole": (["train", 4, 256, 3], 1, "cpu"),
    "generate": (["generate", 8, 128, 64], 1, "cpu"),
    "mixed": (["mixed", 64, 64], 1, "cpu"),
}


def make(folder, shape, dtype, positions, spread):
    """A random Llama."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    torch.set_default_dtype(getattr(torch, dtype))
    hidden, layers, heads, kv_heads, inner, vocabulary = shape
    LlamaForCausalLM(LlamaConfig(
        hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv_heads,
        intermediate_size=inner, vocab_size=vocabulary, max_position_embeddings=positions, tie_word_embeddings=False,
        bos_token_id=1, eos_token_id=2, pad_token_id=0, initializer_range=spread)).save_pretrained(folder)


def tokens(count, vocabulary):
    return [3 + (i * 7919 + 13 * (i // 7)) % (vocabulary - 3) for i in range(count)]


def with_lora(model):
    from peft import LoraConfig, get_peft_model

    return get_peft_model(model, LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, task_type="CAUSAL_LM",
                                            target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]))


def train(model, batch, length, steps, clock):
    """Steps, after one that is not counted: when that one was done, and how many there were."""
    import torch

    model.train()
    ids = torch.tensor(tokens(batch * length, model.config.vocab_size), device=model.device).reshape(batch, length)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    adam = torch.optim.AdamW(weights, lr=3e-4, weight_decay=0.0)
    for step in range(steps + 1):
        if step == 1:
            start = clock()
        model(input_ids=ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        adam.step()
        adam.zero_grad()
    return start, steps


def answer(model, lengths, new, clock):
    """So many new tokens after prompts of these lengths: when that began, and one for all of them."""
    import torch

    rows, rest = [], tokens(sum(lengths), model.config.vocab_size)
    for length in lengths:
        rows.append(rest[:length])
        rest = rest[length:]
    longest = max(lengths)
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows], device=model.device)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=model.device)
    model.eval()
    model.generation_config.eos_token_id = None
    start = clock()
    with torch.no_grad():
        model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=new, min_new_tokens=new, do_sample=False,
                       pad_token_id=0)
    return start, 1


def work(model, case, numbers, clock):
    """The work of a case: when it began, and what its time is divided by."""
    if case == "train":
        return train(model, *numbers, clock)
    if case == "generate":
        batch, length, new = numbers
        return answer(model, [length] * batch, new, clock)
    rows, new = numbers
    return answer(model, [16 + (i * 101) % 240 for i in range(rows)], new, clock)


def torch_side(case, folder, whole, numbers):
    """One measurement, in a process of its own."""
    import time

    import torch
    from transformers import LlamaForCausalLM

    torch.set_num_threads(int(os.environ["THREADS"]))
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if case == "train" and not whole:
        model = with_lora(model)
    clock = lambda: (time.process_time(), time.perf_counter())
    start, count = work(model, case, numbers, clock)
    cpu, wall = (after - before for after, before in zip(clock(), start))
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
    print(json.dumps({"cpu": cpu / count, "wall": wall / count, "peak_mib": int(peak) / 1024}))


def measure(command, threads, whole):
    env = dict(os.environ, THREADS=str(threads), RAYON_NUM_THREADS=str(threads), CANDLE_NUM_THREADS="1",
               TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")
    env.update({"WHOLE": "1"} if whole else {})
    env.update({} if command[0] == sys.executable else {"GLIBC_TUNABLES": KEEP_MEMORY})
    run = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if run.returncode:
        sys.exit(f"{command}: {run.stderr[-2000:]}")
    return json.loads(run.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--bench", help="the built benchmark; by default the newest in target/release/deps")
    options = parser.parse_args()
    built = [path for path in glob.glob(f"{HERE}/../target/release/deps/engine-*") if os.access(path, os.X_OK)]
    bench = options.bench or max(built, key=os.path.getmtime)
    with tempfile.TemporaryDirectory() as folder:
        make(folder, SHAPE, "float32", positions=1024, spread=0.06)
        for name in options.cases or CASES:
            (case, *numbers), threads, what = CASES[name]
            numbers = [str(number) for number in numbers]
            ours, theirs = [], []
            for _ in range(options.times):
                ours.append(measure([bench, case, folder, *numbers], threads, name == "whole"))
                theirs.append(measure([sys.executable, __file__, "--torch", case, folder, *numbers], threads, name == "whole"))
            middle = lambda runs, what: statistics.median(run[what] for run in runs)
            seconds, memory = (middle(ours, what), middle(theirs, what)), (middle(ours, "peak_mib"), middle(theirs, "peak_mib"))
            print(f"{name}: {what} {seconds[0]:.3f} s, torch {seconds[1]:.3f} s, ratio {seconds[0] / seconds[1]:.2f}; "
                  f"memory {memory[0]:.0f} MiB, torch {memory[1]:.0f} MiB, ratio {memory[0] / memory[1]:.2f}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--torch"]:
        torch_side(sys.argv[2], sys.argv[3], "WHOLE" in os.environ, [int(number) for number in sys.argv[4:]])
    else:
        main()
