"""Compact Markdown tables out of report.json, for docs/results.md: the main table, the audit by group, the curves.

python benchmarks/tables.py main out/bench/report.json
python benchmarks/tables.py audit out/audit/report.json --metrics lpips-squeeze* identity-mobilefacenet
python benchmarks/tables.py curves out/bench/report.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from preimage.measure.render.tables import number, places

Report = dict[str, Any]


def value(x: Any) -> float:
    """A number of the JSON: null is undefined, "inf" infinite."""
    return float("nan") if x is None else float(x)


def estimate(e: dict[str, Any] | None, digits: int) -> str:
    """Mean and interval."""
    if e is None:
        return ""
    low, high = value(e["low"]), value(e["high"])
    mean, below, above = (number(v, digits, rescue=False).replace("inf", "∞") for v in (value(e["mean"]), low, high))
    return f"{mean} [{below}, {above}]" if low < high else mean


def table(head: list[str], rows: list[list[str]]) -> None:
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(cell.replace("*", "\\*") for cell in row) + " |")


def digits_of(estimates: list[dict[str, Any]], unit: str) -> int:
    return places(
        [value(e["mean"]) for e in estimates], unit, [(value(e["high"]) - value(e["low"])) / 2 for e in estimates]
    )


def main_table(report: Report, metrics: list[str]) -> None:
    """One row per metric, one column per method, what it cost below."""
    methods, rows = report["methods"], []
    for key, column in report["columns"].items():
        found = [m["estimates"].get(key) for m in methods]
        digits = digits_of([e for e in found if e], column["unit"])
        better = {True: "lower", False: "higher", None: ""}[column["lower_is_better"]]
        if not metrics or key in metrics:
            rows.append([key, better, column["unit"], *(estimate(e, digits) for e in found)])
    for key in dict.fromkeys(k for m in methods for k in m["cost"]):
        rows.append([key, "", "", *(number(value(m["cost"][key])) if key in m["cost"] else "" for m in methods)])
    table(["metric", "better", "unit", *(m["name"] for m in methods)], rows)


def audit_table(report: Report, metrics: list[str]) -> None:
    """Mean and gap to the others per group; gaps whose interval leaves out 0 are bold."""
    for method in report["methods"]:
        chosen = [r for r in method["groups"] if not metrics or r["metric"] in metrics]
        rows = []
        for by, group in dict.fromkeys((r["by"], r["group"]) for r in chosen):
            row, count = [by, group], 0
            for metric in metrics or dict.fromkeys(r["metric"] for r in chosen):
                alike = [r for r in chosen if r["metric"] == metric]
                found = next((r for r in alike if (r["by"], r["group"]) == (by, group)), None)
                if found is None:
                    row += ["", ""]
                    continue
                digits = digits_of([r["estimate"] for r in alike], report["columns"][metric]["unit"])
                gap = estimate(found["gap"], digits)
                low, high = value(found["gap"]["low"]), value(found["gap"]["high"])
                row += [
                    number(value(found["estimate"]["mean"]), digits),
                    f"<b>{gap}</b>" if low > 0 or high < 0 else gap,
                ]
                count = found["estimate"]["count"]
            rows.append([*row[:2], str(count), *row[2:]])
        names = metrics or list(dict.fromkeys(r["metric"] for r in chosen))
        print(f"{method['name']}:\n")
        table(["by", "group", "inputs", *(cell for name in names for cell in (name, "gap to the others"))], rows)


def curves(report: Report, _: list[str]) -> None:
    """Coverage and calibration as numbers."""
    for method in report["methods"]:
        for kind in ("coverage", "calibration"):
            curve = method[kind]
            if curve:
                print(f"\n{method['name']}, {curve['y_label']}:\n".replace("*", "\\*"))
                table(
                    [curve["x_label"], *(number(value(x)) for x in curve["x"])],
                    [["", *(number(value(y)) for y in curve["y"])]],
                )


KINDS = {"main": main_table, "audit": audit_table, "curves": curves}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=list(KINDS))
    parser.add_argument("report", type=Path)
    parser.add_argument("--metrics", nargs="*", default=[])
    options = parser.parse_args()
    KINDS[options.kind](json.loads(options.report.read_text()), options.metrics)


if __name__ == "__main__":
    main()
