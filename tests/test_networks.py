"""Weights on disk, and the use of a loaded network."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from cifar_core.models import Classifier, create
from cifar_core.networks import (
    Network,
    NetworkError,
    load_network,
    load_tensors,
    model_tensors,
    network_metadata,
    save_tensors,
)

CLASSES = ("ant", "bee", "cat")
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
DESCRIPTION = {
    "model_name": "resnet9",
    "width": 0.125,
    "dropout": 0.3,
    "classes": CLASSES,
    "mean": MEAN,
    "std": STD,
}


def save_network(path: Path, model: Classifier, **description: Any) -> None:
    """Write a network as a run's worker does."""
    save_tensors(path, model_tensors(model), network_metadata(**description))


@pytest.fixture
def model() -> Classifier:
    torch.manual_seed(0)
    model = create("resnet9", 3, width=0.125, dropout=0.3).to(memory_format=torch.channels_last)
    # Some training steps, so that the running statistics of batch norm are no longer the initial ones.
    for _ in range(3):
        model(torch.randn(2, 3, 32, 32))
    return model


@pytest.fixture
def file(model: Classifier, tmp_path: Path) -> Path:
    path = tmp_path / "best.safetensors"
    save_network(path, model, **DESCRIPTION, epoch=4, validation_accuracy=0.5)
    return path


@pytest.fixture
def network(file: Path) -> Network:
    return load_network(file)


@pytest.fixture
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (23, 3, 32, 32), dtype=np.uint8)


def test_tensors_and_metadata_come_back_bit_for_bit(tmp_path: Path) -> None:
    shared = torch.randn(6)
    tensors = {
        "float": torch.tensor([0.1, float("nan"), -0.0, float("inf")]),
        "half": torch.randn(3).bfloat16(),
        "count": torch.tensor(7),
        "bytes": torch.arange(256, dtype=torch.uint8),
        "transposed": torch.randn(2, 3).T,
        "channels_last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "view": shared[:3],
        "other view": shared[1:],
        "trained": torch.nn.Parameter(torch.randn(2)),
        "empty": torch.empty(0, 3),
    }
    metadata = {"epoch": 3, "names": ["é", "b"], "nested": {"x": None, "y": 0.1}}
    save_tensors(tmp_path / "a.safetensors", tensors, metadata)
    loaded, described = load_tensors(tmp_path / "a.safetensors")
    assert described == metadata
    assert set(loaded) == set(tensors)
    for name, tensor in tensors.items():
        assert loaded[name].dtype is tensor.dtype
        assert loaded[name].shape == tensor.shape
        raw, expected = (t.detach().contiguous().reshape(-1).view(torch.uint8) for t in (loaded[name], tensor))
        assert torch.equal(raw, expected), name


def test_only_tensors_with_the_prefix_are_read(tmp_path: Path) -> None:
    save_tensors(tmp_path / "a", {"model.x": torch.zeros(1), "optimizer.x": torch.ones(1)}, {})
    assert set(load_tensors(tmp_path / "a", prefix="model.")[0]) == {"model.x"}


