"""What the scripts share that publish weights: put a trained file into the package and into the table of its weights."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from preimage.declaration import declared
from preimage.train.recipes import list_recipes, read_recipe
from preimage.weight_files import read_metadata, read_module, sha256
from preimage.weights import FOLDER

LIMIT = 25 * 2**20  # bytes a single embedded file may have


def arguments(about: str | None) -> argparse.ArgumentParser:
    """What every such script asks for: the trained file, and a sentence on it."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--description", required=True)
    return parser


def recipe_of(name: str) -> str:
    """The shipped recipe that trains a network of this name."""
    for recipe in list_recipes():
        if read_recipe(recipe)[1].get("name") == name:
            return recipe
    raise SystemExit(
        f"no shipped recipe has `name: {name}`; add the one that trained this file to src/preimage/recipes."
    )


def embed(file: Path, kind: str, description: str, metrics: dict[str, Any], limit: int = LIMIT) -> None:
    """Copy the file and write its line of the table: hash, recipe, pictures seen, data, metrics; refuses what does not load."""
    about = read_metadata(file)
    declares = declared(read_module(file))
    if declares is None or declares.kind != kind:
        raise SystemExit(
            f"{file}: declares itself {declares and declares.problem}, and is to be embedded as {kind}; take the script of its kind."
        )
    recipe = recipe_of(about["name"])
    if file.stat().st_size > limit:
        raise SystemExit(f"{file}: {file.stat().st_size} bytes, more than {limit}.")
    target = FOLDER / f"{about['name']}.safetensors"
    if file.resolve() != target.resolve():
        shutil.copyfile(file, target)
    target.chmod(0o644)
    row = {
        "name": about["name"],
        "file": target.name,
        "kind": kind,
        "sha256": sha256(target),
        "licence": about["licence"],
        "description": description,
        "recipe": recipe,
        "images_seen": about["trained"]["images_seen"],
        "data": about["trained"]["data"],
        "metrics": metrics,
    }
    write_row(row)
    print(f"embedded {target.name}, sha256 {row['sha256'][:12]}…, {row['images_seen']:,} pictures seen")


def write_row(row: dict[str, Any]) -> None:
    """Put a line into the table of weights, in the place of the one of its name or at the end."""
    table = FOLDER / "table.json"
    rows = json.loads(table.read_text()) if table.is_file() else []
    kept = [r for r in rows if r["name"] != row["name"]]
    at = next((i for i, r in enumerate(rows) if r["name"] == row["name"]), len(kept))
    table.write_text(json.dumps([*kept[:at], row, *kept[at:]], indent=1) + "\n")
