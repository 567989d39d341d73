"""The notebook runs from top to bottom, and shows pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_notebook_runs():
    nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed; it belongs to the extra dev")
    client = pytest.importorskip("nbclient", reason="nbclient is not installed; it belongs to the extra dev")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed; it belongs to the extra dev")
    notebook = nbformat.read(ROOT / "examples" / "explore.ipynb", as_version=4)
    client.NotebookClient(
        notebook, timeout=120, resources={"metadata": {"path": str(ROOT / "examples")}}, kernel_name="python3"
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    shown = [output.data["text/html"] for output in outputs if "text/html" in output.get("data", {})]
    assert [html.count("<img") for html in shown] == [6, 10]  # input, candidates, what is certain
    assert "every byte" in outputs[-1].data["text/plain"]
