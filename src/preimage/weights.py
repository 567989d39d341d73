"""Weights as data: an entry names a file, its source, licence, hash and measured quality; a file says what it is.

A prior is named by an entry of the table (`list_weights`), by the path of a safetensors file, or by a hub id
(`hf-hub:owner/repo` or `hf-hub:owner/repo/file.safetensors`). Nothing is ever executed from a file. A prior written as a
class is named `package.module:Class`, which imports it.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from preimage.degrade.learned import LearnedDegradation, frozen
from preimage.errors import WeightsError
from preimage.generate.own import names_own_prior, own_prior
from preimage.generate.prior import Prior
from preimage.texts import one_line
from preimage.weight_files import read_metadata, read_module, sha256

FOLDER = Path(__file__).parent / "pretrained"
FAMILIES = ("degradation-gan", "style-vae")
"""Learned degradations that are named without their sizes: the first embedded one whose name begins so."""


@dataclass(frozen=True)
class WeightEntry:
    """One line of the table of embedded weights.

    Attributes:
        name: what the user types.
        file: file inside `preimage/pretrained`.
        kind: "prior", "degradation", or "niqe" for a model of pristine pictures (`measure.niqe`).
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


def _first(kind: str, words: str, family: str = "") -> str:
    """The first embedded network of a kind, which is its default, or the first whose name begins with its family's."""
    for name, entry in weight_table().items():
        if entry.kind == kind and name.startswith(family):
            return name
    raise WeightsError(f"no {words} is embedded. Give the path of one, which `preimage train` exports.")


def default_prior() -> str:
    """Name of the prior that is used when none is given."""
    return _first("prior", "prior")


def load_prior(name: str | Path | None = None, device: str | torch.device = "cpu") -> nn.Module:
    """Load a prior, frozen and in eval mode.

    Args:
        name: an entry of the table, a path, `hf-hub:owner/repo[/file]`, `package.module:Class` (imported, see
            `preimage.generate.own`), or None for the default.
        device: where to put it.

    Raises:
        WeightsError: unknown name, missing or damaged file, unknown architecture, or a class that is no prior.
    """
    name = str(name) if name is not None else default_prior()
    table = weight_table()
    if name in table and table[name].kind != "prior":
        raise WeightsError(f"{name}: is of the kind {table[name].kind!r}, not a prior; see `preimage models list`.")
    if _is_own(name, table):
        return own_prior(name, device)
    path = embedded(name) if name in table else _locate(name, table)
    prior = read_module(path)
    if not isinstance(prior, Prior):
        raise WeightsError(f"{path}: holds a {type(prior).__name__}, which is not a prior.")
    return prior.to(device).eval().requires_grad_(False)


def default_degradation() -> str:
    """Name of the learned degradation that is used when none is given.

    Raises:
        WeightsError: none is embedded.
    """
    return _first("degradation", "learned degradation")


def load_degradation(name: str | Path | None = None, device: str | torch.device = "cpu") -> LearnedDegradation:
    """Load a learned degradation, frozen and in eval mode.

    Args:
        name: an entry of the table, a path, `hf-hub:owner/repo[/file]`; None for the first embedded one, one of `FAMILIES` for
            the first of these.
        device: where to put it.

    Raises:
        WeightsError: unknown name, missing or damaged file, or a network that is no degradation.
    """
    table = weight_table()
    name = default_degradation() if name is None else str(name)
    if name in FAMILIES:
        name = _first("degradation", name, name)
    if name in table and table[name].kind != "degradation":
        raise WeightsError(
            f"{name}: is of the kind {table[name].kind!r}, not a degradation; see `preimage models list`."
        )
    path = embedded(name) if name in table else _locate(name, table, "degradation")
    module: Any = read_module(path)
    if not isinstance(module, LearnedDegradation):
        raise WeightsError(f"{path}: holds a {type(module).__name__}, which is not a degradation.")
    return frozen(module, torch.device(device))


def default_upsampler(family: str = "") -> str:
    """Name of the network that answers in one pass where none is given.

    Args:
        family: what its name must begin with, such as "ssrvae"; networks of other methods are passed over.

    Raises:
        WeightsError: none is embedded.
    """
    return _first("upsampler", f"network of {family or 'this method'}", family)


def load_upsampler(name: str | Path | None = None, device: str | torch.device = "cpu", family: str = "") -> nn.Module:
    """Load a network that answers a photo in one pass, frozen and in eval mode.

    Args:
        name: an entry of the table, a path, `hf-hub:owner/repo[/file]`, or None for the first embedded one of the family.
        device: where to put it.
        family: of `default_upsampler`.

    Raises:
        WeightsError: none embedded, an unknown name, a missing or damaged file, or a network of another kind.
    """
    table = weight_table()
    name = default_upsampler(family) if name is None else str(name)
    if _is_own(name, table) or (name in table and table[name].kind != "upsampler"):
        kind = f"of the kind {table[name].kind!r}" if name in table else "a class"
        raise WeightsError(
            f"{name}: is {kind}, not an upsampler. Priors are searched: add --method pulse; see `preimage models list`."
        )
    path = embedded(name) if name in table else _locate(name, table, "upsampler")
    module = read_module(path)
    if isinstance(module, Prior | LearnedDegradation):
        raise WeightsError(
            f"{path}: holds a {type(module).__name__}, which answers no photos. Priors are searched: add --method pulse."
        )
    return module.to(device).eval().requires_grad_(False)


def embedded(name: str) -> Path:
    """The file of an entry of the table, after its hash was checked.

    Raises:
        WeightsError: missing or damaged.
    """
    entry = weight_table()[name]
    if sha256(entry.path) != entry.sha256:
        raise WeightsError(f"{entry.path}: does not have the recorded sha256. The file is damaged; reinstall preimage.")
    return entry.path


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


def training_record(name: str | None = None) -> dict[str, Any]:
    """What the file of a prior says of its training: recipe, images seen, data; empty where it says nothing.

    Raises:
        WeightsError: neither an entry nor one of our files.
    """
    name, table = name or default_prior(), weight_table()
    if _is_own(name, table):
        return {}
    found: dict[str, Any] = read_metadata(table[name].path if name in table else _locate(name, table)).get(
        "trained", {}
    )
    return found


def describe_weights(name: str) -> str:
    """What an entry of the table or a safetensors file says about itself, as YAML text.

    Raises:
        WeightsError: neither an entry nor one of our files.
    """
    from preimage.files import to_yaml

    table = weight_table()
    path = table[name].path if name in table else _locate(name, table)
    about = {"entry": dataclasses.asdict(table[name])} if name in table else {}
    if path.suffix != ".safetensors" and name in table:
        return to_yaml({**about, "file": {"path": str(path)}})
    return to_yaml({**about, "file": {"path": str(path), **read_metadata(path)}})
