"""Latents of a picture, such as another method's answer, for a search to begin at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from preimage.degrade.linear import area
from preimage.generate.prior import Prior
from preimage.invert.problem import Problem
from preimage.invert.queue import Ask, Row
from preimage.invert.search import Search
from preimage.invert.search_settings import SearchSettings

START = "start"
"""Name of the further input (`Capabilities.inputs`) that is such a picture."""


def nearest(prior: Prior, picture: Tensor, seeds: Sequence[int], settings: SearchSettings) -> dict[str, Tensor]:
    """Latents whose pictures are near to one: the same search with the picture itself in the place of the photo.

    Args:
        prior: whose latents.
        picture: (3, R, R) in [0, 1], as large as the prior's.
        seeds: one start each, since the way there begins elsewhere for every seed.
        settings: of the search that follows; `start_steps` of them are taken.

    Returns:
        Latents and noise maps by the names of `Candidates.latents`, one row for each seed.
    """
    side = prior.resolution
    same = area((side, side), lr_size=(side, side)).on(prior.mean_latent.device)
    ask = Ask(Problem(picture, same, side), tuple(seeds))
    towards = replace(settings, steps=settings.start_steps, stop=0.0, eps=0.0, patience=0, coarse=0.0)
    search = Search(prior, same, towards)
    search.join([Row(ask, place) for place in range(len(seeds))])
    found: dict[str, list[Tensor]] = {}
    places: list[int] = []
    while search.rows:
        rows, part = search.step()
        places += [row.place for row in rows]
        for name, x in {"latents": part.latents, **{f"noise{i}": x for i, x in enumerate(part.noise)}}.items():
            found.setdefault(name, []).append(x)
    order = torch.tensor(places).argsort()
    return {name: torch.cat(parts)[order.to(parts[0].device)] for name, parts in found.items()}
