"""Weights as data: an entry names a file, its source, licence, hash and measured quality; a file says what it is.

A prior is named by an entry of the table (`list_weights`), by the path of a safetensors file, or by a hub id
(`hf-hub:owner/repo` or `hf-hub:owner/repo/file.safetensors`). Nothing is ever executed from a file. A prior written as a
class is named `package.module:Class`, which imports it.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from preimage.declaration import KINDS, Declaration, declared
from preimage.degrade.learned import LearnedDegradation, frozen
from preimage.errors import WeightsError
from preimage.generate.own import names_own_prior, own_prior
from preimage.generate.prior import Prior
from preimage.nets.fingerprint import fingerprint
from preimage.texts import one_line
from preimage.weight_files import bound, read_declaration, read_metadata, read_module, sha256

FOLDER = Path(__file__).parent / "pretrained"
FAMILIES = ("degradation-gan", "style-vae")
"""Learned degradations that are named without their sizes: the first embedded one whose name begins so."""


CONTRACTS: dict[str, Any] = {"prior": Prior, "degradation": LearnedDegradation}
"""What a network of a kind must meet besides."""
MENDS = {"upsampler": " A prior answers no photos, it is searched: add --method pulse."}


@dataclass(frozen=True)
class WeightEntry:
    """One line of the table of embedded weights.

    Attributes:
        name: what the user types.
        file: file inside `preimage/pretrained`.
        kind: of `declaration.KINDS`, or "niqe" for a model of pristine pictures (`measure.niqe`).
        sha256: of the file.
        licence: of the weights.
        description: one sentence.
        recipe: the recipe that trained it.
        images_seen: real pictures shown in training.
        data: archives it was trained on.
        metrics: measured values with the command that measured them.
    """

    name: str
    file: str
    kind: str
    sha256: str
    licence: str
    description: str
    recipe: str
    images_seen: int
    data: tuple[str, ...] = ()
    metrics: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return FOLDER / self.file


@cache
def weight_table() -> dict[str, WeightEntry]:
    """The embedded weights by name; the first prior is the default."""
    rows = json.loads((FOLDER / "table.json").read_text())
    return {row["name"]: WeightEntry(**{**row, "data": tuple(row["data"])}) for row in rows}


def list_weights() -> list[str]:
    """Names of the embedded weights."""
    return list(weight_table())


def default_network(kind: str, family: str = "") -> str:
    """Name of the network of a kind that is used when none is given: the first embedded one.

    Args:
        kind: of `declaration.KINDS`.
        family: what its name must begin with, such as "ssrvae"; networks of other methods are passed over.

    Raises:
        WeightsError: none is embedded.
    """
    for name, entry in weight_table().items():
        if entry.kind == kind and name.startswith(family):
            return name
    what = f"network of {family}" if family else kind
    raise WeightsError(f"no {what} is embedded. Give the path of one, which `preimage train` exports.")


default_prior = partial(default_network, "prior")
default_degradation = partial(default_network, "degradation")
default_upsampler = partial(default_network, "upsampler")


def load_network(name: str | Path | None, kind: str, device: str | torch.device = "cpu", family: str = "") -> nn.Module:
    """Load a network of a kind, frozen and in eval mode; what it declares comes with it (`declaration.declared`).

    Args:
        name: an entry of the table, a path, `hf-hub:owner/repo[/file]`, a prior also as `package.module:Class` (imported, see
            `preimage.generate.own`); None for the default of the family.
        kind: of `declaration.KINDS`.
        device: where to put it.
        family: of `default_network`.

    Raises:
        WeightsError: none embedded, an unknown name, a missing or damaged file, an unknown architecture, a network of another
            kind, or a class that is no prior.
    """
    table, wanted = weight_table(), _called(kind)
    name = default_network(kind, family) if name is None else str(name)
    mend = MENDS.get(kind, "")
    if name in table and table[name].kind != kind:
        raise WeightsError(
            f"{name}: is of the kind {table[name].kind!r}, not {wanted}; see `preimage models list`.{mend}"
        )
    if _is_own(name, table):
        if kind == "prior":
            return own_prior(name, device)
        raise WeightsError(f"{name}: is a class, not {wanted}, and only priors can be classes.{mend} Give a file.")
    path = embedded(name) if name in table else _locate(name, table, kind)
    module = read_module(path)
    found, meets = declared(module), isinstance(module, CONTRACTS.get(kind, nn.Module))
    if found is None or found.kind != kind or not meets:
        raise WeightsError(f"{path}: holds a {type(module).__name__}, which is not {wanted}.{mend}")
    return module.to(device).eval().requires_grad_(False)


def load_prior(name: str | Path | None = None, device: str | torch.device = "cpu") -> nn.Module:
    """Load a prior; see `load_network`."""
    return load_network(name, "prior", device)


def load_degradation(name: str | Path | None = None, device: str | torch.device = "cpu") -> LearnedDegradation:
    """Load a learned degradation; see `load_network`. One of `FAMILIES` stands for the first embedded one of these."""
    family = str(name) if name in FAMILIES else ""
    module: Any = load_network(None if family else name, "degradation", device, family)
    return frozen(module, torch.device(device))


def load_upsampler(name: str | Path | None = None, device: str | torch.device = "cpu", family: str = "") -> nn.Module:
    """Load a network that answers a photo in one pass; see `load_network`."""
    return load_network(name, "upsampler", device, family)


def load_directions(name: str | Path, prior: Any) -> nn.Module:
    """Load latent directions (`generate.directions.Directions`) of this prior; see `load_network`.

    Raises:
        WeightsError: as of `load_network`, or directions of another prior.
    """
    found = load_network(name, "directions", prior.mean_latent.device)
    declaration = declared(found)
    assert declaration is not None
    check_bound(declaration, prior, str(name))
    return found


def directions_of(prior: Any) -> nn.Module | None:
    """The embedded directions that belong to this prior; None where there are none."""
    entries = [entry for entry in weight_table().values() if entry.kind == "directions"]
    own = fingerprint(prior) if entries else None
    for entry in entries:
        wanted = read_declaration(entry.path).bound_to
        if wanted is not None and wanted.sha256 == own:
            return load_network(entry.name, "directions", prior.mean_latent.device)
    return None


def load_side_outputs(name: str | Path, prior: Any) -> nn.Module:
    """The branches of a prior, to be given to its `attach`; see `load_network`.

    Raises:
        WeightsError: also those that were trained for another prior.
    """
    branches = load_network(name, "side-output")
    if (declaration := declared(branches)) is not None:
        check_bound(declaration, prior, str(name))
    return branches


def load_encoder(name: str | Path | None = None, device: str | torch.device = "cpu", family: str = "") -> nn.Module:
    """Load a network that writes the latents of a prior; see `load_network`."""
    return load_network(name, "encoder", device, family)


def check_bound(declaration: Declaration, prior: Any, name: str = "the network") -> None:
    """Refuse a prior that is another than the one that a network is bound to; one that is bound to none takes any.

    Args:
        declaration: of the network.
        prior: loaded, or what `load_prior` takes.
        name: of the network, for the message.

    Raises:
        WeightsError: with the mend; or a prior that cannot be loaded.
    """
    wanted = declaration.bound_to
    if wanted is None:
        return
    given = bound(load_prior(prior) if prior is None or isinstance(prior, str | Path) else prior)
    if given.sha256 != wanted.sha256:
        raise WeightsError(
            f"{name}: belongs to the prior {wanted.name} (sha256 {wanted.sha256}) and cannot work with {given.name} "
            f"({given.sha256}). Give that prior (--prior), or a network that was trained for this one."
        )


def embedded(name: str) -> Path:
    """The file of an entry of the table, after its hash was checked.

    Raises:
        WeightsError: missing or damaged.
    """
    entry = weight_table()[name]
    if sha256(entry.path) != entry.sha256:
        raise WeightsError(f"{entry.path}: does not have the recorded sha256. The file is damaged; reinstall preimage.")
    return entry.path


def _called(kind: str) -> str:
    """A network of a kind, in words."""
    if kind == "directions":
        return "a file of directions"
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _is_own(name: str, table: dict[str, WeightEntry]) -> bool:
    return name not in table and names_own_prior(name) and not Path(name).is_file()


def _locate(name: str, table: dict[str, WeightEntry], kind: str = "prior") -> Path:
    if name.startswith("hf-hub:"):
        return download(name, f"{kind}.safetensors")
    try:
        path = Path(name).expanduser()
        if path.is_file():
            return path
    except (OSError, ValueError, RuntimeError) as error:  # a name that no file can have
        raise WeightsError(f"{name:.60}…: {one_line(error)}; see `preimage models list`.") from None
    known = ", ".join(name for name, entry in table.items() if entry.kind == kind)
    own = ", or package.module:Class" if kind == "prior" else ""
    raise WeightsError(
        f"{name}: neither an embedded {kind} ({known}) nor a file. Give one of these names, the path of a safetensors file, "
        f"hf-hub:owner/repo{own}."
    )


def download(name: str, default: str = "prior.safetensors") -> Path:
    """Fetch a file from the hub, or find it in the hub's cache.

    Args:
        name: `hf-hub:owner/repo` or `hf-hub:owner/repo/file`.
        default: the file, where the name gives none.

    Raises:
        WeightsError: no such file, or no connection.
    """
    from huggingface_hub import hf_hub_download

    name = name.removeprefix("hf-hub:")
    owner, _, rest = name.partition("/")
    repo, _, file = rest.partition("/")
    file = file or default
    try:
        return Path(hf_hub_download(f"{owner}/{repo}", file))
    except Exception as error:  # the hub raises a dozen kinds; all of them mean the same to the user
        raise WeightsError(
            f"hf-hub:{name}: {file} of {owner}/{repo} could not be fetched ({type(error).__name__}). Check the name and the "
            "connection, or download it by hand and give its path instead."
        ) from None


def _file_of(name: str) -> Path:
    table = weight_table()
    return table[name].path if name in table else _locate(name, table)


def declaration_of(name: str | Path | None = None) -> Declaration:
    """What a network declares, of its name alone: an entry of the table, a path, a hub id, a class, or None for the default prior.

    Raises:
        WeightsError: none of these, or one that declares nothing that can be.
    """
    name, table = default_prior() if name is None else str(name), weight_table()
    if name in table and table[name].kind not in KINDS:
        raise WeightsError(f"{name}: is of the kind {table[name].kind!r}, no network; see `preimage models list`.")
    return Declaration("prior") if _is_own(name, table) else read_declaration(_file_of(name))


def training_record(name: str | None = None) -> dict[str, Any]:
    """What the file of a prior says of its training: recipe, images seen, data; empty where it says nothing.

    Raises:
        WeightsError: neither an entry nor one of our files.
    """
    name = name or default_prior()
    return {} if _is_own(name, weight_table()) else read_metadata(_file_of(name)).get("trained", {})


def describe_weights(name: str) -> str:
    """What an entry of the table or a safetensors file says about itself, as YAML text.

    Raises:
        WeightsError: neither an entry nor one of our files.
    """
    from preimage.files import to_yaml

    table, path = weight_table(), _file_of(name)
    about = {"entry": dataclasses.asdict(table[name])} if name in table else {}
    if path.suffix != ".safetensors" and name in table:
        return to_yaml({**about, "file": {"path": str(path)}})
    about["declares"] = read_declaration(path).to_dict()  # of an older file too, which says it in other words
    rest = {key: x for key, x in read_metadata(path).items() if key != "declares"}
    return to_yaml({**about, "file": {"path": str(path), **rest}})
