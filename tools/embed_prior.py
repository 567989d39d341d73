"""Put a trained prior into the package: copy the file, record its hash, images seen and metrics in the table.

    python tools/embed_prior.py runs/prior-faces64/prior.safetensors --description "…" --metrics quality.json

`--metrics` is what `benchmarks/prior_quality.py --out` wrote for the same file. The recipe is the shipped one that gives
its prior the name that the file states.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from embedding import arguments, embed

from preimage.weight_files import read_metadata


def measured(path: Path, name: str) -> dict[str, Any]:
    """What was measured, with the command that measures it again under the name it has from now on."""
    found: dict[str, Any] = json.loads(path.read_text())
    command = f"python benchmarks/prior_quality.py --prior {name} --samples {found['samples']} --seed {found['seed']}"
    command += f" --size {found['size']}" if found.get("size") else ""
    judges = list(found["distances"])
    command += "" if judges == ["vgg", "identity"] else f" --judges {' '.join(judges)}"
    return {"command": command, **{k: v for k, v in found.items() if k not in ("file", "seconds")}, "prior": name}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--metrics", type=Path)
    options = parser.parse_args()
    name = read_metadata(options.file)["name"]
    embed(options.file, "prior", options.description, measured(options.metrics, name) if options.metrics else {})


if __name__ == "__main__":
    main()
