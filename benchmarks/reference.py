"""Train the network that comes with the program and put it in its place: `make reference DATA=path`.

With `--run RUN` a training that has finished is put there; what its weights say of the images is computed for each kept
epoch and stays in the run's folder, so that it can be begun (`--see`) while the run trains. `--readme` only brings the
README up to date, and `--strangeness` only what tells foreign pictures from the classes (`cifar_core.strangeness`).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import foreign
from benchmarks.driving import processor
from cifar_core import job, logits, reference, runs
from cifar_core.calibration import BINS, fitted_temperature, reliability
from cifar_core.compute import choose
from cifar_core.config import RECIPES, TrainConfig
from cifar_core.datasets import DataSet, open_dataset, prepare
from cifar_core.evaluation import Evaluation
from cifar_core.events import Boot, Changed, Inspected, Progress, Start, TaskProgress, Waiting, duration, size, to_line
from cifar_core.features import Mapping
from cifar_core.networks import PREFIX, load_network, load_tensors, save_tensors
from cifar_core.runs import Run
from cifar_core.strangeness import FALSE_ALARMS, Strangeness
from cifar_core.subsets import training_indices

ROOT = Path(__file__).resolve().parent.parent

SETTINGS: dict[str, Any] = {
    **RECIPES["best"].settings,
    "model": "airbench",
    "width": 1.25,
    "epochs": 66,
    "learning_rate": 0.12,
    "label_smoothing": 0.1,
    "crop_padding": 4,
    "policy": "trivialaugment",
    "policy_probability": 0.5,
    "cutout": 10,
    "early_share": 0.4,
    "validation_fraction": 0.02,
    # The logits of each epoch that is kept come with it, and all of it has to stay small.
    "keep_every": 6,
}
"""What the reference begins with."""

CHANGES: tuple[dict[str, Any], ...] = ({"epochs": 105, "policy_probability": 0.7}, {"epochs": 144}, {"epochs": 192})
"""What is changed each time it has finished, so that it goes on with larger steps again, at first on images that vary
more."""

DATA_NAME = "CIFAR-10, JPEG copy"

MOST_MOMENTS = 300
"""Signs of life between epochs that stay in its history."""

LOOK_EVERY = 2
"""Of so many epochs the weights and gradients of one stay in its history."""

SPARSE_AFTER = 120
"""Up to this epoch the logits of each whose weights were kept come with it, later those of every second one."""

MOST_STRANGENESS = 200_000
"""Bytes that may be taken by what is needed to tell how strange a picture is to it."""

DRAWN = 200
"""Foreign pictures of each kind that it is tried on."""

MAP = {"images": 2000, "perplexity": 30.0}
"""The map of the features that the page shows first."""


def trained(data: Path, runs_folder: Path, cache: Path) -> Run:
    """A new run with the settings of the reference, trained to its end in this process, then changed and trained on."""
    config = TrainConfig.from_values({**SETTINGS, "data": str(data.resolve())})
    images = open_dataset(data, cache)
    run = job.new_run(config, runs_folder.resolve(), cache)
    print(run.path, flush=True)
    _train(run, cache)
    for change in CHANGES:
        # Of a long run some of the weights are let go of.
        see(run, images)
        run.request("change", change)
        _train(run, cache)
    return run


def _train(run: Run, cache: Path) -> None:
    with run.held():
        for event in job.execute(run, cache):
            if hasattr(event, "validation_accuracy"):
                print(f"epoch {event.epoch}: validation accuracy {event.validation_accuracy:.2%}", flush=True)
    if run.state != "finished":
        raise SystemExit(f"The training has not finished: {run.last_end.message if run.last_end else run.state}")


# What it says of the images ------------------------------------------------------------------------------------------


def said(weights: Path, images: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(N, K) logits of a checkpoint."""
    network = load_network(weights, choose("auto", "float32").device)
    return torch.cat(list(network.logits(images))).numpy()


