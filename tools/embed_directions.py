"""Put directions of an embedded prior into the package, under the name of their file; the prior finds them by its hash.

python tools/embed_directions.py faces64-directions.safetensors --description "…"
"""

from __future__ import annotations

import shutil

from embedding import arguments, write_row

from preimage.declaration import declared
from preimage.weight_files import read_metadata, sha256
from preimage.weights import FOLDER, check_bound, load_network, weight_table


def main() -> None:
    options = arguments(__doc__).parse_args()
    found = load_network(options.file, "directions")
    about, declares = read_metadata(options.file), declared(found)
    assert declares is not None
    if declares.bound_to is None or declares.bound_to.name not in weight_table():
        raise SystemExit(f"{options.file}: belongs to {declares.bound_to}, which is not embedded; embed that first.")
    check_bound(declares, declares.bound_to.name, about["name"])
    target = FOLDER / f"{about['name']}.safetensors"
    if options.file.resolve() != target.resolve():
        shutil.copyfile(options.file, target)
    target.chmod(0o644)
    trained = about["trained"]
    write_row(
        {
            "name": about["name"],
            "file": target.name,
            "kind": "directions",
            "sha256": sha256(target),
            "licence": about["licence"],
            "description": options.description,
            "recipe": f"preimage directions {declares.bound_to.name}",
            "images_seen": trained["recipe"]["faces"] if trained["data"] else 0,
            "data": trained["data"],
            "metrics": {"found": trained["recipe"]["found"]},
        }
    )
    print(f"embedded {target.name}, sha256 {sha256(target)[:12]}…")


if __name__ == "__main__":
    main()
