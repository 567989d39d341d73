"""Put a trained degradation into the package: copy the file, record its hash, pictures seen and metrics in the table.

    python tools/embed_degradation.py runs/degradation-gan-64to16/degradation.safetensors --description "…" --metrics realism.json

`--metrics` is what `benchmarks/degradation_realism.py --out` wrote for the same file, or `benchmarks/ssrvae_tables.py styles --out`.
One that is farther from natively small faces than bicubic downscaling is refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from embedding import arguments, embed

from preimage.weight_files import read_metadata

LIMIT = 5_000_000  # bytes


def measured(path: Path, file: Path) -> dict[str, Any]:
    """What was measured, with the command that measures it again."""
    found: dict[str, Any] = json.loads(path.read_text())
    if "rows" in found:
        plain, *made = (found["rows"][n] for n in found["rows"] if n == "bicubic" or ", styles of " in n)
        _refuse(path, [key for key in plain if key.startswith("fd-") and any(row[key] >= plain[key] for row in made)])
        return found
    for judge, sets in found["distances"].items():
        if judge not in found["training_features"] and any(
            sets["network"][real]["fd"] >= sets["bicubic"][real]["fd"] for real in sets["network"]
        ):
            _refuse(path, [f"fd-{judge}"])
    name = read_metadata(file)["name"]
    command = f"python benchmarks/degradation_realism.py --degradation {name}"
    return {"command": command} | {k: v for k, v in found.items() if k != "model"}


def _refuse(path: Path, judges: list[str]) -> None:
    if judges:
        raise SystemExit(f"{path}: by {', '.join(judges)} bicubic is nearer to natively small faces; train on.")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--metrics", type=Path, required=True)
    options = parser.parse_args()
    embed(options.file, "degradation", options.description, measured(options.metrics, options.file), LIMIT)


if __name__ == "__main__":
    main()
