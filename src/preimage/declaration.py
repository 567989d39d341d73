"""What a network declares: its kind and sizes, what it was trained for, what may not judge it, which prior it belongs to.

Its file says so (`preimage.weight_files`), and a network that was loaded carries it along (`declared`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from torch import nn

from preimage.bounds import check_whole
from preimage.errors import WeightsError

KINDS = ("prior", "degradation", "encoder", "upsampler", "segmenter", "side-output", "directions")
LARGEST = 8192
"""Pixels of a side."""
MOST = 64
"""Names in one list; ours have six at most."""
LONGEST = 255
"""Characters of a name."""
PIXELS_ONLY = {"drift", "critics", "styles"}
"""Settings of recipes, one each, that no feature network has a part in: ProGAN's, styleVAE's, those of upsamplers."""


@dataclass(frozen=True)
class Bound:
    """A prior that a network was trained for and answers with.

    Attributes:
        name: of the prior.
        sha256: its `nets.fingerprint`, as `prior_sha256` in run.yaml: of the numbers, whatever else its file says.
    """

    name: str
    sha256: str

    def __post_init__(self) -> None:
        digits = self.sha256 if isinstance(self.sha256, str) else ""
        if not _is_name(self.name) or len(digits) != 16 or not set(digits) <= set("0123456789abcdef"):
            raise WeightsError(
                f"declaration: bound_to ({self.name!r:.40}, {self.sha256!r:.40}) must be a name and 16 hexadecimal digits."
            )


@dataclass(frozen=True)
class Declaration:
    """See the module; checked strictly, for anybody may have written it.

    Attributes:
        kind: one of `KINDS`.
        lr_size, hr_size: sides of photos and pictures, where it has one of its own.
        scale: of a network that enlarges photos of any size.
        degradations: what made the photos it learned to answer; empty where it answers none, or does not say.
        looked_through: the feature networks (`nets.features.FEATURE_NETWORKS`) through which its losses and discriminators
            saw, which may not judge it; none where they saw pixels; None where nobody knows.
        bound_to: the prior that it works with, and no other.
    """

    kind: str
    lr_size: int | None = None
    hr_size: int | None = None
    scale: int | None = None
    degradations: tuple[str, ...] = ()
    looked_through: tuple[str, ...] | None = None
    bound_to: Bound | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise WeightsError(f"declaration: kind ({self.kind!r:.40}) must be one of {', '.join(KINDS)}.")
        check_whole("declaration", self._sizes(), 1, LARGEST)
        seen = () if self.looked_through is None else self.looked_through
        for key, names in (("degradations", self.degradations), ("looked_through", seen)):
            if not isinstance(names, tuple) or len(names) > MOST or not all(map(_is_name, names)):
                raise WeightsError(f"declaration: {key} ({names!r:.60}) must be at most {MOST} names.")

    @property
    def problem(self) -> str:
        """Kind and sizes, which follow from the network itself."""
        return ", ".join([self.kind, *(f"{key} {x}" for key, x in self._sizes().items())])

    def _sizes(self) -> dict[str, int]:
        sizes = {"lr_size": self.lr_size, "hr_size": self.hr_size, "scale": self.scale}
        return {key: x for key, x in sizes.items() if x is not None}

    def to_dict(self) -> dict[str, Any]:
        """What is known, as plain values."""
        known = {key: x for key, x in asdict(self).items() if x is not None and (x != () or key == "looked_through")}
        return {key: list(x) if isinstance(x, tuple) else x for key, x in known.items()}


def parse_declaration(values: Mapping[str, Any]) -> Declaration:
    """The declaration of `Declaration.to_dict`.

    Raises:
        WeightsError: anything else; the message names no file.
    """
    known = [field.name for field in fields(Declaration)]
    if unknown := [key for key in values if key not in known]:
        raise WeightsError(f"declaration: has {unknown[0]!r:.40}, which this version does not know.")
    read: dict[str, Any] = {"kind": None}
    read |= {key: tuple(x) if isinstance(x, list) else x for key, x in values.items()}
    bound = read.get("bound_to")
    if bound is not None:
        if not isinstance(bound, dict) or bound.keys() != {"name", "sha256"}:
            raise WeightsError(f"declaration: bound_to ({bound!r:.60}) must be a name and a sha256.")
        read["bound_to"] = Bound(**bound)
    return Declaration(**read)


def sizes_of(config: Any) -> dict[str, Any]:
    """The sizes that the configuration of a network gives it, of any that can be."""
    config = _mapping(config)
    config = _mapping(config.get("second", config))  # of a chain, whose second stage makes the pictures
    found = {"hr_size": config.get("hr_size", config.get("resolution")), "lr_size": config.get("lr_size")}
    if "scale" in config:  # it learned on lr_size, and takes any
        found = {"scale": config["scale"]}
    return {key: x for key, x in found.items() if type(x) is int and 1 <= x <= LARGEST}


def said_before(trained: Mapping[str, Any]) -> dict[str, Any]:
    """What files that declare nothing say by their recipe: what they looked through, and what made their photos."""
    recipe = _mapping(trained.get("recipe"))
    discriminator, kernels = _mapping(recipe.get("discriminator")), _mapping(recipe.get("problems")).get("kernels")
    names = [*(kernels if isinstance(kernels, list) else []), recipe.get("degradation")]
    seen: list[Any] | None = None
    if "features" in recipe:  # posterior; SR-NAM's degradation, where its weight is not 0
        seen = [recipe["features"]] if recipe.get("delta", 1) else []
    elif "kind" in discriminator:
        features = discriminator.get("features") if discriminator["kind"] == "projected" else []
        seen = features if isinstance(features, list) else [features]
    elif PIXELS_ONLY & recipe.keys():
        seen = []
    return {
        "degradations": tuple(filter(_is_name, names))[:MOST],
        "looked_through": None if seen is None else tuple(filter(_is_name, seen))[:MOST],
    }


def declared(network: object) -> Declaration | None:
    """What the file declares that a network came from, or went on from; None for one that came from none."""
    found = getattr(network, "__dict__", {}).get("declaration")
    return found if isinstance(found, Declaration) else None


def remember(network: nn.Module, declaration: Declaration | None) -> None:
    """Let a network carry this along."""
    network.__dict__["declaration"] = declaration


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST and value.isprintable()


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
