"""Edits of what a method found in the latents of a prior: older, smiling, … as directions say, and still an answer to the photo."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

from preimage.errors import MethodError
from preimage.generate.directions import Directions
from preimage.invert.method import Handle, Method
from preimage.invert.settings import Settings
from preimage.nets.fingerprint import fingerprint
from preimage.weights import directions_of, load_directions

REACH = 5.0
"""Standard deviations that an edit may go; beyond are no faces."""
_PART = re.compile(r"\s*([^\s=,]+)\s*=\s*([^\s=,]+)\s*")


def parse_edit(edit: str | Mapping[str, Any]) -> dict[str, float]:
    """Units by name of an edit such as "smile=1.5,age=-1", or {"smile": 1.5, "age": -1}; the last one of a name counts.

    Raises:
        MethodError: not of this form, or further than `REACH`.
    """
    pairs: list[tuple[str, Any]]
    if isinstance(edit, Mapping):
        pairs = list(edit.items())
    else:
        found = [(part, _PART.fullmatch(part)) for part in edit.split(",") if part.strip()]
        if wrong := [part for part, match in found if match is None]:
            raise MethodError(f"edit {wrong[0].strip()!r:.60}: must read name=number, such as age=1.5.")
        pairs = [(match[1], match[2]) for _, match in found if match is not None]
    out: dict[str, float] = {}
    for name, value in pairs:
        try:
            units = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            units = math.nan
        if not abs(units) <= REACH:
            raise MethodError(f"edit {name}={value!s:.40}: must be a number from {-REACH:g} to {REACH:g}.")
        out[str(name)] = units
    return out


def edit_text(changes: Mapping[str, float]) -> str:
    """The text of an edit, which `parse_edit` reads; what changes nothing is left out."""
    return ",".join(f"{name}={units:.6g}" for name, units in changes.items() if units)


class Editable(Method):
    """A method whose candidates have latents of a prior with W, along whose directions they can be moved.

    Its settings have `edit` and `directions`; `prior` is loaded. The directions of the file that was named last, or those embedded
    for the prior, are sliders (`handles`). A `Directions` module may stand in the place of a file.
    """

    prior: Any
    _directions: Directions | None = None
    _file: str = ""
    _looked: bool = False

    @property
    def directions(self) -> Directions | None:
        """Those at hand; None where none was named and none are embedded for this prior."""
        if self._directions is None and not self._looked:
            self._looked = True
            self._directions = cast("Directions | None", directions_of(self.prior))
        return self._directions

    @property
    def handles(self) -> tuple[Handle, ...]:
        """Those of the method, and a slider for each direction: where it stands, 0 for what the photo led to."""
        names = () if self.directions is None else self.directions.names
        return super().handles + tuple(
            Handle(name, "slider", -REACH, REACH, help="standard deviations of the prior's latents") for name in names
        )

    def configure(
        self, controls: Mapping[str, Any], seeds: Sequence[int] = (), guides: Collection[str] = ()
    ) -> Settings:
        """See `Method.configure`; `edit` may be a mapping, and `directions` a `Directions`."""
        given, changes = dict(controls), dict[str, float]()
        if isinstance(given.get("edit"), str | Mapping):
            changes = parse_edit(given["edit"])
            given["edit"] = edit_text(changes)
        if isinstance(own := given.get("directions"), Directions):
            self._directions, self._file = own, own.name
            given["directions"] = own.name
        settings = super().configure(given, seeds, guides)
        if changes:  # those by 0 too
            self._known().check(changes)
        return settings

    def check(self, settings: Settings, seeds: Sequence[int] = (), guides: Collection[str] = ()) -> None:
        """Refuse an edit that cannot be made; the directions that it names are loaded here."""
        super().check(settings, seeds, guides)
        file = getattr(settings, "directions", "")
        if file and file != self._file:
            self._directions, self._file = cast(Directions, load_directions(file, self.prior)), file
        if changes := parse_edit(getattr(settings, "edit", "")):
            self._known().check(changes)

    def describe(self, settings: Settings | None = None) -> dict[str, Any]:
        """See `Method.describe`; an edit by the hash of its directions."""
        about = super().describe(settings)
        return about | ({"directions_sha256": fingerprint(self._known())} if about.get("edit") else {})

    def _known(self) -> Directions:
        if self.directions is None:
            raise MethodError(
                f"edit: no directions are embedded for {self.prior.name}. Name a file of them (--directions); `preimage "
                "directions` finds some."
            )
        return self.directions

    def _turned(self, before: str, changes: Mapping[str, Any]) -> tuple[str, dict[str, float]]:
        """The edit of a candidate whose sliders were set, and how far it still has to move for that.

        Args:
            before: its edit so far.
            changes: where each slider is to stand.
        """
        old, names = parse_edit(before), () if self.directions is None else self.directions.names
        new = {name: float(value) for name, value in changes.items() if name in names}
        return edit_text(old | new), {name: value - old.get(name, 0.0) for name, value in new.items()}
