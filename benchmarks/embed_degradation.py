"""Put a trained degradation into the package: copy the file, record its hash, pictures seen and metrics in the table.

    python benchmarks/embed_degradation.py runs/degradation-gan-64to16/degradation.safetensors --description "…" --metrics realism.json

`--metrics` is what `benchmarks/degradation_realism.py --out` wrote for the same file. One that is farther from natively small
faces than bicubic downscaling is refused.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from preimage.weight_files import read_metadata, sha256
from preimage.weights import FOLDER, load_degradation

LIMIT = 5_000_000  # bytes


def measured(path: Path) -> dict[str, Any]:
    """What was measured, with the command that measures it again."""
    found: dict[str, Any] = json.loads(path.read_text())
    for judge, sets in found["distances"].items():
        if judge not in found["training_features"] and any(
            sets["network"][real]["fd"] >= sets["bicubic"][real]["fd"] for real in sets["network"]
        ):
            raise SystemExit(f"{path}: by fd-{judge} bicubic is nearer to natively small faces; train on.")
    return {"command": "python benchmarks/degradation_realism.py"} | {k: v for k, v in found.items() if k != "model"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--description", required=True)
    parser.add_argument("--metrics", type=Path, required=True)
    options = parser.parse_args()
    about = read_metadata(options.file)
    load_degradation(options.file)  # refuses a file that does not load
    if options.file.stat().st_size > LIMIT:
        raise SystemExit(f"{options.file}: {options.file.stat().st_size} bytes, more than {LIMIT}.")
    metrics = measured(options.metrics)
    target = FOLDER / f"{about['name']}.safetensors"
    if options.file.resolve() != target.resolve():
        shutil.copyfile(options.file, target)
    target.chmod(0o644)
    row = {
        "name": about["name"],
        "file": target.name,
        "kind": "degradation",
        "sha256": sha256(target),
        "licence": about["licence"],
        "description": options.description,
        "recipe": about["name"],
        "images_seen": about["trained"]["images_seen"],
        "data": about["trained"]["data"],
        "metrics": metrics,
    }
    table = FOLDER / "table.json"
    rows = json.loads(table.read_text())
    kept = [r for r in rows if r["name"] != row["name"]]
    at = next((i for i, r in enumerate(rows) if r["name"] == row["name"]), len(kept))
    table.write_text(json.dumps([*kept[:at], row, *kept[at:]], indent=1) + "\n")
    print(f"embedded {target.name}, sha256 {row['sha256'][:12]}…, {row['images_seen']:,} pictures seen")


if __name__ == "__main__":
    main()
