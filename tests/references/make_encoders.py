#!/usr/bin/env python3
"""Makes `tests/golden/encoders`: tiny random encoders with heads, and what transformers says of texts of tokens.

    python make_encoders.py FOLDER        (torch 2.15.0, transformers 5.23.0)

`reference.json`: for each text its tokens and their kinds, every layer's vectors of its first, middle and last token, and
the head's numbers. Each text goes alone, so nothing is padded.
"""
import json
import os
import sys

import torch
from transformers import (
    BertConfig, BertForSequenceClassification, DebertaConfig, DebertaForSequenceClassification, DebertaV2Config,
    DebertaV2ForSequenceClassification, MPNetConfig, MPNetForSequenceClassification, RobertaConfig,
    RobertaForSequenceClassification,
)

SMALL = dict(vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
             initializer_range=0.4)
DEBERTA = dict(SMALL, relative_attention=True, num_labels=1, hidden_act="gelu", pooler_hidden_size=16)
MODELS = {
    # A pair of texts, three labels.
    "bert": BertForSequenceClassification(BertConfig(**SMALL, max_position_embeddings=40, num_labels=3)),
    # The padding token stands within texts, too.
    "roberta": RobertaForSequenceClassification(
        RobertaConfig(**SMALL, max_position_embeddings=40, num_labels=1, pad_token_id=1, type_vocab_size=1)),
    # Distances beyond 128 are of one class.
    "mpnet": MPNetForSequenceClassification(MPNetConfig(**SMALL, max_position_embeddings=220, num_labels=1)),
    # Positions and kinds, narrower vectors of tokens, distances beyond the table, keys of distances alone.
    "deberta": DebertaForSequenceClassification(
        DebertaConfig(**DEBERTA, max_position_embeddings=90, position_biased_input=True, type_vocab_size=2,
                      max_relative_positions=20, pos_att_type=["c2p"])),
    # Keys and queries of distances of their own, no buckets, a convolution.
    "deberta_v2_conv": DebertaV2ForSequenceClassification(
        DebertaV2Config(**DEBERTA, max_position_embeddings=90, position_biased_input=False, type_vocab_size=0,
                        max_relative_positions=20, pos_att_type="p2c|c2p", share_att_key=False, conv_kernel_size=3,
                        conv_act="gelu")),
    # Far distances in buckets, distances' queries alone.
    "deberta_v2_buckets": DebertaV2ForSequenceClassification(
        DebertaV2Config(**DEBERTA, max_position_embeddings=64, position_biased_input=False, type_vocab_size=0,
                        position_buckets=8, pos_att_type=["p2c"], share_att_key=True, norm_rel_ebd="layer_norm",
                        pooler_hidden_act="tanh")),
}


def texts(name):
    tokens = lambda count, step: [3 + (i * step + 5) % 45 for i in range(count)]
    yield tokens(1, 7), [0]
    yield tokens(9, 7), [0] * 9
    if name == "bert":
        yield tokens(30, 11), [0] * 12 + [1] * 18
    elif name == "roberta":
        yield [0, 7, 1, 1, 9, 30, 2], [0] * 7
        yield tokens(38, 13), [0] * 38
    elif name == "mpnet":
        yield [0, 7, 1, 9, 2], [0] * 5
        yield tokens(200, 13), [0] * 200
    elif name == "deberta":
        yield tokens(50, 11), [0] * 20 + [1] * 30
    else:
        yield tokens(150, 11), [0] * 150


def main(folder):
    torch.manual_seed(0)
    for name, model in MODELS.items():
        generator = torch.Generator().manual_seed(7)
        for parameter in model.parameters():
            # Biases and norms that are not what they begin with.
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
            # Weights of few bits make small files.
            parameter.data = parameter.data.half().float()
        model.eval()
        path = os.path.join(folder, name)
        os.makedirs(path, exist_ok=True)
        lines = []
        with torch.no_grad():
            for ids, kinds in texts(name):
                given = dict(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long))
                if name in ("bert", "deberta"):
                    given["token_type_ids"] = torch.tensor([kinds])
                out = model(**given, output_hidden_states=True)
                rows = [0, len(ids) // 2, len(ids) - 1]
                states = [[layer[0, row].tolist() for row in rows] for layer in out.hidden_states]
                lines.append({"ids": ids, "types": kinds, "rows": rows, "states": states, "labels": out.logits[0].tolist()})
        model.half().save_pretrained(path)
        with open(os.path.join(path, "reference.json"), "w") as file:
            json.dump(lines, file)


if __name__ == "__main__":
    main(sys.argv[1])
