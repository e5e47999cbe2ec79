"""The epoch time machine in a real browser: a slider, a player, and cells that open onto their images."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Page, expect

from cifar_core import logits
from cifar_core.config import TrainConfig
from cifar_core.datasets import open_dataset
from cifar_core.runs import create_run
from tests.conftest import work


def test_every_epoch_is_a_step_of_the_slider_and_a_cell_shows_its_images(page: Page, home: Path, shapes: Path) -> None:
    cache = home / "data" / "cache"
    open_dataset(shapes, cache)
    quick = {"model": "single_conv", "epochs": 4, "train_images": 300, "learning_rate": 0.002, "optimizer": "adam"}
    config = TrainConfig.from_values({"data": str(shapes), "device": "cpu", **quick})
    run = work(create_run(config, home / "runs"), cache)
    there = logits.read(run.logits("validation"))

    page.goto(f"/evaluate?run={run.id}&images=Validation&view=Epoch+by+epoch")
    machine = page.locator(".machine")
    slider = machine.get_by_role("slider", name="Epoch")
    for key, epoch in (("Home", 1), ("ArrowRight", 2), ("End", 4)):
        slider.press(key)
        expect(machine).to_have_attribute("data-epoch", str(epoch))
        confusion = there.at(epoch).confusion()
        for i, true in enumerate(there.images.classes):
            for j, predicted in enumerate(there.images.classes):
                name = re.compile(f"^{true} predicted as {predicted}: {confusion[i, j]} images")
                expect(machine.get_by_role("button", name=name)).to_have_count(1)
        expect(machine.locator(".figures")).to_contain_text(f"Accuracy {there.at(epoch).accuracy:.1%}")
    machine.get_by_role("button", name="Play").click()
    expect(machine).not_to_have_attribute("data-epoch", "4")
    expect(machine).to_have_attribute("data-epoch", "4")
    expect(machine.get_by_role("button", name="Play")).to_be_visible()

    confusion = there.at(4).confusion()
    true, predicted = there.images.classes[0], there.images.classes[0]
    machine.get_by_role("button", name=f"{true} predicted as {predicted}:").click()
    said = f"{confusion[0, 0]} validation images of {true}, predicted as {predicted}, after epoch 4"
    expect(page.get_by_text(said)).to_be_visible()

    slider.press("Home")
    slider.press("ArrowRight")
    expect(page).to_have_url(re.compile(r"[?&]at=2(&|$)"))
    page.reload()
    expect(machine).to_have_attribute("data-epoch", "2")
    # Another view and back: the address knows where it rested.
    slider.press("Home")
    expect(page).to_have_url(re.compile(r"[?&]at=1(&|$)"))
    page.get_by_role("radio", name="Overview").click()
    expect(machine).to_have_count(0)
    page.get_by_role("radio", name="Epoch by epoch").click()
    expect(machine).to_have_attribute("data-epoch", "1")
    expect(page).to_have_url(re.compile(r"[?&]at=1(&|$)"))
    # Also where it is left before the server has heard of it.
    slider.press("End")
    page.get_by_role("radio", name="Overview").click()
    expect(machine).to_have_count(0)
    page.get_by_role("radio", name="Epoch by epoch").click()
    expect(machine).to_have_attribute("data-epoch", "4")
    # A link names weights by their file, and leaves the choice free.
    page.goto(f"/evaluate?run={run.id}&checkpoint=last")
    last, best = (page.get_by_role("radio", name=name) for name in ("Last step", "Best epoch"))
    expect(last).to_be_checked()
    best.click()
    expect(best).to_be_checked()
    page.get_by_role("radio", name="Chart").click()
    expect(page.get_by_role("radio", name="Chart")).to_be_checked()
    expect(best).to_be_checked()
    last.click()
    expect(page).to_have_url(re.compile(r"[?&]checkpoint=Last"))
