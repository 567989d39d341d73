"""What every trainer shares: averages, saving that survives a crash at any point, settings that must agree."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from preimage.errors import OutputError, RecipeError
from preimage.train.loop import (
    Run,
    average_decay,
    compiled,
    evaluating,
    every,
    recover,
    set_rates,
    stepped,
    swap,
    update_average,
)
from preimage.train.start import average_gradients


def test_average_decay_halves_in_its_half_life():
    assert average_decay(32, 10**9, 10_000) ** (10_000 / 32) == pytest.approx(0.5)
    assert average_decay(64, 10**9, 10_000) == pytest.approx(average_decay(32, 10**9, 10_000) ** 2)
    assert average_decay(32, 10_000, 10_000) ** (500 / 32) == pytest.approx(0.5)  # early on: a twentieth of the past
    assert average_decay(32, 0, 10_000) == 0.0
    decays = [average_decay(32, images, 10_000) for images in (32, 1_000, 50_000, 200_000, 400_000)]
    assert decays == sorted(decays)
    assert decays[-1] == decays[-2]


def test_rates_change_in_steps():
    steps = ((40, 1e-4, 2e-4), (20, 0.0, 3e-4))  # in any order
    found = [stepped(1e-3, 2e-3, steps, images) for images in (0, 19, 20, 39, 40, 10**9)]
    assert found == [(1e-3, 2e-3)] * 2 + [(0.0, 3e-4)] * 2 + [(1e-4, 2e-4)] * 2
    optimisers = [torch.optim.Adam([{"params": [torch.zeros(1)]}, {"params": [torch.zeros(2)]}]) for _ in range(2)]
    set_rates(optimisers, found[-1])
    assert [[group["lr"] for group in o.param_groups] for o in optimisers] == [[1e-4] * 2, [2e-4] * 2]


def test_update_average():
    torch.manual_seed(0)
    average, model = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    for p in (*average.parameters(), *model.parameters()):
        nn.init.normal_(p)
    model.running_mean.fill_(7.0)
    expected = 0.9 * average.weight + 0.1 * model.weight
    kept = model.weight.detach().clone()
    update_average(average, model, 0.9)
    assert torch.allclose(average.weight, expected)
    assert torch.equal(average.running_mean, model.running_mean)
    assert torch.equal(model.weight, kept)
    update_average(average, model, 0.0)
    assert torch.allclose(average.weight, model.weight)


def test_every():
    assert [n for n in range(1, 13) if every(4, n - 1, n)] == [4, 8, 12]
    assert every(10, 8, 12)
    assert every(10, 5, 35)
    assert not every(10, 10, 19)
    assert not every(0, 0, 100)


def test_evaluating_restores_the_mode():
    module = nn.Dropout()
    with evaluating(module):
        assert not module.training
        assert not torch.is_grad_enabled()
    assert module.training
    module.eval()
    with pytest.raises(ZeroDivisionError), evaluating(module):
        _ = 1 / 0
    assert not module.training
    assert torch.is_grad_enabled()


def test_compiled_only_where_wanted():
    assert compiled(abs, False) is abs


# -------------------------------------------------------------------------------------------------------------- crash


def folder(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "a").write_text(content)
    return path


def test_swap(tmp_path):
    target = tmp_path / "state"
    for content in ("one", "two"):
        swap(folder(tmp_path / "new", content), target)
        assert (target / "a").read_text() == content
        assert os.listdir(tmp_path) == ["state"]
    recover(target)
    assert (target / "a").read_text() == "two"


@pytest.mark.parametrize("survives", range(4))
def test_crash_anywhere_in_a_swap_keeps_a_whole_state(tmp_path, monkeypatch, survives):
    target = folder(tmp_path / "state", "old")
    fresh = folder(tmp_path / "state.new", "new")
    calls = 0

    def dying(function):
        def call(*args, **options):
            nonlocal calls
            calls += 1
            if calls > survives:
                raise KeyboardInterrupt
            return function(*args, **options)

        return call

    with monkeypatch.context() as patch:
        patch.setattr("preimage.train.loop.os.replace", dying(os.replace))
        patch.setattr("preimage.train.loop.shutil.rmtree", dying(__import__("shutil").rmtree))
        with pytest.raises(KeyboardInterrupt):
            swap(fresh, target)
    recover(target)
    assert (target / "a").read_text() == ("new" if survives == 3 else "old")
    swap(folder(tmp_path / "next", "next"), target)  # and life goes on
    assert (target / "a").read_text() == "next"
    assert not (tmp_path / "state.old").exists()


# ---------------------------------------------------------------------------------------------------------------- run


def begin(path: Path, recipe: dict, resume: str = "auto") -> tuple[Run, bool]:
    run = Run(path / "run", Accelerator())
    return run, run.begin(recipe, resume, may_change=("images",))


def test_run_saves_and_resumes(tmp_path):
    recipe = {"lr": 0.1, "betas": (0.0, 0.9), "images": 10}
    run, resumed = begin(tmp_path, recipe)
    assert not resumed
    run.progress.images = 40
    run.add(loss=1.0)
    run.add(loss=torch.tensor(2.0), other=5.0)
    line = run.log()
    assert (line["images"], line["loss"], line["other"]) == (40, 1.5, 5.0)
    assert line["rate"] > 0
    run.save()
    again, resumed = begin(tmp_path, recipe)
    assert resumed
    assert again.progress == run.progress
    again.progress.images += 4
    again.log()
    lines = [json.loads(each) for each in (tmp_path / "run" / "stats.jsonl").read_text().splitlines()]
    assert [each["images"] for each in lines] == [40, 44]
    assert "loss" not in lines[1]
    assert lines[1]["seconds"] >= lines[0]["seconds"]


def test_run_refuses_other_settings(tmp_path):
    run, _ = begin(tmp_path, {"lr": 0.1, "images": 10})
    run.save()
    assert begin(tmp_path, {"lr": 0.1, "images": 99})[1]
    with pytest.raises(RecipeError, match="other settings of lr"):
        begin(tmp_path, {"lr": 0.2, "images": 10})
    with pytest.raises(RecipeError, match="already holds a run"):
        begin(tmp_path, {"lr": 0.1, "images": 99}, resume="never")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged"),
        (b'{"lr": 0.1', "damaged"),
        (b"\xff\xfe", "damaged"),
        (b"[" * 5_000, "nested deeper"),
        (b"[0.1]", "holds no settings"),
        (b'{"lr": NaN}', "NaN"),
        (b'{"lr": "0.1"}', "other settings of lr, betas"),
        (b'{"lr": 0.1, "betas": 5}', "other settings of betas"),
        (b'{"lr": 0.1, "betas": [0.0, 0.9], "steps": 3}', "version of preimage does not know .steps.*choose another"),
        (None, "damaged"),
    ],
)
def test_damaged_settings_of_a_run_say_how_to_mend_it(tmp_path, content, message):
    recipe = {"lr": 0.1, "betas": (0.0, 0.9)}
    run, _ = begin(tmp_path, recipe)
    run.save()
    note = tmp_path / "run" / "recipe.json"
    note.unlink()
    if content is None:
        note.mkdir()
    else:
        note.write_bytes(content)
    with pytest.raises(RecipeError, match=message) as caught:
        begin(tmp_path, recipe)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "run") in str(caught.value)
    assert "another `out`" in str(caught.value)


def test_a_setting_that_a_run_did_not_have_yet_may_say_nothing(tmp_path):
    run, _ = begin(tmp_path, {"lr": 0.1, "shape": {"side": 4}})
    run.save()
    assert begin(tmp_path, {"lr": 0.1, "shape": {"side": 4, "clamp": None}, "init": None})[1]
    with pytest.raises(RecipeError, match="other settings of shape"):
        begin(tmp_path, {"lr": 0.1, "shape": {"side": 4, "clamp": 256.0}})


def test_a_damaged_state_is_named(tmp_path):
    run, _ = begin(tmp_path, {"lr": 0.1})
    run.save()
    for path in (tmp_path / "run" / "state").iterdir():
        path.write_bytes(b"half")
    with pytest.raises(RecipeError, match=r"state: cannot be continued from .*remove it") as caught:
        begin(tmp_path, {"lr": 0.1})
    assert "\n" not in str(caught.value)


def test_a_file_where_the_run_should_be(tmp_path):
    (tmp_path / "run").write_text("x")
    with pytest.raises(OutputError, match=r"run: cannot be made a run folder .*another `out`"):
        begin(tmp_path, {"lr": 0.1})


def test_folder_without_a_state_starts_anew(tmp_path):
    begin(tmp_path, {"lr": 0.1})
    assert not begin(tmp_path, {"lr": 0.2}, resume="never")[1]
    assert json.loads((tmp_path / "run" / "recipe.json").read_text()) == {"lr": 0.2}


def test_interrupted_save_keeps_the_state_before(tmp_path, monkeypatch):
    run, _ = begin(tmp_path, {})
    run.progress.images = 8
    run.save()
    run.progress.images = 16
    monkeypatch.setattr("preimage.train.loop.swap", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run.save()
    again, resumed = begin(tmp_path, {})
    assert resumed
    assert again.progress.images == 8


class Two:
    """Stands for an accelerator of two processes, of which the other one has no slope at all."""

    num_processes = 2

    def __init__(self):
        self.messages = 0

    def reduce(self, tensor, how):
        assert how == "mean"
        self.messages += 1
        return tensor / 2


def test_gradients_are_shared_in_one_message():
    module = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    module[0](torch.ones(1, 3)).sum().backward()  # the second layer takes no part
    before = [p.grad.clone() for p in module[0].parameters()]
    two = Two()
    average_gradients(two, module)
    assert two.messages == 1
    assert all(torch.equal(p.grad, g / 2) for p, g in zip(module[0].parameters(), before, strict=True))
    assert all(p.grad is None for p in module[1].parameters())
