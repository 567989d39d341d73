"""Adversarial losses and the gradient penalty; a discriminator returns a list of score tensors, one per head."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def hinge_d(real: list[Tensor], fake: list[Tensor]) -> Tensor:
    """Hinge loss of the discriminator, summed over heads (Lim & Ye, 2017)."""
    return torch.stack([F.relu(1 - r).mean() + F.relu(1 + f).mean() for r, f in zip(real, fake, strict=True)]).sum()


def hinge_g(fake: list[Tensor]) -> Tensor:
    """Hinge loss of the generator, summed over heads."""
    return torch.stack([-f.mean() for f in fake]).sum()


def nonsaturating_d(real: list[Tensor], fake: list[Tensor]) -> Tensor:
    """Logistic loss of the discriminator (Goodfellow et al., 2014)."""
    return torch.stack([F.softplus(-r).mean() + F.softplus(f).mean() for r, f in zip(real, fake, strict=True)]).sum()


def nonsaturating_g(fake: list[Tensor]) -> Tensor:
    """Non-saturating loss of the generator."""
    return torch.stack([F.softplus(-f).mean() for f in fake]).sum()


def r1_penalty(real: Tensor, scores: list[Tensor]) -> Tensor:
    """Mean squared gradient norm of the scores at real pictures (Mescheder et al., 2018); `real` must require grad.

    The penalty of StyleGAN2 is gamma / 2 times this, times the interval when lazy.
    """
    total = torch.stack([s.sum() for s in scores]).sum()
    (gradient,) = torch.autograd.grad(total, real, create_graph=True)
    return gradient.float().square().sum(dim=(1, 2, 3)).mean()


def path_lengths(pictures: Tensor, ws: Tensor) -> Tensor:
    """How far pictures (n, 3, h, w) move for a step of W+ (n, rows, d), in random directions of the picture: (n,).

    |J^T y| with y normal, scaled by the number of pixels (StyleGAN2, section 3.2); `ws` must be what made the pictures.
    """
    direction = torch.randn_like(pictures) / (pictures.shape[2] * pictures.shape[3]) ** 0.5
    (gradient,) = torch.autograd.grad((pictures * direction).sum(), ws, create_graph=True)
    lengths: Tensor = gradient.float().square().sum(dim=2).mean(dim=1).sqrt()
    return lengths


def wasserstein_d(real: list[Tensor], fake: list[Tensor]) -> Tensor:
    """Critic's loss of a Wasserstein GAN, summed over heads (Arjovsky et al., 2017): minus the estimated distance."""
    return torch.stack([f.mean() - r.mean() for r, f in zip(real, fake, strict=True)]).sum()


def wasserstein_g(fake: list[Tensor]) -> Tensor:
    """Generator's loss of a Wasserstein GAN, summed over heads."""
    return torch.stack([-f.mean() for f in fake]).sum()


def drift(real: list[Tensor]) -> Tensor:
    """Mean square of the real scores, which keeps them from drifting (Karras et al., 2018, appendix A.1), summed over heads."""
    return torch.stack([r.square().mean() for r in real]).sum()


def between(real: Tensor, fake: Tensor) -> Tensor:
    """One random point per picture on the line from real to imagined (n, c, h, w), detached and requiring grad."""
    share = torch.rand(len(real), 1, 1, 1, device=real.device, dtype=real.dtype)
    return torch.lerp(real.detach(), fake.detach(), share).requires_grad_(True)


def gradient_penalty(at: Tensor, scores: list[Tensor]) -> Tensor:
    """Mean of (|gradient of the scores| - 1)² at the pictures `at`, which must require grad (Gulrajani et al., 2017, eq. 3).

    The penalty of WGAN-GP is lambda (10) times this, at points `between` real and imagined pictures.
    """
    total = torch.stack([s.sum() for s in scores]).sum()
    (gradient,) = torch.autograd.grad(total, at, create_graph=True)
    norm = (gradient.float().square().sum(dim=(1, 2, 3)) + 1e-12).sqrt()  # the root of 0 has no slope
    return (norm - 1).square().mean()


def energy_score(first: Tensor, second: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """The two distances of the energy score (Gneiting and Raftery, 2007): ½ (|a − x| + |b − x|), and |a − b|.

    The score is the former minus half of the latter, and smallest where answers are drawn from the distribution of truths.

    Args:
        first, second: two answers, (n, c, h, w).
        truth: (n, c, h, w).

    Returns:
        Two single numbers, means over pictures and places of the vector norm over channels: noise that is spread over many
        channels buys no distance.
    """

    def norm(x: Tensor) -> Tensor:
        return (x.float().square().sum(1) + 1e-6).sqrt().mean()  # the root of 0 has no slope

    return (norm(first - truth) + norm(second - truth)) / 2, norm(first - second)
