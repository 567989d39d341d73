"""Scores of what is visible in faces: linear ones, learned from the words of a collection's index, and a smile by its geometry."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from preimage.collection import Collection
from preimage.errors import InputError
from preimage.generate.directions import NAME
from preimage.generate.regression import fit

BATCH = 32
Look = Callable[[Tensor], Tensor]
"""Pictures (n, 3, R, R) in [0, 1] -> features (n, d)."""


@dataclass(frozen=True)
class Attribute:
    """Something that the `group` column of an index says of faces.

    Attributes:
        name: of its direction.
        word, other: pictures with `word` are +1, those with `other` -1; without `other` all that say anything else. Empty: a
            number, written behind `name` as in age27.
    """

    name: str
    word: str = ""
    other: str = ""

    @classmethod
    def parse(cls, text: str, number: bool) -> Attribute:
        """Of "age", "smiling" or "gender=male:female"; whether a lone name is a number, the data say.

        Raises:
            InputError: not of these forms.
        """
        name, _, words = text.partition("=")
        word, _, other = words.partition(":")
        if not NAME.fullmatch(name) or ("=" in text and not word):
            raise InputError(f"attribute {text!r:.60}: must read age, smiling or gender=male:female.")
        return cls(name, word or ("" if number else name), other)

    def value(self, group: Sequence[str]) -> float | None:
        """What the words of a picture say; None where they do not say."""
        if not self.word:
            found = (re.fullmatch(rf"{self.name}(\d+)", x) for x in group)
            return next((float(match[1]) for match in found if match), None)
        if self.word in group:
            return 1.0
        return -1.0 if (self.other in group if self.other else group) else None


@dataclass(frozen=True)
class Scorer:
    """A linear score of features.

    Attributes:
        mean, weights: of the features, (d,) each.
        explained: share of the score's variance on faces held out.
        count: faces it was learned from.
    """

    mean: Tensor
    weights: Tensor
    explained: float
    count: int

    def __call__(self, features: Tensor) -> Tensor:
        """Scores (n,) of features (n, d)."""
        return (features.double() - self.mean) @ self.weights


def labelled(data: Collection) -> dict[str, list[str]]:
    """The words of each picture that has any."""
    groups = {name: (data.about(name).get("group") or "").split(";") for name in data.names}
    return {name: words for name, words in groups.items() if any(words)}


def parse_attributes(texts: Sequence[str], words: Iterable[Sequence[str]]) -> list[Attribute]:
    """Attributes of texts (`Attribute.parse`) over pictures of these words.

    Raises:
        InputError: an attribute of which the pictures say nothing.
    """
    known = {x for group in words for x in group}
    out = []
    for text in texts:
        number = any(re.fullmatch(rf"{re.escape(text)}\d+", x) for x in known)
        found = Attribute.parse(text, number)
        if missing := [x for x in (found.word, found.other) if x and x not in known]:
            raise InputError(
                f"attribute {text}: no picture of the data is {missing[0]!r:.40}; their `group` column has {', '.join(sorted(known)):.200}."
            )
        out.append(found)
    return out


def learn_scorers(
    collections: Sequence[Collection], attributes: Sequence[str], look: Look, side: int, count: int, seed: int = 0
) -> dict[str, Scorer]:
    """A linear score for each attribute, of faces as small as the prior's.

    Args:
        collections: faces with an index.
        attributes: see `Attribute.parse`.
        look: features.
        side: to which faces are brought first.
        count: most faces that are looked at, the first of a fixed shuffle.
        seed: of the shuffle.

    Raises:
        InputError: no words in the index, or none of an attribute.
    """
    groups = [labelled(data) for data in collections]
    parsed = parse_attributes(attributes, (words for group in groups for words in group.values()))
    at = {data.path: group for data, group in zip(collections, groups, strict=True)}
    share = count / max(1, sum(map(len, groups)))
    chosen = [
        (data, name)
        for data in collections
        for name in [n for n in data.sample(None, seed) if n in at[data.path]][: round(share * len(at[data.path])) or 1]
    ]
    generator = torch.Generator().manual_seed(seed)
    chosen = [chosen[i] for i in torch.randperm(len(chosen), generator=generator).tolist()][:count]
    features = looked(look, (torch.stack([d.tensor(n, side) for d, n in part]) for part in _parts(chosen)))
    out = {}
    for attribute in parsed:
        values = [attribute.value(at[data.path][name]) for data, name in chosen]
        known = torch.tensor([v is not None for v in values])
        y = torch.tensor([v for v in values if v is not None], dtype=torch.float64)[:, None]
        mean = features[known].mean(0)
        weights, explained = fit(features[known], y)
        out[attribute.name] = Scorer(mean, weights[:, 0], float(explained[0]), len(y))
    return out


def looked(look: Look, batches: Iterable[Tensor]) -> Tensor:
    """Features (n, d), float64, of pictures that come in batches."""
    with torch.no_grad():
        return torch.cat([look(batch).double().cpu() for batch in batches])


def _parts(items: Sequence[tuple[Collection, str]]) -> Iterable[Sequence[tuple[Collection, str]]]:
    return (items[i : i + BATCH] for i in range(0, len(items), BATCH))


def smile(points: Tensor) -> Tensor:
    """How wide a mouth is and how far its corners are drawn up, of 68 landmarks (n, 68, 2), x and y: (n, 2).

    In distances between the eyes, along the line through them and across it, so that a tilted head counts as an upright one. Order
    of landmarks: iBUG 300-W.
    """
    left, right = points[:, 36:42].mean(1), points[:, 42:48].mean(1)
    across = right - left
    scale = across.norm(dim=1, keepdim=True).clamp_min(1e-6)
    across = across / scale
    down = torch.stack([-across[:, 1], across[:, 0]], dim=1)
    corners = points[:, [48, 54]]
    width = ((corners[:, 1] - corners[:, 0]) * across).sum(1)
    lips = points[:, [51, 57, 62, 66]].mean(1)
    lift = ((lips - corners.mean(1)) * down).sum(1)
    return torch.stack([width, lift], dim=1) / scale
