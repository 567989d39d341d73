"""Put a trained posterior network into the package, with what `preimage bench` measured of it: embed, measure, embed again.

python tools/embed_posterior.py runs/posterior-64/posterior.safetensors --description "…"
preimage bench --data faces256-val.zip --methods bicubic,pulse,posterior --scale 4 --seeds 0-3 -n 40 -o out
python tools/embed_posterior.py runs/posterior-64/posterior.safetensors --description "…" --report out/report.json
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from embedding import arguments, embed

METHOD = "posterior"


def measured(path: Path) -> dict[str, Any]:
    """The means of the method in a report of `preimage bench`, with the command that made it."""
    report = json.loads(path.read_text())
    for method in report["methods"]:
        if method["name"] == METHOD:
            means = {
                key: round(value["mean"], 4)
                for key, value in method["estimates"].items()
                if isinstance(value["mean"], float) and math.isfinite(value["mean"])
            }
            return {"command": report["command"], "settings": method["settings"]["method"], "means": means}
    raise SystemExit(f"{path}: no method {METHOD} in this report.")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    embed(options.file, "upsampler", options.description, measured(options.report) if options.report else {})


if __name__ == "__main__":
    main()
