"""Makes tests/golden/statistics_table.json: made-up rows of an experiment, and what pandas, scipy, statsmodels, scikit-learn
and krippendorff say of them.

    pip install pandas==3.1.1 scipy==1.17.1 statsmodels==0.15.0 scikit-learn==1.9.1 krippendorff==0.9.0
    python tests/references/make_statistics_table_reference.py

`rows` are the columns of two tables: `scores`, a row for each system, run and row id, and `ratings`, a row for each rating.
`cases` are settings of a statistic with the lines that are expected: the columns that are named there, of all lines in order.
`sampled` are means of random samples with their standard errors, which other random numbers must come near.
"""

import itertools
import json
import pathlib
import random
import warnings

import krippendorff
import numpy as np
import pandas as pd
from scipy import stats
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa
from statsmodels.stats.multitest import multipletests

warnings.simplefilter("ignore")
random.seed(11)

records = []
skill = {"base": 0.3, "small": 0.45, "large": 0.7}
for model, n, item in itertools.product(skill, (0, 20, 400), range(24)):
    task = ["sst2", "xsum", "squad"][item % 3]
    quality = min(1, max(0, skill[model] + n / 2000 + 0.1 * (item % 5) - 0.2 + random.gauss(0, 0.2)))
    label = lambda chance: random.choice("ab") if random.random() < chance else ("a" if item % 4 else "b")
    records.append({
        "model": model, "n": n, "id": f"r{item:02}", "task": task,
        "em": None if task == "xsum" and model == "small" else float(quality > 0.5),
        "rouge.rouge1": round(quality * 0.8 + random.random() * 0.2, 2),
        "rouge.rougeL": None if item == 7 else round(quality * 0.6 + random.random() * 0.3, 2),
        "flat": 1.0 if task == "squad" else round(random.random(), 1),
        "human": None if random.random() < 0.1 else round(quality * 6) + 1,
        "one": label(0.2), "two": label(0.3), "three": None if random.random() < 0.2 else label(0.4),
        "first": random.randrange(3), "second": None if random.random() < 0.2 else min(2, item % 3 + random.randrange(2)),
    })
scores = pd.DataFrame(records)

ratings = []
for worker, item in itertools.product(range(7), range(40)):
    if random.random() < 0.45:
        ratings.append({"worker": f"w{worker}", "id": item, "overall": min(7, max(1, item % 7 + random.randrange(-1, 3)))})
ratings = pd.DataFrame(ratings)


def number(value):
    return None if value is None or pd.isna(value) else float(value)


def pooled(kind, frame, x, y):
    both = pd.DataFrame({"x": frame[x], "y": frame[y]}).dropna()
    if len(both) < 2 or both.x.nunique() < 2 or both.y.nunique() < 2:
        return {"x": x, "y": y, "value": None, "p": None, "count": len(both)}
    function = {"pearson": stats.pearsonr, "spearman": stats.spearmanr, "kendall": stats.kendalltau}[kind]
    result = function(both.x, both.y)
    return {"x": x, "y": y, "value": number(result.statistic), "p": number(result.pvalue), "count": len(both)}


def within(kind, frame, keys, x, y):
    each = pd.Series([part[x].corr(part[y], method=kind) for _, part in frame.groupby(keys)])
    return {"x": x, "y": y, "value": number(each.mean()), "groups": int(each.count()), "undefined": int(each.isna().sum())}


def of_means(kind, frame, keys, x, y):
    means = frame.groupby(keys)[[x, y]].mean()
    return {"x": x, "y": y, "value": number(means[x].corr(means[y], method=kind)), "groups": int(len(means.dropna()))}


