"""Pro-PULSE: encoders write the latents of a generator in one pass (Zhou et al., TIP 2022; docs/pro-pulse.md).

Where the paper ends, its answer may be the beginning of a short PULSE search, on the spheres that it lies on. Many candidates are
not in the paper: a seed draws the noise maps, and how its fine codes, which the photo says little about, differ from what was written.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

from torch import Tensor

from preimage.candidates import Candidates
from preimage.declaration import declared
from preimage.errors import MethodError, OperatorError, WeightsError
from preimage.invert.encoded import encoded, find_encoder, prepare, resampled
from preimage.invert.method import Capabilities, Handle
from preimage.invert.problem import Problem
from preimage.invert.pulse import FINE_NOISE, Pulse
from preimage.invert.queue import Row
from preimage.invert.search_settings import SCHEDULES, SearchSettings
from preimage.invert.settings import Settings, setting
from preimage.nets.pro_pulse import ProPulseEncoder
from preimage.weights import declaration_of, weight_table

FINE = "fine"
"""Handle of the fine codes."""
BESIDE = "prior.safetensors"
"""What a run that trains its prior too exports beside the encoder."""


@dataclass(frozen=True)
class ProPulseSettings(Settings):
    """Controls of `ProPulse`.

    Attributes:
        refine: so many steps of the search from the encoder's answer; each costs two passes of the generator. 0: one pass in all.
        share: how far the fine codes of a seed move towards a random w of its own: 0 (as they were written) to 1.
        fine: the first row of W+ that counts as fine; -1: those of resolutions above the photo's.
        spread: radius of the random w, in those of usual ones; below 1 it trades variety for faces.
        lr, schedule: of the search.
        stop: mean squared downscaling error at which it is done; 0 takes all steps.
        geocross: weight of the spread between the rows of W+ in the search.
        trainable_noise: how many noise maps, coarse first, are searched too; those that are silent at first may become heard.
        edit, directions: as of `SearchSettings`.
    """

    refine: int = setting(0, low=0)
    share: float = setting(0.5, low=0, high=1)
    fine: int = setting(-1, low=-1)
    spread: float = setting(0.6, low=0, above=True)
    lr: float = setting(0.2, low=0, above=True)
    schedule: str = setting("linear1cycledrop", choices=tuple(SCHEDULES))
    stop: float = setting(0.0, low=0)
    geocross: float = setting(0.0, low=0)
    trainable_noise: int = setting(5, low=0)
    edit: str = ""
    directions: str = setting("", file=True)


class ProPulse(Pulse):
    """One pass of an encoder and of its prior for each candidate, and if wanted some steps of PULSE from there. See `Method`.

    Args:
        prior: the one that the encoder belongs to; None finds it by name among the embedded ones, or beside its file.
        weights: the encoder.

    Raises:
        WeightsError: a prior that the encoder was not trained for.
    """

    name = "pro-pulse"
    capabilities = Capabilities(
        summary="an encoder writes the latents in one pass; a few steps of search from there, if wanted",
        paper="Zhou et al.: Pro-PULSE, IEEE TIP 2022",
        prior=True,
        weights=True,
        degradations=("linear", "learned"),
        handles=(
            Handle(FINE, "reseed", help="codes of the fine resolutions: how far to move to a random w"),
            Handle(FINE_NOISE, "reseed", help="fine noise maps drawn anew, latent kept"),
        ),
        continues=True,
    )
    presets: ClassVar[Mapping[str, Any]] = {
        # the encoder's answer as it is; seeds differ in noise maps alone
        "paper": ProPulseSettings(share=0.0),
        "default": ProPulseSettings(refine=20),
        "refine5": ProPulseSettings(refine=5),
        "refine20": ProPulseSettings(refine=20),
        "refine100": ProPulseSettings(refine=100),
    }

    def load(self, prior: Any, weights: Any) -> None:
        encoder = find_encoder(weights)
        super().load(prior_of(encoder, weights) if prior is None else prior, None)
        prepare(encoder, self.prior, self.device)
        self.encoder: ProPulseEncoder = encoder

    @property
    def networks(self) -> Mapping[str, Any]:
        return {"prior": self.prior, "weights": self.encoder}

    def handle_names(self) -> tuple[str, ...]:
        """Fine codes, and fine noise where the prior has noise inputs."""
        return (FINE, *super().handle_names())

    def check(self, settings: Settings, seeds: Sequence[int] = (), guides: Collection[str] = ()) -> None:
        super().check(settings, seeds, guides)
        chosen, rows = cast(ProPulseSettings, settings), self.prior.latent_shape[0]
        if chosen.fine >= rows:
            raise MethodError(f"fine ({chosen.fine}): {self.prior.name} has rows 0 to {rows - 1}.")

    def pose(self, lr: Tensor, *args: Any, **guides: Any) -> Problem:
        """See `Method.pose`.

        Raises:
            OperatorError: a photo of another size than the encoder's.
        """
        problem, side = super().pose(lr, *args, **guides), self.encoder.lr_size
        if problem.lr.shape[-1] != side:
            mend = f"reduce it (--reduce {side})" if problem.lr.shape[-1] > side else "take a larger photo"
            fitting = embedded_for(problem.lr.shape[-1], self.encoder)
            choose = f"take {fitting}" if fitting else "choose an encoder for that size"
            raise OperatorError(
                f"the picture is {problem.lr.shape[-1]}x{problem.lr.shape[-2]}, but {self.encoder.name} reads {side}x{side}: {mend}, or "
                f"{choose} (--weights{f' {fitting}' if fitting else ''}), or a search (--method pulse --start pro-pulse), which only "
                "begins at it."
            )
        return problem

    def search_settings(self, settings: Settings) -> SearchSettings:
        """A step looks at where it stands before it moves on, so that one step more than `refine` is one pass more."""
        c = cast(ProPulseSettings, settings)
        return SearchSettings(
            steps=c.refine + 1, lr=c.lr, schedule=c.schedule, eps=0.0, stop=c.stop, geocross=c.geocross,
            trainable_noise=c.trainable_noise, spread=c.spread, edit=c.edit, directions=c.directions,
        )  # fmt: skip

    def fine_row(self, settings: ProPulseSettings, side: int) -> int:
        """The first row that counts as fine, of photos of this side."""
        if settings.fine >= 0:
            return settings.fine
        up_to: Any = getattr(self.prior, "rows_up_to", None)
        return self.prior.latent_shape[0] // 2 if up_to is None else int(up_to(side))

    def _beginning(self, rows: Sequence[Row], settings: Settings) -> dict[str, Tensor] | None:
        c = cast(ProPulseSettings, settings)
        fine = self.fine_row(c, self.encoder.lr_size)
        return encoded(self.prior, self.encoder, rows, fine=fine, share=c.share, spread=c.spread)

    def _steered_latents(
        self, latents: Tensor, candidate: Candidates, changes: Mapping[str, Any], seeds: Sequence[int]
    ) -> Tensor:
        share, settings = float(changes.get(FINE, 0.0)), cast(ProPulseSettings, self.settings)
        if not share:
            return latents
        latents, fine = latents.clone(), self.fine_row(settings, candidate.lr.shape[-1])
        latents[:, fine:] = resampled(self.prior, latents[:, fine:], seeds, share, settings.spread)
        return latents


def embedded_for(side: int, encoder: ProPulseEncoder) -> str:
    """Name of the embedded encoder of photos of this side that belongs to the same prior as another; empty where there is none."""
    own = declared(encoder)
    belongs = own.bound_to if own else None
    for name in (name for name, entry in weight_table().items() if belongs and entry.kind == "encoder"):
        found = declaration_of(name)
        if (found.lr_size, found.bound_to) == (side, belongs):
            return name
    return ""


def prior_of(encoder: ProPulseEncoder, file: Any = None) -> str | None:
    """The prior that an encoder belongs to: the embedded one of that name, or the one that an end-to-end run exported beside its file.

    Returns:
        Name or path; None, the default, for an encoder that is bound to none.

    Raises:
        WeightsError: neither is there.
    """
    declaration = declared(encoder)
    if declaration is None or declaration.bound_to is None:
        return None
    name = declaration.bound_to.name
    if name in weight_table():
        return name
    beside = Path(file).parent / BESIDE if isinstance(file, str | Path) else None
    if beside is None or not beside.is_file():
        raise WeightsError(
            f"{encoder.name}: belongs to the prior {name}, which is not embedded; give its file (--prior)."
        )
    return str(beside)
