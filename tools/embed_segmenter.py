"""Put a trained segmenter into the package, with what was measured of it: embed, measure, embed again.

    python tools/embed_segmenter.py runs/segmenter-faces128/segmenter.safetensors --description "…"
    python benchmarks/segmenters.py --data ../shared/data/celebamask512.zip/val --networks segmenter-faces128 --out segmenters.json
    python tools/embed_segmenter.py runs/segmenter-faces128/segmenter.safetensors --description "…" --metrics segmenters.json

`--metrics` is what `benchmarks/segmenters.py --out` wrote, of which the rows of this network are kept.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from embedding import arguments, embed

from preimage.weight_files import read_metadata

LIMIT = 3 * 2**20


def measured(path: Path, name: str) -> dict[str, Any]:
    """The rows of the network, with the command that measures them again."""
    report: dict[str, Any] = json.loads(path.read_text())
    rows = [{k: v for k, v in row.items() if k != "network"} for row in report["rows"] if row["network"] == name]
    if not rows:
        raise SystemExit(f"{path}: has no rows of {name}; run benchmarks/segmenters.py with --networks {name}.")
    return report | {"rows": rows}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--metrics", type=Path)
    options = parser.parse_args()
    name = read_metadata(options.file)["name"]
    embed(
        options.file,
        "segmenter",
        options.description,
        measured(options.metrics, name) if options.metrics else {},
        LIMIT,
    )


if __name__ == "__main__":
    main()