ROUGE = ["rouge.rouge1", "rouge.rougeL"]
cases = [
    ('kind = "spearman"\nx = ["em", "rouge"]\ny = "human"', [pooled("spearman", scores, x, "human") for x in ["em", *ROUGE]]),
    (
        'kind = "kendall"\nx = ["em", "rouge.rouge1", "human", "n"]',
        [
            pooled("kendall", scores, x, y)
            for x, y in itertools.product(["em", "rouge.rouge1", "human", "n"], repeat=2)
        ],
    ),
    (
        'kind = "pearson"\nx = "rouge"\ny = "flat"\nby = "task"\nwhere = "n < 100"',
        [
            {"task": task, **pooled("pearson", part, x, "flat")}
            for task, part in scores[scores.n < 100].groupby("task")
            for x in ROUGE
        ],
    ),
    ('kind = "spearman"\nx = "flat"\ny = ["em", "human"]\nwithin = "task"', [within("spearman", scores, ["task"], "flat", y) for y in ("em", "human")]),
    ('kind = "pearson"\nx = "em"\ny = "rouge.rouge1"\nmeans_of = ["model", "n"]', [of_means("pearson", scores, ["model", "n"], "em", "rouge.rouge1")]),
    ('kind = "spearman"\nx = "em"\ny = "human"\nmeans_of = ["model", "task"]', [of_means("spearman", scores, ["model", "task"], "em", "human")]),
]

PAIRED = {
    "paired_t": lambda d: stats.ttest_1samp(d, 0),
    "wilcoxon": lambda d: stats.wilcoxon(d, correction=False),
}


def compared(kind, frame, metrics, pairs, keys, groups=None):
    lines = []
    for group, part in frame.groupby(groups) if groups else [((), frame)]:
        for metric in metrics:
            wide = part.pivot_table(index=keys, columns="model", values=metric, aggfunc="mean")
            for x, y in pairs:
                line = {groups[0]: group[0]} if groups else {}
                line |= {"metric": metric, "x": x, "y": y}
                both = wide[[x, y]].dropna() if x in wide and y in wide else pd.DataFrame({x: [], y: []})
                d = both[x] - both[y]
                line |= {"count": len(d), "difference": number(d.mean())}
                if kind == "mcnemar":
                    a, b = int((d == 1).sum()), int((d == -1).sum())
                    result = mcnemar([[0, a], [b, 0]], exact=False, correction=True)
                else:
                    result = PAIRED[kind](d) if len(d) else None
                line |= {"value": result and number(result.statistic), "p": result and number(result.pvalue)}
                lines.append(line)
    known = [line for line in lines if line["p"] is not None]
    adjusted = multipletests([line["p"] for line in known], method="holm")[1]
    for line, p in zip(known, adjusted):
        line["p_holm"] = float(p)
    for line in lines:
        line.setdefault("p_holm", None)
    return lines


ALL = [("base", "large"), ("base", "small"), ("large", "small")]
BASE = [("large", "base"), ("small", "base")]
cases += [
    ('kind = "wilcoxon"\nx = ["rouge", "em"]\ncompare = "model"', compared("wilcoxon", scores, [*ROUGE, "em"], ALL, ["n", "id"])),
    ('kind = "paired_t"\nx = "em"\ncompare = "model"\nto = "base"\nby = "task"', compared("paired_t", scores, ["em"], BASE, ["n", "id"], ["task"])),
    ('kind = "paired_t"\nx = "human"\ncompare = "model"\nto = "base"\npair = "id"', compared("paired_t", scores, ["human"], BASE, ["id"])),
    ('kind = "mcnemar"\nx = "em"\ncompare = "model"\nto = "base"\nexact = false', compared("mcnemar", scores, ["em"], BASE, ["n", "id"])),
]


def kappas(frame, pairs, weights=None):
    lines = []
    for x, y in pairs:
        both = frame[[x, y]].dropna()
        lines.append({"x": x, "y": y, "value": number(cohen_kappa_score(both[x], both[y], weights=weights)), "count": len(both)})
    return lines


def accuracy(frame, x, y):
    both = frame[[x, y]].dropna()
    return {"x": x, "y": y, "value": number((both[x] == both[y]).mean()), "count": len(both)}


three = ["one", "two", "three"]
full = scores[three].dropna()
codes = scores[three].replace({"a": 0, "b": 1}).astype(float)
numbers = scores[["first", "second"]].astype(float)
shared = []
for x, y in itertools.combinations(sorted(ratings.worker.unique()), 2):
    wide = ratings[ratings.worker.isin([x, y])].pivot(index="id", columns="worker", values="overall").dropna()
    if len(wide) >= 6:
        shared.append(wide)
