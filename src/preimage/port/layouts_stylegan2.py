"""StyleGAN2 checkpoints of others: NVIDIA's of both eras, rosinality's, and the decoders of pSp, e4e and ReStyle.

The keys of `generate/stylegan2.py` are those of NVIDIA's PyTorch program. The other layouts are brought to them first: that of
rosinality differs in names and in axes of size one; the TensorFlow variables are transposed, the kernels of up-convolutions
stand on their heads there (their program turns them before a transposed convolution), and the styles lack their 1.
Everything about the shape of a network is read from the shapes of its tensors. What leaves no trace in them is read from the
settings that NVIDIA's pickles keep beside them; rosinality's files keep none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial

import torch
from torch import Tensor

from preimage.errors import WeightsError
from preimage.generate.stylegan2 import StyleGAN2, StyleGAN2Config
from preimage.nets.layers import fir_kernel
from preimage.port.layout import Layout, Ported, Settings, State, misfit, shape_of
from preimage.texts import one_line

_EMA = ("G_ema", "g_ema", "Gs", "ema", "decoder")  # averaged over training: these make the published pictures
_NVIDIA, _ROSINALITY, _TENSORFLOW = "synthesis.b4.const", "input.input", "synthesis.4x4.Const.const"
_RATE = 0.01  # of the mapping network, relative to the rest: in every published file, and in our `Mapping`
_FIXED: tuple[tuple[str, str | float], ...] = (
    (r"(.+\.)?mapping_kwargs\.lr_multiplier|static_kwargs\.mapping_lrmul|mapping\.fc\d+\.bias_gain", _RATE),
    (r"(.+\.)?(mapping|synthesis)_kwargs\.activation|static_kwargs\.(mapping_)?nonlinearity", "lrelu"),
    (r"mapping\.fc\d+\.activation|synthesis\.b\d+\.conv[01]\.activation", "lrelu"),
)
"""Settings without a trace in the shapes, by their names in a generator of NVIDIA's, and what they are in every published one."""
_LAYERS = r"(synthesis\.b\d+\.(?:conv[01]|torgb))\."
_SILENT = (
    "the file says no settings beside its tensors; those of NVIDIA's networks without mixed precision are assumed: a mapping rate "
    "of 0.01, leaky ReLU, no clamp (conv_clamp)"
)
_ASSUMED = (
    "the rate of the mapping network (lr_mlp) leaves no trace in this layout; rosinality's default, 0.01, is assumed. If it was "
    "trained with another, convert it again with --lr-mlp"
)
_CONSTANT = "the constant noise maps of the file are left out: noise is silent or drawn from a seed here"


def _roots(state: State, mark: str, beside: str) -> list[str]:
    """What stands before the keys of each generator, the averaged one first; all of them hold `mark` and `beside`."""
    found = [k.removesuffix(mark) for k in state if k == mark or k.endswith(f".{mark}")]
    found = [root for root in found if root + beside in state and not root.endswith("backbone.")]  # that one is EG3D's
    return sorted(found, key=_rank)


def _rank(root: str) -> int:
    last = root.removesuffix(".").rpartition(".")[2]
    return _EMA.index(last) if last in _EMA else len(_EMA)


def _generator(state: State, mark: str, beside: str) -> tuple[str, dict[str, Tensor], tuple[str, ...]]:
    """What stands before the keys of one generator, its tensors by its own keys, and a note where the file holds several."""
    root, *others = _roots(state, mark, beside)
    own = {k.removeprefix(root): v for k, v in state.items() if k.startswith(root)}
    notes = [f"{root.removesuffix('.')} of the file; it also holds {', '.join(o[:-1] or 'another' for o in others)}"]
    return root, own, tuple(notes if others else ())


def _clamp_of(root: str, settings: Settings, layers: set[str]) -> float | str | bool | None:
    """What the settings of NVIDIA's generator under `root` clamp its layers to; None: no clamp.

    Raises:
        WeightsError: a setting that is none of the published ones, or clamps that differ from layer to layer.
    """
    own = {key.removeprefix(root): value for key, value in settings.about.items() if key.startswith(root)}
    for key, value in own.items():
        for setting, known in _FIXED:
            if value != known and re.fullmatch(setting, key):
                raise WeightsError(
                    f"a generator of an unusual kind: {root}{key} is {value!r}, and only {known!r} is known here."
                )
    clamps = {key: value for key, value in own.items() if key.rpartition(".")[2] == "conv_clamp"}
    said = {found[1] for key in clamps if (found := re.match(_LAYERS + "conv_clamp$", key))}
    if said and (silent := sorted(layers - said)):
        raise WeightsError(
            f"clamps {root}{min(said)} (conv_clamp) and not {root}{silent[0]}; only one clamp for all layers is known here."
        )
    first = next(iter(clamps), "")
    for key, value in clamps.items():
        if value != clamps[first]:
            raise WeightsError(
                f"has several clamps: {root}{first} is {clamps[first]!r} and {root}{key} is {value!r}; only one for all layers "
                "is known here."
            )
    return clamps.get(first)


