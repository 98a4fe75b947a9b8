"""The same shapes as `benches/train.rs` with transformers and PEFT; run both in one go and compare.

    python benches/train_torch.py [STEPS]      (torch, transformers, peft from PyPI)
"""

import random
import sys
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 40
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def model():
    torch.manual_seed(1)
    return LlamaForCausalLM(LlamaConfig(vocab_size=512, hidden_size=128, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=4, intermediate_size=384, max_position_embeddings=128, tie_word_embeddings=True))


def batches(size):
    rng = random.Random(1)
    while True:
        rows = [[rng.randrange(512) for _ in range(rng.randrange(30, 41))] for _ in range(size)]
        longest = max(map(len, rows))
        pad = lambda row, value: row + [value] * (longest - len(row))
        yield (torch.tensor([pad(row, 0) for row in rows]),
               torch.tensor([pad([-100] * (len(row) - 4) + row[-4:], -100) for row in rows]),
               torch.tensor([pad([1] * len(row), 0) for row in rows]), sum(map(len, rows)))


def measure(name, net, size, threads):
    torch.set_num_threads(threads)
    weights = [weight for weight in net.parameters() if weight.requires_grad]
    adam = torch.optim.AdamW(weights, lr=1e-3, weight_decay=0.01)
    net.train()
    tokens = 0
    for step, (ids, labels, mask, count) in enumerate(batches(size)):
        if step == 2:
            started = time.perf_counter()
        if step == STEPS + 2:
            break
        net(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        adam.step()
        adam.zero_grad()
        tokens += count if step >= 2 else 0
    seconds = time.perf_counter() - started
    print(f"{name}: {seconds * 1e3 / STEPS:.1f} ms a step, {tokens / seconds:.0f} tokens/s", flush=True)


adapter = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.05, target_modules=TARGETS, task_type="CAUSAL_LM")
measure("adapter, batch 16, 1 thread", get_peft_model(model(), adapter), 16, 1)
for threads in (1, 2):
    measure(f"whole model, batch 32, {threads} threads", model(), 32, threads)