of_pairs = [cohen_kappa_score(wide.iloc[:, 0], wide.iloc[:, 1], weights="quadratic") for wide in shared]
cases += [
    ('kind = "cohen_kappa"\nraters = ["one", "two", "three"]', kappas(scores, [("one", "two"), ("one", "three"), ("two", "three")])),
    ('kind = "cohen_kappa"\nraters = ["first", "second"]\nweights = "linear"', kappas(scores, [("first", "second")], "linear")),
    ('kind = "accuracy"\nraters = ["one", "two"]\nto = "three"', [accuracy(scores, x, "three") for x in ("one", "two")]),
    (
        'kind = "fleiss_kappa"\nraters = ["one", "two", "three"]',
        [{"value": float(fleiss_kappa(aggregate_raters(full)[0])), "count": len(full), "groups": 3, "undefined": len(scores) - len(full)}],
    ),
    ('kind = "krippendorff"\nraters = ["one", "two", "three"]', [{"value": krippendorff.alpha(codes.T.values, level_of_measurement="nominal")}]),
    ('kind = "krippendorff"\nraters = ["first", "second"]\nlevel = "ordinal"', [{"value": krippendorff.alpha(numbers.T.values, level_of_measurement="ordinal"), "undefined": int(numbers.isna().any(axis=1).sum())}]),
]
rated = 'rater = "worker"\nitem = "id"\nvalue = "overall"'
matrix = ratings.pivot(index="worker", columns="id", values="overall").values
long = [
    (f'kind = "cohen_kappa"\n{rated}\nweights = "quadratic"\nmin_shared = 6', [{"x": "overall", "y": "worker", "value": float(np.mean(of_pairs)), "groups": len(shared), "count": sum(map(len, shared)), "undefined": 0}]),
    (f'kind = "krippendorff"\n{rated}\nlevel = "interval"', [{"value": krippendorff.alpha(matrix, level_of_measurement="interval"), "groups": 7}]),
    (
        f'kind = "spearman"\n{rated}\nmin_shared = 6',
        [{"value": float(np.mean([wide.iloc[:, 0].corr(wide.iloc[:, 1], method="spearman") for wide in shared])), "groups": len(shared)}],
    ),
]


def sampled(settings, draws, table="scores"):
    draws = pd.Series(draws)
    return {"settings": settings, "table": table, "mean": float(draws.mean()), "std": float(draws.std()), "draws": len(draws), "undefined": float(draws.isna().mean())}


def spearman(part):
    return part["rouge.rouge1"].corr(part["human"], method="spearman")


both = scores.dropna(subset=["rouge.rouge1", "human"])
policies = [part for _, part in both.groupby("model")]
items = [part for _, part in both.groupby("id")]
x_y = 'kind = "spearman"\nx = "rouge.rouge1"\ny = "human"\n'
pairs = [wide.rename(columns=dict(zip(wide.columns, ("rouge.rouge1", "human")))) for wide in shared]
out_of = [
    sampled(x_y + "sample = { draws = 10000, size = 10 }", [spearman(both.sample(10)) for _ in range(4000)]),
    sampled(
        x_y + 'sample = { draws = 4000, size = 10, replace = true, group = "model", one_group = true }',
        [spearman(random.choice(policies).sample(10, replace=True)) for _ in range(4000)],
    ),
    # Of three or four rows, some are all alike.
    sampled(
        x_y + 'sample = { draws = 200, size = 3, replace = true, group = "id" }',
        [spearman(part.sample(3, replace=True)) for part in items for _ in range(200)],
    ),
    sampled(
        f'kind = "spearman"\n{rated}\nmin_shared = 6\nsample = {{ draws = 400, size = 5 }}',
        [spearman(part.sample(5)) for part in pairs for _ in range(200)],
        "ratings",
    ),
]


def columns(frame):
    # In the order of the columns; whole numbers as such.
    value = lambda cell: None if cell is None or pd.isna(cell) else int(cell) if isinstance(cell, float) and cell.is_integer() else cell
    return {name: [value(getattr(cell, "item", lambda: cell)()) for cell in frame[name]] for name in frame}


path = pathlib.Path(__file__).parent.parent / "golden" / "statistics_table.json"
data = {
    "rows": {"scores": columns(scores), "ratings": columns(ratings)},
    "masks": {"n < 100": [bool(n < 100) for n in scores.n]},
    "cases": [{"settings": s, "table": "scores", "lines": lines} for s, lines in cases]
    + [{"settings": s, "table": "ratings", "lines": lines} for s, lines in long],
    "sampled": out_of,
}
path.write_text(json.dumps(data, separators=(",", ":")) + "\n")