def parts(run: Run, data: DataSet, name: str) -> dict[str, tuple[Any, logits.Images]]:
    """The images of both splits that the network is asked about, and what is said of them.

    Args:
        name: Of the data set.
    """
    held_out = training_indices(run.config, data)[1]
    found = {}
    for split, stored, indices in (
        ("validation", data.train, held_out),
        ("test", data.test, np.arange(len(data.test.labels))),
    ):
        facts = {
            "run": run.id,
            "data": name,
            "fingerprint": data.info.fingerprint,
            "split": split,
            "split_images": len(indices),
        }
        labels = np.asarray(stored.labels[indices], np.int64)
        about = logits.Images(labels, np.asarray(indices, np.int64), data.info.classes, facts)
        found[split] = stored.images[indices], about
    return found


def see(run: Run, data: DataSet) -> None:
    """Let the weights of each kept epoch look at both splits, where that was not done before."""
    epochs = {int(name[6:]): path for name, path in run.checkpoints().items() if name.startswith("epoch-")}
    for split, (images, about) in parts(run, data, data.info.name).items():
        folder = run.logits(split)
        if not (folder / "images.npz").exists():
            logits.begin(folder, about)
        for epoch, weights in sorted(epochs.items()):
            if epoch not in logits.files(folder):
                logits.keep(folder, epoch, said(weights, images))
                print(f"epoch {epoch}: {split} images seen", flush=True)


# Putting it in its place ---------------------------------------------------------------------------------------------


def pack(
    run: Run, data: DataSet, cache: Path, stand_in: bool = False, checkpoint: str = "best", processors: str = ""
) -> Run:
    """Put a finished run where the reference is (`runs.REFERENCE`), small and without a trace of this machine.

    Args:
        data: The images it was trained on.
        stand_in: Whether it is only there until a better one is trained.
        checkpoint: The weights that are taken, chosen by the validation images (best) or beforehand (last).
        processors: Those it was trained on, where that is not this machine's alone.
    """
    if run.state != "finished":
        raise SystemExit(f"Run {run.id} is {run.state}; only a finished one can be the reference.")
    if run.start is None or run.start.data_fingerprint != data.info.fingerprint:
        raise SystemExit(f"Run {run.id} was not trained on {data.info.name}.")
    see(run, data)
    target = runs.REFERENCE
    aside = target.with_name(f".{target.name}.new")
    shutil.rmtree(aside, ignore_errors=True)
    (aside / "checkpoints").mkdir(parents=True)
    config = dataclasses.replace(run.config, data="")
    (aside / "config.json").write_text(config.to_json())
    (aside / "about.json").write_text(json.dumps({"note": "Comes with the program, to be read only"}))
    (aside / "events.jsonl").write_text("".join(history(run)))
    (aside / "data.json").write_text(reference.about_data(data.info, DATA_NAME))
    reference.save_pictures(aside / "pictures.npz", data.test)
    weights = aside / "checkpoints" / f"{checkpoint}.safetensors"
    epoch = save_weights(run, checkpoint, weights)
    for split, (images, about) in parts(Run(aside), data, DATA_NAME).items():
        folder = aside / "logits" / split
        logits.begin(folder, dataclasses.replace(about, facts={**about.facts, "run": target.name}))
        said_then = logits.files(run.logits(split))
        for kept in filter(comes_along, logits.files(run.logits("test"))):
            shutil.copyfile(said_then[kept], folder / said_then[kept].name)
        # Of the rounded weights, which are those that are there.
        logits.keep(folder, epoch, said(weights, images))
    (aside / "made.json").write_text(
        json.dumps(how(run, aside, epoch, stand_in, processors or processor()), indent=2) + "\n"
    )
    shutil.rmtree(target, ignore_errors=True)
    aside.rename(target)
    packed = Run(target)
    with tempfile.TemporaryDirectory() as scratch:
        results(packed, Path(scratch), data, cache, checkpoint, epoch)
    (target / "card.md").write_text(card(packed))
    total = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    print(f"{target}: {size(total)}", flush=True)
    return packed


def comes_along(epoch: int) -> bool:
    """Whether what the weights of an epoch say of the images is in the box, where all has to stay small."""
    every = SETTINGS["keep_every"]
    return epoch % every == 0 and (epoch <= SPARSE_AFTER or epoch % (2 * every) == 0)


