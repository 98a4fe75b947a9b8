"""Reference values of a real Llama checkpoint, from transformers on the CPU in f32.

usage: make_llama_reference.py MODEL_FOLDER > tests/golden/stories260k.json
needs: torch, transformers (versions are written into the file)

`greedy`: the 200 tokens that follow the beginning-of-text token; `text`: their text; `ids`: a sequence, and `logits`:
the logits at some of its positions (all of them would make a large file), each as the shortest decimal that gives the
same f32.
"""

import json
import sys

import torch
import transformers

torch.set_num_threads(1)
folder = sys.argv[1]
model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
bos = torch.tensor([[model.config.bos_token_id]])
with torch.no_grad():
    greedy = model.generate(
        bos, attention_mask=torch.ones_like(bos), max_new_tokens=200, do_sample=False, num_beams=1, eos_token_id=None
    )[0, 1:]
    ids = tokenizer("Tom had a red ball. He gave it to his friend Lily, and she said: \"Thank you!\"").input_ids
    logits = model(input_ids=torch.tensor([ids])).logits[0]
positions = [0, 1, len(ids) // 2, len(ids) - 1]
json.dump(
    {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "greedy": greedy.tolist(),
        "text": tokenizer.decode(greedy, skip_special_tokens=True),
        "ids": ids,
        "positions": positions,
        "logits": [[float(f"{value:.9g}") for value in logits[position].tolist()] for position in positions],
    },
    sys.stdout,
)
print()
