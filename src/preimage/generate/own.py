"""Bring your own prior: import it by `package.module:name`, and say what it still lacks to be searched."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from preimage.errors import WeightsError

MEMBERS = {
    "name": "str, for provenance",
    "resolution": "side of the square pictures, in pixels",
    "latent_shape": "(rows, dimensions) of one latent",
    "spaces": 'its latent spaces, of "Z", "W", "W+"',
    "noise_sizes": "side of each square noise map; () without noise inputs",
    "mean_latent": "the average latent, a tensor (dimensions,)",
    "gaussian_fit": "mean and standard deviation of the latents, two tensors (dimensions,)",
    "synthesize": "(latents, noise=None) -> pictures (n, 3, R, R) around [0, 1]",
    "sample": "(seeds, truncation=1.0) -> one picture per seed, (n, 3, R, R) in [0, 1]",
}
"""What the `Prior` contract asks for, member by member, in words."""

_SPEC = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def names_own_prior(name: str) -> bool:
    """Whether a prior's name reads `package.module:attribute`."""
    return _SPEC.fullmatch(name) is not None


def import_own(name: str) -> Any:
    """What a user's name stands for; the one place where a name makes this package run code of others.

    Args:
        name: `package.module:attribute`; modules in the current folder count too, as with `python -m`.

    Raises:
        WeightsError: what cannot be imported; the message says why.
    """
    module, _, path = name.partition(":")
    try:
        found = _import(module)
    except ModuleNotFoundError as error:
        if f"{module}.".startswith(f"{error.name}."):
            hint = f"Run the command in the folder that holds it (now {Path.cwd()}), or install its package."
        else:
            hint = "That is what your module imports; install it."
        raise WeightsError(f"{name}: there is no module {error.name!r}. {hint}") from None
    except Exception as error:
        raise WeightsError(f"{name}: importing {module} failed. {type(error).__name__}: {error}") from error
    try:
        found = reduce(getattr, path.split("."), found)
    except AttributeError as error:
        raise WeightsError(f"{name}: {error}. Check the spelling behind the colon.") from None
    return found


def own_prior(name: str, device: str | torch.device = "cpu") -> nn.Module:
    """Import a user's prior (`import_own`) and check it.

    Args:
        name: `package.module:attribute`. A class or function is called without arguments, anything else is taken as it is.
        device: where to put it.

    Returns:
        The module, frozen and in eval mode, after `check_prior`.

    Raises:
        WeightsError: what cannot be imported or built, or does not meet the `Prior` contract; the message says why.
    """
    found, (_, _, path) = import_own(name), name.partition(":")
    if isinstance(found, type) or inspect.isroutine(found):
        try:
            found = found()
        except Exception as error:
            raise WeightsError(
                f"{name}: {path}() failed. {type(error).__name__}: {error}. It is called without arguments."
            ) from error
    if not isinstance(found, nn.Module):
        raise WeightsError(f"{name}: is a {type(found).__name__}; a prior has to be a torch.nn.Module.")
    found.to(device).eval().requires_grad_(False)
    check_prior(found, name)
    return found


def _import(module: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # stays: the module may import its neighbours later on
    importlib.invalidate_caches()
    return importlib.import_module(module)


def missing_members(prior: object) -> list[str]:
    """What an object lacks to be a prior, each in words; buffers count too, which Python 3.12's `isinstance` overlooks."""
    return [f"`{member}` ({what})" for member, what in MEMBERS.items() if not hasattr(prior, member)]


def check_prior(prior: object, name: str) -> None:
    """Refuse what does not meet the `Prior` contract, by its members and by two trial pictures with their gradient.

    Args:
        prior: what claims to be one.
        name: what to call it in messages.

    Raises:
        WeightsError: which member is missing or wrong, and how to mend it.
    """
    if missing := missing_members(prior):
        raise WeightsError(f"{name}: {type(prior).__name__} is no prior yet; it lacks {', '.join(missing)}.")
    found: Any = prior
    side, shape, noise, fit = found.resolution, found.latent_shape, found.noise_sizes, found.gaussian_fit
    if not isinstance(side, int):
        raise WeightsError(
            f"{name}: resolution is {side!r}; it has to be one number, the side of square pictures. A generator of other "
            "pictures can be used by cropping or padding them to a square in `synthesize`."
        )
    listed = all(isinstance(value, tuple | list) for value in (shape, noise))
    if not listed or len(shape) != 2 or not all(isinstance(size, int) for size in (*shape, *noise)):
        raise WeightsError(
            f"{name}: latent_shape is {shape!r} and noise_sizes {noise!r}; they have to be (rows, dimensions), such as "
            "(1, 128), and one number per noise map."
        )
    rows, dimensions = shape
    if not isinstance(fit, tuple | list) or len(fit) != 2:
        raise WeightsError(f"{name}: gaussian_fit is a {type(fit).__name__}; it has to be {MEMBERS['gaussian_fit']}.")
    tensors = {"mean_latent": found.mean_latent, "the mean of gaussian_fit": fit[0], "its standard deviation": fit[1]}
    for what, value in tensors.items():
        if not isinstance(value, Tensor) or value.shape != (dimensions,) or not bool(value.isfinite().all()):
            given = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise WeightsError(f"{name}: {what} is {given}; it has to be a finite tensor ({dimensions},).")
    mean: Tensor = found.mean_latent
    held = next((t.device for t in (*found.parameters(), *found.buffers())), mean.device)
    if mean.device != held:
        raise WeightsError(f"{name}: mean_latent stays on {mean.device}; keep it in a buffer (`register_buffer`).")
    _try(found, name, mean.expand(2, rows, dimensions).clone())


def _try(prior: Any, name: str, latents: Tensor) -> None:
    side = prior.resolution
    noise = [latents.new_zeros(2, 1, size, size) for size in prior.noise_sizes]
    with torch.enable_grad():
        try:
            pictures = prior.synthesize(latents.requires_grad_(), noise)
        except Exception as error:
            raise WeightsError(
                f"{name}: synthesize fails on latents {tuple(latents.shape)}. {type(error).__name__}: {error}"
            ) from error
    if not isinstance(pictures, Tensor) or pictures.ndim != 4 or len(pictures) != 2:
        what = tuple(pictures.shape) if isinstance(pictures, Tensor) else type(pictures).__name__
        raise WeightsError(f"{name}: two latents give {what}; synthesize has to return (2, 3, {side}, {side}).")
    _, channels, height, width = pictures.shape
    if height != width:
        raise WeightsError(
            f"{name}: makes pictures of {width}x{height} pixels, and a prior's are square. Crop or pad them to a square in "
            "`synthesize`, and set `resolution` to its side."
        )
    if channels != 3:
        hint = "repeat the channel: pictures.expand(-1, 3, -1, -1)" if channels == 1 else "return RGB"
        raise WeightsError(
            f"{name}: makes pictures of {channels} channel(s), and a prior's have 3. In `synthesize` {hint}."
        )
    if height != side:
        raise WeightsError(f"{name}: makes pictures of side {height}, but its resolution says {side}.")
    if not bool(pictures.isfinite().all()):
        raise WeightsError(f"{name}: the average latent gives a picture with NaN or infinity; check weights and sizes.")
    if not pictures.requires_grad:
        raise WeightsError(
            f"{name}: synthesize lets no gradient through to the latents, so nothing can be searched; remove torch.no_grad "
            "and detach from it."
        )
