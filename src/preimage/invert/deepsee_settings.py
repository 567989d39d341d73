"""Controls of DeepSEE (`invert.deepsee`)."""

from __future__ import annotations

from dataclasses import dataclass

from preimage.errors import MethodError
from preimage.invert.deepsee_answers import noise_of
from preimage.invert.settings import Settings, setting
from preimage.nets.deepsee import REGIONS
from preimage.semantics.edits import parse_edit
from preimage.semantics.labels import find_regions


@dataclass(frozen=True)
class DeepSEESettings(Settings):
    """Controls of `DeepSEE`.

    Attributes:
        temperature: spread of the styles that seeds draw, from the Gaussian that the network holds: 1 as sharp faces differ, 0 their mean.
            Handles draw as wide as 1 at least.
        style_noise: largest noise on styles, δ of the paper, as "lips=0.03,hair=0.1" or one number for all regions.
        reference_regions: regions whose styles come from the reference, such as "hair,lips"; empty: all. Seeds decide the others.
        reference_layout: "own" takes the styles of the reference's own regions; "photo" those of what it shows where the regions of the
            photo are, for pictures that are no faces, such as patterns.
        blend: how far styles go from those of the photo to the reference's or those of `towards`; above 1 beyond them.
        edit_mask: edits of the map of regions, such as "close-mouth" or "grow:hair:3;remove:eyeglasses".
        base: seed from which a walk starts.
        towards: another seed to move towards, or -1 for none; not together with a reference.
        interpolate: so many steps of a walk from `base` to the reference or to `towards`: seed k stands k of them along. 0: none.
        segmenter: name or file of the network that finds the regions; empty takes the embedded one.
    """

    temperature: float = setting(1.0, low=0, high=3)
    style_noise: str = ""
    reference_regions: str = ""
    reference_layout: str = setting("own", choices=("own", "photo"))
    blend: float = setting(1.0, low=0, high=2)
    edit_mask: str = ""
    base: int = setting(0, low=0)
    towards: int = -1
    interpolate: int = setting(0, low=0)
    segmenter: str = setting("", file=True)

    def __post_init__(self) -> None:
        for name, mark in (("style_noise", ","), ("reference_regions", ","), ("edit_mask", ";")):
            value = getattr(self, name)
            if isinstance(value, list | tuple):
                object.__setattr__(self, name, mark.join(map(str, value)))
            elif isinstance(value, int | float) and name == "style_noise" and not isinstance(value, bool):
                object.__setattr__(self, name, f"{value:g}")
        super().__post_init__()
        for edit in self.edits:
            parse_edit(edit)
        if self.reference_regions:
            find_regions(self.reference_regions)
        try:
            noise_of(self.style_noise, REGIONS)
        except ValueError as error:
            raise MethodError(
                f"style_noise {self.style_noise!r:.60}: write lips=0.03,hair=0.1 or one number in [0, 2] ({error})."
            ) from None

    @property
    def edits(self) -> list[str]:
        return [edit.strip() for edit in self.edit_mask.split(";") if edit.strip()]

    def of_the_photo(self) -> DeepSEESettings:
        """These, but seeds draw styles of the photo alone, and no narrower than sharp faces differ: who turns a handle wants to see it."""
        wide = max(1.0, self.temperature)
        return self.with_({"towards": -1, "interpolate": 0, "reference_regions": "", "temperature": wide})
