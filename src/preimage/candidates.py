"""Candidates: what every method returns, and what can be asked of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor

from preimage.degrade.degradation import Degradation
from preimage.degrade.learned import NOISE, pack_noise
from preimage.errors import InputError

HALF_CERTAINTY = 16.0
"""Grey levels of spread between candidates that halve `Candidates.certainty`."""

TOLERANCE = "tolerance"
"""Why candidates are not exact that answer a noisy photo within so many grey levels, and the note in a file that says how many."""

_PER_CANDIDATE = ("error", "exact", "moved", "error_before", "steps")
_MAYBE = ("l1", "worst", "share")  # per candidate too, where there is one


@dataclass(frozen=True, eq=False, kw_only=True)
class Candidates:
    """Sharp pictures that one low-resolution picture may have come from; their detail is imagined.

    Root mean squares (RMS) run over all pixels and channels; grey levels are those of 8 bits, 0 to 255.

    Attributes:
        images: (n, 3, H, W) float32 RGB in [0, 1], every value k/255: exactly the file that is saved.
        seeds: n seeds, the addresses of the candidates.
        lr: (3, h, w) float32 RGB in [0, 1], the picture that went in.
        degradation: what the candidates answer to, linear or learned.
        error: (n,) RMS difference in grey levels between `lr` and the downscaled saved file.
        exact: (n,) bool, whether the saved file downscales to `lr` byte for byte; never with a learned degradation.
        moved: (n,) RMS change in grey levels that the consistency projection made.
        error_before: (n,) RMS downscaling error in grey levels before that projection: how well the prior itself
            explains `lr`.
        steps: (n,) integers, iterations spent.
        latents: what to continue from, by name; each (n, ...).
        seconds: time spent on all of them.
        method: name of the method.
        prior: name of the prior, None for a method without.
        tolerance: grey levels by which every value of the shrunken files may miss `lr`, by choice; then none is called exact.
        l1: (n,) mean absolute difference in grey levels between `lr` and the saved file as the learned degradation makes
            it small with the candidate's noise; None where the downscaling is linear.
        edit: what was changed of the latents that the photo led to, such as "age=1.5,smile=-1"; empty for nothing.
        worst: (n,) largest difference in grey levels between `lr` and the downscaled saved file; None without a tolerance.
        share: (n,) which part of all that were drawn each stands for, in (0, 1]; None for candidates that were not picked.
        picked: of which candidates, and by what, they were picked (`preimage.picking.pick`); empty for those that were not.

    Raises:
        InputError: no candidate, lengths or shapes that do not fit, picture values off the 8-bit grid, an exact candidate of
            a learned degradation.
    """

    images: Tensor
    seeds: tuple[int, ...]
    lr: Tensor
    degradation: Degradation
    error: Tensor
    exact: Tensor
    moved: Tensor
    error_before: Tensor
    steps: Tensor
    latents: Mapping[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0
    method: str
    prior: str | None = None
    tolerance: float = 0.0
    l1: Tensor | None = None
    worst: Tensor | None = None
    edit: str = ""
    share: Tensor | None = None
    picked: str = ""

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.shape[1] != 3 or self.images.numel() == 0:
            raise InputError(f"candidates: images must be (n, 3, H, W), n at least 1, not {tuple(self.images.shape)}")
        if self.lr.ndim != 3 or self.lr.shape[0] != 3 or self.lr.numel() == 0:
            raise InputError(f"candidates: lr must be (3, h, w), not {tuple(self.lr.shape)}")
        n = len(self.images)
        if len(self.seeds) != n:
            raise InputError(f"candidates: {n} images but {len(self.seeds)} seeds; give one seed per image")
        for name in self._per_candidate():
            if tuple(getattr(self, name).shape) != (n,):
                raise InputError(f"candidates: {name} must be ({n},), not {tuple(getattr(self, name).shape)}")
        for name, latent in self.latents.items():
            if latent.ndim == 0 or len(latent) != n:
                raise InputError(f"candidates: latents[{name!r}] must be ({n}, ...), not {tuple(latent.shape)}")
        if self.exact.dtype != torch.bool or self.steps.is_floating_point():
            raise InputError("candidates: exact must be bool and steps whole numbers")
        for name in ("images", "lr"):
            _check_bytes(getattr(self, name), name)
        if self.inexact_because and bool(self.exact.any()):
            raise InputError(f"candidates: exact cannot be true with a {self.inexact_because}; it proves nothing")
        if not 0 <= self.tolerance < 256:
            raise InputError(f"candidates: tolerance ({self.tolerance}) must lie in [0, 256), in grey levels")

    @property
    def inexact_because(self) -> str:
        """Why none of them is exact, "learned degradation" or "tolerance"; else empty."""
        return self.degradation.why_inexact or (TOLERANCE if self.tolerance else "")

    @property
    def within(self) -> Tensor:
        """(n,) bool, whether a candidate keeps to the tolerance; without one, whether it is exact."""
        return self.exact if self.worst is None else self.worst <= self.tolerance

    def _per_candidate(self) -> list[str]:
        return [*_PER_CANDIDATE, *(name for name in _MAYBE if getattr(self, name) is not None)]

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Candidates]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int | slice) -> Candidates:
        """One candidate, or a slice of them, as Candidates.

        Raises:
            IndexError: an index out of range.
        """
        if isinstance(index, slice):
            return self.select(range(len(self))[index])
        return self.select([range(len(self))[index]])

    def select(self, indices: Sequence[int] | Tensor) -> Candidates:
        """The candidates at `indices`, in that order.

        Time is shared out evenly, so that `seconds` adds up again in `cat`.

        Args:
            indices: whole numbers, negative ones count from the end; or (n,) bool.

        Raises:
            InputError: nothing selected.
            IndexError: an index out of range.
        """
        chosen = torch.as_tensor(indices)
        if chosen.dtype == torch.bool:
            if chosen.shape != (len(self),):
                raise IndexError(f"a mask for {len(self)} candidates must be ({len(self)},), not {tuple(chosen.shape)}")
            chosen = chosen.nonzero()[:, 0]
        picks = [range(len(self))[i] for i in chosen.tolist()]
        if not picks:
            raise InputError(f"selected none of {len(self)} candidates; select at least one")

        def pick(values: Tensor) -> Tensor:
            return values[torch.tensor(picks, device=values.device)]

        per_candidate: dict[str, Any] = {name: pick(getattr(self, name)) for name in self._per_candidate()}
        return replace(
            self,
            images=pick(self.images),
            seeds=tuple(self.seeds[i] for i in picks),
            latents={name: pick(latent) for name, latent in self.latents.items()},
            seconds=self.seconds * len(picks) / len(self),
            **per_candidate,
        )

    @staticmethod
    def cat(parts: Sequence[Candidates]) -> Candidates:
        """Joins batches of the same picture into one; time adds up, latents are kept where every part has them.

        Raises:
            InputError: nothing to join, or parts of different inputs, degradations, sizes, methods or priors.
        """
        if not parts:
            raise InputError("no candidates to join; give at least one batch")
        first = parts[0]
        for part in parts[1:]:
            for name in ("method", "prior", "tolerance", "edit", "picked"):
                if getattr(part, name) != getattr(first, name):
                    values = f"{getattr(first, name)!r} and {getattr(part, name)!r}"
                    raise InputError(f"candidates of different {name} cannot be joined: {values}; keep them apart")
            if part.images.shape[1:] != first.images.shape[1:] or not torch.equal(part.lr, first.lr):
                raise InputError("candidates of different inputs or sizes cannot be joined; keep them apart")
            if part.degradation is not first.degradation and _spec(part.degradation) != _spec(first.degradation):
                raise InputError("candidates of different degradations cannot be joined; keep them apart")
        per_candidate: dict[str, Any] = {
            name: torch.cat([getattr(part, name) for part in parts]) for name in first._per_candidate()
        }
        shared = [name for name in first.latents if all(name in part.latents for part in parts)]
        return replace(
            first,
            images=torch.cat([part.images for part in parts]),
            seeds=tuple(seed for part in parts for seed in part.seeds),
            latents={name: torch.cat([part.latents[name] for part in parts]) for name in shared},
            seconds=sum(part.seconds for part in parts),
            **per_candidate,
        )

    def best(self) -> int:
        """Index of the candidate whose picture, before projection, downscales closest to `lr`; the first of equals.

        After the projection all are (nearly) exact; what the prior reached by itself tells them apart.
        """
        errors = self.error_before.tolist()
        return min(range(len(self)), key=lambda i: (errors[i] != errors[i], errors[i], i))  # NaN last

    def spread(self) -> Tensor:
        """How much the candidates disagree, pixel by pixel.

        Returns:
            (H, W) float32: the sample standard deviation (n − 1) over the candidates, averaged over the channels, in
            grey levels.

        Raises:
            InputError: one candidate only, which tells nothing about the others.
        """
        return spread(self.images)

    def certainty(self) -> Tensor:
        """What the photo pins down (1) and what is imagined (towards 0), pixel by pixel.

        The scale is absolute, the same for every picture: 2^(−spread / `HALF_CERTAINTY`), so that every 16 grey
        levels of spread halve it. It says where the candidates agree, not that they agree with the truth.

        Returns:
            (H, W) float32 in (0, 1].

        Raises:
            InputError: one candidate only.
        """
        return certainty(self.images)

    def grid(self) -> Tensor:
        """Input, candidates and (for two or more) certainty side by side, with captions, for people.

        Returns:
            (3, height, width) float32 in [0, 1].
        """
        from preimage.sheet import candidate_grid  # loads Pillow, which `import preimage` does not need

        captions = [
            caption(seed, None if self.share is None else float(self.share[i])) for i, seed in enumerate(self.seeds)
        ]
        return candidate_grid(self.lr, self.images, captions, self.certainty() if len(self) > 1 else None)

    def provenance(self, i: int) -> dict[str, str]:
        """Where candidate `i` comes from, as text for its PNG file.

        Raises:
            IndexError: no such candidate.
        """
        i = range(len(self))[i]
        learned = {}
        if self.l1 is not None:
            learned = {"l1": f"{float(self.l1[i]):.6g}", "inexact_because": self.inexact_because}
            if NOISE in self.latents:
                learned[NOISE] = pack_noise(self.latents[NOISE][i])
        elif self.tolerance:
            learned = {TOLERANCE: repr(self.tolerance).removesuffix(".0"), "inexact_because": self.inexact_because}
        return {
            "Software": f"preimage {package_version()}",
            "Comment": "One of many pictures that could lie behind the same photo. Its detail is imagined."
            if learned
            else "One of many pictures that shrink to the same photo. Its detail is imagined.",
            "method": self.method,
            "prior": self.prior or "none",
            "seed": str(self.seeds[i]),
            "degradation": _spec(self.degradation),
            "exact": "true" if bool(self.exact[i]) else "false",
            "error": f"{float(self.error[i]):.6g}",
            "error_before": f"{float(self.error_before[i]):.6g}",
            "moved": f"{float(self.moved[i]):.6g}",
            "steps": str(int(self.steps[i])),
            **({"edit": self.edit} if self.edit else {}),
            **({"picked": self.picked} if self.picked else {}),
            **({} if self.share is None else {"share": f"{float(self.share[i]):.4g}"}),
            **learned,
        }


def spread(images: Tensor) -> Tensor:
    """`Candidates.spread` of pictures (n, 3, H, W) in [0, 1]."""
    if len(images) < 2:
        raise InputError("one candidate does not show what is imagined; draw at least 2, better 8")
    return images.std(dim=0, correction=1).mean(dim=0) * 255


def certainty(images: Tensor) -> Tensor:
    """`Candidates.certainty` of pictures (n, 3, H, W) in [0, 1]."""
    return torch.exp2(-spread(images) / HALF_CERTAINTY)


def caption(seed: int, share: float | None = None) -> str:
    """What stands below a candidate: its seed and, of a picked one, the share of all that it stands for."""
    return f"seed {seed}" if share is None else f"seed {seed}: {share:.0%}"


def _spec(degradation: Degradation) -> str:
    """A degradation's description as JSON with sorted keys, so that equal ones give equal text."""
    return json.dumps(degradation.spec(), sort_keys=True)


def _check_bytes(values: Tensor, name: str) -> None:
    if values.dtype != torch.float32:
        raise InputError(f"candidates: {name} must be float32, not {values.dtype}")
    levels = values * 255
    off = bool(((levels - levels.round()).abs() > 1e-3).any())
    if off or not bool(((values >= 0) & (values <= 1)).all()):  # also true for NaN
        raise InputError(f"candidates: {name} must hold k/255 in [0, 1]; round it, see image.to_uint8")


def package_version() -> str:
    try:
        return version("preimage")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "unknown"
