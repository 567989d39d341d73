"""What a checkpoint is that is no prior known here, as far as the names of its tensors tell, and what to bring instead."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_INSTEAD = "Priors that can be converted: StyleGAN2 (NVIDIA, rosinality, pSp, e4e, ReStyle), StyleGAN (lernapparat), ProGAN (akanimax)."
_ENCODER = (
    "an encoder without its generator; an encoder makes latents, not pictures. Bring the generator it was trained with"
)

# The first that is found anywhere in the names says what the file is, so what contains another comes first.
_KINDS: tuple[tuple[str, str], ...] = (
    (
        r"(^|\.)superresolution\.block\d|(^|\.)backbone\.synthesis\.b4\.",
        "an EG3D generator: its pictures are views of a volume, which needs a camera and a renderer. Bring a StyleGAN2 instead",
    ),
    (
        r"(^|\.)synthesis\.(first_stage|stem)|(^|\.)mapping\.embed_proj\.|(^|\.)head_layer_names|synthesis\.L\d+_\d+_\d+\..*superres",
        "a StyleGAN-XL generator, which is built on StyleGAN3 and is conditional on classes. Bring a StyleGAN2 instead",
    ),
    (
        r"(^|\.)synthesis\.L\d+_\d+_\d+\.|(^|\.)synthesis\.input\.(transform|freqs|weight)",
        "a StyleGAN3 generator; only StyleGAN2 is known here. NVIDIA publishes StyleGAN2 weights for the same data",
    ),
    (
        r"StyleMod|(^|\.)synthesis\.4x4\.Conv\.style",
        "NVIDIA's own StyleGAN (2018) for TensorFlow. Bring lernapparat's PyTorch file of it "
        "(karras2019stylegan-ffhq-1024x1024.for_g_all.pt), or a StyleGAN2",
    ),
    (r"(^|\.)(4x4\.(Dense|Conv)\.weight|ToRGB_lod\d+\.weight)$", "NVIDIA's ProGAN for TensorFlow. Bring akanimax's PyTorch ProGAN instead"),
    (
        r"(^|\.)(input_blocks|middle_block|output_blocks|down_blocks|time_embed|time_embedding|time_mlp|x_embedder)\.\w+\."
        r"|model\.diffusion_model\.",
        "a diffusion model: it makes a picture in many steps and has no latent that PULSE could search. Bring a GAN's generator",
    ),
    (r"(^|\.)style_conv1\.modulated_conv\.|(^|\.)stylegan_decoder\.", "a StyleGAN2 in BasicSR's layout (GFPGAN). Bring it in rosinality's"),
    (r"(^|\.)(quantize|codebook|vq_model)\.", "a vector-quantised autoencoder; its codes are a table, not a space to walk in. Bring a GAN's generator"),
    (r"(^|\.)(RRDB_trunk|body\.\d+\.rdb1|conv_after_body)\b", "a super-resolution network, which answers with one picture. Bring a generator"),
    (
        r"(^|\.)(b\d+\.fromrgb|b4\.out|b4\.mbstd|final_linear\.0|FromRGB(_lod\d+)?)\.|(^|\.)4x4\.Dense1\.",
        "a discriminator, which judges pictures and makes none. The generator is in the same training's file, often as g_ema or G_ema",
    ),
    (
        r"(^|\.)(post_)?quant_conv\.|(^|\.)decoder\.(conv_in|up|up_blocks|mid|mid_block)\.",
        "an autoencoder. A decoder of your own can be searched as --prior package.module:Class",
    ),
    (r"^(state_dict\.|model\.)?encoder\.|(^|\.)(input_layer|output_layer|styles)\.\d+\.|(^|\.)body\.\d+\.res_layer\.", _ENCODER),
    (r"(^|\.)(patch_embed|cls_token|visual\.transformer)\b", "a vision transformer, which describes pictures and makes none. Bring a generator"),
    (
        r"(^|\.)layer1\.0\.conv1\.|(^|\.)features\.\d+\.|(^|\.)Conv2d_1a_3x3\.|(^|\.)(classifier|fc|logits)(\.\d+)?\.weight$",
        "a classifier or feature network, which describes pictures and makes none. Those that measure are listed in "
        "`preimage.feature_networks`; as a prior, bring a generator",
    ),
    (r"(^|\.)(synthesis|mapping)\.", "part of a style-based generator, but not a whole one of a known kind. Bring the whole generator"),
)  # fmt: skip


def what_else(tensors: Mapping[str, Tensor]) -> str:
    """A sentence on what a checkpoint is, and one on what to do; for the end of an error message."""
    if not tensors:
        return f"holds no tensors. {_INSTEAD}"
    for pattern, what in _KINDS:
        known = re.compile(pattern)
        if any(known.search(name) for name in tensors):
            return f"{what}. {_INSTEAD}"
    some = ", ".join(" ".join(name.split())[:60] for name in list(tensors)[:3])
    return f"{len(tensors)} tensors ({some}, …) of no network known here. {_INSTEAD}"
