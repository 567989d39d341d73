"""DeepSEE's published checkpoints (`<epoch>_net_SR.pth` and `<epoch>_net_E.pth`) -> a network of ours.

Its layers are called `head_0`, `middle_0`, `middle_1` and `up_list.i`; the first and the last convolution are told by their shapes, and so
are the encoder's layers. What the files hold and nothing uses (`style_conv`, the branches' own `final`) is left out.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from preimage.errors import WeightsError
from preimage.nets.deepsee import PURE, DeepSEEConfig, DeepSEENetwork
from preimage.port.layout import State, misfit
from preimage.port.pickles import read_checkpoint
from preimage.weight_files import save_prior, sha256

SPECTRAL = {
    "weight_orig": "parametrizations.weight.original",
    "weight_u": "parametrizations.weight.0._u",
    "weight_v": "parametrizations.weight.0._v",
}
"""Names of a spectrally normalised weight in older versions of torch, and now."""
UNUSED = re.compile(r"\.style_conv\.|num_batches_tracked$|^encoder_(full|mini)\.(final\.|noise_weights$)")


def load_deepsee(
    generator: State, encoder: State, lr_size: int, legacy_512: bool | None = None, name: str = "deepsee"
) -> DeepSEENetwork:
    """A network from the tensors of both files.

    Args:
        generator: of `net_SR`.
        encoder: of `net_E`, with both branches.
        lr_size: side of the photos, which the files do not say: 16 or 32.
        legacy_512: whether the block at 512 pixels takes what the regions say for the style, as the published 16 to 512 network was
            trained by mistake; None: where there is such a block.
        name: for provenance.

    Raises:
        WeightsError: not such files.
    """
    try:
        config = _config(generator, encoder, lr_size, legacy_512)
        state = _generator(generator, config) | _encoder(encoder)
    except (KeyError, IndexError, ValueError, RuntimeError) as error:
        raise WeightsError(
            f"not DeepSEE's network: {str(error)[:100]} is missing or does not fit. Give <epoch>_net_SR.pth and <epoch>_net_E.pth of one run."
        ) from None
    network = DeepSEENetwork(config, name)
    own = network.state_dict()
    state = {key: own[key] for key in own if key.endswith("num_batches_tracked")} | state
    if reason := misfit(own, state):
        raise WeightsError(
            f"not DeepSEE's network: {reason}. Give <epoch>_net_SR.pth and <epoch>_net_E.pth of one run."
        )
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def convert_deepsee(
    generator: str | Path,
    encoder: str | Path,
    out: str | Path,
    lr_size: int,
    legacy_512: bool | None = None,
    licence: str = "CC BY-NC-SA 4.0",
) -> Path:
    """Both published files as one safetensors file of ours; nothing in them is executed.

    Args:
        generator, encoder: the files.
        out: the file to write.
        lr_size, legacy_512: of `load_deepsee`.
        licence: of the weights, as the user confirms it.

    Raises:
        WeightsError, UnreadableError: files that are missing, damaged, hostile or others.
        OutputError: the result cannot be written.
    """
    parts = [read_checkpoint(path) for path in (generator, encoder)]
    network = load_deepsee(parts[0].tensors, parts[1].tensors, lr_size, legacy_512, Path(out).stem)
    trained = {
        "source": Path(generator).name, "source_sha256": sha256(Path(generator)), "encoder": Path(encoder).name,
        "encoder_sha256": sha256(Path(encoder)), "layout": "DeepSEE (mcbuehler)",
    }  # fmt: skip
    save_prior(
        Path(out), network, trained, licence, torch.float32, degradations=("bicubic",), looked_through=("vgg19",)
    )
    return Path(out)


def _config(generator: State, encoder: State, lr_size: int, legacy_512: bool | None) -> DeepSEEConfig:
    """The shape, from the shapes of the tensors."""
    blocks = sorted({int(m[1]) for key in generator if (m := re.match(r"up_list\.(\d+)\.", key))})
    doublings = 1 + len(blocks)
    shared = generator["head_0.norm_0.mlp_shared.0.weight"]
    hidden, regions = shared.shape[:2]
    width = generator["head_0.conv_0.weight_orig"].shape[0]
    style = generator["middle_0.norm_0.mlp_style_gamma.weight"].shape[1]
    first = next(x for key, x in encoder.items() if key.startswith("encoder_full.initial.") and x.ndim == 4)
    return DeepSEEConfig(
        lr_size=lr_size, resolution=lr_size << doublings, widths=(width,) * (doublings + 1), hidden=hidden, regions=regions,
        style=style, encoder=first.shape[0], pooling="image", noise=any(".noise_in." in key for key in generator),
        legacy_512=doublings >= PURE if legacy_512 is None else legacy_512,
    )  # fmt: skip


def _generator(state: State, config: DeepSEEConfig) -> dict[str, Tensor]:
    ends = {
        key.removesuffix(".weight"): x
        for key, x in state.items()
        if key.endswith(".weight") and x.ndim == 4 and key.count(".") <= 2 and 3 in x.shape[:2]
    }
    (stem,) = [key for key, x in ends.items() if x.shape[1] == 3 and x.shape[0] != 3]
    (out,) = [key for key, x in ends.items() if x.shape[0] == 3]
    found = {
        f"generator.{ours}.{part}": state[f"{theirs}.{part}"]
        for ours, theirs in (("stem", stem), ("out", out))
        for part in ("weight", "bias")
    }
    places = {"head_0": "head", "middle_0": "levels.0.0", "middle_1": "levels.0.1"}
    places |= {f"up_list.{i}": f"levels.{i + 1}.0" for i in range(config.doublings - 1)}
    for theirs, ours in places.items():
        found |= {f"generator.{ours}.{key}": x for key, x in _block(state, theirs, config).items()}
    return found


def _block(state: State, prefix: str, config: DeepSEEConfig) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for i in (0, 1):
        found |= _spectral(state, f"{prefix}.conv_{i}", f"conv{i}", bias=True)
        norm, own = f"{prefix}.norm_{i}", f"norm{i}"
        for part in ("running_mean", "running_var"):
            found[f"{own}.norm.{part}"] = state[f"{norm}.param_free_norm.{part}"]
        mixed, pure = f"{norm}.alpha_gamma" in state, f"{norm}.mlp_gamma.weight" not in state
        for part in ("weight", "bias"):
            if not pure or config.legacy_512:
                found[f"{own}.shared.{part}"] = state[f"{norm}.mlp_shared.0.{part}"]
            if not pure:
                found[f"{own}.by_region.{part}"] = _both(state, f"{norm}.mlp_gamma", f"{norm}.mlp_beta", part)
            if mixed or pure:
                found[f"{own}.by_style.{part}"] = _both(
                    state, f"{norm}.mlp_style_gamma", f"{norm}.mlp_style_beta", part
                )
        if mixed:
            found[f"{own}.mix"] = torch.stack([state[f"{norm}.alpha_{x}"].reshape(()) for x in ("gamma", "beta")])
    if config.noise:
        for theirs, ours in (("noise_in", "noise0"), ("noise_middle", "noise1"), ("noise_skip", "noise_skip")):
            (key,) = [key for key in state if key.startswith(f"{prefix}.{theirs}.")]
            found[f"{ours}.strength"] = state[key].reshape(-1)
    return found


def _encoder(state: State) -> dict[str, Tensor]:
    """The layers of each branch in their order, which their widths give."""
    state = {key: x for key, x in state.items() if not UNUSED.search(key)}
    found: dict[str, Tensor] = {}
    for theirs, ours in (("encoder_full", "sharp"), ("encoder_mini", "small")):
        layers = [key.removesuffix(".weight_orig") for key in state if key.startswith(theirs) and key.endswith("_orig")]
        layers.sort(key=lambda key: state[f"{key}.weight_orig"].shape[0])
        for place, key in zip((0, 1, 2, 4), layers, strict=True):
            found |= _spectral(state, key, f"encoder.{ours}.{place}.0")
    (last,) = [key.removesuffix(".weight_orig") for key in state if key.startswith("final.") and key.endswith("_orig")]
    found |= _spectral(state, last, "encoder.shared.0")
    return found | {"style_noise.share": state["noise_weights"]}


def _spectral(state: State, theirs: str, ours: str, bias: bool = False) -> dict[str, Tensor]:
    found = {f"{ours}.{new}": state[f"{theirs}.{old}"] for old, new in SPECTRAL.items()}
    return found | ({f"{ours}.bias": state[f"{theirs}.bias"]} if bias else {})


def _both(state: State, first: str, second: str, part: str) -> Tensor:
    return torch.cat([state[f"{first}.{part}"], state[f"{second}.{part}"]])
