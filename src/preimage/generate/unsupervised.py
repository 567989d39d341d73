"""Latent directions that no label names: SeFa and GANSpace.

SeFa: Shen and Zhou, "Closed-Form Factorization of Latent Semantics in GANs", CVPR 2021. GANSpace: Härkönen, Hertzmann, Lehtinen,
Paris, "GANSpace: Discovering Interpretable GAN Controls", 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from preimage.errors import WeightsError
from preimage.generate.directions import MOST, Packed, row_range
from preimage.seeds import normal


def affine_weights(prior: Any) -> dict[int, list[Tensor]]:
    """Weights (channels, dimensions) of the affine layers that make styles of latents, by the row that each of them reads.

    Found by watching one picture: a layer counts whose input is a row of the latents.

    Raises:
        WeightsError: a prior without such layers.
    """
    rows, d = prior.latent_shape
    seen: dict[int, list[Tensor]] = {}
    draw = normal(range(rows), (d,), "latent")[None].to(prior.mean_latent)
    latents = prior.mean_latent + draw

    def watch(layer: Any, inputs: tuple[Any, ...]) -> None:
        x = inputs[0]
        for row in range(rows):
            if isinstance(x, Tensor) and x.shape == (1, d) and torch.equal(x, latents[:, row]):
                weight = layer.scaled() if hasattr(layer, "scaled") else layer.weight
                seen.setdefault(row, []).append(weight.detach())

    layers = [m for name, m in prior.named_modules() if name.split(".")[-1] == "affine"]
    hooks = [layer.register_forward_pre_hook(watch) for layer in layers]
    try:
        with torch.no_grad():
            prior.synthesize(latents)
    finally:
        for hook in hooks:
            hook.remove()
    if not seen:
        raise WeightsError(
            f"{prior.name}: has no affine layers that read its latents, which SeFa takes apart; take ganspace instead."
        )
    return seen


def sefa(prior: Any, count: int, rows: tuple[int, int] | None = None) -> Tensor:
    """The directions that change the styles of these rows' layers most (SeFa, section 3.2, equations 7 to 9).

    Eigenvectors of A^T A, A all their affine weights one above the other, the largest first.

    Args:
        prior: a style-based one.
        count: how many.
        rows: first and last of the rows whose layers are taken, and which the directions move; None for all.

    Returns:
        (count, rows, dimensions), each of norm 1 in the rows that it moves.

    Raises:
        WeightsError: a prior without affine layers, rows without any, or more directions than dimensions.
    """
    wanted, weights = row_range(prior, rows), affine_weights(prior)
    chosen = [w.double() for row in wanted for w in weights.get(row, [])]
    if not chosen:
        raise WeightsError(
            f"rows {wanted[0]}-{wanted[-1]}: no affine layer reads them; {prior.name} has those of {[*weights]}."
        )
    _check_count(count, prior.latent_shape[1])
    a = torch.cat(chosen)
    found = _signed(torch.linalg.eigh(a.t() @ a).eigenvectors.flip(1)[:, :count].t())
    out = found.new_zeros(count, *prior.latent_shape)
    out[:, wanted] = found[:, None]
    return out.float()


def ganspace(latents: Tensor, count: int, rows: Sequence[int] | None = None) -> Tensor:
    """The directions along which latents vary most (GANSpace, section 2.2): their principal components, the largest first.

    Args:
        latents: (n, rows, d) of the prior.
        count: how many.
        rows: that count, and that the directions move; None for all.

    Returns:
        (count, rows, d), orthonormal.

    Raises:
        WeightsError: more directions than there are.
    """
    packed = Packed(latents, range(latents.shape[1]) if rows is None else rows)
    x = packed.pack(latents)
    _check_count(count, min(x.shape[1], len(x) - 1))
    return packed.unpack(_signed(torch.linalg.eigh(torch.cov(x.t())).eigenvectors.flip(1)[:, :count].t()))


def ganspace_of(features: Tensor, latents: Tensor, count: int, rows: Sequence[int] | None = None) -> Tensor:
    """The same where latents are noise without directions: principal components of what they make, carried over by regression.

    So GANSpace treats BigGAN (section 2.2, equation 3); noise is white, so that covariances are coefficients.

    Args:
        features: (n, m), of the pictures of these latents, such as small pictures themselves.
        latents, count, rows: as for `ganspace`.

    Returns:
        (count, rows, d), each of norm 1.

    Raises:
        WeightsError: more directions than there are.
    """
    packed = Packed(latents, range(latents.shape[1]) if rows is None else rows)
    x, y = packed.pack(latents), features.double() - features.double().mean(0)
    _check_count(count, min(x.shape[1], y.shape[1], len(x) - 1))
    scores = y @ torch.linalg.eigh(y.t() @ y).eigenvectors.flip(1)[:, :count]
    found = scores.t() @ (x - x.mean(0))
    return packed.unpack(_signed(found / found.norm(dim=1, keepdim=True)))


def _check_count(count: int, most: int) -> None:
    if not 1 <= count <= min(most, MOST):
        raise WeightsError(f"directions: {count} are asked for; there can be 1 to {min(most, MOST)}.")


def _signed(vectors: Tensor) -> Tensor:
    """Each with its largest number positive, so that its sign does not depend on the machine."""
    largest = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))
    return vectors * largest.sign()