def history(run: Run) -> Iterator[str]:
    """Its events as lines, with less of what happens within epochs and without this machine's name."""
    events = run.events()
    moments = [event for event in events if isinstance(event, Progress)]
    every = len(moments) // MOST_MOMENTS + 1
    kept = set(map(id, moments[::every]))
    for event in events:
        if isinstance(event, TaskProgress | Waiting) or (isinstance(event, Progress) and id(event) not in kept):
            continue
        if isinstance(event, Inspected) and event.epoch % LOOK_EVERY:
            continue
        if isinstance(event, Boot):
            event = dataclasses.replace(event, pid=0, host="")
        elif isinstance(event, Start):
            event = dataclasses.replace(event, data_name=DATA_NAME)
        yield to_line(event)


def save_weights(run: Run, checkpoint: str, path: Path) -> int:
    """Write the network alone, in half precision; gives the epoch it is of."""
    tensors, metadata = load_tensors(run.checkpoints()[checkpoint])
    kept = {name: tensor.half() if tensor.is_floating_point() else tensor
            for name, tensor in tensors.items() if name.startswith(PREFIX)}  # fmt: skip
    # What a fork goes on from.
    kept["sums"] = tensors["sums"]
    training = metadata["training"]
    training["config"] = {**training.get("config", {}), "data": ""}
    save_tensors(path, kept, {**metadata, "run": "reference", "checkpoint": checkpoint, "data_name": DATA_NAME})
    return int(metadata["epoch"])


def results(packed: Run, scratch: Path, data: DataSet, cache: Path, checkpoint: str, epoch: int) -> None:
    """Have the pages' first evaluation and map made, and keep them in its folder."""
    here = Run(packed.path, scratch)
    evaluation = logits.read(packed.logits("test")).at(epoch)
    facts = {**evaluation.facts, "checkpoint": checkpoint, "epoch": float(epoch)}
    folder, _ = job.evaluation_task(here, checkpoint, data.info)
    kept = packed.path / "tasks" / folder.path.name
    kept.mkdir(parents=True)
    dataclasses.replace(evaluation, facts=facts).save(kept / "evaluation.npz")
    images = min(int(MAP["images"]), len(data.test.labels))
    how = Mapping(images, min(MAP["perplexity"], (images - 1) / 3))
    folder, task = job.map_task(here, checkpoint, data.info, how)
    with folder.held():
        runs.write_whole(folder.path / "task.json", json.dumps(task).encode())
        for _ in job.execute_task(folder, cache):
            pass
    kept = packed.path / "tasks" / folder.path.name
    kept.mkdir()
    with np.load(folder.path / "map.npz") as file:
        arrays = dict(file)
    arrays["facts"] = np.array(json.dumps({**json.loads(str(arrays["facts"])), "data": DATA_NAME}))
    np.savez_compressed(kept / "map.npz", **arrays)
    strangeness(packed, scratch, data, cache, checkpoint)


def strangeness(packed: Run, scratch: Path, data: DataSet, cache: Path, checkpoint: str) -> None:
    """Have it found out what is strange to the network, and keep that in its folder, so that no image is needed."""
    for old in packed.path.glob("tasks/strangeness-*"):
        shutil.rmtree(old)
    folder, task = job.strangeness_task(Run(packed.path, scratch), checkpoint, data.info)
    with folder.held():
        runs.write_whole(folder.path / "task.json", json.dumps(task).encode())
        for _ in job.execute_task(folder, cache):
            pass
    found = Strangeness.load(folder.path / "strangeness.npz")
    kept = packed.path / "tasks" / folder.path.name
    kept.mkdir()
    network = load_network(packed.checkpoints()[checkpoint])
    shares = {
        name: float(found.foreign(found.measure(network, foreign.drawn(name, kind, DRAWN))).mean())
        for name, kind in foreign.UNSEEN.items()
    }
    detected = {"images": DRAWN, "shares": shares}
    found = dataclasses.replace(found, facts={**found.facts, "data": DATA_NAME, "detected": detected})
    content = found.content()
    if len(content) > MOST_STRANGENESS:
        raise SystemExit(
            f"What is strange to this network takes {size(len(content))}, and may take {size(MOST_STRANGENESS)}."
        )
    (kept / "strangeness.npz").write_bytes(content)


