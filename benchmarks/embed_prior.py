"""Put a trained prior into the package: copy the file, record its hash, images seen and metrics in the table.

    python benchmarks/embed_prior.py runs/prior-faces64/prior.safetensors --description "…" --metrics quality.json

`--metrics` is what `benchmarks/prior_quality.py --out` wrote for the same file. The recipe is the shipped one that gives
its prior the name that the file states.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from preimage.train.recipes import list_recipes, recipe_text
from preimage.weight_files import read_metadata, read_module, sha256
from preimage.weights import FOLDER

LIMIT = 25 * 2**20  # bytes a single embedded file may have


def measured(path: Path, name: str) -> dict[str, Any]:
    """What was measured, with the command that measures it again under the name it has from now on."""
    found: dict[str, Any] = json.loads(path.read_text())
    command = f"python benchmarks/prior_quality.py --prior {name} --samples {found['samples']} --seed {found['seed']}"
    judges = list(found["distances"])
    command += "" if judges == ["vgg", "identity"] else f" --judges {' '.join(judges)}"
    return {"command": command, **{k: v for k, v in found.items() if k not in ("file", "seconds")}, "prior": name}


def recipe_of(name: str) -> str:
    """The shipped recipe that trains a prior of this name."""
    for recipe in list_recipes():
        if yaml.safe_load(recipe_text(recipe)).get("name") == name:
            return recipe
    raise SystemExit(
        f"no shipped recipe has `name: {name}`; add the one that trained this prior to src/preimage/recipes."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--description", required=True)
    parser.add_argument("--metrics", type=Path)
    options = parser.parse_args()
    about = read_metadata(options.file)
    read_module(options.file)  # refuses a file that does not load
    recipe = recipe_of(about["name"])
    if options.file.stat().st_size > LIMIT:
        raise SystemExit(f"{options.file}: {options.file.stat().st_size} bytes, more than {LIMIT}.")
    target = FOLDER / f"{about['name']}.safetensors"
    if options.file.resolve() != target.resolve():
        shutil.copyfile(options.file, target)
    target.chmod(0o644)
    table = FOLDER / "table.json"
    rows = json.loads(table.read_text()) if table.is_file() else []
    row = {
        "name": about["name"],
        "file": target.name,
        "kind": "prior",
        "sha256": sha256(target),
        "licence": about["licence"],
        "description": options.description,
        "recipe": recipe,
        "images_seen": about["trained"]["images_seen"],
        "data": about["trained"]["data"],
        "metrics": measured(options.metrics, about["name"]) if options.metrics else {},
    }
    kept = [r for r in rows if r["name"] != row["name"]]
    at = next((i for i, r in enumerate(rows) if r["name"] == row["name"]), len(kept))
    table.write_text(json.dumps([*kept[:at], row, *kept[at:]], indent=1) + "\n")
    print(f"embedded {target.name}, sha256 {row['sha256'][:12]}…, {row['images_seen']:,} images seen")


if __name__ == "__main__":
    main()
