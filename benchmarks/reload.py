"""How soon a page that is reloaded while a cell runs has its live view and its Stop back."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.measure import table

ROUNDS = 3
TESTS = Path(__file__).parents[1] / "tests" / "browser"


def seconds(place: str, folder: Path) -> list[tuple[float, float]]:
    """For each round: until the card is there, and until a click on Stop has ended the job, from the cells' showing."""
    sys.path.insert(0, str(TESTS))
    from cells import SETUP, training
    from lab import open_tab, start_lab

    from maas_magics.session import Session

    found = []
    store = str(folder / "store")
    env = {"MAAS_STORE": store, "MAAS_UI": "", "PYTHONPATH": str(TESTS.parents[1])}
    try:
        with start_lab(folder / "lab", env=env) as lab, open_tab() as tab:
            for turn in range(ROUNDS):
                name = f"{turn}.ipynb"
                path = lab.write(name, [SETUP + ("%connect local" if place == "service" else ""), training()])
                tab.open(lab, name)
                tab.run(0, wait=True)
                tab.run(1)
                tab.page.locator(".maas path.maas-validation").first.wait_for(timeout=120_000)
                tab.save(path)
                tab.page.goto("about:blank")
                tab.open(lab, name, wait=False)
                begun = time.perf_counter()
                tab.page.locator(".maas-stop").wait_for(timeout=120_000)
                shown = time.perf_counter()
                tab.page.locator(".maas-stop").click()
                tab.page.locator(".maas[data-state=stopped]").wait_for(timeout=120_000)
                found.append((shown - begun, time.perf_counter() - shown))
    finally:
        Session(store).stop_serving(None)
    return found


def main() -> None:
    rows = []
    for place in ("kernel", "service"):
        with tempfile.TemporaryDirectory() as folder:
            found = seconds(place, Path(folder))
        card, stop = ([pair[i] for pair in found] for i in (0, 1))
        rows.append([place, f"{median(card):.1f}", f"{max(card):.1f}", f"{median(stop):.1f}", f"{max(stop):.1f}"])
    table(
        "A reload during a blocking %train, in JupyterLab",
        ("training on", "card, s", "longest", "stopped, s", "longest"),
        rows,
        f"{ROUNDS} reloads each, from when the cells of the new page show until the card is there with its Stop "
        "(target: 3 s), and from a click on it until the page says that the training has stopped, its picture drawn.",
    )