# --------------------------------------------------------------------------------------------------- NVIDIA, PyTorch era


def _port_nvidia(state: State, settings: Settings) -> Ported:
    root, own, notes = _generator(state, _NVIDIA, "synthesis.b4.conv1.affine.weight")
    own = {k: v for k, v in own.items() if k.startswith(("mapping.", "synthesis."))}
    if not any(
        key.startswith((f"{root}synthesis.", f"{root}mapping.", f"{root}init_kwargs.")) for key in settings.about
    ):
        notes = (*notes, _SILENT)
    return _finish(own, notes, _clamp_of(root, settings, _layers(own)))


def _layers(state: Mapping[str, Tensor]) -> set[str]:
    return {found[1] for key in state if (found := re.match(_LAYERS, key))}


def _finish(state: Mapping[str, Tensor], notes: tuple[str, ...], clamp: object = None) -> Ported:
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


# -------------------------------------------------------------------------------------------------------------- rosinality


def _side(layer: str, index: str) -> tuple[int, str]:
    """Side and our name of the layer that rosinality calls `convs.3` or `to_rgbs.0`."""
    i = int(index)
    return (2 ** (i // 2 + 3), f"conv{i % 2}") if layer == "convs" else (2 ** (i + 3), "torgb")


def _layer(prefix: str) -> str:
    """`conv1`, `to_rgb1`, `convs.3`, `to_rgbs.0` -> the beginning of our keys."""
    if prefix in ("conv1", "to_rgb1"):
        return f"synthesis.b4.{'conv1' if prefix == 'conv1' else 'torgb'}"
    side, name = _side(*prefix.split("."))
    return f"synthesis.b{side}.{name}"


_LAYER = r"(conv1|to_rgb1|convs\.\d\d?|to_rgbs\.\d\d?)\."
_RULES: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (r"style\.(\d+)\.(weight|bias)", lambda m: f"mapping.fc{int(m[1]) - 1}.{m[2]}"),
    (r"latent_avg", lambda m: "mapping.w_avg"),
    (r"input\.input", lambda m: "synthesis.b4.const"),
    (_LAYER + r"conv\.weight", lambda m: f"{_layer(m[1])}.weight"),
    (_LAYER + r"conv\.modulation\.(weight|bias)", lambda m: f"{_layer(m[1])}.affine.{m[2]}"),
    (_LAYER + r"noise\.weight", lambda m: f"{_layer(m[1])}.noise_strength"),
    (_LAYER + r"(?:activate\.)?bias", lambda m: f"{_layer(m[1])}.bias"),
    (_LAYER + r"(?:conv\.blur|upsample)\.kernel", lambda m: f"{_layer(m[1])}.resample_filter"),
    (r"noises\.noise_(\d+)", lambda m: f"synthesis.noise{m[1]}.noise_const"),
)


def _port_rosinality(state: State, settings: Settings) -> Ported:
    _, own, notes = _generator(state, _ROSINALITY, "conv1.conv.modulation.weight")
    mean = next((v for k, v in state.items() if k.rpartition(".")[2] == "latent_avg"), None)
    own = own if mean is None else {"latent_avg": mean, **own}
    own = {k: v for k, v in own.items() if re.match(r"style\.|latent_avg$|input\.|conv1\.|to_rgb|convs\.|noises\.", k)}
    ours = {_ours(key): _changed(key, value, partial(_without_ones, key)) for key, value in own.items()}
    if settings.lr_mlp is None:
        return _finish(ours, (*notes, _ASSUMED))
    for key in [key for key in ours if key.startswith("mapping.fc")]:
        ours[key] = ours[key].float() * (settings.lr_mlp / _RATE)
        if not bool(ours[key].isfinite().all()):
            raise WeightsError(f"--lr-mlp {settings.lr_mlp}: makes {key} larger than a number can be; check the rate.")
    said = (
        f"the mapping network was said to have the rate {settings.lr_mlp} (--lr-mlp); its weights are scaled to {_RATE}"
    )
    return _finish(ours, (*notes, said))


def _changed(key: str, value: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    try:
        return change(value)
    except (IndexError, RuntimeError) as error:
        raise _unfit(f"{key} is {shape_of(value)} ({one_line(error)})") from None


def _ours(key: str) -> str:
    for rule, name in _RULES:
        if found := re.fullmatch(rule, key):
            return name(found)
    raise WeightsError(f"holds {key}, which no StyleGAN2 of rosinality's layout has.")


def _without_ones(key: str, value: Tensor) -> Tensor:
    """Without the axes of size one that rosinality keeps."""
    if key == "input.input" or key.endswith("conv.weight"):
        return value[0]
    if key.endswith("noise.weight"):
        return value.reshape(())
    return value.flatten() if key.endswith("bias") else value


# ------------------------------------------------------------------------------------------------ NVIDIA, TensorFlow era

_TF_LAYERS = {"Conv": "conv1", "Conv0_up": "conv0", "Conv1": "conv1", "ToRGB": "torgb"}
_TF_PARTS: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "weight": ("weight", lambda t: t.permute(3, 2, 0, 1)),
    "bias": ("bias", lambda t: t),
    "noise_strength": ("noise_strength", lambda t: t.reshape(())),
    "mod_weight": ("affine.weight", lambda t: t.t()),
    "mod_bias": ("affine.bias", lambda t: t + 1),
}


def _port_tensorflow(state: State, settings: Settings) -> Ported:
    root, own, notes = _generator(state, _TENSORFLOW, "synthesis.4x4.Conv.mod_weight")
    named = [_from_tensorflow(key, value) for key, value in own.items() if key != "lod" and not key.endswith(".lod")]
    return _finish(dict(named), notes, _clamp_of(root, settings, set()))


def _from_tensorflow(key: str, value: Tensor) -> tuple[str, Tensor]:
    """A variable as NVIDIA's PyTorch program names and stores it."""
    if key == "dlatent_avg":
        return "mapping.w_avg", value
    if key == _TENSORFLOW:
        return "synthesis.b4.const", _changed(key, value, lambda t: t[0])
    if found := re.fullmatch(r"mapping\.Dense(\d+)\.(weight|bias)", key):
        return f"mapping.fc{found[1]}.{found[2]}", _changed(key, value, torch.t) if found[2] == "weight" else value
    if found := re.fullmatch(r"synthesis\.noise(\d+)", key):
        return f"synthesis.noise{found[1]}.noise_const", value
    if key.startswith("mapping.Label"):
        return "mapping.embed", value
    found = re.fullmatch(r"synthesis\.(\d+)x\1\.(\w+)\.(\w+)", key)
    if found is None or found[2] not in _TF_LAYERS or found[3] not in _TF_PARTS:
        raise WeightsError(f'a StyleGAN2 of another architecture than "skip": it holds {key}. It cannot be used here.')
    part, change = _TF_PARTS[found[3]]
    value = _changed(key, value, change)
    value = value.flip(2, 3) if (found[2], part) == ("Conv0_up", "weight") else value
    return f"synthesis.b{found[1]}.{_TF_LAYERS[found[2]]}.{part}", value


def _matcher(mark: str, beside: str, decoder: bool | None = None) -> Callable[[State], bool]:
    def matches(state: State) -> bool:
        roots = _roots(state, mark, beside)
        return bool(roots) and decoder in (None, roots[0].endswith("decoder."))

    return matches


LAYOUTS: tuple[Layout, ...] = (
    Layout("NVIDIA StyleGAN2 (PyTorch)", _matcher(_NVIDIA, "synthesis.b4.conv1.affine.weight"), _port_nvidia),
    Layout("NVIDIA StyleGAN2 (TensorFlow)", _matcher(_TENSORFLOW, "synthesis.4x4.Conv.mod_weight"), _port_tensorflow),
    Layout(
        "decoder of pSp, e4e or ReStyle",
        _matcher(_ROSINALITY, "conv1.conv.modulation.weight", True),
        _port_rosinality,
        silent_rate=True,
    ),
    Layout(
        "rosinality StyleGAN2",
        _matcher(_ROSINALITY, "conv1.conv.modulation.weight", False),
        _port_rosinality,
        silent_rate=True,
    ),
)
