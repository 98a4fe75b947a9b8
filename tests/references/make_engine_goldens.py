"""Tiny random models of every family, in many shapes and forms, with reference values of transformers, PEFT and torch.

usage: make_engine_goldens.py OUT SEED [--trim] [CASE...]
needs: torch, transformers, peft, tokenizers, safetensors (versions are written into each `meta.json`)

Writes a folder per case, laid out as `tests/golden/engine/README.md` says. All widths, counts and settings that a case leaves
open are drawn from the seed and the case's name; bases have no dropout, so everything of PEFT can be compared. With `--trim`
files keep only the rows that are in the repository.
"""

import json
import os
import random
import sys
import warnings

import peft
import tokenizers
import torch
import transformers as T
from safetensors.torch import save_file
from tokenizers import decoders, models, pre_tokenizers, trainers

warnings.filterwarnings("ignore")
torch.set_num_threads(1)

QKVO = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]
FUSED = ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"]
OPT = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]
AROUND = ["project_in", "project_out"]
GPT2 = ["c_attn", "c_proj", "c_fc"]
STARTS = [0, 5, 11, 23]
LENGTH = 40


class Draw(random.Random):
    """Shapes of one case."""

    def __init__(self, seed, case):
        super().__init__(f"{seed} {case}")
        self.heads = self.choice([2, 3, 4, 6])
        self.kv = self.choice([kv for kv in range(1, self.heads + 1) if self.heads % kv == 0])
        self.head_dim = self.choice([8, 12, 16])
        self.hidden = self.heads * self.head_dim
        self.layers = self.choice([1, 2, 3])
        self.inner = 4 * self.randint(9, 25)
        self.vocab = self.randint(270, 400)
        self.window = self.randint(4, 20)
        self.theta = self.choice([1000.0, 10000.0, 500000.0])

    def coin(self):
        return self.random() < 0.5

    def base(self):
        return dict(
            vocab_size=self.vocab, hidden_size=self.hidden, num_hidden_layers=self.layers, num_attention_heads=self.heads,
            bos_token_id=1, eos_token_id=2, pad_token_id=0, initializer_range=0.2,
        )

    def llama(self, **more):
        rope = {"rope_type": "default", "rope_theta": self.theta}
        settings = dict(
            num_key_value_heads=self.kv, intermediate_size=self.inner, max_position_embeddings=256,
            rms_norm_eps=self.choice([1e-5, 1e-6]), rope_parameters=rope, tie_word_embeddings=self.coin(),
        )
        return {**self.base(), **settings, **more}

    def rope(self, kind, **more):
        return {"rope_type": kind, "rope_theta": self.theta, **more}

    def falcon(self, **more):
        settings = dict(bias=self.coin(), alibi=False, max_position_embeddings=256, ffn_hidden_size=self.inner,
                        tie_word_embeddings=self.coin())
        return T.FalconConfig(**{**self.base(), **settings, **more})

    def opt(self, **more):
        return T.OPTConfig(**{
            **dict(vocab_size=self.vocab, hidden_size=self.hidden, num_hidden_layers=self.layers, ffn_dim=self.inner,
                   num_attention_heads=self.heads, max_position_embeddings=96, word_embed_proj_dim=self.hidden,
                   bos_token_id=1, eos_token_id=2, pad_token_id=0, init_std=0.2, dropout=0.0, attention_dropout=0.0),
            **more,
        })

    def gpt2(self, **more):
        return T.GPT2Config(**{
            **dict(vocab_size=self.vocab, n_embd=self.hidden, n_layer=self.layers, n_head=self.heads, n_positions=96,
                   bos_token_id=1, eos_token_id=2, pad_token_id=0, initializer_range=0.2, resid_pdrop=0.0, embd_pdrop=0.0,
                   attn_pdrop=0.0),
            **more,
        })

    def bloom(self, **more):
        return T.BloomConfig(vocab_size=self.vocab, hidden_size=self.hidden, n_layer=self.layers, n_head=self.heads,
                             bos_token_id=1, eos_token_id=2, pad_token_id=0, initializer_range=0.2, **more)

    def neox(self, **more):
        return T.GPTNeoXConfig(**{
            **self.base(),
            **dict(intermediate_size=self.inner, max_position_embeddings=256, rotary_pct=0.25, tie_word_embeddings=self.coin()),
            **more,
        })


YARN = dict(factor=4.0, original_max_position_embeddings=64)
LLAMA3 = dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)


def longrope(d):
    pairs = d.head_dim // 2
    factors = lambda: [round(1 + 3 * d.random(), 3) for _ in range(pairs)]
    return d.rope("longrope", short_factor=factors(), long_factor=factors(), original_max_position_embeddings=128)


