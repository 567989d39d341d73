"""StyleGAN checkpoints of others: lernapparat's layout, in one file or in the two halves that PULSE's program fetches.

Weights in this layout are raw, as the TensorFlow original stores them: He gain over fan-in and learning-rate multiplier are
applied at run time, in the layers. So does `generate/stylegan.py`, and nothing is rescaled here. The file holds trained
variables only; the original's mean latent is not among them and is estimated.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict

import torch
from torch import Tensor

from preimage.errors import WeightsError
from preimage.generate.stylegan import StyleGAN, StyleGANConfig
from preimage.port.layout import Layout, Ported, Settings, State, misfit, shape_of
from preimage.texts import one_line

_MAPPING, _SYNTHESIS = "dense0.weight", "blocks.4x4.const"  # a key of each half, whatever it is nested in
_LAYER = {"conv": "layer1", "conv0_up": "layer0", "conv1": "layer1", "epi1": "layer0", "epi2": "layer1"}
_RULES: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (r"dense(\d+)\.(weight|bias)", lambda m: f"mapping.fc{m[1]}.{m[2]}"),
    (r"torgb\.(weight|bias)", lambda m: f"synthesis.torgb.{m[1]}"),
    (r"blocks\.4x4\.const", lambda m: "synthesis.b4.const"),
    (r"blocks\.4x4\.bias", lambda m: "synthesis.b4.layer0.bias"),
    (r"blocks\.(\d+)x\1\.(conv\w*)\.(weight|bias)", lambda m: f"synthesis.b{m[1]}.{_LAYER[m[2]]}.{m[3]}"),
    # lernapparat nests the noise in `top_epi`, PULSE's copy of that program does not
    (
        r"blocks\.(\d+)x\1\.(epi[12])\.(?:top_epi\.)?noise\.weight",
        lambda m: f"synthesis.b{m[1]}.{_LAYER[m[2]]}.noise_strength",
    ),
    (
        r"blocks\.(\d+)x\1\.(epi[12])\.style_mod\.lin\.(weight|bias)",
        lambda m: f"synthesis.b{m[1]}.{_LAYER[m[2]]}.affine.{m[3]}",
    ),
)


def _parts(state: State) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Mapping and synthesis, each by its own keys; empty where the checkpoint has none."""
    halves: list[dict[str, Tensor]] = []
    for mark, starts in ((_MAPPING, ("dense",)), (_SYNTHESIS, ("blocks.", "torgb."))):
        roots = [k.removesuffix(mark) for k in state if k == mark or k.endswith(f".{mark}")]
        if len(roots) > 1:
            raise WeightsError(
                f"holds several StyleGAN networks ({', '.join(roots)}). Save the one you want in a file of its own."
            )
        half = {k.removeprefix(root): v for root in roots for k, v in state.items() if k.startswith(root)}
        halves.append({k: v for k, v in half.items() if k.startswith(starts)})
    return halves[0], halves[1]


def _matches(state: State) -> bool:
    if any(k == _SYNTHESIS or k.endswith(f".{_SYNTHESIS}") for k in state):
        return True
    return bool(state) and all(re.fullmatch(r"(\w+\.)*dense\d+\.(weight|bias)", k) for k in state)  # the mapping alone


def _port(state: State, _: Settings) -> Ported:
    mapping, synthesis = _parts(state)
    if not mapping or not synthesis:
        there, lacking = ("synthesis", "mapping") if synthesis else ("mapping", "synthesis")
        raise WeightsError(
            f"holds only the {there} half of a StyleGAN; the {lacking} half is the other file of the pair (PULSE's mapping.pt "
            "and synthesis.pt). Convert both at once: preimage models convert synthesis.pt --mapping mapping.pt."
        )
    try:
        config = _config(mapping, synthesis)
        prior = StyleGAN(config)
        empty = {k: v for k, v in prior.state_dict().items() if k in ("mapping.w_avg", "fit_mean", "fit_std")}
        filling = {**empty, **_rename(mapping), **_rename(synthesis)}
        reason = misfit(prior.state_dict(), filling)
    except KeyError as error:
        reason = f"{error.args[0]} is missing"
    except (IndexError, RuntimeError, ValueError) as error:
        if isinstance(error, WeightsError):
            raise
        reason = one_line(error)
    if reason:
        raise WeightsError(
            f"starts like lernapparat's StyleGAN, but its tensors do not fit together: {reason}. The file is incomplete, or "
            "another variant; take the published one."
        )
    prior.load_state_dict(filling)
    prior.refit()
    return Ported(
        "stylegan",
        asdict(config),
        prior.state_dict(),
        ("mean latent and Gaussian fit estimated from the mapping network; this layout carries neither",),
    )


def _config(mapping: dict[str, Tensor], synthesis: dict[str, Tensor]) -> StyleGANConfig:
    sides = sorted({int(found[1]) for k in synthesis if (found := re.match(r"blocks\.(\d+)x", k))})
    if sides != [4 * 2**i for i in range(len(sides))]:
        raise WeightsError(f"has blocks of the sides {sides}; a StyleGAN has 4, 8, 16, … without a gap.")
    if (colours := synthesis["torgb.weight"].shape[:1].numel()) != 3:
        raise WeightsError(f"makes pictures of {colours} channels; a prior needs 3 (RGB).")
    widths = {side: synthesis[f"blocks.{side}x{side}.epi2.style_mod.lin.bias"].numel() // 2 for side in sides}
    if mapping[_MAPPING].ndim != 2:
        raise ValueError(f"{_MAPPING} is {shape_of(mapping[_MAPPING])}")
    w_dim, z_dim = mapping[_MAPPING].shape
    depth = sum(k.endswith(".weight") for k in mapping)
    config = StyleGANConfig(sides[-1], sides[-1] * widths[sides[-1]], widths[4], z_dim, w_dim, depth)
    if any(config.channels(side) != width for side, width in widths.items()):
        raise WeightsError(
            f"has widths {list(widths.values())}; only StyleGANs whose width is min(base / side, most) are known here."
        )
    return config


def _rename(half: dict[str, Tensor]) -> dict[str, Tensor]:
    ours = {}
    for key, value in half.items():
        if key.endswith(".intermediate.kernel"):
            _check_blur(key, value)
            continue
        found = next(((m, name) for rule, name in _RULES if (m := re.fullmatch(rule, key))), None)
        if found is None:
            raise WeightsError(f"holds {key}, which no StyleGAN of this layout has.")
        ours[found[1](found[0])] = value.float().reshape(value.shape[1:]) if key == _SYNTHESIS else value.float()
    return ours


def _check_blur(key: str, kernel: Tensor) -> None:
    taps = torch.tensor([1.0, 2.0, 1.0]) / 4
    if kernel.numel() != 9 or not torch.allclose(kernel.float().reshape(3, 3), torch.outer(taps, taps), atol=1e-4):
        raise WeightsError(f"blurs by another filter than [1, 2, 1] ({key}); such a StyleGAN is not known here.")


LAYOUTS: tuple[Layout, ...] = (Layout("lernapparat StyleGAN", _matches, _port),)
