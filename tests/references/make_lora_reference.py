"""A LoRA training of a real Llama checkpoint by PEFT and torch, step by step, on the CPU in f32.

usage: make_lora_reference.py MODEL_FOLDER tests/golden/stories260k_lora
needs: torch, transformers, peft (versions are written into the file)

Writes `adapter/` (the initial adapter, as PEFT draws it) and `reference.json`: the rows, their tokens (beginning of text,
prompt, answer, end of text; the first `prompt_len` are not learned), the loss of every step, and the loss of the trained
model on the same rows. All eight rows make one step; the batch is padded on the right.
"""

import json
import os
import sys

import peft
import torch
import transformers

torch.set_num_threads(1)
folder, out = sys.argv[1], sys.argv[2]
PROMPT = "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
ROWS = [
    {"instruction": "Say who it is about.", "input": text, "output": name}
    for text, name in [
        ("Lily had a red ball.", "Lily"),
        ("One day, Tom went to the park with his mom.", "Tom"),
        ("The cat saw a big bird and ran after it.", "the cat"),
        ("Ben was sad. He lost his toy.", "Ben"),
        ("A dog barked.", "a dog"),
        ("Mia and her friend played in the garden until it was dark.", "Mia and her friend"),
        ("The little bear was hungry, so he looked for honey.", "the little bear"),
        ("Sam can jump very high!", "Sam"),
    ]
]
SETTINGS = {"r": 2, "alpha": 4, "learning_rate": 5e-3, "warmup": 4, "steps": 20, "weight_decay": 0.01, "clip": 1.0}
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
torch.manual_seed(0)
model = peft.get_peft_model(
    model,
    peft.LoraConfig(
        r=SETTINGS["r"], lora_alpha=SETTINGS["alpha"], lora_dropout=0.0, target_modules=TARGETS, task_type="CAUSAL_LM"
    ),
)
model.save_pretrained(f"{out}/adapter")
os.remove(f"{out}/adapter/README.md")
with open(f"{out}/adapter/adapter_config.json") as file:
    config = json.load(file)
config["base_model_name_or_path"] = None
config["target_modules"] = sorted(config["target_modules"])
with open(f"{out}/adapter/adapter_config.json", "w") as file:
    json.dump(config, file, indent=2, sort_keys=True)
    file.write("\n")

examples = []
for row in ROWS:
    prompt = tokenizer(PROMPT.format(**row)).input_ids
    answer = tokenizer(row["output"], add_special_tokens=False).input_ids + [tokenizer.eos_token_id]
    examples.append({**row, "ids": prompt + answer, "prompt_len": len(prompt)})
longest = max(len(example["ids"]) for example in examples)
ids = torch.zeros(len(examples), longest, dtype=torch.long)
labels = torch.full_like(ids, -100)
mask = torch.zeros_like(ids)
for index, example in enumerate(examples):
    length = len(example["ids"])
    ids[index, :length] = torch.tensor(example["ids"])
    labels[index, example["prompt_len"] : length] = ids[index, example["prompt_len"] : length]
    mask[index, :length] = 1

model.train()
parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
optimizer = torch.optim.AdamW(
    parameters, lr=SETTINGS["learning_rate"], betas=(0.9, 0.999), eps=1e-8, weight_decay=SETTINGS["weight_decay"]
)
schedule = transformers.get_linear_schedule_with_warmup(optimizer, SETTINGS["warmup"], SETTINGS["steps"])
losses = []
for _ in range(SETTINGS["steps"]):
    loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, SETTINGS["clip"])
    optimizer.step()
    schedule.step()
    optimizer.zero_grad()
    losses.append(loss.item())
with torch.no_grad():
    final = model.eval()(input_ids=ids, attention_mask=mask, labels=labels).loss.item()
with open(f"{out}/reference.json", "w") as file:
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}
    json.dump({**versions, "settings": SETTINGS, "examples": examples, "losses": losses, "final_loss": final}, file, indent=1)
    file.write("\n")
print(losses[0], "->", final, file=sys.stderr)
