"""Learning without labels against slow loops and scikit-learn, and what comes of it: probes, forks, frozen bodies."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor, nn

from cifar_core.compute import choose
from cifar_core.config import MODELS, TrainConfig
from cifar_core.contrastive import PROJECTION_SIZE, SHRINKAGE, discriminant, nt_xent
from cifar_core.datasets import DataInfo, DataSet, Split
from cifar_core.events import Epoch
from cifar_core.models import create
from cifar_core.networks import load_network, load_tensors
from cifar_core.runs import Run, create_run
from cifar_core.training import Training, material
from cifar_core.transforms import normalise
from tests.conftest import Tiny, tiny_config, work
from tests.shapes import CLASSES, drawing

CPU = choose("cpu", "float32")
PRETRAINING: dict[str, Any] = {
    "objective": "simclr",
    "model": "guide_cnn",
    "width": 0.125,
    "epochs": 8,
    "batch_size": 60,
    "optimizer": "adam",
    "learning_rate": 0.003,
    "weight_decay": 0.0,
    "schedule": "cosine",
    "temperature": 0.2,
    "crop_padding": 0,
    "crop_scale": 0.3,
    "colour_jitter": 0.5,
    "grey": 0.2,
    "validation_fraction": 0.5,
}
PROBE: dict[str, Any] = {
    **PRETRAINING,
    "objective": "classify",
    "frozen": True,
    "epochs": 6,
    "learning_rate": 0.01,
    "schedule": "constant",
    "crop_scale": 1.0,
    "colour_jitter": 0.0,
    "grey": 0.0,
}


@pytest.fixture(scope="module")
def shapes() -> DataSet:
    """180 drawn shapes to train on and 180 to validate on."""
    random, per_class = np.random.default_rng(0), 120
    images = np.stack([drawing(name, random).transpose(2, 0, 1) for _ in range(per_class) for name in CLASSES])
    labels = np.tile(np.arange(len(CLASSES)), per_class)
    pixels = images / 255
    red, green, blue = pixels.mean((0, 2, 3)).tolist()
    deviations = pixels.std((0, 2, 3)).tolist()
    info = DataInfo(
        id="shapes-00000000",
        name="Shapes",
        source="/nowhere",
        kind="folder",
        fingerprint="0" * 16,
        classes=CLASSES,
        train_counts=(per_class,) * 3,
        test_counts=(per_class,) * 3,
        mean=(red, green, blue),
        std=(deviations[0], deviations[1], deviations[2]),
    )
    return DataSet(info, Split(images, labels), Split(images, labels))


def begin(data: DataSet, settings: dict[str, Any], **changes: Any) -> Training:
    config = TrainConfig.from_values({**settings, **changes})
    torch.manual_seed(config.seed)
    model = create(config.model, len(data.info.classes), width=config.width, pretrained=False)
    return Training(config, model, material(config, data, CPU.device), CPU)


def epochs_of(training: Training) -> list[Epoch]:
    return [event for event in training.events() if isinstance(event, Epoch)]


def copied(training: Training) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in training.model.state_dict().items()}


# The loss -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.07, 0.5, 2.0])
@pytest.mark.parametrize("images", [2, 7])
def test_the_loss_is_equation_1_of_the_paper_in_a_double_loop(images: int, temperature: float) -> None:
    rows = torch.randn(2 * images, 5, generator=torch.Generator().manual_seed(1)).double()

    def similarity(i: int, j: int) -> float:
        return float(rows[i] @ rows[j] / rows[i].norm() / rows[j].norm())

    total, found = 0.0, 0
    for i in range(2 * images):
        twin = (i + images) % (2 * images)
        others = {j: similarity(i, j) for j in range(2 * images) if j != i}
        below = sum(math.exp(value / temperature) for value in others.values())
        total -= math.log(math.exp(others[twin] / temperature) / below)
        found += max(others, key=others.__getitem__) == twin
    loss, share = nt_xent(rows, temperature)
    assert loss.item() == pytest.approx(total / (2 * images), rel=1e-5)
    assert share.item() == pytest.approx(found / (2 * images))


def test_equal_twins_that_are_orthogonal_to_all_others_have_the_loss_of_a_closed_form() -> None:
    images, temperature = 4, 0.5
    loss, share = nt_xent(torch.eye(images).repeat(2, 1) * 3, temperature)
    # One similarity of 1 and 2B - 2 of 0.
    assert loss.item() == pytest.approx(math.log(1 + (2 * images - 2) * math.exp(-1 / temperature)))
    assert share == 1


def test_its_gradient_pulls_twins_together() -> None:
    rows = torch.randn(12, 6, generator=torch.Generator().manual_seed(2), requires_grad=True)
    before, _ = nt_xent(rows, 0.5)
    before.backward()
    with torch.no_grad():
        after, _ = nt_xent(rows - rows.grad, 0.5)  # type: ignore[operator]
    assert rows.grad is not None
    assert torch.isfinite(rows.grad).all()
    assert after < before


# The head that is fitted ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "features"), [(60, 4), (40, 100)])
def test_the_fitted_head_is_the_linear_discriminant_of_scikit_learn(count: int, features: int) -> None:
    random = np.random.default_rng(3)
    labels = random.permutation(np.repeat([0, 1, 2], [count // 2, count // 4, count // 4]))
    values = random.normal(size=(count, features)) @ random.normal(size=(features, features)) + 2 * labels[:, None]
    reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=SHRINKAGE).fit(values, labels)
    weight, bias = discriminant(torch.from_numpy(values).float(), torch.from_numpy(labels), 3)
    assert weight.dtype == bias.dtype == torch.float32
    logits = torch.from_numpy(values).float() @ weight.T + bias
    np.testing.assert_allclose(logits.softmax(1), reference.predict_proba(values), atol=1e-3)


def test_a_class_without_images_is_hardly_ever_chosen_and_dead_features_do_no_harm() -> None:
    values = torch.randn(50, 6, generator=torch.Generator().manual_seed(4))
    labels = torch.arange(50) % 2 * 2
    values[labels == 2] += 3
    weight, bias = discriminant(values, labels, 3)
    assert ((values @ weight.T + bias).argmax(1) == labels).all()
    weight, bias = discriminant(torch.zeros(50, 6), labels, 3)
    assert torch.isfinite(weight).all()
    assert torch.isfinite(bias).all()


# A training without labels --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pretrained(shapes: DataSet) -> tuple[Training, list[Epoch]]:
    """To be read only."""
    training = begin(shapes, PRETRAINING)
    return training, epochs_of(training)


def test_it_learns_to_tell_twins_and_its_features_become_better(pretrained: tuple[Training, list[Epoch]]) -> None:
    _, epochs = pretrained
    assert epochs[-1].train_loss < epochs[0].train_loss - 0.3
    assert epochs[-1].validation_loss < epochs[0].validation_loss - 0.3
    # By chance one view in 119 is.
    assert epochs[-1].train_accuracy > 4 / 119
    assert epochs[-1].validation_accuracy > epochs[0].validation_accuracy
    # Of as many views as in training, augmented alike.
    assert epochs[-1].validation_loss == pytest.approx(epochs[-1].train_loss, abs=0.4)


def test_what_is_said_of_its_features_is_what_its_head_does(pretrained: tuple[Training, list[Epoch]]) -> None:
    training, epochs = pretrained
    images, model = training.images, training.model.eval()
    with torch.no_grad():
        seen = normalise(images.train_images, images.mean, images.std)
        weight, bias = discriminant(model.embed(model.feature_maps(seen)), images.train_labels, 3)
        logits = model(normalise(images.validation_images, images.mean, images.std))
    torch.testing.assert_close(model.head.weight, weight, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(model.head.bias, bias, rtol=1e-3, atol=1e-4)
    right = (logits.argmax(1) == images.validation_labels).float().mean().item()
    assert epochs[-1].validation_accuracy == pytest.approx(right)


def test_labels_have_no_part_in_what_is_learned(shapes: DataSet) -> None:
    training = begin(shapes, PRETRAINING, epochs=1)
    # What mixes labels has no part either.
    blind = begin(shapes, PRETRAINING, epochs=1, mixup=1.0, cutmix=1.0, label_smoothing=0.3)
    blind.images.train_labels.zero_()
    epochs_of(training), epochs_of(blind)
    for name, tensor in copied(training).items():
        assert name.startswith("head.") or torch.equal(tensor, copied(blind)[name]), name


def test_a_running_average_stays_at_the_fitted_head(shapes: DataSet) -> None:
    training = begin(shapes, PRETRAINING, epochs=2, ema=0.5)
    drawn = training.model.head.weight.clone()
    for event in training.events():
        assert training.average
        if isinstance(event, Epoch):
            assert torch.equal(training.average.head.weight, training.model.head.weight)
            assert not torch.equal(training.model.head.weight, drawn)
    with torch.no_grad():
        images = training.images
        ready = normalise(images.validation_images, images.mean, images.std)
        right = (training.judged(ready).argmax(1) == images.validation_labels).float().mean().item()
    assert right == pytest.approx(event.validation_accuracy)  # type: ignore[union-attr]


def test_a_probe_of_what_was_learned_beats_one_of_an_untrained_body(
    shapes: DataSet, pretrained: tuple[Training, list[Epoch]]
) -> None:
    probe, untrained = begin(shapes, PROBE), begin(shapes, PROBE)
    fresh = copied(probe)
    probe.fork(*pretrained[0].state())
    assert probe.step == 0
    assert probe.validation_losses == []
    assert torch.equal(probe.model.head.weight, fresh["head.weight"]), "a probe begins with a head of its own"
    for name, tensor in copied(pretrained[0]).items():
        if name.startswith(("body.", "embedding.")):
            assert torch.equal(copied(probe)[name], tensor)
    accuracy = epochs_of(probe)[-1].validation_accuracy
    assert accuracy > epochs_of(untrained)[-1].validation_accuracy + 0.05
    assert accuracy > 0.6


@pytest.mark.parametrize("ema", [0.0, 0.8])
def test_its_weights_can_be_trained_on_with_labels_or_from_labels_without(shapes: DataSet, ema: float) -> None:
    tuned = begin(shapes, PROBE, frozen=False, epochs=1, ema=ema)
    tuned.fork(*begin(shapes, PRETRAINING, seed=5).state())
    before = copied(tuned)
    assert len(epochs_of(tuned)) == 1
    assert not torch.equal(before["body.conv1.weight"], copied(tuned)["body.conv1.weight"])
    again = begin(shapes, PRETRAINING, epochs=1, ema=ema, seed=9)
    projection = copied(again)["projection.output.weight"]
    again.fork(*tuned.state())
    taken = tuned.average.state_dict() if tuned.average else tuned.model.state_dict()
    assert torch.equal(copied(again)["body.conv1.weight"], taken["body.conv1.weight"])
    assert torch.equal(copied(again)["projection.output.weight"], projection)
    assert len(epochs_of(again)) == 1


def test_a_fork_with_the_same_objective_keeps_its_projection_and_goes_on(
    shapes: DataSet, pretrained: tuple[Training, list[Epoch]]
) -> None:
    longer = begin(shapes, PRETRAINING, epochs=9, seed=1)
    longer.fork(*pretrained[0].state())
    for name, tensor in copied(pretrained[0]).items():
        assert torch.equal(copied(longer)[name], tensor), name
    assert [epoch.epoch for epoch in epochs_of(longer)] == [9]


def test_weights_of_another_model_are_refused(shapes: DataSet, pretrained: tuple[Training, list[Epoch]]) -> None:
    with pytest.raises(ValueError, match="its weights are of another model"):
        begin(shapes, PROBE, width=0.25).fork(*pretrained[0].state())


def test_an_average_may_begin_with_a_fork(shapes: DataSet) -> None:
    plain = begin(shapes, PROBE, frozen=False, epochs=1)
    epochs_of(plain)
    averaged = begin(shapes, PROBE, frozen=False, epochs=2, ema=0.5)
    averaged.fork(*plain.state())
    assert averaged.average
    for model in (averaged.model, averaged.average):
        assert torch.equal(model.head.weight, plain.model.head.weight)
    assert [epoch.epoch for epoch in epochs_of(averaged)] == [2]


# A frozen body --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_of_a_frozen_network_the_head_alone_changes_and_is_remembered(shapes: DataSet, name: str) -> None:
    if MODELS[name].pretrained:
        pytest.skip("Enlarged to 224 pixels it takes too long; its layers are those of resnet18.")
    few = {
        "model": name,
        "width": 0.125,
        "epochs": 1,
        "train_images": 30,
        "batch_size": 15,
        "validation_fraction": 0.02,
    }
    training = begin(shapes, PROBE, **few)
    before = copied(training)
    epochs_of(training)
    changed = {key for key, tensor in copied(training).items() if not torch.equal(tensor, before[key])}
    assert changed == {"head.weight", "head.bias"}
    tensors, _ = training.state()
    remembered = {key.split(".")[1] for key in tensors if key.startswith("optimizer.")}
    assert remembered == {"0", "1"}
    assert all(p.grad is None for part in (training.model.body, training.model.embedding) for p in part.parameters())


def test_no_graph_is_kept_of_a_frozen_body() -> None:
    model = create("resnet9", 3, width=0.125)
    model.freeze()
    maps = model.train().feature_maps(torch.randn(2, 3, 32, 32))
    assert not maps.requires_grad
    assert model.head(model.embed(maps)).requires_grad
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training for norm in norms)
    assert model.embedding.training, "dropout before the head still is a means of training it"


@pytest.mark.parametrize("rule", ["sgd", "adam", "adamw", "adagrad", "rmsprop", "muon"])
def test_every_optimiser_trains_a_head_alone(shapes: DataSet, rule: str) -> None:
    training = begin(shapes, PROBE, optimizer=rule, epochs=1, ema=0.5, weight_decay=0.01, clip_norm=1.0, l1=1e-4)
    head = training.model.head.weight.clone()
    body = copied(training)["body.conv1.weight"]
    learned = {id(weight) for group in training.optimizer.param_groups for weight in group["params"]}
    assert learned == {id(weight) for weight in training.model.head.parameters()}
    epochs_of(training)
    assert not torch.equal(training.model.head.weight, head)
    assert torch.equal(training.model.body.conv1.weight, body)


# In run folders -------------------------------------------------------------------------------------------------------


@pytest.fixture
def without_labels(tiny: Tiny, runs_root: Any) -> Run:
    settings = {"objective": "simclr", "model": "guide_cnn", "width": 0.125, "epochs": 3, "crop_scale": 0.3}
    return work(create_run(tiny_config(tiny, **settings), runs_root), tiny.cache)


def test_its_checkpoint_is_a_network_like_any_other(tiny: Tiny, without_labels: Run) -> None:
    assert without_labels.state == "finished", without_labels.last_end
    path = without_labels.checkpoints()["last"]
    tensors, _ = load_tensors(path)
    assert tensors["projection.output.weight"].shape[0] == PROJECTION_SIZE
    network = load_network(path)
    assert network.model.projection is None
    probabilities = network.probabilities(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))
    assert probabilities.shape == (2, len(tiny.info.classes))


def test_a_probe_of_a_run_begins_at_epoch_0_with_as_few_epochs_as_it_likes(
    tiny: Tiny, without_labels: Run, runs_root: Any
) -> None:
    config = tiny_config(tiny, model="guide_cnn", width=0.125, frozen=True, epochs=2)
    probe = work(create_run(config, runs_root, parent=without_labels, checkpoint="last"), tiny.cache)
    assert probe.state == "finished", probe.last_end
    assert [epoch.epoch for epoch in probe.epochs] == [1, 2]
    assert [row["epoch"] for row in probe.history() if row["whole_epoch"]] == [1, 2], "its curve is its own"
    before, after = (load_tensors(run.checkpoints()["last"])[0] for run in (without_labels, probe))
    assert not any(name.startswith("projection.") for name in after)
    for name, tensor in after.items():
        if name.startswith("model.") and "head" not in name:
            assert torch.equal(before[name], tensor), name
    tuned = create_run(
        tiny_config(tiny, model="guide_cnn", width=0.125, epochs=1), runs_root, parent=probe, checkpoint="best"
    )
    assert [epoch.epoch for epoch in work(tuned, tiny.cache).epochs] == [1]


def test_the_page_says_what_its_figures_are(dashboard: Callable[..., Any], without_labels: Run) -> None:
    app = dashboard("pages/train.py", run=without_labels.id)
    said = " ".join(caption.value for caption in app.caption)
    assert "learns without labels" in said
    assert "linear classifier" in said
    metric = next(metric for metric in app.metric if "accuracy" in metric.label)
    assert "linear classifier" in metric.help
