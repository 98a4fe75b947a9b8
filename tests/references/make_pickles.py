"""Writes tests/golden/pickle: files as torch.save writes them, and one that would run a command when it is unpickled.

    python tests/references/make_pickles.py        (torch 2.x)
"""

import io
import json
import os
import pathlib
import pickle
import zipfile

import torch

FOLDER = pathlib.Path(__file__).parent.parent / "golden" / "pickle"
MARK = "/tmp/titer-pickle-was-run"


def tensors():
    single = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    torch.save(
        {
            "single": single,
            "part": single.flatten()[3:5],
            "half": torch.tensor([1.5, -2.0], dtype=torch.float16),
            "brain": torch.tensor([[1.5, -2.0], [0.0, 3.0]], dtype=torch.bfloat16),
            "ids": torch.arange(3),
        },
        FOLDER / "tensors.bin",
    )


class Malicious:
    def __reduce__(self):
        return (os.system, (f"touch {MARK}",))


def malicious():
    text = io.BytesIO()
    pickle.dump({"weight": Malicious()}, text, protocol=2)
    with zipfile.ZipFile(FOLDER / "malicious.bin", "w") as archive:
        archive.writestr("archive/data.pkl", text.getvalue())
        archive.writestr("archive/version", "3\n")


def model():
    """The smallest Llama, in two shards with tied weights, with the sum and the last number of each tensor."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=32, hidden_size=8, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=16, tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config).eval()
    folder = FOLDER / "llama"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config.to_dict(), indent=1) + "\n")
    state = model.state_dict()
    files = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]
    shards = [{}, {}]
    for number, (name, tensor) in enumerate(state.items()):
        shards[number * 2 // len(state)][name] = tensor
    for name, shard in zip(files, shards):
        torch.save(shard, folder / name)
    weight_map = {name: file for file, shard in zip(files, shards) for name in shard}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}, indent=1))
    sums = {name: [round(tensor.double().sum().item(), 6), tensor.flatten()[-1].item()] for name, tensor in state.items()}
    (folder / "sums.json").write_text(json.dumps(sums, indent=1) + "\n")


FOLDER.mkdir(exist_ok=True)
tensors()
malicious()
model()
