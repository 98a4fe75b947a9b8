"""Writes tests/golden/beams.json: transformers' beam searches and likelihoods on tests/golden/engine/llama.
usage: make_beam_reference.py OUT   (in the project's root; needs torch and transformers; made with 5.23.0)"""
import json, sys, torch
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("tests/golden/engine/llama", dtype=torch.float32).eval()
g = torch.Generator().manual_seed(5)
settings = [
    dict(num_beams=beams, length_penalty=penalty, early_stopping=early, num_return_sequences=min(beams, 3))
    for beams in (2, 3, 5)
    for penalty in (1.0, 0.0, -0.7, 2.0)
    for early in (True, False, "never")
]
settings += [
    dict(num_beams=4, repetition_penalty=1.3),
    dict(num_beams=4, no_repeat_ngram_size=2),
    dict(num_beams=4, min_new_tokens=6, num_return_sequences=4),
    dict(num_beams=3, repetition_penalty=1.2, no_repeat_ngram_size=1, min_new_tokens=3),
]
cases = []
for number, chosen in enumerate(settings):
    # Random models seldom end by themselves: half of the cases have many tokens that end an answer.
    ends = [2] if number % 4 == 0 else [2] + list(range(3, 320, 9 if number % 4 == 1 else 23))
    prompt = torch.randint(3, 320, (1, 4 + number % 7), generator=g)
    chosen = chosen | dict(max_new_tokens=14)
    with torch.no_grad():
        out = model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, eos_token_id=ends,
                             pad_token_id=0, **chosen)
    answers = []
    for row in out[:, prompt.shape[1]:].tolist():
        end = next((i for i, token in enumerate(row) if token in ends), len(row))
        answers.append(row[:end])
    cases.append({"settings": chosen, "ends": ends, "prompt": prompt[0].tolist(), "answers": answers})
likelihoods = []
for length in (1, 2, 17, 40):
    ids = torch.randint(3, 320, (1, length + 9), generator=g)
    with torch.no_grad():
        values = model(ids).logits.log_softmax(-1)[0, length - 1 : -1].gather(1, ids[0, length:, None])[:, 0]
    likelihoods.append({"prompt": ids[0, :length].tolist(), "text": ids[0, length:].tolist(),
                        "log_probabilities": values.tolist()})
with open(sys.argv[1], "w") as file:
    lists = {"beams": cases, "likelihoods": likelihoods}
    parts = [f'"{name}": [\n' + ",\n".join(map(json.dumps, list)) + "\n]" for name, list in lists.items()]
    file.write("{\n" + ",\n".join(parts) + "\n}\n")