def how(run: Run, aside: Path, epoch: int, stand_in: bool, processors: str) -> dict[str, Any]:
    """How it was made, on what, and the temperature that fits its validation images best."""
    there = logits.read(aside / "logits" / "validation")
    values = there.values[there.epochs == epoch][0]
    return {
        "stand_in": stand_in,
        "seconds": run.epochs[-1].seconds,
        "machine": f"{processors}, {os.cpu_count()} cores",
        "versions": run.start.versions if run.start else {},
        "temperature": round(fitted_temperature(values, there.images.labels), 3),
        "parameters": run.start.parameters if run.start else 0,
    }


# Its model card ------------------------------------------------------------------------------------------------------


STAND_IN = (
    "**A stand-in**: a small network trained for a moment, until the reference is trained. Its figures are real, but "
    "of that network."
)


def card(run: Run) -> str:
    """The model card, in Markdown, from the files of the reference run alone."""
    about, start, config = reference.made(run.path), run.start, run.settings
    (result,) = run.path.glob("tasks/evaluate-*/evaluation.npz")
    (strange,) = run.path.glob("tasks/strangeness-*/strangeness.npz")
    known = Strangeness.load(strange)
    detected = known.facts["detected"]
    kinds = ", ".join(f"{name} {share:.1%}" for name, share in detected["shares"].items())
    evaluation = Evaluation.load(result)
    if start is None:
        raise ValueError("The reference run has no start.")
    low, high = evaluation.accuracy_interval()
    facts = evaluation.facts
    report, pairs = evaluation.report(), evaluation.most_confused(2)
    best, worst = report["recall"].idxmax(), report["recall"].idxmin()
    off = reliability(evaluation.confidences, evaluation.correct).ece
    sure = float(evaluation.confidences.mean())
    bent = "less" if sure < evaluation.accuracy else "more"
    confused = " and ".join(f"{row.true} taken for {row.predicted} ({row.images})" for row in pairs.itertuples())
    weights = run.checkpoints()[facts["checkpoint"]]
    seconds, temperature = float(str(about["seconds"])), float(str(about["temperature"]))
    versions = dict(about["versions"])  # type: ignore[call-overload]
    chosen = "the best on the validation images" if facts["checkpoint"] == "best" else "the last one"
    lines = [
        *([STAND_IN, ""] if about["stand_in"] else []),
        "| | |",
        "| --- | --- |",
        f"| Network | `{config.model}`, width {config.width:g}, {start.parameters:,} parameters; "
        f"{size(weights.stat().st_size)} in half precision |",
        f"| Answers with | {', '.join(start.classes)} |",
        f"| Data | {facts['data']}: {start.train_images:,} training images, {start.validation_images:,} validation "
        f"images held out of the training split, {len(evaluation):,} test images |",
        f"| Training | {config.epochs} epochs in {duration(seconds)} on {about['machine']}, "
        f"{start.precision}, torch {versions.get('torch', '?')}; weights after epoch {facts['epoch']:g}, {chosen} |",
        f"| Recipe | {recipe(run.config)} |",
        *(f"| Changed | after epoch {change.epoch:g}: {changed(change)} |" for change in run.changes),
        f"| Test accuracy | {evaluation.accuracy:.2%} of {len(evaluation):,} test images in a single view, 95 % "
        f"interval {low:.2%} to {high:.2%} (Wilson) |",
        f"| Calibration | expected calibration error {off:.3f} ({BINS} bins); mean confidence "
        f"{sure:.1%}, so it is {bent} sure than it is right; temperature {temperature:.2f}, fitted on the validation "
        "images |",
        f"| Best and worst class | {best} (recall {report.loc[best, 'recall']:.1%}), {worst} (recall "
        f"{report.loc[worst, 'recall']:.1%}); most often {confused} |",
        f"| Foreign pictures | {known.false_alarms:.2%} of {known.facts['test_images']:,} test images are called "
        f"unlike anything it was trained on by mistake (set on {known.facts['validation_images']:,} validation "
        f"images for at most {FALSE_ALARMS:.0%}); of {detected['images']} pictures drawn by code of each kind, "
        f"rightly: {kinds} |",
        "",
        "**Data.** The images are a copy of CIFAR-10 that was saved as JPEG (quality 75, 4:2:0 chroma), with the "
        "splits and labels of the original. Its pixels are not the original ones, and accuracies come out lower than "
        "published ones: compare only figures measured on the same images. No image is in the repository.",
        "",
        "**Limits.** It knows ten classes and 32×32 pixels, and calls whatever else it is shown one of the ten, "
        "sometimes with much confidence, unless it is so unlike them that it is called foreign. Photos are cut to a "
        "square and made that small. The epoch of its weights was chosen without the test images. It is for learning "
        "and for trying out, not for decisions about people or things.",
        "",
        "**Licence.** The weights are under the MIT licence, as the program is. CIFAR-10 is by Krizhevsky, Nair and "
        "Hinton, who state no licence for the images.",
        "",
    ]
    return "\n".join(lines)


