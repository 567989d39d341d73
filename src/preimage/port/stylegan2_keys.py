"""What all StyleGAN2 layouts share: a generator found among the tensors of a file, and NVIDIA's keys -> a prior.

The keys of `generate/stylegan2.py` are those of NVIDIA's PyTorch program; every layout is brought to them first. Everything
about the shape of a network is read from the shapes of its tensors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace

import torch
from torch import Tensor

from preimage.errors import WeightsError
from preimage.generate.stylegan2 import StyleGAN2, StyleGAN2Config
from preimage.nets.layers import fir_kernel
from preimage.port.layout import Ported, State, misfit, shape_of
from preimage.texts import one_line

RATE = 0.01  # of the mapping network, relative to the rest: in every published file, and in our `Mapping`
_EMA = ("G_ema", "g_ema", "Gs", "ema", "decoder")  # averaged over training: these make the published pictures
_CONSTANT = "the constant noise maps of the file are left out: noise is silent or drawn from a seed here"


def _roots(state: State, mark: str, beside: str) -> list[str]:
    """What stands before the keys of each generator, the averaged one first; all of them hold `mark` and `beside`."""
    found = [k.removesuffix(mark) for k in state if k == mark or k.endswith(f".{mark}")]
    found = [root for root in found if root + beside in state and not root.endswith("backbone.")]  # that one is EG3D's
    return sorted(found, key=_rank)


def _rank(root: str) -> int:
    last = root.removesuffix(".").rpartition(".")[2]
    return _EMA.index(last) if last in _EMA else len(_EMA)


def generator(state: State, mark: str, beside: str) -> tuple[str, dict[str, Tensor], tuple[str, ...]]:
    """What stands before the keys of one generator, its tensors by its own keys, and a note where the file holds several."""
    root, *others = _roots(state, mark, beside)
    own = {k.removeprefix(root): v for k, v in state.items() if k.startswith(root)}
    notes = [f"{root.removesuffix('.')} of the file; it also holds {', '.join(o[:-1] or 'another' for o in others)}"]
    return root, own, tuple(notes if others else ())


def matcher(mark: str, beside: str, decoder: bool | None = None) -> Callable[[State], bool]:
    """Whether a checkpoint holds a generator with these two keys; `decoder`: only as an encoder's decoder, or never so."""

    def matches(state: State) -> bool:
        found = _roots(state, mark, beside)
        return bool(found) and decoder in (None, found[0].endswith("decoder."))

    return matches


def finish(state: Mapping[str, Tensor], notes: tuple[str, ...], clamp: object = None) -> Ported:
    """NVIDIA's keys -> a prior: shape from the tensors, filters checked, what is missing estimated."""
    kept: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.endswith("resample_filter"):
            _check_filter(key, value)
        elif key.endswith("noise_const"):
            notes = notes if _CONSTANT in notes else (*notes, _CONSTANT)
        elif not key.endswith(("num_batches_tracked", "mapping.num_ws")):
            kept[key] = value.float()
    try:
        config = _config(kept)
    except KeyError as error:
        raise _unfit(f"{error.args[0]} is missing") from None
    if clamp is not None:
        config = replace(config, conv_clamp=clamp)  # type: ignore[arg-type]  # it judges what a file says
    prior = StyleGAN2(config)
    mean = kept.pop("mapping.w_avg", None)
    given = {k: v for k, v in prior.state_dict().items() if k in ("mapping.w_avg", "fit_mean", "fit_std")}
    if reason := misfit(prior.state_dict(), {**given, **kept}):
        raise _unfit(reason)
    prior.load_state_dict({**given, **kept})
    prior.refit()
    if mean is None:
        notes = (*notes, "the mean latent is estimated from the mapping network; the file does not hold it")
    elif mean.shape[-1:] != prior.mean_latent.shape:
        raise WeightsError(f"has a mean latent of {mean.shape[-1:].numel()} numbers for latents of {config.w_dim}.")
    else:  # encoders keep it once for every row
        prior.mean_latent.copy_(mean.reshape(-1, config.w_dim).mean(0))
    return Ported("stylegan2", asdict(config), prior.state_dict(), notes)


def _unfit(reason: str) -> WeightsError:
    return WeightsError(
        f"a StyleGAN2 whose tensors do not fit together: {reason}. The file is incomplete, or a variant of another shape."
    )


def _config(state: Mapping[str, Tensor]) -> StyleGAN2Config:
    """The shape of a generator in NVIDIA's keys."""
    if any(k.startswith("mapping.embed") for k in state):
        raise WeightsError("a StyleGAN2 that is conditional on labels; only unconditional ones are priors here.")
    if "mapping.fc0.weight" not in state:
        raise WeightsError("a StyleGAN2 without its mapping network; take the whole generator.")
    sides = sorted({int(found[1]) for k in state if (found := re.match(r"synthesis\.b(\d+)\.", k))})
    if sides != [4 * 2**i for i in range(len(sides))]:
        raise WeightsError(f"a StyleGAN2 with layers of the sides {sides}; known are 4, 8, 16, … without a gap.")
    if any(f"synthesis.b{side}.torgb.weight" not in state for side in sides) or any(".skip." in k for k in state):
        raise WeightsError(
            'a StyleGAN2 of another architecture than "skip" (configurations E and F); it cannot be used here.'
        )
    for key, axes in {"mapping.fc0.weight": 2, "synthesis.b4.const": 3, "synthesis.b4.torgb.weight": 4}.items():
        if state[key].ndim != axes:
            raise _unfit(f"{key} is {shape_of(state[key])}")
    const = state["synthesis.b4.const"]
    if tuple(const.shape[1:]) != (4, 4):
        shape = "x".join(str(n * sides[-1] // 4) for n in const.shape[1:])
        raise WeightsError(
            f"makes pictures of {shape} pixels; a prior here makes square ones. Take one that was trained on those."
        )
    channels = len(state["synthesis.b4.torgb.weight"])
    if channels != 3:
        raise WeightsError(f"makes pictures of {channels} channels; a prior needs 3 (RGB).")
    widths = {side: state[f"synthesis.b{side}.torgb.affine.bias"].numel() for side in sides}
    narrowed = [side * width for side, width in widths.items() if width < widths[4]]
    base = narrowed[0] if narrowed else sides[-1] * widths[4]
    w_dim, z_dim = state["mapping.fc0.weight"].shape
    depth = sum(bool(re.fullmatch(r"mapping\.fc\d+\.weight", k)) for k in state)
    config = StyleGAN2Config(sides[-1], base, widths[4], z_dim, w_dim, depth)
    if any(config.channels(side) != width for side, width in widths.items()):
        raise WeightsError(
            f"a StyleGAN2 of the widths {list(widths.values())}; known are those of min(base / side, most) channels."
        )
    return config


def _check_filter(key: str, kernel: Tensor) -> None:
    kernel = kernel.float()
    kernel = torch.outer(kernel, kernel) if kernel.ndim == 1 else kernel
    if kernel.shape != (4, 4) or not torch.allclose(kernel / kernel.sum(), fir_kernel(), atol=1e-4):
        raise WeightsError(
            f"resamples with another filter than [1, 3, 3, 1] ({key}); such a StyleGAN2 is not known here."
        )


def changed(key: str, value: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """A tensor turned into ours; what does not let itself be turned is an error that names its key and shape."""
    try:
        return change(value)
    except (IndexError, RuntimeError) as error:
        raise _unfit(f"{key} is {shape_of(value)} ({one_line(error)})") from None
