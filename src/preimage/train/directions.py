"""The file of a prior's latent directions: found as `preimage.generate.unsupervised` says, and from scores of its own pictures.

Real faces with words in their index teach a linear score in the features of a network that is fixed; the score is asked of pictures
that the prior draws; and their latents are regressed on it. So nothing real is in a direction but what a word means.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from preimage.collection import Collection
from preimage.device import resolve_device
from preimage.errors import InputError
from preimage.generate import directions as latent
from preimage.generate.regression import from_scores
from preimage.generate.unsupervised import ganspace, ganspace_of, sefa
from preimage.nets.features import FEATURE_NETWORKS, load_features
from preimage.seeds import normal
from preimage.train.attributes import BATCH, Look, learn_scorers, looked, smile
from preimage.weight_files import save_prior
from preimage.weights import load_prior

METHODS = ("sefa", "ganspace", "labels", "smile")


@dataclass(frozen=True)
class Found:
    """What `find_directions` wrote.

    Attributes:
        directions: the same as in the file.
        lines: what is known of how well each scores, for people.
    """

    directions: latent.Directions
    lines: tuple[str, ...]


def find_directions(
    prior: Any,
    output: str | Path,
    methods: Sequence[str] = ("sefa", "ganspace"),
    *,
    count: int = 5,
    rows: str | tuple[int, int] | None = None,
    samples: int = 4000,
    seed: int = 0,
    data: Sequence[str | Path] = (),
    attributes: Sequence[str] = ("age", "gender=male:female"),
    hold: Sequence[str] = (),
    faces: int = 4000,
    features: str = "efficientnet-lite0",
    landmarks: str | Path | None = None,
    device: str = "auto",
) -> Found:
    """Find directions of a prior and write their file, bound to it.

    Args:
        prior: name, path, hub id, `package.module:Class` or module.
        output: safetensors file; replaced at once or not at all.
        methods: of `METHODS`. "sefa0", "sefa1", … and "ganspace0", … are named by their place, those of labels by attribute;
            all that are learned from scores ("labels" and "smile") leave one another's scores as they are.
        count: how many "sefa" and "ganspace" find each.
        rows: first and last row that they move, such as "0-5"; None for all.
        samples: latents of the prior that are looked at; for "labels" and "smile" their pictures too.
        seed: the first of their seeds.
        data: "labels": folders or archives of faces with an index.
        attributes: "labels": see `preimage.train.attributes.Attribute.parse`.
        hold: "labels": further attributes, which all directions from scores leave as they are, and which get none themselves: what the
            data mix up with an attribute, such as the origin of faces with their age.
        faces: "labels": most faces that are looked at.
        features: "labels": what looks at them, of `FEATURE_NETWORKS` where a package brings its weights, or as `feature_networks` finds
            networks.
        landmarks: "smile": the file of `measure.faces.Landmarks68`.
        device: "auto" decides.

    Raises:
        InputError: an unknown method, or one without what it needs.
        WeightsError: a prior without W, networks that cannot be loaded, directions that cannot be found.
        OutputError: the file cannot be written.
    """
    if unknown := [method for method in methods if method not in METHODS]:
        raise InputError(f"method {unknown[0]!r:.40} is unknown; there are {', '.join(METHODS)}.")
    if "labels" in methods and not data:
        raise InputError("labels: no data are named; give folders or archives of faces with an index.csv (--data).")
    if "smile" in methods and landmarks is None:
        raise InputError("smile: no landmark network is named; give landmarks68-slim160.onnx (--landmarks).")
    where, first = resolve_device(device), seed
    loaded: Any = load_prior(prior, where) if isinstance(prior, str | Path) else prior.to(where)
    span = _rows(rows)
    wanted = latent.row_range(loaded, span)
    seeds = range(first, first + samples)
    latents = torch.cat([latent.sample_latents(loaded, part).cpu() for part in _parts(seeds)])
    parts, lines, seen = list[latent.Directions](), list[str](), list[str]()
    for method in methods:
        if method in ("sefa", "ganspace"):
            if method == "sefa":
                vectors = sefa(loaded, count, span).cpu()
            elif getattr(loaded, "invertible", False):
                vectors = ganspace_of(_small(loaded, seeds), latents, count, wanted)
            else:
                vectors = ganspace(latents, count, wanted)
            names = [f"{method}{i}" for i in range(count)]
            parts.append(latent.directions(names, latent.in_deviations(vectors, latents), method))
    scores, held = dict[str, Tensor](), list[str]()
    if "labels" in methods:
        look, network = _look(features, where)
        scores, said = _label_scores(loaded, seeds, data, [*attributes, *hold], look, faces)
        lines, seen, held = [*lines, *said], [network], [text.partition("=")[0] for text in hold]
    if "smile" in methods:
        assert landmarks is not None
        scores |= _smile_scores(loaded, seeds, landmarks)
    if scores:
        vectors, explained = from_scores(latents, torch.stack([*scores.values()], dim=1), wanted)
        lines += [f"{n}: latents explain {e:.0%} of its variance" for n, e in zip(scores, explained, strict=True)]
        for i, name in enumerate(scores):
            if name not in held:
                made = latent.in_deviations(vectors[i : i + 1], latents)
                parts.append(latent.directions([name], made, "landmarks" if name == "smile" else "labels"))
    every = latent.merged(parts, Path(output).stem)
    recipe = {
        "methods": list(methods), "count": count, "rows": [wanted[0], wanted[-1]], "samples": samples, "seed": seed,
        "attributes": list(attributes) if "labels" in methods else [], "hold": list(hold), "faces": faces, "features": seen, "found": lines,
    }  # fmt: skip
    trained = {"recipe": recipe, "data": [Path(x).name for x in data]}
    save_prior(Path(output), every, trained, looked_through=seen, bound_to=loaded)
    return Found(every, tuple(lines))


def _rows(rows: str | tuple[int, int] | None) -> tuple[int, int] | None:
    if not isinstance(rows, str):
        return rows
    first, _, last = rows.partition("-")
    if not first.isdecimal() or not (last or first).isdecimal():
        raise InputError(f"rows {rows!r:.40}: must be a row or a range of them, such as 0-5.")
    return int(first), int(last or first)


def _parts(seeds: range) -> Iterator[range]:
    return (seeds[i : i + BATCH] for i in range(0, len(seeds), BATCH))


def pictures(prior: Any, seeds: range) -> Iterator[Tensor]:
    """What the prior draws for these seeds, with noise, (n, 3, R, R) in [0, 1], batch by batch."""
    for part in _parts(seeds):
        latents = latent.sample_latents(prior, part)
        noise = [normal(part, (1, s, s), f"noise{i}").to(latents) for i, s in enumerate(prior.noise_sizes)]
        with torch.no_grad():
            yield prior.synthesize(latents, noise).clamp(0, 1)


def _small(prior: Any, seeds: range) -> Tensor:
    """The smallest of its own pictures that a flow draws, (n, numbers); they depend on the latents alone."""
    side = prior.shrinks_to.lr_size[0] if hasattr(prior, "shrinks_to") else prior.resolution
    parts = (prior.side_outputs(latent.sample_latents(prior, part), None, side)[side] for part in _parts(seeds))
    with torch.no_grad():
        return torch.cat([x.flatten(1).cpu() for x in parts])


def _look(features: str, device: torch.device) -> tuple[Look, str]:
    """What looks at faces, and its name."""
    network: Any
    if features in FEATURE_NETWORKS and FEATURE_NETWORKS[features].package:
        network, name = load_features(features), features
    else:
        from preimage.feature_networks import load_network

        network, name = load_network(features), Path(features).stem
    network.to(device)
    return lambda x: network.pooled(x.to(device)), name


def _label_scores(
    prior: Any, seeds: range, data: Sequence[str | Path], attributes: Sequence[str], look: Look, faces: int
) -> tuple[dict[str, Tensor], list[str]]:
    with ExitStack() as stack:
        collections = [stack.enter_context(Collection(path)) for path in data]
        scorers = learn_scorers(collections, attributes, look, prior.resolution, faces)
    features = looked(look, pictures(prior, seeds))
    lines = [
        f"{name}: features explain {s.explained:.0%} of its variance on real faces held out ({s.count} labelled)"
        for name, s in scorers.items()
    ]
    return {name: scorer(features) for name, scorer in scorers.items()}, lines


def _smile_scores(prior: Any, seeds: range, path: str | Path) -> dict[str, Tensor]:
    from preimage.nets.landmarks import Landmarks68

    network = Landmarks68(path)
    found = looked(lambda x: smile(network.points(x)), pictures(prior, seeds))
    both = (found - found.mean(0)) / found.std(0)
    return {"smile": both.sum(1)}