# By name: what makes the settings, the targets of the adapter; then `old` for the words of transformers 4, or `sdpa`.
CASES = {
    "llama": (lambda d: T.LlamaConfig(**d.llama()), QKVO),
    "llama_biases": (lambda d: T.LlamaConfig(**d.llama(attention_bias=True, mlp_bias=True)), QKVO + MLP),
    "llama_head_dim": (lambda d: T.LlamaConfig(**d.llama(head_dim=d.head_dim + 4)), QKVO),
    "llama_linear": (lambda d: T.LlamaConfig(**d.llama(rope_parameters=d.rope("linear", factor=2.5))), QKVO),
    "llama_linear_old": (lambda d: T.LlamaConfig(**d.llama(rope_parameters=d.rope("linear", factor=2.5))), QKVO, "old"),
    "llama_dynamic": (lambda d: T.LlamaConfig(**d.llama(rope_parameters=d.rope("dynamic", factor=2.0))), QKVO),
    "llama_dynamic_old": (lambda d: T.LlamaConfig(**d.llama(rope_parameters=d.rope("dynamic", factor=2.0))), QKVO, "old"),
    "llama_yarn": (lambda d: T.LlamaConfig(**d.llama(rope_parameters=d.rope("yarn", **YARN))), QKVO),
    "llama_yarn_old": (
        lambda d: T.LlamaConfig(**d.llama(rope_parameters=d.rope("yarn", beta_fast=16, beta_slow=2, **YARN))), QKVO, "old"),
    "llama_yarn_mscale": (
        lambda d: T.LlamaConfig(**d.llama(rope_parameters=d.rope("yarn", mscale=0.7, mscale_all_dim=1.1, **YARN))), QKVO),
    "llama_llama3": (lambda d: T.LlamaConfig(**d.llama(rope_parameters=d.rope("llama3", **LLAMA3))), QKVO + MLP),
    "llama_llama3_old": (lambda d: T.LlamaConfig(**d.llama(rope_parameters=d.rope("llama3", **LLAMA3))), QKVO, "old"),
    "mistral": (lambda d: T.MistralConfig(**d.llama(head_dim=d.head_dim, sliding_window=d.window)), QKVO),
    "mistral_full": (lambda d: T.MistralConfig(**d.llama(head_dim=2 * d.head_dim, sliding_window=None)), QKVO),
    "qwen2": (lambda d: T.Qwen2Config(**d.llama()), QKVO),
    "qwen2_window": (
        lambda d: T.Qwen2Config(**d.llama(num_hidden_layers=3, use_sliding_window=True, sliding_window=d.window,
                                          max_window_layers=1)), QKVO),
    "qwen2_yarn_old": (lambda d: T.Qwen2Config(**d.llama(rope_parameters=d.rope("yarn", **YARN))), QKVO, "old"),
    "qwen3": (lambda d: T.Qwen3Config(**d.llama(head_dim=2 * d.head_dim)), QKVO),
    "qwen3_window": (
        lambda d: T.Qwen3Config(**d.llama(head_dim=d.head_dim + 2, num_hidden_layers=2, use_sliding_window=True,
                                          sliding_window=d.window, max_window_layers=0, attention_bias=True)), QKVO + MLP),
    "gemma": (lambda d: T.GemmaConfig(**d.llama(head_dim=d.head_dim + 4, num_key_value_heads=1)), QKVO),
    "gemma2": (
        lambda d: T.Gemma2Config(**d.llama(head_dim=d.head_dim + 4, sliding_window=d.window, num_hidden_layers=3,
                                           query_pre_attn_scalar=d.randint(5, 30), attn_logit_softcapping=5.0,
                                           final_logit_softcapping=3.0)), QKVO),
    "gemma2_old": (
        lambda d: T.Gemma2Config(**d.llama(head_dim=d.head_dim, sliding_window=d.window, num_hidden_layers=2,
                                           attn_logit_softcapping=None)), QKVO + MLP, "old"),
    "gemma3": (
        lambda d: T.Gemma3TextConfig(**d.llama(head_dim=d.head_dim + 4, sliding_window=d.window, num_hidden_layers=3,
                                               query_pre_attn_scalar=d.randint(5, 30), rope_parameters=gemma3_rope(d),
                                               layer_types=["full_attention", "sliding_attention", "full_attention"])), QKVO),
    "gemma3_old": (
        lambda d: T.Gemma3TextConfig(**d.llama(head_dim=d.head_dim, sliding_window=d.window, num_hidden_layers=2,
                                               rope_parameters=gemma3_rope(d))), QKVO, "old"),
    "gemma3_capped": (
        lambda d: T.Gemma3TextConfig(**d.llama(head_dim=d.head_dim, sliding_window=d.window, rope_parameters=gemma3_rope(d),
                                               final_logit_softcapping=5.0)), QKVO),
    "phi3": (lambda d: T.Phi3Config(**d.llama(sliding_window=d.window)), ["qkv_proj", "o_proj"]),
    "phi3_longrope": (
        lambda d: T.Phi3Config(**d.llama(rope_parameters=longrope(d), original_max_position_embeddings=128)),
        ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]),
    "phi3_longrope_old": (
        lambda d: T.Phi3Config(**d.llama(rope_parameters=longrope(d), original_max_position_embeddings=128)),
        ["qkv_proj"], "old"),
    "phi3_partial": (
        lambda d: T.Phi3Config(**d.llama(rope_parameters=d.rope("default", partial_rotary_factor=0.5))), ["qkv_proj"]),
    "olmo2": (lambda d: T.Olmo2Config(**d.llama()), QKVO + MLP),
    "olmo2_biases": (lambda d: T.Olmo2Config(**d.llama(attention_bias=True)), QKVO),
    "gpt_neox": (lambda d: T.GPTNeoXConfig(**d.neox().to_dict()), FUSED),
    "gpt_neox_plain": (
        lambda d: d.neox(rotary_pct=0.5, use_parallel_residual=False, attention_bias=False, hidden_act="gelu_new"), FUSED),
    "gpt_neox_old": (lambda d: d.neox(rotary_pct=1.0), FUSED, "old"),
    "falcon": (lambda d: d.falcon(multi_query=True, parallel_attn=True), FUSED),
    "falcon_heads": (lambda d: d.falcon(multi_query=False, parallel_attn=False), FUSED),
    "falcon_linear_old": (lambda d: d.falcon(rope_parameters=d.rope("linear", factor=2.0)), FUSED, "old"),
    "falcon_new": (lambda d: d.falcon(num_kv_heads=d.kv, new_decoder_architecture=True), FUSED),
    "falcon_new_one_norm": (
        lambda d: d.falcon(num_kv_heads=d.kv, new_decoder_architecture=True, num_ln_in_parallel_attn=1), FUSED),
    "falcon_alibi": (lambda d: d.falcon(multi_query=False, parallel_attn=False, alibi=True), FUSED),
    "falcon_alibi_sdpa": (lambda d: d.falcon(multi_query=True, parallel_attn=True, alibi=True), FUSED, "sdpa"),
    "bloom": (lambda d: d.bloom(), FUSED),
    "bloom_untied": (lambda d: d.bloom(tie_word_embeddings=False), FUSED),
    "opt": (lambda d: d.opt(), OPT),
    "opt_plain": (lambda d: d.opt(enable_bias=False, activation_function="gelu", tie_word_embeddings=False), OPT),
    "opt_350m": (lambda d: d.opt(word_embed_proj_dim=d.hidden // 2, do_layer_norm_before=False), OPT),
    "opt_projected": (lambda d: d.opt(word_embed_proj_dim=d.hidden + 8, tie_word_embeddings=False), OPT + AROUND),
    "opt_post_norm": (lambda d: d.opt(do_layer_norm_before=False), OPT),
    "gpt2": (lambda d: d.gpt2(), GPT2),
    "gpt2_scales": (
        lambda d: d.gpt2(scale_attn_by_inverse_layer_idx=True, n_inner=d.inner, activation_function="relu",
                         tie_word_embeddings=False), GPT2),
    "gpt2_unscaled": (lambda d: d.gpt2(scale_attn_weights=False, n_layer=2), ["c_attn"]),
}


def gemma3_rope(d):
    return {"full_attention": d.rope("linear", factor=8.0), "sliding_attention": {"rope_type": "default", "rope_theta": 777.0}}


def in_old_words(path):
    """Rotary positions as transformers 4 writes them."""
    config = json.load(open(path))
    rope = config.pop("rope_parameters")
    if "full_attention" in rope:
        config["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = rope["full_attention"]
    theta = "rotary_emb_base" if config["model_type"] == "gpt_neox" else "rope_theta"
    config[theta] = rope.pop("rope_theta")
    share = rope.pop("partial_rotary_factor", None)
    if share is not None:
        config["rotary_pct" if config["model_type"] == "gpt_neox" else "partial_rotary_factor"] = share
    kind = rope.pop("rope_type")
    config["rope_scaling"] = None if kind == "default" else {"type": kind, **rope}
    json.dump(config, open(path, "w"), indent=2)


def write_tokenizer(folder, vocab, draw):
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    words = "the model answers a question with short text and numbers label positive negative neutral input".split()
    text = [" ".join(draw.choice(words) for _ in range(30)) for _ in range(100)]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<pad>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=vocab, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(text, trainer)
    T.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>").save_pretrained(folder)


def new_model(config, how, name):
    model = T.AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation=how).eval()
    for key, value in model.named_parameters():
        if "norm" in key or "ln_" in key:
            centre = 0.0 if name.startswith("gemma") or key.endswith("bias") else 1.0
            torch.nn.init.normal_(value, centre, 0.2)
        elif key.endswith("bias"):
            torch.nn.init.normal_(value, 0, 0.1)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = 2, 0
    return model


def answers(model, ids):
    def follow(prompt, count, **search):
        mask = torch.ones_like(prompt)
        out = model.generate(input_ids=prompt, attention_mask=mask, max_new_tokens=count, do_sample=False, **search)
        return out[0, prompt.shape[1]:]

    for row, start in enumerate(STARTS):
        prompt = ids[row:row + 1, start:]
        yield f"logits_row{row}", model(input_ids=prompt).logits[0]
        yield f"greedy_row{row}", follow(prompt, 24, num_beams=1)
        yield f"beam4_row{row}", follow(prompt, 16, num_beams=4, early_stopping=True)


def train(model, reference):
    """Values of PEFT, whose model learns."""
    ids, labels = reference["ids"], reference["labels"]
    out = model(input_ids=ids, labels=labels)
    out.loss.backward()
    reference["lora_logits"], reference["lora_loss"] = out.logits.detach(), out.loss.detach().reshape(1)
    for key, value in model.named_parameters():
        if value.grad is not None:
            reference["grad." + key.replace(".default", "")] = value.grad.clone()
    model.zero_grad()
    learning = [value for value in model.parameters() if value.requires_grad]
    adam, losses = torch.optim.AdamW(learning, lr=3e-3, weight_decay=0.0, eps=1e-8), []
    for _ in range(20):
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        adam.step()
        adam.zero_grad()
        losses.append(loss.item())
    reference["lora_losses"] = torch.tensor(losses, dtype=torch.float64)


def make(out, seed, name, trim):
    settings, targets, *form = CASES[name]
    folder, draw = f"{out}/{name}", Draw(seed, name)
    os.makedirs(folder, exist_ok=True)
    torch.manual_seed(draw.randrange(2**31))
    config, how = settings(draw), "sdpa" if "sdpa" in form else "eager"
    model = new_model(config, how, name)
    model.save_pretrained(folder)
    write_tokenizer(folder, config.vocab_size, draw)
    ids = torch.randint(3, config.vocab_size, (4, LENGTH))
    labels = ids.clone()
    labels[:, :12], labels[1, 30:] = -100, -100
    reference = {"ids": ids, "labels": labels, "starts": torch.tensor(STARTS)}
    with torch.no_grad():
        base = model(input_ids=ids, labels=labels)
        reference.update({"logits": base.logits, "loss": base.loss.reshape(1)}, **dict(answers(model, ids)))
        if "old" in form:
            in_old_words(f"{folder}/config.json")
        again = T.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=how)
        assert torch.equal(again(input_ids=ids).logits, base.logits), f"{name} is another model when it is read again"
    lora = peft.LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, target_modules=targets, task_type="CAUSAL_LM",
                           fan_in_fan_out=name.startswith("gpt2"))
    model = peft.get_peft_model(model, lora)
    for key, value in model.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(value, 0, 0.05)
    model.save_pretrained(f"{folder}/adapter")
    os.remove(f"{folder}/adapter/README.md")
    train(model.train(), reference)
    if trim:
        reference["logits"], reference["lora_logits"] = reference["logits"][:2], reference["lora_logits"][:1]
        del reference["logits_row0"], reference["logits_row1"]
    save_file({key: value.contiguous() for key, value in reference.items()}, f"{folder}/reference.safetensors")
    meta = {"case": name, "seed": seed, "torch": torch.__version__, "transformers": T.__version__, "peft": peft.__version__}
    json.dump(meta, open(f"{folder}/meta.json", "w"), indent=1)
    print(name, {key: draw.__dict__[key] for key in ["hidden", "heads", "kv", "head_dim", "layers"]},
          f"loss {reference['lora_losses'][0]:.3f} -> {reference['lora_losses'][-1]:.3f}", flush=True)


words = [word for word in sys.argv[1:] if word != "--trim"]
for case in words[2:] or CASES:
    make(words[0], int(words[1]), case, "--trim" in sys.argv)
