"""DeepSEE (Bühler et al., 2020): one pass that is told which regions there are and how each of them looks (docs/deepsee.md).

A network finds the regions in the photo, an encoder the styles; a user may give, edit or draw both. Every answer is made exact, and says
how much that had to undo: a strong edit contradicts the photo.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from preimage.candidates import Candidates
from preimage.degrade.linear import LinearOperator
from preimage.device import autocast
from preimage.errors import InputError, MethodError
from preimage.invert.deepsee_answers import answer, jittered, mask_of, noise_of, present, rows_of, small_photo, varied
from preimage.invert.deepsee_settings import DeepSEESettings
from preimage.invert.finish import finish
from preimage.invert.guides import as_guide
from preimage.invert.method import Capabilities, Handle, Input, network_or_load
from preimage.invert.one_pass import OnePass
from preimage.invert.problem import Problem
from preimage.invert.queue import Row, by_photo, latents_of, photos_of
from preimage.invert.settings import Settings
from preimage.memory import unless_out_of_memory
from preimage.nets.deepsee import DeepSEENetwork
from preimage.nets.layers import freeze
from preimage.semantics.edits import apply_edits
from preimage.semantics.labels import find_regions
from preimage.semantics.segment import segment
from preimage.weights import load_network, load_upsampler

PARTS = (
    "background", "skin", "nose", "eyeglasses", "eyes", "brows", "ears", "mouth", "lips", "hair", "hat", "earring", "necklace", "neck",
    "cloth",
)  # fmt: skip
"""Regions that are turned apart; left and right go together."""
STYLE, MASK = "style", "mask"
"""Latents of candidates: (n, regions, d), and labels (n, R, R)."""


def _handles() -> tuple[Handle, ...]:
    found = [
        Handle(MASK, "labels", help="another map of regions"),
        Handle("reference", "picture", help="a sharp face whose styles are taken over"),
    ]
    for part in PARTS:
        found += [
            Handle(
                f"{part}-like", "picture", regions=(part,), help=f"a sharp face whose style of {part} is taken over"
            ),
            Handle(f"{part}-shift", "slider", -1, 1, (part,), help="added to all numbers of the style: contrast"),
            Handle(part, "reseed", regions=(part,), help="the style: how far to move to a fresh one"),
        ]
    return (*found, Handle(STYLE, "reseed", regions=PARTS, help="all styles: how far to move to fresh ones"))


class DeepSEE(OnePass):
    """One pass of a network for each map of regions and each set of styles; `weights` is that network. See `Method`."""

    name = "deepsee"
    capabilities = Capabilities(
        summary="one pass of a network that is told 19 regions and how each looks: steered region by region",
        paper="Bühler et al., ACCV 2020, arXiv 2004.04433",
        weights=True,
        inputs=(
            Input(
                MASK, "labels", help="a map of regions, palette or grey PNG of labels 0 to 18; else a network finds it"
            ),
            Input("mask_from", "picture", help="a sharp, aligned face whose regions are taken over"),
            Input("reference", "picture", help="a sharp, aligned face (or any picture) whose styles are taken over"),
            Input("reference_mask", "labels", help="the reference's map of regions; else a network finds it"),
        ),
        handles=_handles(),
        continues=True,
    )
    presets: ClassVar[Mapping[str, DeepSEESettings]] = {"default": DeepSEESettings()}
    network: DeepSEENetwork

    def load(self, prior: Any, weights: Any) -> None:
        network = network_or_load(weights, partial(load_upsampler, family=self.name))
        if not isinstance(network, DeepSEENetwork):
            raise MethodError(
                f"a {type(network).__name__} is no network of deepsee, which takes what `preimage train deepsee-16to128` and its "
                "like export (deepsee.safetensors). Choose one of these, or the method that the network is of."
            )
        freeze(network, self.device)
        self.network = network
        self._segmenters: dict[str, nn.Module] = {}
        self._known: tuple[Tensor, Tensor | None, Tensor] | None = None  # the last reference, its map, its styles

    @property
    def resolution(self) -> int:
        return self.network.resolution

    @property
    def networks(self) -> Mapping[str, Any]:
        found = list(self._segmenters.values())
        return {"weights": self.network} | ({"regions": found[-1]} if found else {})

    def handle_names(self) -> tuple[str, ...]:
        """Those of regions where its network is told any, those of styles where it has some."""
        c = self.network.config
        kept = []
        for handle in self.capabilities.handles:
            needs_sharp, needs_regions = handle.kind == "picture", handle.name != STYLE and handle.name != "reference"
            if (
                (c.regions > 1 or not needs_regions)
                and (c.style or handle.name == MASK)
                and (c.sharp_styles or not needs_sharp)
            ):
                kept.append(handle.name)
        return tuple(kept)

    def check(self, settings: Settings, seeds: Sequence[int] = (), guides: Collection[str] = ()) -> None:
        chosen, c = cast(DeepSEESettings, settings), self.network.config
        if MASK in guides and "mask_from" in guides:
            raise MethodError("mask and mask_from both say which regions there are; give one of them.")
        regions = [name for name in (MASK, "mask_from", "reference_mask") if name in guides]
        regions += [name for name in ("edit_mask", "reference_regions") if getattr(chosen, name)]
        if regions and c.regions == 1:
            raise MethodError(f"{regions[0]}: {self.network.name} is told of no regions; leave it out.")
        if "reference" in guides and not (c.style and c.sharp_styles):
            raise MethodError(f"reference: {self.network.name} takes no styles of sharp faces; leave it out.")
        if (chosen.reference_regions or "reference_mask" in guides) and "reference" not in guides:
            raise MethodError(
                "reference_regions and reference_mask say something of a reference; give one, or leave them out."
            )
        if c.style and not c.small_styles and "reference" not in guides:
            raise MethodError(f"{self.network.name} takes its styles from a sharp face alone; give a reference.")
        if "reference" in guides and chosen.towards >= 0:
            raise MethodError("reference and towards both say where to; give one of them.")
        if chosen.interpolate and "reference" not in guides and chosen.towards < 0:
            raise MethodError(f"interpolate ({chosen.interpolate}) needs a reference or towards to walk to.")
        if chosen.interpolate and seeds and max(seeds) > chosen.interpolate:
            raise MethodError(
                f"interpolate ({chosen.interpolate}): seeds are the steps of the walk, 0 to {chosen.interpolate}; "
                f"{max(seeds)} is beyond."
            )
        own = "reference" in guides and "reference_mask" not in guides and chosen.reference_layout == "own"
        found = MASK in guides and not own
        if c.regions > 1 and not found:
            self._segmenter(chosen)  # here, so that a missing one shows before any photo is looked at

    def answers(self, rows: Sequence[Row], settings: Settings) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """See `OnePass.answers`; the settings are `DeepSEESettings`."""
        chosen, problem, at = cast(DeepSEESettings, settings), rows[0].ask.problem, latents_of(rows)
        operator = cast(LinearOperator, problem.degradation)
        photos = photos_of(rows).to(self.device)
        if at is not None:
            labels, style = self._taken_up(at, len(rows))
        else:
            each = {id(ask): self._labels(ask.problem, chosen) for ask, _ in by_photo(rows)}
            labels = torch.stack([each[id(row.ask)] for row in rows])
            style = self._styles(photos, labels, operator, [row.seed for row in rows], chosen, problem)
        return self._answers(photos, operator, labels, style)

    # ---------------------------------------------------------------------------------------------------- regions

    def _segmenter(self, settings: DeepSEESettings) -> nn.Module:
        name = settings.segmenter
        if name not in self._segmenters:
            network = load_network(name or None, "segmenter")
            freeze(network, self.device)
            self._segmenters[name] = network
        return self._segmenters[name]

    def _find(self, picture: Tensor, settings: DeepSEESettings) -> Tensor:
        """The regions (R, R) of a picture of any size."""
        if self.network.config.regions == 1:
            return torch.zeros(self.resolution, self.resolution, dtype=torch.long, device=self.device)
        return segment(self._segmenter(settings), picture[None].to(self.device).float(), self.resolution)[0]

    def _labels(self, problem: Problem, settings: DeepSEESettings) -> Tensor:
        """The regions (R, R) that a photo is answered with."""
        guides = problem.guides
        if guides.get(MASK) is not None:
            found = guides[MASK].to(self.device).long()
        else:
            source = guides.get("mask_from")
            found = self._find(problem.lr if source is None else source, settings)
        return apply_edits(found, settings.edits) if settings.edits else found

    # ----------------------------------------------------------------------------------------------------- styles

    @torch.no_grad()
    def _styles(
        self,
        photos: Tensor,
        labels: Tensor,
        operator: LinearOperator,
        seeds: Sequence[int],
        settings: DeepSEESettings,
        problem: Problem | None = None,
    ) -> Tensor | None:
        """The styles (n, regions, d) of these seeds, as the settings ask for."""
        c, network, n = self.network.config, self.network, len(photos)
        if not c.style:
            return None
        mask, noise = mask_of(network, labels), noise_of(settings.style_noise, c.regions)
        base = torch.zeros(n, c.regions, c.style, device=self.device)
        if c.small_styles:
            base = cast(Tensor, network.encode(small_photo(network, operator, photos).clamp(0, 1), mask, False))
        walk = settings.interpolate
        own = [settings.base] * n if walk else seeds
        style = jittered(varied(network, base, own, settings.temperature), own, noise)
        shares = [seed / walk for seed in seeds] if walk else [settings.blend] * n
        target = None
        if problem is not None and problem.guides.get("reference") is not None:
            if settings.reference_layout == "photo":
                picture = problem.guides["reference"].to(self.device).float()
                found = cast(Tensor, network.encode(picture.expand(n, -1, -1, -1), mask, True))
            else:
                found = self._reference(problem, settings)
            taken = present(found) & self._named(settings.reference_regions)
            target = torch.where(taken, jittered(found.expand_as(style), own, noise), style)
        elif settings.towards >= 0:
            far = [settings.towards] * n
            target = jittered(varied(network, base, far, settings.temperature), far, noise)
        if target is None:
            return style
        share = torch.tensor(shares, device=style.device)[:, None, None]
        return (style + share * (target - style)).clamp(-1, 1)

    def _named(self, regions: str) -> Tensor:
        """Whether each region is among those that are named, (regions, 1); all where none is."""
        there = torch.ones(self.network.config.regions, 1, dtype=torch.bool, device=self.device)
        if regions and len(there) > 1:
            there[:] = False
            there[list(find_regions(regions))] = True
        return there

    def _reference(self, problem: Problem, settings: DeepSEESettings) -> Tensor:
        """The styles (1, regions, d) of a reference, found once."""
        picture, given = problem.guides["reference"], problem.guides.get("reference_mask")
        if self._known is None or self._known[0] is not picture or self._known[1] is not given:
            self._known = (picture, given, self._encoded(picture, given, settings))
        return self._known[2]

    @torch.no_grad()
    def _encoded(self, picture: Tensor, labels: Tensor | None, settings: DeepSEESettings) -> Tensor:
        labels = self._find(picture, settings) if labels is None else labels.to(self.device)
        found = self.network.encode(picture[None].to(self.device).float(), mask_of(self.network, labels[None]), True)
        return cast(Tensor, found)

    # ---------------------------------------------------------------------------------------------------- answers

    def _answers(
        self, photos: Tensor, operator: LinearOperator, labels: Tensor, style: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Pictures, their latents, and what they were before the projection."""
        with torch.no_grad(), autocast(self.device, self.dtype):
            made, before = answer(self.network, operator, photos, mask_of(self.network, labels), style)
        latents = {MASK: labels.to(torch.uint8)} | ({} if style is None else {STYLE: style})
        return made.cpu(), latents, before.cpu()

    def _taken_up(self, latents: Mapping[str, Tensor], n: int) -> tuple[Tensor, Tensor | None]:
        """Labels and styles in the latents of candidates.

        Raises:
            MethodError: of another network.
        """
        c = self.network.config
        wanted = {MASK: (n, c.resolution, c.resolution)} | ({STYLE: (n, c.regions, c.style)} if c.style else {})
        for name, shape in wanted.items():
            found = tuple(latents[name].shape) if name in latents else None
            if found != shape:
                raise MethodError(f"{name} to go on from: {found}, but {self.network.name} needs {shape}.")
        style = latents[STYLE].to(self.device).float() if c.style else None
        return latents[MASK].to(self.device).long(), style

    def _steer(self, candidate: Candidates, changes: Mapping[str, Any], seeds: Sequence[int]) -> Candidates:
        """Styles of regions moved, taken from a picture or drawn anew, and the map of regions replaced."""
        began, n = time.monotonic(), len(seeds)
        settings = cast(DeepSEESettings, self.settings)
        operator = cast(LinearOperator, candidate.degradation)
        labels, style = self._taken_up(rows_of(candidate.latents, n), n)
        photos = candidate.lr.expand(n, -1, -1, -1).to(self.device)
        if MASK in changes:
            given = as_guide(Input(MASK, "labels"), changes[MASK], self.resolution).to(self.device)
            labels = given.expand(n, -1, -1)
            mask_of(self.network, labels)  # refuses what is no label
        if style is not None:
            usual = settings.of_the_photo()
            fresh = cast(Tensor, self._styles(photos, labels, operator, seeds, usual))
            known = present(style)
            style = torch.where(known, style, fresh)  # regions that the map did not have before
            for name, value in changes.items():
                if name != MASK:
                    style = self._turned(style, fresh, name, value, settings)
        made = unless_out_of_memory(partial(self._answers, photos, operator, labels, style))
        if made is None:
            raise MethodError(f"{n} answers do not fit into memory at once; ask for fewer seeds.")
        images, latents, before = made
        return finish(
            images, Problem(candidate.lr, candidate.degradation, self.resolution), seeds, method=self.name,
            prior=self.network.name, steps=1, began=began, latents=latents, before=before, edit=_said(candidate.edit, changes),
        )  # fmt: skip

    def _turned(self, style: Tensor, fresh: Tensor, name: str, value: Any, settings: DeepSEESettings) -> Tensor:
        """Styles after one handle was turned."""
        part = name.removesuffix("-like").removesuffix("-shift")
        there = self._named("" if part in (STYLE, "reference") else part) & present(style)
        if name.endswith("-shift"):
            target = style + float(value)
        elif name.endswith("-like") or name == "reference":
            picture = as_guide(Input(name, "picture"), value, self.resolution)
            found = self._encoded(picture, None, settings)
            if not bool((present(found) & there).any()):
                raise InputError(
                    f"{name}: nothing of the kind was found in that picture, or the answer has none; give another one."
                )
            target = torch.where(present(found), found, style)
        else:
            target = style + float(value) * (fresh - style)
        return torch.where(there, target, style).clamp(-1, 1)


def _said(before: str, changes: Mapping[str, Any]) -> str:
    """What was changed, in words, behind what was changed before."""
    words = [f"{k}={v:g}" if isinstance(v, int | float) else k for k, v in changes.items()]
    return ",".join(filter(None, [before, *words]))
