"""Makes tests/golden/aggregate.json: made-up scores and what pandas and scipy say of them.

    pip install pandas==3.1.1 scipy==1.17.1 && python tests/references/make_aggregate_reference.py

`inputs` are scores.jsonl files with their labels. `cases` are settings of an aggregate with the table that is expected:
a line of [group…, metric, count, nulls, mean, std, ci_low, ci_high] each.
"""

import json
import pathlib
import random

import pandas as pd
from scipy import stats

random.seed(7)
inputs, records = [], []
for n in (0, 20, 80):
    for run in (1, 2, 3):
        rows = []
        for i in range(12):
            task = ["sst2", "xsum", "squad"][i % 3]
            # `squad` rows have no exact match in run 2; one row is null everywhere.
            em = None if i == 5 or (task == "squad" and run == 2) else float(random.random() < n / 100)
            rows.append((f"r{i:02}", task, em, random.random(), random.random()))
        for scorer in ("em", "rouge"):
            lines = []
            for id_, task, em, r1, r2 in rows:
                scores = {"exact_match": em} if scorer == "em" else {"rouge1": r1, "rougeL": r2}
                lines.append({"id": id_, "task": task, "scores": scores})
            inputs.append({"labels": {"n": n, "run": run, "scorer": scorer}, "rows": lines})
        for id_, task, em, r1, r2 in rows:
            records.append({"n": n, "run": run, "task": task, "em": em, "rouge.rouge1": r1, "rouge.rougeL": r2})

frame = pd.DataFrame(records)
ALL = ["em", "rouge.rouge1", "rouge.rougeL"]


def number(value):
    return None if pd.isna(value) else float(value)


def table(data, by, unit, metrics):
    lines = []
    groups = data.groupby(by, sort=True) if by else [((), data)]
    for group, part in groups:
        for metric in metrics:
            values = part[metric] if unit == "row" else part.groupby(unit)[metric].mean()
            values = values.dropna()
            count, mean, std = len(values), values.mean(), values.std(ddof=1)
            low, high = None, None
            if count > 1:
                half = stats.t.ppf(0.975, count - 1) * values.sem(ddof=1)
                low, high = mean - half, mean + half
            nulls = int(part[metric].isna().sum())
            group_ = [v.item() if hasattr(v, "item") else v for v in group]
            lines.append([*group_, metric, count, nulls, number(mean), number(std), low, high])
    return lines


cases = [
    ("by = [\"n\"]", table(frame, ["n"], "row", ALL)),
    ("by = [\"task\", \"n\"]\nunit = \"run\"", table(frame, ["task", "n"], "run", ALL)),
    ("by = \"n\"\nunit = \"task\"\nmetrics = [\"rouge\", \"em\"]", table(frame, ["n"], "task", ALL[1:] + ALL[:1])),
    ("metrics = [\"rouge.rougeL\"]", table(frame, [], "row", ALL[2:])),
    (
        "by = [\"task\"]\nunit = \"n\"\nwhere = \"n > 0 and task != 'xsum'\"",
        table(frame[(frame.n > 0) & (frame.task != "xsum")], ["task"], "n", ALL),
    ),
    ("by = [\"n\", \"run\", \"task\"]\nmetrics = \"em\"", table(frame, ["n", "run", "task"], "row", ALL[:1])),
]
out = pathlib.Path(__file__).parent.parent / "golden" / "aggregate.json"
data = {"inputs": inputs, "cases": [{"settings": s, "rows": rows} for s, rows in cases]}
out.write_text(json.dumps(data, separators=(",", ":")) + "\n")
