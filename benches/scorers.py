#!/usr/bin/env python3
"""Scorers of texts beside the Python references, whole processes in turns (A B A B …), rows per processor second.

    cargo bench --no-default-features --bench scorers --no-run && python benches/scorers.py FILE [CASE ...] [--times 3]

FILE has rows with `prediction` and `output`. Needs rouge_score, sacrebleu, nltk and jiwer (PyPI) for the cases that are
asked for; `meteor` also needs WordNet's files for nltk, and is left out without them. Without a case, all.
"""
import argparse
import glob
import json
import os
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))


def rouge(stemmer):
    from rouge_score import rouge_scorer

    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"], use_stemmer=stemmer)
    return lambda prediction, reference: scorer.score(reference, prediction)


def sacrebleu(name, **options):
    from sacrebleu import metrics

    metric = getattr(metrics, name)(**options)
    return lambda prediction, reference: metric.sentence_score(prediction, [reference])


def squad():
    import collections
    import re
    import string

    marks = set(string.punctuation)

    def words(text):
        text = "".join(character for character in text.lower() if character not in marks)
        return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split()).split()

    def f1(prediction, reference):
        prediction, reference = words(prediction), words(reference)
        common = sum((collections.Counter(prediction) & collections.Counter(reference)).values())
        return 2 * common / (len(prediction) + len(reference)) if common else 0

    return f1


def exact_match():
    import string

    import numpy as np

    table = str.maketrans("", "", string.punctuation)
    clean = lambda text: np.char.translate(np.char.lower(np.asarray([text])), table)
    return lambda prediction, reference: (clean(prediction) == clean(reference)).mean()


def jiwer(name):
    import jiwer

    process = getattr(jiwer, name)
    return lambda prediction, reference: process(reference or " ", prediction)


def meteor():
    from nltk.tokenize import word_tokenize
    from nltk.translate.meteor_score import single_meteor_score

    class NoWordNet:
        def synsets(self, word):
            return []

    words = lambda text: word_tokenize(text, preserve_line=True)
    return lambda prediction, reference: single_meteor_score(words(reference), words(prediction), wordnet=NoWordNet())


# The scorer, its settings in a manifest, and the reference: a function of prediction and reference.
CASES = {
    "rouge": ("rouge", [], lambda: rouge(False)),
    "rouge, stems": ("rouge", ["stemmer = true"], lambda: rouge(True)),
    "sacrebleu": ("sacrebleu", [], lambda: sacrebleu("BLEU", effective_order=True)),
    "sacrebleu, intl": ("sacrebleu", ['tokenize = "intl"'], lambda: sacrebleu("BLEU", effective_order=True, tokenize="intl")),
    "chrf": ("chrf", [], lambda: sacrebleu("CHRF")),
    "chrf++": ("chrf", ["word_order = 2"], lambda: sacrebleu("CHRF", word_order=2)),
    "ter": ("ter", [], lambda: sacrebleu("TER")),
    "meteor": ("meteor", [], meteor),
    "token_f1": ("token_f1", [], squad),
    "squad": ("squad", [], squad),
    "exact_match": ("exact_match", ["ignore_case = true", "ignore_punctuation = true"], exact_match),
    "wer": ("wer", [], lambda: jiwer("process_words")),
    "cer": ("cer", [], lambda: jiwer("process_characters")),
}


def reference_side(file, name, seconds):
    """One measurement, in a process of its own."""
    score = CASES[name][2]()
    rows = [json.loads(line) for line in open(file, encoding="utf-8")]
    start, count = time.process_time(), 0
    for row in rows:
        score(row["prediction"], row["output"])
        count += 1
        if time.process_time() - start > seconds:
            break
    print(json.dumps({"rows": count, "cpu": time.process_time() - start}))


def measure(command):
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if run.returncode:
        raise RuntimeError(run.stderr.strip().splitlines()[-1])
    said = json.loads(run.stdout.splitlines()[-1])
    return said["rows"] / said["cpu"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("cases", nargs="*", metavar="CASE")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10, help="the most that a reference may take, each time")
    parser.add_argument("--bench", help="the built benchmark; by default the newest in target/release/deps")
    options = parser.parse_args()
    built = [path for path in glob.glob(f"{HERE}/../target/release/deps/scorers-*") if os.access(path, os.X_OK)]
    bench = options.bench or max(built, key=os.path.getmtime)
    for name in options.cases or CASES:
        scorer, settings, _ = CASES[name]
        ours, theirs = [], []
        try:
            for _ in range(options.times):
                ours.append(measure([bench, "time", options.file, scorer, *settings]))
                reference = [sys.executable, __file__, "--reference", options.file, name, str(options.seconds)]
                theirs.append(measure(reference))
        except RuntimeError as error:
            print(f"{name}: left out: {error}", flush=True)
            continue
        ours, theirs = statistics.median(ours), statistics.median(theirs)
        print(f"{name}: {ours:,.0f} rows per second, reference {theirs:,.0f}, ratio {ours / theirs:.1f}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--reference"]:
        reference_side(sys.argv[2], sys.argv[3], float(sys.argv[4]))
    else:
        main()