@pytest.mark.parametrize("moment", ["writing", "syncing", "renaming"])
def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    path = tmp_path / "a.safetensors"
    save_tensors(path, {"x": torch.zeros(3)}, {"epoch": 1})
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    class Full(io.FileIO):
        """A disk with room for half of what is written."""

        def write(self, content: Any) -> int:
            super().write(content[: len(content) // 2])
            fail()

    if moment == "writing":
        monkeypatch.setattr(Path, "open", lambda path, mode: Full(path, mode))
    if moment == "syncing":
        monkeypatch.setattr(os, "fsync", fail)
    if moment == "renaming":
        monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space left on device") as caught:
        save_tensors(path, {"x": torch.ones(3)}, {"epoch": 2})
    assert caught.value.errno == 28, "callers tell a full disk by its number"
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_finished_save_replaces_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    for epoch in (1, 2):
        save_tensors(path, {"x": torch.full((3,), epoch)}, {"epoch": epoch})
    tensors, metadata = load_tensors(path)
    assert tensors["x"].tolist() == [2, 2, 2]
    assert metadata == {"epoch": 2}
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_replaced_goes_where_it_is_asked_for(tmp_path: Path) -> None:
    path, before = tmp_path / "a.safetensors", tmp_path / "before.safetensors"
    for epoch in (1, 2, 3):
        save_tensors(path, {"x": torch.full((3,), epoch)}, {"epoch": epoch}, before)
    assert (load_tensors(before)[1], load_tensors(path)[1]) == ({"epoch": 2}, {"epoch": 3})
    assert sorted(tmp_path.iterdir()) == [path, before]


def test_one_wrong_bit_anywhere_is_noticed(model: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_tensors(path, model_tensors(model), network_metadata(**DESCRIPTION))
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    # The checksum's own name set aside: without it, the file is one of the first version, and whole.
    field = whole.index(b'"sha256":"')
    name = range(field - 2, field + 10)
    random = np.random.default_rng(0)
    places = [*random.integers(0, header, 20), *random.integers(header, len(whole), 20), 0, header, len(whole) - 1]
    for place in map(int, places):
        if place in name:
            continue
        wrong = bytearray(whole)
        wrong[place] ^= 1 << int(random.integers(8))
        path.write_bytes(wrong)
        with pytest.raises(NetworkError, match=r"is damaged[^\n]*\.$") as caught:
            load_network(path)
        assert str(path) in str(caught.value)


def test_a_file_without_a_checksum_is_read_as_before(tmp_path: Path) -> None:
    save_file({"x": torch.ones(2)}, tmp_path / "old", {"json": '{"epoch": 3}'})
    tensors, metadata = load_tensors(tmp_path / "old")
    assert (tensors["x"].tolist(), metadata) == ([1, 1], {"epoch": 3})


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"could not be written .*missing"):
        save_tensors(tmp_path / "missing" / "a", {"x": torch.zeros(1)}, {})


def damage(path: Path, kind: str) -> None:
    whole = path.read_bytes()
    match kind:
        case "missing":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "truncated":
            path.write_bytes(whole[:-100])
        case "only a header":
            path.write_bytes(whole[:200])
        case "text":
            path.write_text("These are not weights at all, but a letter to a friend.")
        case "folder":
            path.unlink()
            path.mkdir()
        case "foreign":
            save_file({"x": torch.zeros(1)}, path)
        case "foreign metadata":
            save_file({"x": torch.zeros(1)}, path, {"json": "{broken"})
        case "list":
            save_file({"x": torch.zeros(1)}, path, {"json": "[]"})


@pytest.mark.parametrize(
    "kind", ["missing", "empty", "truncated", "only a header", "text", "folder", "foreign", "foreign metadata", "list"]
)
def test_an_unusable_file_is_one_sentence_that_names_it(file: Path, kind: str) -> None:
    damage(file, kind)
    for load in (load_tensors, load_network):
        with pytest.raises(NetworkError) as caught:
            load(file)
        message = str(caught.value)
        assert str(file) in message
        assert message.endswith(".")
        assert "\n" not in message


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"classes": None}, "incomplete"),
        ({"mean": [0.5]}, "incomplete"),
        ({"model": {"name": "resnet9"}}, "incomplete"),
        ({"model": {"name": "resnet_9", "width": 0.125, "dropout": 0.0}}, "did you mean 'resnet9'"),
        ({"model": {"name": "resnet9", "width": "wide", "dropout": 0.0}}, "cannot be built"),
        ({"model": {"name": "resnet9", "width": 0.25, "dropout": 0.0}}, "do not fit the model resnet9"),
        ({"model": {"name": "resnet18", "width": 0.125, "dropout": 0.0}}, "do not fit the model resnet18"),
        ({"classes": ["a", "b"]}, "do not fit"),
    ],
)
def test_a_wrong_description_is_one_sentence(
    model: Classifier, tmp_path: Path, change: dict[str, object], says: str
) -> None:
    path = tmp_path / "a.safetensors"
    save_tensors(path, model_tensors(model), network_metadata(**DESCRIPTION) | change)
    with pytest.raises(NetworkError, match=says) as caught:
        load_network(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_loaded_network_is_the_saved_one(model: Classifier, network: Network) -> None:
    assert {key: value.tolist() for key, value in network.model.state_dict().items()} == {
        key: value.tolist() for key, value in model.state_dict().items()
    }
    assert (network.classes, network.mean, network.std) == (CLASSES, MEAN, STD)
    assert network.metadata["epoch"] == 4
    assert network.metadata["validation_accuracy"] == 0.5
    assert network.metadata["model"] == {"name": "resnet9", "width": 0.125, "dropout": 0.3}
    assert network.model.dropout == 0.3
    assert network.device == torch.device("cpu")


def test_a_loaded_network_is_ready_for_use(network: Network) -> None:
    assert not any(module.training for module in network.model.modules())
    assert not any(parameter.requires_grad for parameter in network.model.parameters())
    assert network.model.body.layer2.conv.weight.is_contiguous(memory_format=torch.channels_last)


def test_a_network_is_found_in_a_checkpoint_with_other_tensors(model: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    others = {"optimizer.0": torch.zeros(4), "random": torch.get_rng_state()}
    save_tensors(path, model_tensors(model) | others, network_metadata(**DESCRIPTION, step=9))
    network = load_network(path)
    assert network.metadata["step"] == 9
    assert torch.equal(network.model.head.weight, model.head.weight)


def test_loading_draws_no_random_numbers(file: Path) -> None:
    before = torch.get_rng_state()
    load_network(file)
    assert torch.equal(torch.get_rng_state(), before)


def test_loading_does_not_wait_for_torchs_compiler(tmp_path: Path) -> None:
    save_network(
        tmp_path / "a", create("airbench", 3, width=0.1), **DESCRIPTION | {"model_name": "airbench", "width": 0.1}
    )
    program = (
        "import sys\nfrom pathlib import Path\nfrom cifar_core.networks import load_network\n"
        "network = load_network(Path(sys.argv[1]))\nprint(network.classes, 'torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "a")], capture_output=True, text=True)
    assert done.stdout == f"{CLASSES} False\n", done.stderr


@pytest.mark.parametrize("name", ["resnet18_transfer", "guide_cnn_optimised"])
def test_loading_fetches_nothing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_, **__: pytest.fail("fetched"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    model = create(name, 3, pretrained=False)
    save_network(tmp_path / "a", model, **DESCRIPTION | {"model_name": name, "width": 1.0})
    loaded = load_network(tmp_path / "a").model
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(loaded(image), model.eval()(image))


def test_a_network_outlives_its_file(file: Path, network: Network, images: NDArray[np.uint8]) -> None:
    before = network.probabilities(images)
    file.write_bytes(b"")
    assert torch.equal(network.probabilities(images), before)


def test_normalise_is_the_textbook_formula(network: Network, images: NDArray[np.uint8]) -> None:
    expected = np.empty(images.shape)
    for channel in range(3):
        expected[:, channel] = (images[:, channel] / 255 - MEAN[channel]) / STD[channel]
    got = network.normalise(torch.from_numpy(images))
    assert got.dtype is torch.float32
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-5, atol=1e-6)
    as_fraction = torch.from_numpy((images / 255).astype(np.float32))
    np.testing.assert_allclose(network.normalise(as_fraction).numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 5, 23, 500])
def test_batches_of_logits_are_those_of_the_whole(network: Network, images: NDArray[np.uint8], batch_size: int) -> None:
    batches = list(network.logits(images, batch_size))
    assert [len(batch) for batch in batches] == [min(batch_size, 23 - start) for start in range(0, 23, batch_size)]
    with torch.no_grad():
        whole = network.model(network.normalise(torch.from_numpy(images)))
    torch.testing.assert_close(torch.cat(batches), whole)


def test_head_of_embeddings_is_logits(network: Network, images: NDArray[np.uint8]) -> None:
    embeddings = torch.cat(list(network.embeddings(images, 10)))
    assert embeddings.shape == (23, network.model.head.in_features)
    torch.testing.assert_close(network.model.head(embeddings), torch.cat(list(network.logits(images))))


@pytest.mark.parametrize("layer", ["prep", "layer2", "residual2"])
def test_a_layer_is_looked_at_averaged_over_its_places(network: Network, images: NDArray[np.uint8], layer: str) -> None:
    seen: list[torch.Tensor] = []
    hook = getattr(network.model.body, layer).register_forward_hook(lambda _, __, maps: seen.append(maps.clone()))
    features, logits = (torch.cat(parts) for parts in zip(*network.looked_at(images, layer, 10), strict=True))
    hook.remove()
    torch.testing.assert_close(features, torch.cat(seen).mean((2, 3)))
    torch.testing.assert_close(logits, torch.cat(list(network.logits(images))))


def test_without_a_layer_what_the_head_sees_is_looked_at(network: Network, images: NDArray[np.uint8]) -> None:
    features, _ = (torch.cat(parts) for parts in zip(*network.looked_at(images), strict=True))
    torch.testing.assert_close(features, torch.cat(list(network.embeddings(images))))
    with pytest.raises(NetworkError, match="There is no layer 'nose'; there are prep"):
        next(network.looked_at(images, "nose"))


def test_probabilities_are_the_softmax_in_float32(network: Network, images: NDArray[np.uint8]) -> None:
    got = network.probabilities(images)
    logits = torch.cat(list(network.logits(images))).double().numpy()
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert got.dtype is torch.float32
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-5, atol=1e-7)


def test_no_images_give_no_rows(network: Network, images: NDArray[np.uint8]) -> None:
    assert network.probabilities(images[:0]).shape == (0, 3)


def test_images_may_be_mapped_from_disk(network: Network, images: NDArray[np.uint8], tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    assert torch.equal(network.probabilities(mapped), network.probabilities(torch.from_numpy(images)))


def test_images_may_be_a_flipped_view(network: Network, images: NDArray[np.uint8]) -> None:
    flipped = images[..., ::-1]
    assert torch.equal(network.probabilities(flipped), network.probabilities(flipped.copy()))


def test_the_callers_code_between_batches_can_train(network: Network, images: NDArray[np.uint8]) -> None:
    """Neither inference mode nor its tensors leak out of the generator."""
    probe = torch.nn.Linear(network.model.head.in_features, 3)
    for batch in network.embeddings(images, 10):
        assert not torch.is_inference_mode_enabled()
        probe(batch).sum().backward()
    assert probe.weight.grad is not None


def test_metadata_is_plain_json(file: Path) -> None:
    """Another program can read it without this one."""
    raw = file.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert json.loads(header["__metadata__"]["json"])["classes"] == list(CLASSES)
