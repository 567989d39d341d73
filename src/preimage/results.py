"""A folder of results: what was written, what is still to do, and how to write without losing anything."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from preimage.candidates import Candidates, caption, certainty
from preimage.errors import InputError, OccupiedError, OutputError
from preimage.files import (
    append_line,
    make_folder,
    plain_name,
    read_jsonl,
    read_yaml,
    save_png,
    to_yaml,
    write_text_atomic,
)
from preimage.image import open_image, read_image
from preimage.latent_files import add_latents
from preimage.locks import Holder
from preimage.processes import changing, remove_litter
from preimage.sheet import candidate_grid
from preimage.texts import finite

# what may differ between two calls that fill the same folder
FREE = (
    "inputs",
    "seeds",
    "device",
    "batch",
    "threads",
    "versions",
    "save_latents",
    "variants",
    "trained_for",
    "side_outputs",
)


@dataclass
class ResultFolder:
    """DIR/run.yaml, DIR/summary.jsonl, DIR/<stem>/{input,seed0000,…,grid}.png; side outputs as side32_seed0000.png beside them.

    Several processes may fill one folder with the same settings (`preimage.locks.Holder`); each line is written once.

    Attributes:
        path: DIR.
        done: lines of summary.jsonl by (stem, file).
        notes: what was found damaged and passed over, for people.
    """

    path: Path
    done: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _holder: Holder | None = None
    _read: tuple[int, int, int] = (0, 0, 0)  # the summary as last read: inode, size, time

    @classmethod
    def open(cls, path: str | Path, settings: Mapping[str, Any], overwrite: bool = False) -> ResultFolder:
        """Create the folder, or go on in one that was made with the same settings.

        Args:
            path: DIR.
            settings: resolved settings; all but `FREE` must agree with what the folder holds.
            overwrite: forget what the folder holds (its files are replaced one by one).

        Raises:
            OutputError: the folder cannot be created or written.
            InputError: it holds results of other settings, or another run fills it with other ones right now.
        """
        folder = cls(make_folder(path))
        binding = {k: v for k, v in json.loads(json.dumps(settings)).items() if k not in FREE}
        digest = hashlib.sha256(json.dumps(binding, sort_keys=True).encode()).hexdigest()
        folder._holder = Holder(folder.path, digest, exclusive=overwrite)
        try:
            with changing(folder.path):
                folder._start(settings, binding, overwrite)
        except BaseException:
            folder.close()
            raise
        return folder

    def _start(self, settings: Mapping[str, Any], binding: Mapping[str, Any], overwrite: bool) -> None:
        record, summary = self.path / "run.yaml", self.path / "summary.jsonl"
        if not record.is_file() and not overwrite and (os.path.lexists(record) or read_jsonl(summary)):
            raise InputError(
                f"{self.path} holds results, but no readable run.yaml that says of which settings. Bring it back, choose another "
                "folder, or pass --overwrite."
            )
        if record.is_file() and not overwrite:
            before = read_yaml(record)
            changed = [k for k, value in binding.items() if before.get(k) != value]
            if changed:
                raise InputError(
                    f"{self.path} holds results of other settings ({', '.join(changed)} differ). Choose another folder, repeat "
                    "the old settings (see run.yaml), or pass --overwrite."
                )
            self._refresh()
        elif overwrite:
            summary.unlink(missing_ok=True)
        write_text_atomic(record, to_yaml(settings))
        inside = [p for p in self.path.iterdir() if p.is_dir() and not p.is_symlink()]
        remove_litter(self.path, *inside, alone=self._holder is None or self._holder.alone)

    def close(self) -> None:
        """Give the folder up to runs of other settings."""
        if self._holder is not None:
            self._holder.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _refresh(self) -> None:
        """Read summary.jsonl again if anybody has changed it, and rid it of damaged lines; only while `changing`."""
        summary = self.path / "summary.jsonl"
        mark = _mark(summary)
        if mark == self._read:
            return
        damaged: list[int] = []
        lines = read_jsonl(summary, damaged)
        shaped = [line for line in lines if is_listed(line)]
        if damaged or len(shaped) < len(lines):
            where = f" (line {', '.join(map(str, damaged[:5]))})" if damaged else ""
            count = len(damaged) + len(lines) - len(shaped)
            self.notes.append(f"{summary}: {count} damaged line(s) passed over{where}; what they listed is made again")
            write_text_atomic(summary, "".join(f"{json.dumps(line)}\n" for line in shaped))
            mark = _mark(summary)
        self.done = {(line["input"], line["file"]): line for line in shaped}
        self._read = mark

    def place(self, stem: str) -> Path:
        """DIR/<stem>, which is always a folder in DIR itself.

        Raises:
            InputError: a name that leads elsewhere.
        """
        folder = self.path / stem
        if plain_name(stem) != stem or folder.is_symlink():
            raise InputError(
                f"{stem!r} is no name for a folder in {self.path}; a write would leave it. Rename the input."
            )
        return folder

    def claim(self, stem: str, lr: Tensor, overwrite: bool = False) -> Path:
        """Make DIR/<stem> for this photo and keep the photo in it.

        Raises:
            InputError: the folder already belongs to another photo of the same name, or the name leads out of DIR.
            OccupiedError: a file stands where the folder belongs.
            OutputError: it cannot be created.
        """
        folder = self.place(stem)
        kept = folder / "input.png"
        whole = is_whole(kept)  # a damaged copy is made again, as a missing one is
        if whole and not overwrite and not torch.equal(read_image(kept).pixels, lr):
            raise InputError(
                f"{folder} holds candidates of another picture. Rename yours, or choose another output folder."
            )
        try:
            folder.mkdir(exist_ok=True)
        except FileExistsError:
            raise OccupiedError(
                f"{folder}: a file stands where a folder is needed; move it away, or choose another folder with -o."
            ) from None
        except OSError as error:
            raise OutputError(
                f"{folder}: cannot be created ({error.strerror}). Choose another folder with -o."
            ) from None
        if not whole or overwrite:
            save_png(kept, lr)
        return folder

    def missing(self, stem: str, seeds: Iterable[int], variants: int = 0, side: int | None = None) -> list[int]:
        """The seeds whose candidate, or one of its variants, is not there whole.

        Args:
            stem: name of the input.
            seeds: which.
            variants: how many of each.
            side: of the pictures; None takes any.
        """
        with changing(self.path):
            self._refresh()

        def there(file: str) -> bool:
            return (stem, file) in self.done and is_whole(self.path / stem / file, side)

        return [s for s in seeds if not all(there(seed_file(s, k)) for k in (None, *range(variants)))]

    def picked(self, stem: str) -> list[int]:
        """The seeds of the picked candidates that are there whole, in the order of picking."""
        with changing(self.path):
            self._refresh()
        lines = [line for (input_, _), line in self.done.items() if input_ == stem and "picked" in line]
        return [line["seed"] for line in lines if is_whole(self.path / stem / line["file"])]

    def write(
        self,
        stem: str,
        candidates: Candidates,
        variant_of: int | None = None,
        files: Sequence[str] | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """Save every candidate and its line in summary.jsonl; the picture first, so that a line never lies.

        Args:
            stem: name of the input.
            candidates: what to save.
            variant_of: the seed whose fine noise they vary; their own seeds are those of the noise.
            files: names in the place of those by seed, seed….png.
            about: what else the lines and the pictures' notes are to say.

        Returns:
            Indices of those that were written; another run may have been faster with the others.
        """
        more: dict[str, Any] = dict(about or {}) | ({} if variant_of is None else {"variant_of": variant_of})
        written = []
        for i, seed in enumerate(candidates.seeds):
            file = seed_file(seed) if variant_of is None else seed_file(variant_of, seed)
            file = file if files is None else files[i]
            path = self.place(stem) / file
            line: dict[str, Any] = {
                "input": stem,
                "file": file,
                "seed": seed,
                "method": candidates.method,
                "prior": candidates.prior,
                "exact": bool(candidates.exact[i]),
                "error": finite(float(candidates.error[i]), 4),
                "error_before": finite(float(candidates.error_before[i]), 4),
                "moved": finite(float(candidates.moved[i]), 4),
                "steps": int(candidates.steps[i]),
                "seconds": round(candidates.seconds / len(candidates), 3),
                **more,
            }
            if candidates.edit:
                line["edit"] = candidates.edit
            if candidates.share is not None:
                line |= {"share": finite(float(candidates.share[i]), 4), "picked": candidates.picked}
            if candidates.l1 is not None:
                line |= {"l1": finite(float(candidates.l1[i]), 4), "inexact_because": candidates.inexact_because}
            elif candidates.tolerance:
                line |= {"tolerance": candidates.tolerance, "inexact_because": candidates.inexact_because}
                line["within"] = bool(candidates.within[i])
            with changing(self.path):
                self._refresh()
                if (stem, file) in self.done and is_whole(path, candidates.images.shape[-1]):
                    continue
                save_png(path, candidates.images[i], candidates.provenance(i) | {k: str(v) for k, v in more.items()})
                self._list(line)
            written.append(i)
        return written

    def write_sides(
        self, stem: str, candidates: Candidates, sides: Mapping[int, Tensor], variant_of: int | None = None
    ) -> None:
        """Save smaller pictures of candidates, {side: (n, 3, side, side)} in [0, 1], beside them; `variant_of` as in `write`.

        Raises:
            OutputError: one cannot be written.
        """
        for i, seed in enumerate(candidates.seeds):
            file = seed_file(seed) if variant_of is None else seed_file(variant_of, seed)
            known = candidates.provenance(i)
            about = {key: known[key] for key in ("Software", "method", "prior", "seed")} | {
                "Comment": "An imagined face as the prior draws it at this size; nothing is proved of it.",
                "side_output_of": file,
            }
            for side, pictures in sides.items():
                save_png(self.place(stem) / f"side{side}_{file}", pictures[i], about)

    def _list(self, line: dict[str, Any]) -> None:
        """Put a line into summary.jsonl, in the place of the one that it replaces."""
        summary, key = self.path / "summary.jsonl", (line["input"], line["file"])
        if key in self.done:
            others = [json.dumps(known) for k, known in self.done.items() if k != key]
            write_text_atomic(summary, "".join(f"{text}\n" for text in others))
        append_line(summary, json.dumps(line, allow_nan=False))
        self.done.pop(key, None)
        self.done[key] = line
        self._read = _mark(summary)

    def keep_latents(self, stem: str, candidates: Candidates, first: int) -> None:
        """Keep latents to go on from in DIR/<stem>/latents<first>.safetensors, beside those of candidates that are listed.

        Raises:
            OutputError: it cannot be written.
        """
        with changing(self.path):
            self._refresh()
            path = self.place(stem) / f"latents{first:04d}.safetensors"
            add_latents(path, candidates, lambda seed: (stem, seed_file(seed)) in self.done)

    def grid(self, stem: str, lr: Tensor, seeds: Iterable[int], sure: Tensor | None = None) -> Path | None:
        """Draw DIR/<stem>/grid.png from the saved files of these seeds: input, candidates, certainty.

        Args:
            stem, lr: name of the input, and the input.
            seeds: which, in this order.
            sure: (H, W) certainty where more were drawn than are saved; None: that of the saved ones.
        """
        listed = {seed: self.done.get((stem, seed_file(seed)), {}).get("share") for seed in seeds}
        return self.grid_of(stem, lr, {seed_file(seed): caption(seed, share) for seed, share in listed.items()}, sure)

    def grid_of(self, stem: str, lr: Tensor, captions: Mapping[str, str], sure: Tensor | None = None) -> Path | None:
        """The same of files by name, with what is written below each."""
        captions = {file: text for file, text in captions.items() if (self.path / stem / file).is_file()}
        if not captions:
            return None
        images = torch.stack([read_image(self.path / stem / file).pixels for file in captions])
        if sure is None and len(images) > 1:
            sure = certainty(images)
        path = self.path / stem / "grid.png"
        save_png(path, candidate_grid(lr, images, list(captions.values()), sure))
        return path


def is_listed(line: Mapping[str, Any]) -> bool:
    """Whether a line of summary.jsonl names a candidate in its folder, and nothing elsewhere."""
    names = (line.get("input"), line.get("file"))
    return all(isinstance(name, str) and plain_name(name) == name for name in names)


def is_whole(path: Path, side: int | None = None) -> bool:
    """Whether a file is a picture that can be decoded, of that side where one is given; whether it is exact is another question."""
    try:
        with open_image(path) as image:
            if side is not None and image.size != (side, side):
                return False
            image.load()
    except InputError:
        return False
    return True


def _mark(path: Path) -> tuple[int, int, int]:
    """What changes when a file is replaced or appended to; zeros for none."""
    try:
        about = path.stat()
    except OSError:
        return 0, 0, 0
    return about.st_ino, about.st_size, about.st_mtime_ns


def seed_file(seed: int, noise: int | None = None) -> str:
    """File name of a candidate, or of a variant with other fine noise: the seeds name it."""
    return f"seed{seed:04d}.png" if noise is None else f"seed{seed:04d}_noise{noise:04d}.png"
