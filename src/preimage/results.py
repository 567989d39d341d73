"""A folder of results: what was written, what is still to do, and how to write without losing anything."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from preimage.candidates import Candidates, certainty
from preimage.errors import InputError, OutputError
from preimage.files import append_line, read_jsonl, save_png, write_bytes_atomic, write_text_atomic
from preimage.image import read_image
from preimage.sheet import candidate_grid

# what may differ between two calls that fill the same folder
FREE = ("inputs", "seeds", "device", "batch", "versions", "save_latents", "variants")


@dataclass
class ResultFolder:
    """DIR/run.yaml, DIR/summary.jsonl, DIR/<stem>/{input,seed0000,…,grid}.png.

    Attributes:
        path: DIR.
        done: lines of summary.jsonl by (stem, file).
    """

    path: Path
    done: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def open(cls, path: str | Path, settings: Mapping[str, Any], overwrite: bool = False) -> ResultFolder:
        """Create the folder, or go on in one that was made with the same settings.

        Args:
            path: DIR.
            settings: resolved settings; all but `FREE` must agree with what the folder holds.
            overwrite: forget what the folder holds (its files are replaced one by one).

        Raises:
            OutputError: the folder cannot be created or written.
            InputError: it holds results of other settings.
        """
        folder = cls(Path(path))
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{path}: cannot be created ({error.strerror}). Choose another folder with -o.") from None
        record = folder.path / "run.yaml"
        if record.is_file() and not overwrite:
            before = read_yaml(record)
            changed = [k for k in settings if k not in FREE and before.get(k) != json.loads(json.dumps(settings[k]))]
            if changed:
                raise InputError(
                    f"{path} holds results of other settings ({', '.join(changed)} differ). Choose another folder, repeat the "
                    "old settings (see run.yaml), or pass --overwrite."
                )
            folder.done = {(d["input"], d["file"]): d for d in read_jsonl(folder.path / "summary.jsonl")}
        elif overwrite:
            (folder.path / "summary.jsonl").unlink(missing_ok=True)
        write_text_atomic(record, to_yaml(settings))
        return folder

    def claim(self, stem: str, lr: Tensor, overwrite: bool = False) -> Path:
        """Make DIR/<stem> for this photo and keep the photo in it.

        Raises:
            InputError: the folder already belongs to another photo of the same name.
        """
        folder = self.path / stem
        kept = folder / "input.png"
        if kept.is_file() and not overwrite and not torch.equal(read_image(kept).pixels, lr):
            raise InputError(
                f"{folder} holds candidates of another picture. Rename yours, or choose another output folder."
            )
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{folder}: cannot be created ({error.strerror}). Choose another folder with -o."
            ) from None
        if not kept.is_file() or overwrite:
            save_png(kept, lr)
        return folder

    def missing(self, stem: str, seeds: Iterable[int], variants: int = 0) -> list[int]:
        """The seeds whose candidate, or one of its variants, is not there yet."""

        def there(file: str) -> bool:
            return (stem, file) in self.done and (self.path / stem / file).is_file()

        return [s for s in seeds if not all(there(seed_file(s, k)) for k in (None, *range(variants)))]

    def write(self, stem: str, candidates: Candidates, variant_of: int | None = None) -> None:
        """Save every candidate and its line in summary.jsonl; the picture first, so that a line never lies.

        Args:
            stem: name of the input.
            candidates: what to save.
            variant_of: the seed whose fine noise they vary; their own seeds are those of the noise.
        """
        more: dict[str, Any] = {} if variant_of is None else {"variant_of": variant_of}
        for i, seed in enumerate(candidates.seeds):
            file = seed_file(seed) if variant_of is None else seed_file(variant_of, seed)
            save_png(
                self.path / stem / file,
                candidates.images[i],
                candidates.provenance(i) | {k: str(v) for k, v in more.items()},
            )
            line: dict[str, Any] = {
                "input": stem,
                "file": file,
                "seed": seed,
                "method": candidates.method,
                "prior": candidates.prior,
                "exact": bool(candidates.exact[i]),
                "error": round(float(candidates.error[i]), 4),
                "error_before": round(float(candidates.error_before[i]), 4),
                "moved": round(float(candidates.moved[i]), 4),
                "steps": int(candidates.steps[i]),
                "seconds": round(candidates.seconds / len(candidates), 3),
                **more,
            }
            if candidates.l1 is not None:
                line |= {"l1": round(float(candidates.l1[i]), 4), "inexact_because": candidates.inexact_because}
            append_line(self.path / "summary.jsonl", json.dumps(line))
            self.done[stem, file] = line

    def grid(self, stem: str, lr: Tensor, seeds: Iterable[int]) -> Path | None:
        """Draw DIR/<stem>/grid.png from the saved files of these seeds: input, candidates, certainty."""
        seeds = [s for s in seeds if (self.path / stem / seed_file(s)).is_file()]
        if not seeds:
            return None
        images = torch.stack([read_image(self.path / stem / seed_file(s)).pixels for s in seeds])
        path = self.path / stem / "grid.png"
        save_png(
            path,
            candidate_grid(lr, images, [f"seed {s}" for s in seeds], certainty(images) if len(seeds) > 1 else None),
        )
        return path


def save_latents(path: Path, candidates: Candidates) -> None:
    """Latents to continue from, as safetensors, replaced at once or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    from safetensors.torch import save

    tensors = {name: value.contiguous() for name, value in candidates.latents.items()}
    write_bytes_atomic(path, save(tensors, {"seeds": json.dumps(candidates.seeds)}))


def seed_file(seed: int, noise: int | None = None) -> str:
    """File name of a candidate, or of a variant with other fine noise: the seeds name it."""
    return f"seed{seed:04d}.png" if noise is None else f"seed{seed:04d}_noise{noise:04d}.png"


def to_yaml(values: Mapping[str, Any]) -> str:
    """Settings as YAML text."""
    import yaml

    return str(yaml.safe_dump(json.loads(json.dumps(values)), sort_keys=False, allow_unicode=True))


def read_yaml(path: Path) -> dict[str, Any]:
    """Settings from a YAML file; empty if it holds none."""
    import yaml

    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: not readable as YAML ({error}). Mend or delete it.") from None
    return values if isinstance(values, dict) else {}
