"""Latents that an encoder writes for a photo, for a search to begin at (Pro-PULSE; docs/pro-pulse.md)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.declaration import declared
from preimage.errors import MethodError
from preimage.generate.prior import Prior, told_maps
from preimage.invert.method import network_or_load
from preimage.invert.queue import Row
from preimage.invert.search import latents_at
from preimage.invert.walk import sphere_at
from preimage.nets.layers import freeze
from preimage.nets.pro_pulse import ProPulseEncoder
from preimage.seeds import normal
from preimage.weights import check_bound, load_encoder

FAMILY = "pro-pulse"
"""What the names of such encoders begin with; the word stands for the first embedded one."""
INVERSE = "inverse"
"""The word for what a prior itself says of a photo, where it is a map both ways (`preimage.generate.flow`)."""


def find_encoder(given: Any) -> ProPulseEncoder:
    """An encoder as it was given, or by name, path or hub id; `FAMILY` or None stand for the default.

    Raises:
        MethodError: another network.
        WeightsError: one that cannot be loaded.
    """
    found = network_or_load(None if given == FAMILY else given, partial(load_encoder, family=FAMILY))
    if not isinstance(found, ProPulseEncoder):
        raise MethodError(
            f"a {type(found).__name__} writes no latents; give what `preimage train pro-pulse-16to64` and its like export "
            "(encoder.safetensors)."
        )
    return found


def prepare(encoder: ProPulseEncoder, prior: Prior, device: torch.device) -> None:
    """Make an encoder ready to answer beside its prior, in place.

    Raises:
        WeightsError: it belongs to another prior.
        MethodError: it is of another shape.
    """
    declaration, c = declared(encoder), encoder.config
    if declaration is not None:
        check_bound(declaration, prior, encoder.name)
    if (c.rows[-1], c.w_dim) != tuple(prior.latent_shape) or c.hr_size != prior.resolution:
        raise MethodError(
            f"{encoder.name}: writes {c.rows[-1]} codes of {c.w_dim} numbers for pictures of {c.hr_size} pixels, but "
            f"{prior.name} takes {prior.latent_shape[0]} of {prior.latent_shape[1]} for {prior.resolution}. Give the prior that it "
            "was trained for (--prior)."
        )
    freeze(encoder, device)


def noise_maps(prior: Prior, seeds: Sequence[int], silent: int) -> list[Tensor]:
    """Noise maps of these seeds, the coarse ones up to `silent` zero, and those that are no noise: what encoders are trained and used with."""
    device = prior.mean_latent.device
    maps = [normal(seeds, (1, side, side), f"noise{i}").to(device) for i, side in enumerate(prior.noise_sizes)]
    told = told_maps(prior)
    return [torch.zeros_like(x) if i < silent or i in told else x for i, x in enumerate(maps)]


@torch.no_grad()
def encoded(
    prior: Prior,
    encoder: ProPulseEncoder,
    rows: Sequence[Row],
    *,
    fine: int = 0,
    share: float = 0.0,
    spread: float = 1.0,
) -> dict[str, Tensor]:
    """Latents and noise maps for rows of a batch, by the names of `Candidates.latents`; a seed is an address here too.

    Args:
        prior, encoder: that belong together.
        rows: photos and seeds. A photo of another size than the encoder's is brought to it first: it is a beginning only.
        fine: the first row of W+ that a seed changes.
        share: how far towards a random w of the seed, from 0 to 1, in the space where latents are Gaussian.
        spread: radius of the random w, in those of usual ones.
    """
    return _begun(prior, encoder, encoder.lr_size, rows, fine, share, spread, encoder.config.silent)


@torch.no_grad()
def inverted(prior: Any, rows: Sequence[Row], *, share: float = 0.0, spread: float = 1.0) -> dict[str, Tensor]:
    """As `encoded`, of a prior that can be inverted: its tiny pictures are the photos. A seed changes the rows behind these alone.

    Raises:
        MethodError: the prior cannot be inverted.
    """
    check_invertible(prior)
    side = prior.shrinks_to.lr_size[0]
    return _begun(prior, prior.invert, side, rows, prior.rows_up_to(side), share, spread, 0)


def check_invertible(prior: Any) -> None:
    """Refuse a prior that cannot say what its latents of a photo are.

    Raises:
        MethodError: with the mend.
    """
    if not getattr(prior, "invertible", False):
        raise MethodError(
            f"{getattr(prior, 'name', 'this prior')}: cannot be inverted, for it does not begin with a flow as faces128 does. Begin at a "
            "picture, or at the answer of an encoder (pro-pulse)."
        )


def _begun(
    prior: Any,
    write: Callable[[Tensor], Tensor],
    side: int,
    rows: Sequence[Row],
    fine: int,
    share: float,
    spread: float,
    silent: int,
) -> dict[str, Tensor]:
    device, seeds = prior.mean_latent.device, [row.seed for row in rows]
    asks = list(dict.fromkeys(row.ask for row in rows))
    photos = torch.stack([ask.problem.lr for ask in asks]).to(device)
    if photos.shape[-2:] != (side, side):
        photos = F.interpolate(photos, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
    latents = write(photos)[[asks.index(row.ask) for row in rows]]
    if share:
        latents = torch.cat([latents[:, :fine], resampled(prior, latents[:, fine:], seeds, share, spread)], 1)
    noise = noise_maps(prior, seeds, silent)
    return {"latents": latents, **{f"noise{i}": x for i, x in enumerate(noise)}}


def resampled(prior: Prior, latents: Tensor, seeds: Sequence[int], share: float, spread: float) -> Tensor:
    """Rows of latents (n, k, d) moved towards one random w of each seed."""
    mean, std = (t.to(latents.device) for t in prior.gaussian_fit)
    drawn = normal(seeds, (1, latents.shape[-1]), "fine").to(latents.device)
    u = (1 - share**2) ** 0.5 * sphere_at(prior, latents) + share * (spread if "W" in prior.spaces else 1.0) * drawn
    return latents_at(prior, u, mean, std)
