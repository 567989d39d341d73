"""Put a trained network that answers in one pass, or an encoder, into the package, with what was measured of it: embed, measure, embed again.

    python tools/embed_upsampler.py runs/posterior-64/posterior.safetensors --description "…"
    preimage bench --data faces256-val.zip --methods bicubic,pulse,posterior --scale 4 --seeds 0-3 -n 40 -o out
    python tools/embed_upsampler.py runs/posterior-64/posterior.safetensors --description "…" --metrics out/report.json

`--metrics` is a report of `preimage bench`, of which the means of the first method that took the network are kept, or what
`benchmarks/ssrvae_tables.py --out` wrote.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from embedding import arguments, embed

from preimage.invert.registry import list_methods
from preimage.weight_files import read_declaration, read_metadata


def measured(path: Path, network: str) -> dict[str, Any]:
    """What was measured, with the command that measures it again."""
    report: dict[str, Any] = json.loads(path.read_text())
    if "methods" not in report:
        return report
    for found in report["methods"]:
        if found["settings"]["method"].get("weights") == network:
            means = {
                key: round(value["mean"], 4)
                for key, value in found["estimates"].items()
                if isinstance(value["mean"], float) and math.isfinite(value["mean"])
            }
            return {"command": report["command"], "settings": found["settings"]["method"], "means": means}
    raise SystemExit(f"{path}: no method of this report took {network}.")


def check_name(name: str) -> None:
    """Refuse a name that begins with that of no method."""
    if not any(name.startswith(method) for method in list_methods()):
        raise SystemExit(
            f"{name}: begins with the name of no method ({', '.join(list_methods())}), so that none would find it."
        )


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--metrics", type=Path)
    options = parser.parse_args()
    name, kind = read_metadata(options.file)["name"], read_declaration(options.file).kind
    check_name(name)
    if kind not in ("upsampler", "encoder"):
        raise SystemExit(f"{options.file}: holds a network of the kind {kind}; take the script of its kind.")
    embed(options.file, kind, options.description, measured(options.metrics, name) if options.metrics else {})


if __name__ == "__main__":
    main()
