#!/usr/bin/env python3
"""Random rows of odd characters, and what the reference programs of text overlap say of them.

    pip install sacrebleu==2.6.0 nltk==3.10.4
    python tests/references/make_overlap_goldens.py FOLDER [ROWS] [SEED] [WORDNET]
    TITER_GOLDEN_SCORERS=FOLDER TITER_WORDNET=WORDNET cargo test --no-default-features scorer::tests::overlap

The files have the form of those in tests/golden/scorers. WORDNET is a folder with WordNet 3.0's files and a `lexnames`.
"""
import collections
import json
import math
import os
import random
import sys

from sacrebleu.metrics import BLEU, CHRF, TER
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

FOLDER = sys.argv[1]
ROWS = int(sys.argv[2]) if len(sys.argv) > 2 else 400
RANDOM = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 1)

WORDS = """the cat sat on a mat couch sofa running runs ran car automobile don't can't won't cannot gonna 'tis 'twas I'm
it's dogs' U.S. 3.14 1,000 -5 1-2 a-b e.g. naïve niño café ΟΔΟΣ İstanbul ſs straße 東京都 中文 日本語 ひらがな カタカナ ｶﾀｶﾅ Привет мир
שלום مرحبا ٣٤ ½ ² Ⅷ ① don’t “quoted” «so» ``code'' "said" ''x'' (a) [b] {c} <d> &amp; &lt; &quot; &amp;lt; <skipped> etc...
?! !! -- --- … – — $5 5% #tag @me * ** ' '' ''' " ` `` ``` . .. ... , ,, : :: ; ' 's 's. d'ye more'n wanna wan na gimme lemme
gotta Whaddya 'em 'll n't N'T 's) a.b a.1 1.a 1. .1 1, ,1 10:30 x:y a,b a,1 .) ." .' .'' ,. ., 。 、 ， ！ ・ ㊙ ㌔ ☀ ✂ 𝟘 😀 👩‍👩‍👧 é ẞ ǅ ﬁ""".split()
CHARS = "ab c.,-'\"!?:;()&<>[]{}1 2\n\t\r\x0b\x0c\x1c\x1d\x1f\x85\xa0\u1680\u2003\u2028\u202f\u3000\u200b\ufeff東中,.-0٣½²_%$#@*+=/\\|~^`’”“«»‘…–—。、！\u0301\u0130\u03a3\x00"


def words(count):
    return [RANDOM.choice(WORDS) for _ in range(count)]


def text():
    kind = RANDOM.random()
    if kind < 0.05:
        return RANDOM.choice(["", " ", "\n", ".", "..", "a", "'", '"', "\x1c", "-\n", "\n-", "&amp;", "a.\n", 'a."\n', "1"])
    if kind < 0.35:
        return "".join(RANDOM.choice(CHARS) for _ in range(RANDOM.randrange(1, 60)))
    if kind < 0.4:
        return "".join(chr(RANDOM.choice([RANDOM.randrange(32, 0x3000), RANDOM.randrange(0x3000, 0xD800), RANDOM.randrange(0xE000, 0x10000), RANDOM.randrange(0x10000, 0x20000)])) for _ in range(RANDOM.randrange(1, 40)))
    separators = [" "] * 12 + ["", "  ", "\n", "\t", "\xa0", "\x1f", ", ", ". ", "' ", " '"]
    return "".join(word + RANDOM.choice(separators) for word in words(RANDOM.choice([3, 6, 12, 25, 60])))


def changed(source):
    """A text with parts of another one left out, put in, shifted."""
    parts = source.split(" ")
    for _ in range(RANDOM.randrange(0, 6)):
        at, length = RANDOM.randrange(len(parts) + 1), RANDOM.randrange(1, 6)
        what = RANDOM.random()
        if what < 0.4:
            moved, parts[at:at + length] = parts[at:at + length], []
            to = RANDOM.randrange(len(parts) + 1)
            parts[to:to] = moved
        elif what < 0.6:
            parts[at:at + length] = []
        else:
            parts[at:at] = words(RANDOM.randrange(1, 3))
    return RANDOM.choice([str, str, str, str.upper, str.lower])(" ".join(parts))


def guarded(function):
    try:
        return function()
    except ZeroDivisionError:
        return {"error": "ZeroDivisionError"}


CUT = Tokenizer13a()


def hf_bleu(rows, order, smooth):
    """As nmt's script of 2017 computes it, which HF evaluate carries."""
    matches, possible, length, reference_length = [0] * order, [0] * order, 0, 0
    grams = lambda tokens: collections.Counter(
        tuple(tokens[at:at + n]) for n in range(1, order + 1) for at in range(len(tokens) - n + 1))
    for prediction, references in rows:
        tokens, references = CUT(prediction).split(), [CUT(reference).split() for reference in references]
        reference_length += min(map(len, references))
        length += len(tokens)
        merged = collections.Counter()
        for reference in references:
            merged |= grams(reference)
        for gram, count in (grams(tokens) & merged).items():
            matches[len(gram) - 1] += count
        for n in range(order):
            possible[n] += max(0, len(tokens) - n)
    if smooth:
        precisions = [(m + 1.0) / (p + 1.0) for m, p in zip(matches, possible)]
    else:
        precisions = [m / p if p else 0.0 for m, p in zip(matches, possible)]
    mean = math.exp(sum((1.0 / order) * math.log(p) for p in precisions)) if min(precisions) > 0 else 0
    ratio = length / reference_length
    penalty = 1.0 if ratio > 1.0 else math.exp(1 - 1.0 / ratio)
    return {"bleu": mean * penalty, "precisions": precisions, "brevity_penalty": penalty, "length_ratio": ratio,
            "translation_length": length, "reference_length": reference_length}


