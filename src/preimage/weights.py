"""Weights as data: an entry names a file, its source, licence, hash and measured quality; a file says what it is.

A prior is named by an entry of the table (`list_weights`), by the path of a safetensors file, or by a hub id
(`hf-hub:owner/repo` or `hf-hub:owner/repo/file.safetensors`). Nothing is ever executed from a file. A prior written as a
class is named `package.module:Class`, which imports it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
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

FOLDER = Path(__file__).parent / "pretrained"
FORMAT = "preimage-1"


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


def default_prior() -> str:
    """Name of the prior that is used when none is given."""
    return next(name for name, entry in weight_table().items() if entry.kind == "prior")


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
    for name, entry in weight_table().items():
        if entry.kind == "degradation":
            return name
    raise WeightsError("no learned degradation is embedded. Give the path of one, which `preimage train` exports.")


def load_degradation(name: str | Path | None = None, device: str | torch.device = "cpu") -> LearnedDegradation:
    """Load a learned degradation, frozen and in eval mode.

    Args:
        name: an entry of the table, a path, `hf-hub:owner/repo[/file]`; None or "degradation-gan" for the embedded one.
        device: where to put it.

    Raises:
        WeightsError: unknown name, missing or damaged file, or a network that is no degradation.
    """
    table = weight_table()
    name = default_degradation() if name is None or str(name) == "degradation-gan" else str(name)
    if name in table and table[name].kind != "degradation":
        raise WeightsError(
            f"{name}: is of the kind {table[name].kind!r}, not a degradation; see `preimage models list`."
        )
    path = embedded(name) if name in table else _locate(name, table, "degradation")
    module: Any = read_module(path)
    if not isinstance(module, LearnedDegradation):
        raise WeightsError(f"{path}: holds a {type(module).__name__}, which is not a degradation.")
    return frozen(module, torch.device(device))


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
    path = Path(name).expanduser()
    if path.is_file():
        return path
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


def sha256(path: Path) -> str:
    """Hash of a file, hexadecimal."""
    if not path.is_file():
        raise WeightsError(f"{path}: missing. Reinstall preimage, or give the path of a safetensors file.")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stylegan2(config: dict[str, Any], name: str) -> nn.Module:
    from preimage.generate.stylegan2 import StyleGAN2, StyleGAN2Config

    return StyleGAN2(StyleGAN2Config(**config), name)


def _progan(config: dict[str, Any], name: str) -> nn.Module:
    from preimage.generate.progan import ProGAN, ProGANConfig

    return ProGAN(ProGANConfig(**config), name)


def _stylegan(config: dict[str, Any], name: str) -> nn.Module:
    from preimage.generate.stylegan import StyleGAN, StyleGANConfig

    return StyleGAN(StyleGANConfig(**config), name)


def _degradation_gan(config: dict[str, Any], name: str) -> nn.Module:
    from preimage.degrade.degradation_gan import DegradationGAN, DegradationGANConfig

    return DegradationGAN(DegradationGANConfig(**config), name)


ARCHITECTURES: dict[str, Callable[[dict[str, Any], str], nn.Module]] = {
    "stylegan2": _stylegan2,
    "stylegan": _stylegan,
    "progan": _progan,
    "degradation-gan": _degradation_gan,
}


def read_metadata(path: Path) -> dict[str, Any]:
    """What a preimage safetensors file says about itself.

    Raises:
        WeightsError: not a safetensors file, or not one of ours.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path}: not a readable safetensors file ({error}). Pickled checkpoints (.pt, .pth, .pkl) are never loaded; "
            "they have to be converted first."
        ) from None
    if metadata.get("format") != FORMAT:
        raise WeightsError(
            f"{path}: a safetensors file, but not one that preimage wrote; it does not say what network it is."
        )
    try:
        return {k: json.loads(v) if k in ("config", "trained") else v for k, v in metadata.items()}
    except ValueError as error:
        raise WeightsError(f"{path}: its description is damaged ({error}). Fetch or export it again.") from None


def read_module(path: Path) -> nn.Module:
    """Build the module that a file describes and fill it, in float32."""
    from safetensors.torch import load_file

    metadata = read_metadata(path)
    architecture = metadata.get("architecture", "")
    if architecture not in ARCHITECTURES:
        raise WeightsError(
            f"{path}: architecture {architecture!r} is unknown; this version knows {', '.join(ARCHITECTURES)}."
        )
    try:
        module = ARCHITECTURES[architecture](metadata["config"], metadata.get("name", path.stem))
        module.load_state_dict({k: v.float() for k, v in load_file(str(path)).items()})
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{path}: its tensors do not fit the {architecture} it describes. {error}") from None
    return module


def save_prior(
    path: Path,
    prior: Any,
    trained: dict[str, Any],
    licence: str = "CC BY-NC 4.0",
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write a prior with everything that is needed to rebuild and to judge it.

    Args:
        path: safetensors file; replaced at once or not at all.
        prior: a module with `metadata()` -> {"architecture", "config"}, and a `name`.
        trained: recipe, images seen, data.
        licence: of the weights.
        dtype: of the tensors in the file; they are read as float32.
    """
    from safetensors.torch import save

    from preimage.files import write_bytes_atomic

    about = prior.metadata()
    metadata = {
        "format": FORMAT,
        "name": prior.name,
        "architecture": about["architecture"],
        "config": json.dumps(about["config"]),
        "trained": json.dumps(trained),
        "licence": licence,
    }
    state = {k: v.detach().cpu().to(dtype).contiguous() for k, v in prior.state_dict().items()}
    write_bytes_atomic(path, save(state, metadata))


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
    from preimage.results import to_yaml

    table = weight_table()
    path = table[name].path if name in table else _locate(name, table)
    about = {"entry": dataclasses.asdict(table[name])} if name in table else {}
    if path.suffix != ".safetensors" and name in table:
        return to_yaml({**about, "file": {"path": str(path)}})
    return to_yaml({**about, "file": {"path": str(path), **read_metadata(path)}})