def recipe(config: TrainConfig) -> str:
    """The settings that matter most, in a line."""
    said = [
        f"{config.optimizer}, learning rate {config.learning_rate:g} ({config.schedule})",
        f"batches of {config.batch_size}",
        f"label smoothing {config.label_smoothing:g}" if config.label_smoothing else "",
        f"running average of the weights {config.ema:g}" if config.ema else "",
        f"flips {config.flip:g} ({config.flip_mode})" if config.flip else "",
        f"shifts of {config.crop_padding} pixels (border: {config.crop_padding_mode})" if config.crop_padding else "",
        f"{config.policy} for {config.policy_probability:.0%} of the images" if config.policy != "none" else "",
        f"cutout {config.cutout}" if config.cutout else "",
        f"images of {config.early_size} pixels in the first {config.early_share:.0%}" if config.early_size else "",
        f"seed {config.seed}",
    ]
    return ", ".join(filter(None, said))


def changed(change: Changed) -> str:
    """What was changed while it trained, each setting with its values before and after."""
    return ", ".join(
        f"{name.replace('_', ' ')} {change.before[name]:g} to {value:g}" for name, value in change.values.items()
    )


MARKED = re.compile(r"(<!-- reference -->\n).*?(<!-- /reference -->)", flags=re.DOTALL)


def write_readme(path: Path = ROOT / "README.md") -> None:
    """Put the model card into the README."""
    text = (runs.REFERENCE / "card.md").read_text()
    path.write_text(MARKED.sub(lambda match: f"{match[1]}{text}{match[2]}", path.read_text()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="CIFAR-10: the images it is trained and tested on")
    parser.add_argument("--run", type=Path, help="the folder of a finished run; left out, one is trained")
    parser.add_argument("--checkpoint", choices=("best", "last"), default="last")
    parser.add_argument(
        "--processors", default="", help="what --run was trained on, where that is not this machine alone"
    )
    parser.add_argument("--stand-in", action="store_true", help="say in the card that a better one is to come")
    parser.add_argument("--strangeness", action="store_true", help="only find out anew what is strange to the one here")
    parser.add_argument("--see", action="store_true", help="only let kept weights of --run look at the images")
    parser.add_argument("--readme", action="store_true", help="only bring the README's model card up to date")
    parser.add_argument("--runs", type=Path, default=job.RUNS)
    parser.add_argument("--cache", type=Path, default=job.CACHE)
    options = parser.parse_args()
    if not options.readme:
        if options.data is None:
            parser.error("--data PATH names the images.")
        for _ in prepare(options.data, options.cache):
            pass
        data = open_dataset(options.data, options.cache)
        if options.strangeness:
            packed = Run(runs.REFERENCE)
            with tempfile.TemporaryDirectory() as scratch:
                strangeness(packed, Path(scratch), data, options.cache, next(iter(packed.checkpoints())))
            (packed.path / "card.md").write_text(card(packed))
            write_readme()
            return
        run = Run(options.run.resolve()) if options.run else trained(options.data, options.runs, options.cache)
        if options.see:
            see(run, data)
            return
        pack(run, data, options.cache, options.stand_in, options.checkpoint, options.processors)
    write_readme()


if __name__ == "__main__":
    main()
