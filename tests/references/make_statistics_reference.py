"""Makes tests/golden/statistics.json: made-up values and what scipy, statsmodels, scikit-learn, krippendorff and sacrebleu
say of them.

    pip install scipy==1.17.1 statsmodels==0.15.0 scikit-learn==1.9.1 krippendorff==0.9.0 sacrebleu==2.6.0
    python tests/references/make_statistics_reference.py

A value that is not defined (NaN, or all ratings alike) is null; infinity is "inf".
"""

import json
import pathlib
import random
import warnings

import krippendorff
import numpy as np
from sacrebleu.significance import _compute_p_value
from scipy import stats
from scipy.stats import _resampling
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.inter_rater import fleiss_kappa
from statsmodels.stats.multitest import multipletests

warnings.simplefilter("ignore")
random.seed(7)


def number(value):
    value = float(value)
    return None if np.isnan(value) else value if np.isfinite(value) else str(value)


def tested(result):
    return [number(result.statistic), number(result.pvalue)]


def normal(count, digits=None):
    values = [random.gauss(0.3, 1) for _ in range(count)]
    return values if digits is None else [round(value, digits) for value in values]


def permuted(values):
    """Every pattern of signs of at most 12 differences."""
    result = stats.permutation_test((values,), lambda rows, axis: np.mean(rows, axis=axis), permutation_type="samples", n_resamples=np.inf, vectorized=True)
    return tested(result)


differences = []
for count in (1, 2, 3, 5, 8, 10, 12, 13, 14, 25, 50, 51, 120):
    for digits in (None, 1, 0):
        values = normal(count, digits)
        some = any(values)
        differences.append({
            "values": values,
            # Without one that is not 0 nothing is ranked; scipy's answer depends on the number of zeros there.
            "wilcoxon": tested(stats.wilcoxon(values, correction=False)) if some else None,
            "student": tested(stats.ttest_1samp(values, 0)) if count > 1 else None,
            "permutation": permuted(values) if 1 < count < 13 else None,
        })

correlations = []
for count in (10, 33, 34, 60, 150, 1000, 20000):
    for noise in (0, 1e-3, 0.3, 3):
        x = normal(count)
        y = [value + random.gauss(0, noise) for value in x] if noise else sorted(x, reverse=True)
        if noise == 0:
            x = sorted(x)
            y[0], y[1] = y[1], y[0]
        if count > 1000:
            seed = random.randrange(10**6)
            x = [round(((i * 7919 + seed) % 20011) / 20011, 6) for i in range(count)]
            y = [round(x[i] * (0 if noise > 1 else 1) + ((i * 104729 + seed) % 19997) / 19997 * (noise + 0.1), 6) for i in range(count)]
        named = [("pearson", stats.pearsonr), ("spearman", stats.spearmanr), ("kendall", stats.kendalltau)]
        case = {name: tested(function(x, y)) for name, function in named}
        case |= {"generated": [count, seed, noise]} if count > 1000 else {"x": x, "y": y}
        correlations.append(case)

tables = [[0, 0], [0, 1], [3, 3], [2, 9], [15, 4], [40, 70], [500, 421]]
mcnemars = []
for a, b in tables:
    table = [[10, a], [b, 12]]
    both = [mcnemar(table, exact=True), mcnemar(table, exact=False, correction=True)] if a + b else [None, None]
    mcnemars.append({"counts": [a, b], "tests": [result and [float(result.statistic), float(result.pvalue)] for result in both]})

families = [[random.random() ** 3 for _ in range(count)] for count in (1, 2, 5, 12)] + [[0.01, 0.01, 0.02, 1.0]]
holms = [{"p": p, "adjusted": multipletests(p, method="holm")[1].tolist()} for p in families]

intervals = []
for count, of in ((12, "mean"), (30, "mean"), (25, "pearson"), (40, "median")):
    rng = np.random.default_rng(count)
    x = rng.exponential(size=count)
    y = x + rng.normal(size=count)
    on_rows = {
        "mean": lambda rows: float(np.mean(x[rows])),
        "median": lambda rows: float(np.median(x[rows])),
        "pearson": lambda rows: float(stats.pearsonr(x[rows], y[rows]).statistic),
    }[of]
    rows = np.arange(count)
    draws = np.array([on_rows(rng.integers(0, count, count)) for _ in range(400)])
    jackknife = [on_rows(np.delete(rows, left_out)) for left_out in rows]
    statistic = lambda rows, axis: np.apply_along_axis(on_rows, axis, rows)
    low, high, _ = _resampling._bca_interval((rows,), statistic, -1, 0.025, draws, None, np)
    ends = [float(np.percentile(draws, 100 * float(end))) for end in (np.squeeze(low), np.squeeze(high))]
    intervals.append({"value": on_rows(rows), "draws": draws.tolist(), "jackknife": jackknife, "bca": ends})

bootstraps = []
for count, value in ((100, 0.3), (1000, -0.2), (50, 0.0)):
    rng = np.random.default_rng(count)
    draws = rng.normal(value, 0.15, count)
    p = _compute_p_value(np.abs(draws - draws.mean()), abs(value))
    bootstraps.append({"value": value, "draws": draws.tolist(), "p": p})

cohens = []
for count, categories in ((20, 2), (50, 4), (200, 7), (6, 1)):
    a = [random.randrange(categories) for _ in range(count)]
    b = [value if random.random() < 0.5 else random.randrange(categories) for value in a]
    kappas = [number(cohen_kappa_score(a, b, weights=weights)) for weights in (None, "linear", "quadratic")]
    cohens.append({"a": a, "b": b, "kappas": kappas})

fleisses = []
for items, raters, categories in ((10, 3, 2), (30, 5, 4), (4, 2, 3)):
    counts = []
    for _ in range(items):
        favourite = random.randrange(categories)
        votes = [favourite if random.random() < 0.6 else random.randrange(categories) for _ in range(raters)]
        counts.append([votes.count(category) for category in range(categories)])
    fleisses.append({"items": counts, "kappa": number(fleiss_kappa(np.array(counts)))})

alphas = []
for items, raters, most, gaps in ((12, 2, 3, 0), (30, 4, 5, 0.3), (50, 3, 10, 0.6), (8, 3, 1, 0)):
    table = []
    for _ in range(items):
        middle = random.randrange(most)
        rate = lambda: min(most - 1, max(0, middle + random.choice([-1, 0, 0, 0, 1])))
        table.append([None if random.random() < gaps else rate() + (0.5 if most == 10 else 0) for _ in range(raters)])
    data = np.array(table, dtype=float).T
    levels = ("nominal", "ordinal", "interval", "ratio")
    # Of one value alone, the package refuses.
    values = [number(krippendorff.alpha(data, level_of_measurement=level)) if most > 1 else None for level in levels]
    alphas.append({"items": table, "alphas": values})

out = pathlib.Path(__file__).parent.parent / "golden" / "statistics.json"
names = ("differences", "correlations", "mcnemars", "holms", "intervals", "bootstraps", "cohens", "fleisses", "alphas")
out.write_text(json.dumps({name: globals()[name] for name in names}, separators=(",", ":")) + "\n")
