"""What every trainer shares: the run folder, its log, its grids, saving and resuming, the moving average of weights."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from preimage.errors import OutputError, RecipeError
from preimage.files import save_png, write_text_atomic
from preimage.sheet import contact_sheet
from preimage.texts import one_line, parse_json
from preimage.weight_files import save_prior

if TYPE_CHECKING:
    from accelerate import Accelerator


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """average <- decay * average + (1 - decay) * model for parameters; buffers are copied."""
    ours: list[Tensor] = list(average.parameters())
    theirs: list[Tensor] = list(model.parameters())
    torch._foreach_lerp_(ours, theirs, 1.0 - decay)
    for a, b in zip(average.buffers(), model.buffers(), strict=True):
        a.copy_(b)


def average_decay(batch: int, images: int, half_life: float, ramp: float = 0.05) -> float:
    """Decay per step of a moving average with this half-life in images, shorter at the start (Karras et al., 2020)."""
    half_life = min(half_life, max(images * ramp, 1e-8))
    return float(0.5 ** (batch / half_life))


@dataclass
class Progress:
    """How far a run is; saved and restored with the networks."""

    images: int = 0
    seconds: float = 0.0

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.images, self.seconds = state["images"], state["seconds"]


@dataclass
class Run:
    """One training run in one folder: recipe.json, stats.jsonl, grids/, state/, prior.safetensors.

    Attributes:
        folder: where everything goes; the same folder and recipe continue.
        accelerator: device, processes, saving.
        progress: images seen and seconds spent so far.
    """

    folder: Path
    accelerator: Accelerator
    progress: Progress = field(default_factory=Progress)
    _sums: dict[str, tuple[float, int]] = field(default_factory=dict)
    _clock: float = field(default_factory=time.monotonic)
    _logged: int = 0
    _started: float = 0.0

    def begin(self, recipe: dict[str, Any], resume: str, may_change: tuple[str, ...] = ()) -> bool:
        """Create or re-open the folder; restore the state and return True if there is one to continue from.

        Args:
            recipe: the resolved settings, written to recipe.json.
            resume: "auto" continues where the folder stopped; "never" refuses a folder that has a state.
            may_change: settings that a continued run may have changed.

        Raises:
            RecipeError: the folder belongs to another recipe, its recipe.json is damaged, or resume is "never" and it is not
                new.
            OutputError: the folder cannot be written.
        """
        self.accelerator.register_for_checkpointing(self.progress)
        recipe = json.loads(json.dumps(recipe))  # tuples become lists, as in the file
        note, state = self.folder / "recipe.json", self.folder / "state"
        recover(state)
        found = state.is_dir()
        if found and resume == "never":
            raise RecipeError(f"{self.folder} already holds a run. Choose another `out`, or pass --resume auto.")
        if found and note.exists():
            before, now = _said(read_settings(note)), _said(recipe)
            gone = sorted(before.keys() - recipe.keys())
            if gone:
                raise RecipeError(
                    f"{note}: has settings that this version of preimage does not know ({one_line(ValueError(', '.join(gone)))}). "
                    "Continue with the version that began the run, or choose another `out`."
                )
            changed = [k for k in recipe if before.get(k) != now.get(k) and k not in may_change]
            if changed:
                raise RecipeError(
                    f"{self.folder} was started with other settings of {', '.join(changed)}. "
                    "Restore them to continue, or choose another `out`."
                )
        if self.accelerator.is_main_process:
            try:
                (self.folder / "grids").mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(
                    f"{self.folder}: cannot be made a run folder ({one_line(error)}); choose another `out`."
                ) from None
            write_text_atomic(note, json.dumps(recipe, indent=1))
        self.accelerator.wait_for_everyone()
        if found:
            try:
                self.accelerator.load_state(str(state))
            except Exception as error:  # damaged files raise a dozen kinds; all mean the same here
                raise RecipeError(
                    f"{state}: cannot be continued from ({one_line(error)}). Restore it, or remove it to start anew."
                ) from error
        self._clock, self._logged, self._started = time.monotonic(), self.progress.images, self.progress.seconds
        return found

    def add(self, **values: Tensor | float) -> None:
        """Average these numbers into the next line of stats.jsonl."""
        for key, value in values.items():
            total, count = self._sums.get(key, (0.0, 0))
            self._sums[key] = (total + float(value), count + 1)

    def log(self) -> dict[str, float]:
        """Write one line of averages with images, seconds and images per second; returns it."""
        elapsed, self._clock = time.monotonic() - self._clock, time.monotonic()
        line: dict[str, float] = {"images": self.progress.images}
        line |= {k: round(total / count, 5) for k, (total, count) in self._sums.items()}
        before = self.progress.seconds
        self.progress.seconds += elapsed
        line["seconds"] = round(self.progress.seconds, 1)
        line["rate"] = round((self.progress.images - self._logged) / max(self.progress.seconds - before, 1e-9), 2)
        self._logged = self.progress.images
        self._sums.clear()
        if self.accelerator.is_main_process:
            with (self.folder / "stats.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
        return line

    def report(self, stop_after: float | None) -> bool:
        """Log and print a line; whether this call's time is over, for all processes or for none, whatever their clocks say.

        Args:
            stop_after: seconds since `begin`, or None.

        Raises:
            RecipeError: a value is NaN.
        """
        line = self.log()
        self.accelerator.print(" ".join(f"{k} {v}" for k, v in line.items()), flush=True)
        if stop_after is not None and self.progress.seconds - self._started > stop_after:
            self.accelerator.set_trigger()
        stop: bool = self.accelerator.check_trigger()
        if not all(v == v for v in line.values()):
            raise RecipeError(
                f"{self.folder}: losses are NaN at {self.progress.images} pictures; lower the learning rates."
            )
        return stop

    def snapshot(self, pictures: Tensor, columns: int = 8, cell: int = 256) -> None:
        """Write pictures (n, 3, R, R) in [0, 1] as this moment's grid, and save the state."""
        if self.accelerator.is_main_process:
            shown = pictures.cpu()
            rows = [list(shown[i : i + columns]) for i in range(0, len(shown), columns)]
            save_png(self.folder / "grids" / f"{self.progress.images:09d}.png", contact_sheet(rows, cell=cell))
        self.save()

    def export(self, module: nn.Module, recipe: Any, looked_through: Sequence[str] | None) -> Path:
        """Write the module as a self-describing half-precision file, prior.safetensors; of paths it keeps the names."""
        path = self.folder / "prior.safetensors"
        if self.accelerator.is_main_process:
            names = [Path(source).name for source in recipe.data]
            about = asdict(recipe) | {"out": "", "data": names}
            trained = {"images_seen": self.progress.images, "recipe": about, "data": names}
            save_prior(path, module, trained, looked_through=looked_through)
        self.accelerator.wait_for_everyone()
        return path

    def save(self) -> None:
        """Save everything needed to continue; a run that dies in the middle of it keeps the state before."""
        state, fresh = self.folder / "state", self.folder / "state.new"
        if self.accelerator.is_main_process:
            shutil.rmtree(fresh, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self.accelerator.save_state(str(fresh))
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            swap(fresh, state)
        self.accelerator.wait_for_everyone()


def read_settings(note: Path) -> dict[str, Any]:
    """The settings that a run was started with, from its recipe.json.

    Raises:
        RecipeError: unreadable or damaged.
    """
    try:
        settings = parse_json(note.read_text(encoding="utf-8"))
        if not isinstance(settings, dict):
            raise ValueError("it holds no settings")
        return settings
    except (OSError, ValueError) as error:
        raise RecipeError(
            f"{note}: damaged ({one_line(error)}). Remove it if the recipe is still that of the run, else choose another `out`."
        ) from None


def _said(settings: Any) -> Any:
    """Settings without those that are None: they say no more than those of an older version, which lack them."""
    if isinstance(settings, dict):
        return {key: _said(value) for key, value in settings.items() if value is not None}
    return settings


def swap(fresh: Path, target: Path) -> None:
    """Put the finished folder `fresh` in the place of `target`; `recover` mends an interruption between the renames."""
    old = target.with_name(target.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        os.replace(target, old)
    os.replace(fresh, target)
    shutil.rmtree(old, ignore_errors=True)


def recover(target: Path) -> None:
    """Bring back the previous folder if a swap was interrupted."""
    old = target.with_name(target.name + ".old")
    if not target.exists() and old.is_dir():
        os.replace(old, target)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode without gradients inside, the mode before afterwards."""
    was = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(was)


def every(interval: int, before: int, now: int) -> bool:
    """Whether a multiple of `interval` lies in (before, now]."""
    return interval > 0 and now // interval > before // interval


def stepped(
    rate_g: float, rate_d: float, steps: Sequence[tuple[int, float, float]], images: int
) -> tuple[float, float]:
    """Learning rates of generator and discriminator after so many pictures: the last of `steps` that has begun, or the first two."""
    for start, later_g, later_d in sorted(steps):
        if images >= start:
            rate_g, rate_d = later_g, later_d
    return rate_g, rate_d


def set_rates(optimisers: Sequence[torch.optim.Optimizer], rates: Sequence[float]) -> None:
    """Give each optimiser its learning rate."""
    for optimiser, rate in zip(optimisers, rates, strict=True):
        for group in optimiser.param_groups:
            group["lr"] = rate


def compiled(function: Callable[..., Any], wanted: bool) -> Callable[..., Any]:
    """torch.compile where the recipe asks for it."""
    return torch.compile(function) if wanted else function
