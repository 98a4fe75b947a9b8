"""Writes tests/golden/sampling.json: what transformers' logits processors and warpers make of scores.
usage: make_sampling_reference.py OUT   (needs torch and transformers; made with 5.23.0)"""
import json, sys, torch
from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig
from transformers.generation.logits_process import LogitsProcessorList

VOCAB = 64
model = AutoModelForCausalLM.from_config(
    LlamaConfig(vocab_size=VOCAB, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
)
g = torch.Generator().manual_seed(3)
settings = [
    dict(),
    dict(temperature=0.1),
    dict(temperature=1.7),
    *[dict(top_k=k) for k in (1, 5, 63, 64)],
    *[dict(top_p=p) for p in (0.05, 0.5, 0.75, 0.99, 1.0)],
    *[dict(min_p=p) for p in (0.01, 0.3, 1.0)],
    dict(repetition_penalty=1.3),
    dict(repetition_penalty=0.8),
    dict(no_repeat_ngram_size=1),
    dict(no_repeat_ngram_size=2),
    dict(no_repeat_ngram_size=3),
    dict(min_new_tokens=5),
    dict(min_new_tokens=4),
    dict(temperature=0.1, top_p=0.75, top_k=40),
    dict(temperature=1.4, top_k=20, top_p=0.8, min_p=0.1),
    dict(temperature=0.7, top_k=10, top_p=0.9, repetition_penalty=1.2, no_repeat_ngram_size=2, min_new_tokens=9),
]
cases = []
for number, chosen in enumerate(settings):
    scores = torch.randn(1, VOCAB, generator=g) * 2
    scores[0, 2] = 5.0  # the end of text is likely
    if number % 4 == 1:
        scores[0, 7] = scores[0, 9] = scores[0, 11]  # equal scores
    ids = torch.randint(3, 20, (1, 12), generator=g)
    config = GenerationConfig(**({"top_k": 0} | chosen), do_sample=True, eos_token_id=2, pad_token_id=0)
    model._prepare_special_tokens(config, device="cpu")
    processors = model._get_logits_processor(
        config, input_ids_seq_length=8, encoder_input_ids=ids[:, :8], prefix_allowed_tokens_fn=None,
        logits_processor=LogitsProcessorList(), device="cpu",
    )
    probabilities = processors(ids, scores.clone()).softmax(-1)[0]
    cases.append({
        "settings": chosen, "prompt": ids[0, :8].tolist(), "answer": ids[0, 8:].tolist(),
        "scores": scores[0].tolist(), "probabilities": probabilities.tolist(),
    })
with open(sys.argv[1], "w") as file:
    file.write("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
