"""Adapters of PEFT with all their settings on the tiny models of `tests/golden/engine`, on the CPU in f32.

usage: make_adapter_references.py tests/golden/engine
needs: torch, transformers, peft, bitsandbytes (versions are written into `adapters/meta.json`)

Writes `adapters/`: for each case an adapter whose matrices, magnitudes and biases are none of them at their beginning, and
`reference.safetensors` with ids, labels, logits, gradients by PEFT's names, and the losses of ten steps of AdamW with
transformers' groups of weight decay (0.1), rate 3e-3, clipped at 1. Dropout is off. Beside them `schedules.json`, rates of
transformers' schedulers, and `quantised.safetensors`, a matrix as bitsandbytes makes it of int8 and NF4.
"""

import importlib.metadata
import json
import os
import sys

import peft
import torch
import transformers
from bitsandbytes import functional as bnb
from safetensors.torch import save_file
from transformers.trainer_pt_utils import get_parameter_names

torch.set_num_threads(1)
root = sys.argv[1]
out = f"{root}/adapters"

CASES = {
    "rslora": ("llama", dict(r=4, use_rslora=True, target_modules=r".*\.(q_proj|down_proj)")),
    "dora": ("llama", dict(r=3, use_dora=True, target_modules="all-linear")),
    "saved": (
        "llama",
        dict(
            r=4,
            target_modules=["q_proj", "v_proj", "down_proj"],
            rank_pattern={r"down_proj": 2, r"layers\.1\.self_attn\.q_proj": 6},
            alpha_pattern={r"v_proj": 32},
            modules_to_save=["embed_tokens", "lm_head", "input_layernorm"],
        ),
    ),
    "bias_all": ("gpt_neox", dict(r=2, bias="all", use_dora=True, target_modules=["query_key_value", "dense_h_to_4h"])),
    "bias_lora_only": ("gpt2", dict(r=2, bias="lora_only", use_dora=True, target_modules=["c_attn", "c_proj"], fan_in_fan_out=True)),
}


def make(name, base, settings):
    torch.manual_seed(len(name))
    model = transformers.AutoModelForCausalLM.from_pretrained(f"{root}/{base}", dtype=torch.float32, attn_implementation="eager")
    model = peft.get_peft_model(model, peft.LoraConfig(lora_alpha=8, task_type="CAUSAL_LM", **settings))
    learning = [(key, value) for key, value in model.named_parameters() if value.requires_grad]
    for key, value in learning:
        if "embed" not in key and "lm_head" not in key:
            value.data += 0.1 * torch.randn_like(value)
    folder = f"{out}/{name}"
    # PEFT forgets the biases of layers with an adapter; whoever loads the file finds them all the same.
    state = model.state_dict()
    state = peft.get_peft_model_state_dict(model, state_dict=state)
    if settings.get("bias") == "lora_only":
        for key, value in learning:
            if key.endswith("base_layer.bias"):
                state[key] = value.data
    os.makedirs(folder, exist_ok=True)
    model.peft_config["default"].save_pretrained(folder)
    save_file({key: value.contiguous().clone() for key, value in state.items()}, f"{folder}/adapter_model.safetensors", {"format": "pt"})
    with open(f"{folder}/adapter_config.json") as file:
        config = json.load(file)
    config["base_model_name_or_path"] = None
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()
    with open(f"{folder}/adapter_config.json", "w") as file:
        json.dump(config, file, indent=2, sort_keys=True)
        file.write("\n")

    model.eval()
    ids = torch.randint(3, 320, (2, 12))
    labels = ids.clone()
    labels[0, :4] = -100
    labels[1, 6:9] = -100
    result = model(input_ids=ids, labels=labels)
    result.loss.backward()
    tensors = {"ids": ids, "labels": labels, "logits": result.logits.detach()}
    for key, value in learning:
        key = key.replace(".default", "").replace(".modules_to_save", "").replace("lora_magnitude_vector.weight", "lora_magnitude_vector")
        tensors[f"grad.{key}"] = value.grad.clone()
    patterns = [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]
    decaying = set(get_parameter_names(model, [torch.nn.LayerNorm], patterns))
    groups = [
        {"params": [value for key, value in learning if key in decaying], "weight_decay": 0.1},
        {"params": [value for key, value in learning if key not in decaying], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=3e-3, betas=(0.9, 0.999), eps=1e-8)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_([value for _, value in learning], 1.0)
        optimizer.step()
        losses.append(loss.item())
    tensors["losses"] = torch.tensor(losses, dtype=torch.float64)
    save_file({key: value.contiguous() for key, value in tensors.items()}, f"{folder}/reference.safetensors")
    print(name, losses[0], losses[-1])


for name, (base, settings) in CASES.items():
    make(name, base, settings)

schedules = []
for name, warmup, steps, extra in [
    ("linear", 5, 23, {}),
    ("linear", 0, 10, {}),
    ("cosine", 5, 23, {}),
    ("constant_with_warmup", 4, 12, {}),
    ("cosine_with_min_lr", 5, 23, {"min_lr_rate": 0.1}),
]:
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=2.0)
    schedule = transformers.get_scheduler(name, optimizer, warmup, steps, scheduler_specific_kwargs=extra)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    schedules.append({"name": name, "warmup": warmup, "steps": steps, "floor": extra.get("min_lr_rate", 0.0), "rates": rates})
with open(f"{out}/schedules.json", "w") as file:
    json.dump(schedules, file, indent=1)
    file.write("\n")

torch.manual_seed(5)
# Rows of whole blocks: the CPU kernel of bitsandbytes 0.50 takes wrong scales where a block reaches over two rows.
weight = torch.randn(24, 128) * 0.1
codes, state = bnb.quantize_4bit(weight, blocksize=64, quant_type="nf4")
nf4 = bnb.dequantize_4bit(codes, state)
codes, sizes, _ = bnb.int8_vectorwise_quant(weight)
int8 = codes.float() * sizes[:, None] / 127.0
save_file({"weight": weight, "nf4": nf4.contiguous(), "int8": int8.contiguous()}, f"{out}/quantised.safetensors")
versions = {name: importlib.metadata.version(name) for name in ["torch", "transformers", "peft", "bitsandbytes"]}
with open(f"{out}/meta.json", "w") as file:
    json.dump(versions, file, indent=1, sort_keys=True)
    file.write("\n")
