"""What the papers print, as data. A figure stands beside ours to be read, never to be compared without its note."""

from __future__ import annotations

from preimage.measure.report import Published

_TABLE_1 = "Pro-PULSE, TIP 2022, table I"
_TABLE_2 = "PULSE, CVPR 2020, table 2"
_DEEPSEE = "DeepSEE, ACCV 2020, table 1"
_BY_PRO_PULSE = (
    "5,817 CelebA-HQ faces, 16 to 1024 pixels, generator trained on FFHQ; measured by the authors of Pro-PULSE"
)
_BY_PULSE = "CelebA-HQ, 16 to 1024 pixels; candidates above the tolerance left out"
_BY_DEEPSEE = "CelebA, 16 to 128 pixels, whole test set; channels and alignment as in that paper"

PUBLISHED: tuple[Published, ...] = (
    Published("pulse", "niqe", 2.47, _TABLE_2, _BY_PULSE),
    Published("bicubic", "niqe", 7.06, _TABLE_2, _BY_PULSE),
    Published("pulse", "fid", 32.08, _TABLE_1, _BY_PRO_PULSE),
    Published("pulse", "niqe", 2.53, _TABLE_1, _BY_PRO_PULSE),
    Published("pulse", "seconds", 18.37, _TABLE_1, f"{_BY_PRO_PULSE}; one NVIDIA Titan Xp"),
    Published("pulse", "flops", 2.5e13, _TABLE_1, _BY_PRO_PULSE),
    Published("bicubic", "ssim-rgb", 0.5917, _DEEPSEE, _BY_DEEPSEE),
    Published("bicubic", "lpips-alex", 0.5625, _DEEPSEE, _BY_DEEPSEE),
    Published("bicubic", "fid", 159.60, _DEEPSEE, _BY_DEEPSEE),
    Published("deepsee", "ssim-rgb", 0.6631, _DEEPSEE, _BY_DEEPSEE),
    Published("deepsee", "lpips-alex", 0.1063, _DEEPSEE, _BY_DEEPSEE),
    Published("deepsee", "fid", 13.84, _DEEPSEE, _BY_DEEPSEE),
)
"""Figures for the methods that are here; those of SR-NAM do not exist (its paper has figures only)."""


def published_for(methods: list[str]) -> list[Published]:
    """The figures of these methods, in the order of the table."""
    return [figure for figure in PUBLISHED if figure.method in methods]
