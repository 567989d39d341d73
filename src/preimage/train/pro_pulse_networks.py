"""Networks of Pro-PULSE's trainer: encoders, the critic, the embedding network; who learns in which stage, and whether the prior fits."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from preimage.declaration import declared, remember
from preimage.errors import RecipeError, WeightsError
from preimage.feature_networks import load_network
from preimage.generate.prior import inverse_leaky_relu, sphere_to_w
from preimage.nets.feature_network import FeatureNetwork
from preimage.nets.features import load_features
from preimage.nets.pro_pulse import ProPulseEncoder
from preimage.train.discriminator import make_discriminator
from preimage.train.pro_pulse_settings import Recipe
from preimage.weights import check_bound, load_encoder


class EndToEnd(nn.Module):
    """An encoder and the prior that learns with it (the paper's ablation E2E)."""

    def __init__(self, encoder: ProPulseEncoder, prior: nn.Module) -> None:
        super().__init__()
        self.encoder, self.prior = encoder, copy.deepcopy(prior).requires_grad_(True)


def build_run(recipe: Recipe, prior: Any = None) -> tuple[nn.Module, Any, torch.optim.Optimizer, Any]:
    """Encoder (and prior, end to end), critic, and their optimisers, as a run starts with them; without a prior, for their sizes alone."""
    g: nn.Module = ProPulseEncoder(recipe.encoder, recipe.name)
    if prior is not None:
        settle(encoder_of(g), prior)
    if recipe.init and prior is not None:
        inherit(encoder_of(g), prior, recipe.init)
    if prior is not None and recipe.end_to_end:
        g = EndToEnd(encoder_of(g), prior)
    opt_g = torch.optim.Adam(g.parameters(), lr=recipe.lr, betas=recipe.betas)
    if not recipe.adversary:
        return g, None, opt_g, None
    d = make_discriminator(recipe.critic, recipe.encoder.hr_size, "critic")
    return g, d, opt_g, torch.optim.Adam(d.parameters(), lr=recipe.lr_critic, betas=(0.0, 0.99))


def inherit(encoder: ProPulseEncoder, prior: Any, path: str) -> None:
    """Give an encoder the weights of an exported one, and what that one declares to have looked through.

    Raises:
        RecipeError: one of another shape, or of another prior.
    """
    start = load_encoder(path)
    had = getattr(start, "config", None)
    if not isinstance(start, ProPulseEncoder) or had != encoder.config:
        raise RecipeError(f"init: {path} has the shape {had}, and the recipe has {encoder.config}; make them equal.")
    said = declared(start)
    try:
        if said is not None:
            check_bound(said, prior, path)
    except WeightsError as error:
        raise RecipeError(f"init: {error}") from None
    encoder.load_state_dict(start.state_dict())
    remember(encoder, said)


def encoder_of(g: nn.Module) -> ProPulseEncoder:
    """The encoder of what learns."""
    found = g.encoder if isinstance(g, EndToEnd) else g
    assert isinstance(found, ProPulseEncoder)
    return found


def prior_of(g: nn.Module, prior: Any) -> Any:
    """The prior that learns with it, or the frozen one."""
    return g.prior if isinstance(g, EndToEnd) else prior


@torch.no_grad()
def settle(encoder: ProPulseEncoder, prior: Any) -> None:
    """Give an encoder its prior's mean latent and the spread of its latents, in the space that it writes in."""
    mean, std = (t.cpu() for t in prior.gaussian_fit)
    centre, in_w = prior.mean_latent.cpu(), "W" in prior.spaces
    if encoder.config.space == "u" and in_w:
        centre, spread = inverse_leaky_relu(centre), std
    elif in_w:
        drawn = torch.randn(10_000, len(mean), generator=torch.Generator().manual_seed(0))
        spread = sphere_to_w(drawn, mean, std).std(0)
    else:
        spread = std
    encoder.centre.copy_(centre)
    encoder.spread.copy_(spread)


def check_prior(recipe: Recipe, prior: Any) -> None:
    """Refuse a shape of the encoder that is not the prior's.

    Raises:
        RecipeError: with what the prior has; or end to end, a prior that cannot be written.
    """
    c, (rows, w_dim) = recipe.encoder, prior.latent_shape
    if (c.hr_size, c.rows[-1], c.w_dim) != (prior.resolution, rows, w_dim):
        raise RecipeError(
            f"encoder: hr_size {c.hr_size}, {c.rows[-1]} rows and w_dim {c.w_dim}, but {prior.name} has {prior.resolution}, {rows} "
            f"and {w_dim}; make them equal."
        )
    if c.space == "u" and "W" not in prior.spaces:
        raise RecipeError(
            f"encoder.space: u lies behind W, and {prior.name} has none; take w, which is its own Gaussian."
        )
    if recipe.end_to_end and not hasattr(prior, "metadata"):
        raise RecipeError(f"end_to_end: {prior.name} is a class of your own, which no file can hold; leave it frozen.")
    if hasattr(prior, "rows_up_to"):
        sides = [2**k for k in range(2, prior.resolution.bit_length())]
        known = sorted({prior.rows_up_to(side) for side in sides})
        if unknown := [n for n in c.rows if n not in known]:
            raise RecipeError(
                f"encoder.rows: {unknown[0]}; the resolutions of {prior.name} end at {known}, so take of these."
            )


def let_learn(recipe: Recipe, encoder: ProPulseEncoder, stage: int) -> None:
    """Open a stage: which parts answer, and which of them learn."""
    encoder.stage.fill_(stage)
    if recipe.at_once:
        return
    encoder.requires_grad_(False)
    if stage == 0:
        encoder.requires_grad_(True)
        if encoder.scales is not None:
            encoder.scales.requires_grad_(False)
    elif encoder.scales is not None:
        first = 0 if recipe.earlier == "joint" else stage - 1
        encoder.scales.stem.requires_grad_(first == 0)
        for part in list(encoder.scales.stages)[first:stage]:
            part.requires_grad_(True)


def load_identity(recipe: Recipe) -> FeatureNetwork:
    """The embedding network of the identity loss."""
    if recipe.identity_network == "mobilefacenet":
        return load_network(recipe.identity_weights or recipe.identity_network)
    return load_features(recipe.identity_network, recipe.identity_weights)


def describe(recipe: Recipe) -> str:
    """Sizes of the networks that the recipe would train, without needing its data or its prior."""
    with torch.device("meta"):
        g, d, *_ = build_run(replace(recipe, adversary=0.0) if recipe.critic.kind == "projected" else recipe)
    encoder = encoder_of(g)
    parts = {"base encoder": encoder.base, "scale-specific encoder": encoder.scales, "critic": d}
    return "\n".join(
        f"{name}: {sum(p.numel() for p in part.parameters()):,} parameters"
        for name, part in parts.items()
        if part is not None
    )