def whole(score):
    return {"score": score.score, "counts": list(score.counts), "totals": list(score.totals), "precisions": score.precisions,
            "bp": score.bp, "sys_len": score.sys_len, "ref_len": score.ref_len}


def ter_fields(score):
    return {"score": score.score, "num_edits": score.num_edits, "ref_length": score.ref_length}


TOKENIZERS, SMOOTHINGS = ["13a", "intl", "zh", "char", "none"], ["exp", "floor", "add-k", "none"]
SENTENCE = {(t, s): BLEU(tokenize=t, smooth_method=s, effective_order=True) for t in TOKENIZERS for s in SMOOTHINGS}
CORPUS = {(t, s): BLEU(tokenize=t, smooth_method=s) for t in TOKENIZERS for s in SMOOTHINGS}
LOWER = BLEU(lowercase=True, effective_order=True)
CHRFS = {"chrf": CHRF(), "chrf_pp": CHRF(word_order=2), "chrf_lower": CHRF(lowercase=True), "chrf_ws": CHRF(whitespace=True),
         "chrf_eps": CHRF(eps_smoothing=True), "chrf_pp_eps_lower": CHRF(word_order=2, eps_smoothing=True, lowercase=True),
         "chrf_b1_n4": CHRF(char_order=4, beta=1)}
TERS = {"default": TER(), "case_sensitive": TER(case_sensitive=True), "normalized": TER(normalized=True),
        "no_punct": TER(no_punct=True), "norm_nopunct": TER(normalized=True, no_punct=True),
        "norm_asian": TER(normalized=True, asian_support=True),
        "norm_asian_nopunct_case": TER(normalized=True, no_punct=True, asian_support=True, case_sensitive=True)}
HF = {"smooth_false": (4, False), "smooth_true": (4, True), "order2": (2, False)}


def scores(prediction, references):
    one = [(prediction, references)]
    sentence = {t: {s: SENTENCE[t, s].sentence_score(prediction, references) for s in SMOOTHINGS} for t in TOKENIZERS}
    return {
        "hf_bleu": {name: guarded(lambda: hf_bleu(one, *options)) for name, options in HF.items()},
        "sacrebleu": {
            **{t: {s: whole(score) if s == "exp" else score.score for s, score in of.items()} for t, of in sentence.items()},
            "13a_lowercase": LOWER.sentence_score(prediction, references).score,
        },
        "chrf": {name: metric.sentence_score(prediction, references).score for name, metric in CHRFS.items()},
        "ter": {name: ter_fields(metric.sentence_score(prediction, references)) for name, metric in TERS.items()},
    }


def meteor(rows, folder):
    import nltk
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    # NLTK opens files in its own folders only, and would compare a WordNet that is not its default with that one.
    nltk.data.path.insert(0, folder)
    WordNetCorpusReader.map_wn = lambda self, version="wordnet": None
    from nltk.tokenize import word_tokenize
    from nltk.translate.meteor_score import single_meteor_score

    wordnet = WordNetCorpusReader(folder, None)
    for row in rows:
        answer, reference = (word_tokenize(row[name], preserve_line=True) for name in ("prediction", "output"))
        score = single_meteor_score(reference, answer, wordnet=wordnet)
        yield {"id": row["id"], "pred_tokens": answer, "ref_tokens": reference, "meteor": score}


def write(name, lines):
    with open(f"{FOLDER}/{name}.jsonl", "w", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def main():
    os.makedirs(FOLDER, exist_ok=True)
    rows, scored = [], collections.defaultdict(list)
    for number in range(ROWS):
        reference = text()
        prediction = changed(reference) if RANDOM.random() < 0.85 else text()
        row = {"id": f"r{number}", "task": "t", "output": reference, "prediction": prediction}
        rows.append(row)
        for name, of in scores(prediction, [reference]).items():
            scored[name].append({"id": row["id"], **of})
    write("rows", rows)
    for name, lines in scored.items():
        write(name, lines)
    multi, multi_scores = [], []
    for number in range(ROWS // 5):
        first = text()
        references = [first, *(RANDOM.choice([changed(first), text(), first]) for _ in range(RANDOM.randrange(1, 4)))]
        row = {"id": f"m{number}", "prediction": changed(first), "references": references}
        multi.append(row)
        multi_scores.append({"id": row["id"], **scores(row["prediction"], references)})
    write("multiref", multi)
    write("multiref_scores", multi_scores)
    groups = []
    for name in ["ALL", *(f"g{number}" for number in range(20))]:
        chosen = rows if name == "ALL" else RANDOM.sample(rows, min(len(rows), RANDOM.choice([1, 3, 10, 50])))
        predictions, references = [row["prediction"] for row in chosen], [[row["output"] for row in chosen]]
        pairs = [(row["prediction"], [row["output"]]) for row in chosen]
        ids = [row["id"] for row in chosen]
        groups.append({
            "group": name, "ids": ids,
            "hf_bleu": {key: guarded(lambda: hf_bleu(pairs, *options)) for key, options in HF.items()},
            "sacrebleu": {t: {s: whole(CORPUS[t, s].corpus_score(predictions, references)) for s in SMOOTHINGS} for t in TOKENIZERS},
            "chrf": {key: metric.corpus_score(predictions, references).score for key, metric in CHRFS.items()},
            "ter": {"ids_used": ids, **ter_fields(TERS["default"].corpus_score(predictions, references))},
        })
    write("corpus", groups)
    if len(sys.argv) > 4:
        write("meteor", meteor(rows, sys.argv[4]))


main()
