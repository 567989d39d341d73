"""The photos of a step: pictures made small, as files would hold them, noisy, or as a learned degradation takes them."""

from __future__ import annotations

import torch
from torch import Tensor

from preimage.degrade.learned import LearnedDegradation, apply_learned
from preimage.degrade.linear import LinearOperator
from preimage.errors import RecipeError
from preimage.train.data import eight_bit
from preimage.train.posterior_settings import Problem, Recipe
from preimage.weights import load_degradation

WITHIN = 0.95  # of a degraded photo's values are to lie within its tolerance, as those of a noisy one do


def small(truth: Tensor, operator: LinearOperator) -> Tensor:
    """Pictures (n, 3, R, R) as 8-bit photos (n, 3, s, s) in [0, 1]."""
    return eight_bit(operator(truth))


@torch.no_grad()
def take(truth: Tensor, drawn: Problem, camera: LearnedDegradation | None = None) -> tuple[Tensor, float]:
    """The photos of a step, as 8-bit files would hold them, and within how many grey levels they are to be answered.

    Args:
        truth: (n, 3, R, R) in [0, 1].
        drawn: what they are.
        camera: the learned degradation, where the problem asks for it.
    """
    operator = drawn.operator
    if drawn.degraded and camera is not None:
        noise = torch.randn(len(truth), camera.noise_dim, device=truth.device)
        photo = eight_bit(apply_learned(camera, truth, noise))
        missed = (photo - operator(truth)).abs().flatten()
        return photo, max(1.0, 255 * float(missed.quantile(WITHIN)))
    if not drawn.tolerance:
        return small(truth, operator), 0.0
    photo = operator(truth)
    photo = photo + torch.randn_like(photo) * (drawn.tolerance / 2 / 255)
    return eight_bit(photo), drawn.tolerance


def camera_of(recipe: Recipe, device: torch.device) -> LearnedDegradation | None:
    """The learned degradation of a recipe.

    Raises:
        RecipeError: one for other sizes than the problem in focus.
    """
    if not recipe.degradation:
        return None
    camera = load_degradation(recipe.degradation, device)
    side, focus = recipe.generator.resolution, recipe.problems.focus
    if camera.hr_size > side or camera.lr_size != focus:
        raise RecipeError(
            f"degradation: {camera.name} takes {camera.hr_size} pixels or more and makes {camera.lr_size}; the recipe has pictures of "
            f"{side} and problems.focus {focus}."
        )
    return camera
