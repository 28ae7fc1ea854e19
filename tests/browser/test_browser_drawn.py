"""Pictures that a network draws while it learns, in the page."""

from __future__ import annotations

import pytest
from cells import SETUP
from lab import Lab, Tab
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

DATA = """
import numpy as np, pandas as pd
words = ["the left is bright", "the right is bright"]
sides = np.random.default_rng(0).integers(0, 2, 200)
pictures = [np.kron([[1 - side, side]], np.ones((8, 8))) for side in sides]
known = pd.DataFrame({"picture": pictures, "caption": [words[side] for side in sides]})
"""
TRAIN = "%train bright --data known --target picture --text caption --model flow --set width=32 --epochs 5000 --threads 1 -b"


def test_pictures_are_seen_while_a_network_learns_to_draw(lab: Lab, tab: Tab) -> None:
    lab.write("drawn.ipynb", [SETUP, DATA, TRAIN])
    tab.open(lab, "drawn.ipynb")
    for cell in range(3):
        tab.run(cell, wait=True)
    shown = tab.page.locator(".maas-drawn figure")
    expect(shown).to_have_count(2, timeout=60_000)
    assert sorted(tab.page.locator(".maas-drawn figcaption").all_inner_texts()) == [
        "the left is bright", "the right is bright",
    ]  # fmt: skip
    assert shown.locator("img").first.evaluate("image => image.complete && image.naturalWidth") == 16
    head = tab.page.locator(".maas-drawn-head").inner_text()
    expect(tab.page.locator(".maas-drawn-head")).not_to_have_text(head, timeout=60_000)
    tab.page.locator(".maas-stop").click()
    kept = tab.page.locator(".jp-OutputArea-output :not(.maas *) > img[alt='the left is bright']")
    expect(kept.first).to_be_visible(timeout=60_000)  # in the picture that stays
