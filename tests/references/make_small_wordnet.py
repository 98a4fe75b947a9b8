#!/usr/bin/env python3
"""Cuts out of WordNet 3.0 what the words of the reference rows need, into tests/golden/scorers/wordnet.

    python tests/references/make_small_wordnet.py /usr/share/wordnet

The files have WordNet's form, without glosses and pointers; offsets are those of the new files. The licence stays at the
head of every file of data.
"""
import json
import os
import re
import sys

SOURCE = sys.argv[1]
HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = f"{HERE}/../golden/scorers"
PARTS = ["noun", "verb", "adj", "adv"]


def lines(name):
    with open(f"{SOURCE}/{name}", encoding="utf-8", newline="") as file:
        return file.read().split("\n")


def words():
    """All words of the rows and of the list of stems, and all their beginnings: base forms are among those, or nearly."""
    found = set()
    for name in ["rows.jsonl", "multiref.jsonl"]:
        for line in open(f"{GOLDEN}/{name}", encoding="utf-8"):
            for word in re.findall(r"[a-z0-9'.-]+", line.lower()):
                found.update(word[:end] + ending for end in range(1, len(word) + 1) for ending in ("", "e", "y", "f"))
    for line in open(f"{GOLDEN}/meteor.jsonl", encoding="utf-8"):
        row = json.loads(line)
        found.update(word.lower() for word in row["pred_tokens"] + row["ref_tokens"])
    for line in open(f"{GOLDEN}/stems.jsonl", encoding="utf-8"):
        found.update(json.loads(line).values())
    return found


def main():
    target = f"{GOLDEN}/wordnet"
    os.makedirs(target, exist_ok=True)
    wanted = words()
    for part in PARTS:
        exceptions = [line for line in lines(f"{part}.exc") if line and line.split()[0] in wanted]
        wanted.update(base for line in exceptions for base in line.split()[1:])
        head = [line for line in lines(f"data.{part}") if line.startswith("  ")]
        index = [line for line in lines(f"index.{part}") if line and line.split(" ")[0] in wanted]
        whole = "\n".join(lines(f"data.{part}")).encode()
        text = "".join(line + "\n" for line in head).encode()
        moved = {}
        for line in index:
            fields = line.split()
            for old in fields[-int(fields[2]):]:
                if old in moved:
                    continue
                entry = whole[int(old):].split(b"\n", 1)[0].decode().split(" ")
                assert entry[0] == old, entry
                moved[old] = f"{len(text):08}"
                kept = entry[1:4 + 2 * int(entry[3], 16)]
                text += " ".join([moved[old], *kept, "000", "|", ""]).encode() + b"\n"
        with open(f"{target}/data.{part}", "wb") as file:
            file.write(text)
        with open(f"{target}/index.{part}", "w", encoding="utf-8") as file:
            for line in index:
                word, name, senses, *rest = line.split()
                offsets = [moved[old] for old in rest[-int(senses):]]
                file.write(" ".join([word, name, senses, "0", senses, "0", *offsets]) + "  \n")
        with open(f"{target}/{part}.exc", "w", encoding="utf-8") as file:
            file.write("".join(line + "\n" for line in exceptions))


main()
