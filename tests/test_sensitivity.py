"""How sure a network is along one transform: of the same images at the same draws, only stronger."""

from __future__ import annotations

import numpy as np
import torch

from cifar_core import job
from cifar_core.datasets import open_cached
from cifar_core.networks import load_network
from cifar_core.runs import Run
from cifar_core.sensitivity import answers
from cifar_core.subsets import subset_indices
from cifar_core.transforms import Augmentation
from tests.conftest import Tiny


def test_without_any_change_it_is_what_the_network_says_of_the_images(finished_run: Run, tiny: Tiny) -> None:
    network = load_network(finished_run.checkpoints()["best"], torch.device("cpu"))
    test = open_cached(tiny.info.id, tiny.cache).test
    images, labels = torch.from_numpy(np.array(test.images)), torch.from_numpy(np.array(test.labels))
    nothing, everything = answers(network, images, labels, [Augmentation(), Augmentation(cutout=64)], seed=1)
    plain = network.probabilities(images)
    torch.testing.assert_close(nothing[0], plain[torch.arange(len(labels)), labels])
    assert torch.equal(nothing[1], plain.argmax(1) == labels)
    # Of wholly blanked images a network says the same for each.
    blank = network.probabilities(torch.full((1, 3, 32, 32), 0.5))[0]
    torch.testing.assert_close(everything[0], blank[labels], atol=1e-4, rtol=0)


def test_the_task_keeps_a_curve_of_its_own_for_each_setting_and_asks_about_evenly_chosen_images(
    trained_run: Run, tiny: Tiny
) -> None:
    def asked(seed: int) -> tuple[job.WorkFolder, dict]:
        return job.sensitivity_task(
            trained_run, "best", tiny.info, {"flip": 0.0, "policy": "none"}, "rotation", (0.0, 90.0), 20, seed
        )

    folder, task = asked(0)
    assert asked(0)[0].path == folder.path != asked(1)[0].path
    folder.path.mkdir(parents=True, exist_ok=True)
    job.write_whole(folder.path / "task.json", job.json.dumps(task).encode())
    with folder.held():
        events = list(job.execute_task(folder, tiny.cache))
    assert events[-1].outcome == "finished", events[-1]
    with np.load(folder.path / "curve.npz") as file:
        assert file["probabilities"].shape == file["right"].shape == (2, 20)
        test = open_cached(tiny.info.id, tiny.cache).test
        chosen = subset_indices(np.asarray(test.labels), 20, seed=0)
        network = load_network(trained_run.checkpoints()["best"], torch.device("cpu"))
        plain = network.probabilities(test.images[chosen]).numpy()
        np.testing.assert_allclose(
            file["probabilities"][0], plain[np.arange(20), test.labels[chosen]], rtol=1e-4, atol=1e-6
        )
