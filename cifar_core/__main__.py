"""The command line, `python -m cifar_core COMMAND`: the same engine as the pages."""

from __future__ import annotations

import argparse
import dataclasses
import errno
import io
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from cifar_core import job, queues, series
from cifar_core.config import FIELD_TYPES, FIELDS, RECIPES, TrainConfig
from cifar_core.events import (
    Changed,
    End,
    Epoch,
    Event,
    Notice,
    Progress,
    Refused,
    Start,
    TaskProgress,
    Waiting,
    done_of,
    duration,
    size,
)
from cifar_core.runs import REFERENCE, Held, Run, RunError, WorkFolder, find_run, list_runs, repeat_run

if TYPE_CHECKING:
    from cifar_core.distributed import Team

RUN_KEY, DONE_KEY = "cifar_core/run", "cifar_core/done"
"""Under which torchrun remembers the run of its processes, and that it is done."""

ANSWER_SECONDS = 30.0
"""How long a stop, pause or resume waits for the worker's answer: a long training step may come first."""

ACTIONS = ("rename", "note", "star", "unstar", "archive", "unarchive", "delete", *queues.MOVES)
"""What `runs` can do with one."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        The exit code: 0 done, 1 it could not be done (one sentence on standard error), 2 the command is not understood.
    """
    job.share_cores()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Names of classes and files may hold what the console's encoding has no sign for.
            stream.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _unread()
        return 1
    except OSError as error:
        return _refused(options, _told(error))
    except (ValueError, RuntimeError, ArithmeticError) as error:
        return _refused(options, str(error))


def _refused(options: argparse.Namespace, sentence: str) -> int:
    if options.json:
        print(json.dumps({"error": sentence}))
    print(sentence, file=sys.stderr)
    return 1


def _told(error: OSError) -> str:
    what = error.filename or "a file that is needed"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk is full: {what} could not be written; free some space and try again."
    return f"{error.strerror}: {what}." if error.strerror else str(error)


def _unread() -> None:
    """Send standard output nowhere from now on, as nobody reads it any more, such as `head` after its first line."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _tell(line: str) -> None:
    """Print a line of a training, which goes on whether or not it is read."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        _unread()


class _Parser(argparse.ArgumentParser):
    """Answers what is not understood with a sentence; all there is to give would fill a screen."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{message[:1].upper()}{message[1:]}; {self.prog} --help lists what can be given.\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m cifar_core", description="Explore CIFAR-10, train networks on it and see what they do."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    data = _command(commands, "data", _data, "Read a data set into the cache and say what is in it.")
    data.add_argument(
        "--data",
        metavar="PATH",
        help="CIFAR-10 batches or archive, Parquet files, a folder of images, or cartoon10: pictures drawn by code",
    )
    data.add_argument("--download", action="store_true", help="fetch the original CIFAR-10 (170 MB)")

    train = _command(commands, "train", _train, "Train a network; Ctrl-C stops it and keeps the weights.")
    train.add_argument("--runs", type=Path, default=job.RUNS, metavar="DIR", help="where runs are kept (default: runs)")
    begun = train.add_mutually_exclusive_group()
    begun.add_argument("--run", metavar="RUN", help="go on with this run, as it is set, instead of beginning one")
    begun.add_argument(
        "--fork",
        metavar="RUN",
        help="begin with the weights and settings of this run; options given change single ones",
    )
    _add_checkpoint(train, "of the fork: last (the default), best, or others kept, such as epoch-10")
    train.add_argument("--recipe", choices=RECIPES, help="start from these settings; options given change single ones")
    several = train.add_mutually_exclusive_group()
    several.add_argument(
        "--repeats", type=int, metavar="N", help="train N times, with seeds that count up; says mean and deviation"
    )
    several.add_argument(
        "--cross-validate", type=int, metavar="K", help="train K times, on each of K folds; says mean and deviation"
    )
    for name, field in FIELDS.items():
        _add_setting(train, name, field.metadata, field.default)

    ranging = _command(
        commands, "range-test", _range_test, "Find a learning rate: train a copy for some steps at ever higher rates."
    )
    ranging.add_argument("--recipe", choices=RECIPES, help="as for train")
    for name, field in FIELDS.items():
        _add_setting(ranging, name, field.metadata, field.default)

    repeat = _command(commands, "repeat", _repeat, "Train again as a run was trained, with the same changes.")
    _add_run(repeat)

    evaluate = _command(commands, "evaluate", _evaluate, "Measure a run on the test split.")
    _add_run(evaluate)
    evaluate.add_argument("--data", metavar="PATH", help="the data set (default: the one the run was trained on)")
    _add_checkpoint(evaluate)

    report = _command(
        commands, "report", _write_report, "Write a report of a run, or of several beside each other, as one HTML file."
    )
    report.add_argument("run", nargs="+", metavar="RUN", help="a run's folder or id; several are compared")
    report.add_argument(
        "--runs", type=Path, default=job.RUNS, metavar="DIR", help="where runs are kept (default: runs)"
    )
    report.add_argument(
        "--output", type=Path, default=Path("report.html"), metavar="FILE", help="the file (default: report.html)"
    )

    predict = _command(commands, "predict", _predict, "Classify a photo.")
    _add_run(predict)
    predict.add_argument("photo", type=Path, metavar="PHOTO", help="a PNG, JPEG or WebP file")
    predict.add_argument("--heatmap", type=Path, metavar="OUT.png", help="write the photo with its Grad-CAM heat map")
    _add_checkpoint(predict)

    for name, command, says in (
        ("stop", _stop, "Stop a run and keep its weights."),
        ("pause", _pause, "Pause a run; it keeps its place on the device."),
        ("resume", _resume, "Go on with a run that is paused, stopped or was interrupted, or finished, with --epochs."),
        ("change", _change, "Change settings of a run while it trains."),
        ("save", _save, "Keep the present weights of a run that trains, to go back to or to fork from."),
    ):
        of_a_run = _command(commands, name, command, says)
        _add_run(of_a_run)
        if name in ("resume", "change"):
            for setting, field in FIELDS.items():
                if field.metadata["live"]:
                    _add_setting(of_a_run, setting, field.metadata, "what is in force")

    runs = _command(
        commands, "runs", _runs, "List the runs; name, star, archive or delete one, or move it in its queue."
    )
    runs.add_argument(
        "action", nargs="?", default="list", choices=("list", *ACTIONS), help="what to do (default: list)"
    )
    runs.add_argument("run", nargs="?", metavar="RUN", help="a run's folder or id")
    runs.add_argument("words", nargs="*", metavar="WORD", help="the name of rename, the text of note; none removes it")
    runs.add_argument("--runs", type=Path, default=job.RUNS, metavar="DIR", help="where runs are kept (default: runs)")
    runs.add_argument("--all", action="store_true", help="list archived runs too")
    runs.add_argument("--yes", action="store_true", help="delete without asking")
    return parser


def _command(commands: Any, name: str, command: Any, says: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=says, description=says)
    parser.set_defaults(command=command)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument(
        "--cache",
        type=Path,
        default=job.CACHE,
        metavar="DIR",
        help="where decoded images are kept (default: data/cache)",
    )
    return parser


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run's folder or id")
    parser.add_argument(
        "--runs", type=Path, default=job.RUNS, metavar="DIR", help="where runs are kept (default: runs)"
    )


def _add_checkpoint(
    parser: argparse.ArgumentParser,
    which: str = "best (by validation accuracy, the default), last, or others kept, such as epoch-10",
) -> None:
    parser.add_argument("--checkpoint", metavar="NAME", help=f"which weights: {which}")


def _add_setting(parser: argparse.ArgumentParser, name: str, metadata: Any, default: Any) -> None:
    flag = "--" + name.replace("_", "-")
    plain, _ = FIELD_TYPES[name]
    limits = [
        f"{word} {metadata[key]}"
        for word, key in (("at least", "low"), ("at most", "high"))
        if metadata[key] is not None
    ]
    usual = f"default {'none' if default == '' else default}"
    facts = ", ".join([*limits, *([metadata["unit"]] if metadata["unit"] else []), usual])
    says = f"{metadata['help']} ({facts})".replace("%", "%%")
    if plain is bool:
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=says)
    else:
        # Choices are checked by TrainConfig, whose sentences are the same everywhere.
        parser.add_argument(flag, type=plain, default=argparse.SUPPRESS, help=says, metavar=plain.__name__.upper())


def _find(options: argparse.Namespace) -> Run:
    return _named(options.run, options.runs)


def _named(said: str, runs: Path) -> Run:
    path, name = Path(said), said.rstrip("/")
    if Run(path.resolve()).read_only or (name == REFERENCE.name and not path.exists()):
        return find_run(REFERENCE.name, runs.resolve())
    if (path / "config.json").exists():
        return Run(path.resolve())
    if "/" in name:
        raise RunError(f"There is no run in {path}.")
    return find_run(name, runs)


def _show_progress(steps: Iterator[Any], quiet: bool) -> None:
    """Run to the end; on a terminal, one line that changes."""
    shown = 0.0
    live = sys.stderr.isatty() and not quiet
    for step in steps:
        if live and (time.monotonic() - shown > 0.2 or step.done >= step.total):
            print(f"\r{step.what}: {done_of(step.done, step.total, step.unit)}\x1b[K", end="", file=sys.stderr)
            shown = time.monotonic()
    if live and shown:
        print("\r\x1b[K", end="", file=sys.stderr)


def _data(options: argparse.Namespace) -> int:
    from cifar_core.datasets import open_dataset, prepare
    from cifar_core.sources import absolute, download

    if not options.download and not options.data:
        raise ValueError("Name a data set with --data PATH, or fetch the original with --download.")
    if options.download:
        folder = Path(options.data) if options.data else job.DOWNLOADS
        _show_progress(download(folder), options.json)
        options.data = str(folder / "cifar-10-python.tar.gz")
    options.data = absolute(options.data)
    _show_progress(prepare(options.data, options.cache), options.json)
    info = open_dataset(options.data, options.cache).info
    if options.json:
        print(
            json.dumps(
                {
                    "id": info.id,
                    "name": info.name,
                    "source": info.source,
                    "fingerprint": info.fingerprint,
                    "classes": list(info.classes),
                    "train_counts": list(info.train_counts),
                    "test_counts": list(info.test_counts),
                    "mean": list(info.mean),
                    "std": list(info.std),
                    "left_out": info.left_out,
                }
            )
        )
        return 0
    print(f"{info.name}\n  from {info.source}")
    print(f"  {info.train_images:,} training and {info.test_images:,} test images, {len(info.classes)} classes")
    print(f"  mean {_triple(info.mean)}, standard deviation {_triple(info.std)} of the training pixels in [0, 1]")
    wide = max(map(len, info.classes))
    for name, train, test in zip(info.classes, info.train_counts, info.test_counts, strict=True):
        print(f"  {name:{wide}}  {train:7,} {test:7,}")
    if info.left_out:
        print(f"  {info.left_out}")
    return 0


def _triple(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:.4f}" for value in values) + ")"


def _asked(options: argparse.Namespace) -> TrainConfig:
    """The settings of the recipe and the options."""
    from cifar_core.datasets import cached
    from cifar_core.sources import DRAWN, DRAWN_NAME, absolute

    given = {name: value for name, value in vars(options).items() if name in FIELDS}
    values = {**(RECIPES[options.recipe].settings if options.recipe else {}), **given}
    named = values.get("data")
    drawn = not named and all(info.kind == "drawn" for info in cached(options.cache))
    if named or drawn:
        values["data"] = absolute(named) if named else DRAWN
    config = TrainConfig.from_values(values)
    if drawn:
        print(f"No data set is named and none is there: this is on {DRAWN_NAME}.", file=sys.stderr)
    return config


def _train(options: argparse.Namespace) -> int:
    if options.repeats is not None or options.cross_validate is not None:
        if options.run or "WORLD_SIZE" in os.environ:
            raise ValueError("Repeats and cross-validation make runs of their own, in one process; start them alone.")
        return _train_series(options)
    # What torchrun tells the processes it starts, and other launchers too.
    if "WORLD_SIZE" in os.environ:
        return _train_together(options)
    run = _asked_run(options)
    if not options.json:
        _tell(str(run.path))
    return _follow(run, options)


def _train_together(options: argparse.Namespace) -> int:
    """Train as one of several processes; the first keeps the run, and finds it again when torchrun starts all anew."""
    from cifar_core.distributed import joined, memory

    with joined(os.environ) as team:
        if not team.leads:
            # The leader is asked likewise, and says when all stop.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            options.json = False
            job.follow(team, options.cache)
            return 0
        remembered = memory(os.environ)
        if remembered and remembered.check([DONE_KEY]):
            # Another process was lost on its way out.
            job.dismiss(team)
            return 0
        if remembered and remembered.check([RUN_KEY]):
            run = Run(Path(remembered.get(RUN_KEY).decode()))
        else:
            try:
                run = _asked_run(options)
            except ValueError:
                job.dismiss(team)
                raise
        if remembered:
            remembered.set(RUN_KEY, str(run.path))
        run.withdraw("stop")
        if not options.json:
            _tell(str(run.path))
        code = _follow(run, options, team)
        if code:
            # At once: the others may be waiting for their gradients.
            sys.exit(code)
        # Told to end by torchrun, it may be started again, with other processes.
        if remembered and not job.was_stopped_by_signal(run):
            remembered.set(DONE_KEY, "")
        return 0


def _asked_run(options: argparse.Namespace) -> Run:
    """The run to go on with, or a new one.

    Raises:
        ValueError: There is no such run, or none can be made with these settings.
    """
    if options.fork:
        return _fork(options)
    if not options.run:
        if options.checkpoint:
            raise ValueError("--checkpoint names the weights of a fork; leave it out, or add --fork.")
        return job.new_run(_asked(options), options.runs.resolve(), options.cache)
    given = [name for name in ("recipe", *FIELDS) if getattr(options, name, None) is not None]
    if given:
        raise ValueError(f"--run goes on with a run as it is set; leave out --{given[0].replace('_', '-')}.")
    if options.checkpoint:
        raise ValueError("--checkpoint names the weights of a fork; leave it out, or add --fork.")
    run = _find(options)
    if run.state == "finished":
        raise RunError(f"Run {run.id} has finished; there is nothing to go on with.")
    if run.alive:
        raise RunError(f"Run {run.id} is {run.state} already.")
    for request in ("stop", "pause"):
        run.withdraw(request)
    return run


def _fork(options: argparse.Namespace) -> Run:
    """A new run that begins with the weights and settings of another one."""
    from cifar_core.sources import absolute

    if options.recipe:
        raise ValueError("A fork begins with the settings of its parent; leave out --recipe.")
    parent = _named(options.fork, options.runs)
    given = {name: value for name, value in vars(options).items() if name in FIELDS}
    given["data"] = absolute(given["data"]) if given.get("data") else job.images_of(parent, options.cache)
    checkpoint = _checkpoint(parent, options.checkpoint or "last")
    config = TrainConfig.from_values({**dataclasses.asdict(parent.settings_of(checkpoint)), **given})
    if parent.read_only:
        from cifar_core.datasets import prepare

        # Whether they are its parent's own images, of which it may hold out no others, is known once they are read.
        _show_progress(prepare(config.data, options.cache), options.json)
    return job.new_run(config, options.runs.resolve(), options.cache, parent=parent, checkpoint=checkpoint)


def _repeat(options: argparse.Namespace) -> int:
    run = _find(options)
    again = repeat_run(run, options.runs.resolve(), job.images_of(run, options.cache))
    if not options.json:
        _tell(str(again.path))
    return _follow(again, options)


def _train_series(options: argparse.Namespace) -> int:
    """Train one run after the other; one that fails keeps none of the others, a stop ends them all."""
    kind, count = ("seeds", options.repeats) if options.repeats is not None else ("folds", options.cross_validate)
    runs = job.new_series(_asked(options), kind, count, options.runs.resolve(), options.cache)
    ends: list[End | None] = []
    for run in runs:
        if not options.json:
            _tell(str(run.path))
        ends.append(end := _work(run, options))
        if end is None or end.outcome == "failed":
            print(f"Run {run.id}: {_message(end)}", file=sys.stderr)
        elif end.outcome == "stopped":
            _call_off(runs[len(ends) :])
            if not options.json:
                _tell("To go on with the series, do these one after the other:")
                for left in runs[len(ends) - 1 :]:
                    _tell(f"  python -m cifar_core train --run {left.id} --runs {left.path.parent}")
            break
    known = series.series_of(runs[0])
    assert known
    found = series.summary(known, runs)
    if options.json:
        spreads = {name: dataclasses.asdict(getattr(found, name)) for name in ("best", "last")}
        results = [_result(run, _message(end)) for run, end in zip(runs, ends, strict=False)]
        print(json.dumps({"series": known.id, "kind": kind, **dataclasses.asdict(found), **spreads, "runs": results}))
    else:
        _tell(f"{found.finished} of {found.count} runs have finished.")
        for name, said in (("best epoch", found.best), ("last epoch", found.last)):
            if said.mean is not None:
                deviation = "" if said.deviation is None else f", standard deviation {said.deviation:.2%}"
                _tell(f"validation accuracy, {name}: mean {said.mean:.2%}{deviation}")
    return 0 if all(end and end.outcome != "failed" for end in ends) else 1


def _call_off(runs: Sequence[Run]) -> None:
    """Say of runs that were to come that they will not by themselves."""
    for run in runs:
        with suppress(RunError, OSError), run.held():
            run.append(End(outcome="stopped", message="Stopped before it began, with its series."))


def _follow(run: Run, options: argparse.Namespace, team: Team | None = None) -> int:
    """Work on the run in this process and say how it went."""
    end = _work(run, options, team)
    done = end is not None and end.outcome in ("finished", "stopped")
    if options.json:
        print(json.dumps(_result(run, _message(end))))
    elif not done:
        print(_message(end), file=sys.stderr)
    return 0 if done else 1


def _work(run: Run, options: argparse.Namespace, team: Team | None = None) -> End | None:
    """Work on the run in this process and say how it goes."""
    end: End | None = None
    job.stop_on_signals(run)
    with run.held():
        for event in job.execute(run, options.cache, team):
            if not options.json:
                _say(event, run.config.epochs)
            if isinstance(event, End):
                end = event
    return end


def _message(end: End | None) -> str:
    return end.message if end else "The run ended without a word."


def _result(run: Run, message: str) -> dict[str, Any]:
    last, best = (run.epochs[-1] if run.epochs else None), run.best
    return {
        "run": str(run.path),
        "state": run.state,
        "message": message,
        "epochs": len(run.epochs),
        "train_loss": last and last.train_loss,
        "validation_loss": last and last.validation_loss,
        "validation_accuracy": last and last.validation_accuracy,
        "best_epoch": best and best.epoch,
        "best_validation_accuracy": best and best.validation_accuracy,
        "images_per_second": last and last.images_per_second,
        "seconds": last and last.seconds,
    }


def _say(event: Event, epochs: int) -> None:
    match event:
        case Waiting():
            _tell(f"Waiting for the {event.device}, which another run uses.")
        case Start():
            _tell(event.compute_reason)
            if event.processes > 1:
                _tell(f"{event.processes} processes train together.")
            _tell(
                f"{event.data_name}: {event.train_images:,} training, {event.validation_images:,} validation images. "
                f"{event.parameters:,} parameters."
            )
        case Epoch():
            _tell(
                f"epoch {event.epoch}/{epochs}  training loss {event.train_loss:.4f} acc {event.train_accuracy:.2%}  "
                f"validation loss {event.validation_loss:.4f} acc {event.validation_accuracy:.2%}"
                f"{' *' if event.best else '  '}  {event.images_per_second:,.0f} images/s  "
                f"{duration(event.seconds_left)} left"
            )
        case Progress() | TaskProgress() if sys.stderr.isatty():
            if isinstance(event, Progress):
                print(f"\r{event.phase}, epoch {event.epoch:.2f} of {epochs}\x1b[K\r", end="", file=sys.stderr)
            else:
                print(
                    f"\r{event.what}: {done_of(event.done, event.total, event.unit)}\x1b[K\r", end="", file=sys.stderr
                )
        case Changed() if event.reason:
            _tell(event.reason)
        case Notice():
            _tell(event.message)
        case End() if event.outcome != "failed":
            _tell(event.message)


def _checkpoint(run: Run, name: str | None) -> str:
    there = run.checkpoints()
    if not there:
        raise RunError(f"Run {run.id} has no weights yet; its first epoch must end, or be stopped, first.")
    if name and name not in there:
        raise RunError(f"Run {run.id} has no {name} checkpoint; it has {', '.join(there)}.")
    return name or next(iter(there))


def _evaluate(options: argparse.Namespace) -> int:
    from cifar_core.datasets import open_dataset, prepare
    from cifar_core.evaluation import Evaluation
    from cifar_core.reference import known_data
    from cifar_core.sources import absolute

    run = _find(options)
    checkpoint = _checkpoint(run, options.checkpoint)
    source = options.data or run.config.data
    if source:
        source = absolute(source)
        _show_progress(prepare(source, options.cache), options.json)
        info = open_dataset(source, options.cache).info
    else:
        # Of the reference run, whose evaluation comes with it.
        info = known_data(run.path)
    try:
        folder, task = job.evaluation_task(run, checkpoint, info)
        result = folder.path / "evaluation.npz"
        if not result.exists():
            _do(folder, task, options)
        evaluation = Evaluation.load(result)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        # A run that may only be read, such as somebody else's, is measured all the same.
        with tempfile.TemporaryDirectory() as aside:
            _do(WorkFolder(Path(aside)), job.evaluation_work(run, checkpoint, info), options)
            evaluation = Evaluation.load(Path(aside) / "evaluation.npz")
    if options.json:
        print(json.dumps(evaluation.summary()))
        return 0
    macro = evaluation.macro()
    low, high = evaluation.accuracy_interval()
    print(f"run {run.id}, {checkpoint} checkpoint (epoch {evaluation.facts['epoch']:g})")
    print(f"{len(evaluation.labels):,} test images of {info.name}: {evaluation.scope()}")
    print(f"accuracy {evaluation.accuracy:.4f} (95 % interval {low:.4f} to {high:.4f})")
    print(f"macro precision {macro['precision']:.4f}, recall {macro['recall']:.4f}, F1 {macro['f1']:.4f}\n")
    print(evaluation.report().to_string(float_format=lambda value: f"{value:.4f}"))
    print("\nConfusion matrix: a row is a true class, a column a predicted one.")
    wide = max(*(len(name) for name in evaluation.classes), 5)
    print(" " * wide, *(f"{name[:6]:>6}" for name in evaluation.classes))
    for name, row in zip(evaluation.classes, evaluation.confusion(), strict=True):
        print(f"{name:>{wide}}", *(f"{count:6d}" for count in row))
    return 0


def _do(folder: WorkFolder, task: dict[str, Any], options: argparse.Namespace) -> None:
    """Do a task in this process, or wait for the process that already does it."""
    from cifar_core.runs import write_whole

    folder.path.mkdir(parents=True, exist_ok=True)
    try:
        with folder.held():
            folder.withdraw("stop")
            write_whole(folder.path / "task.json", json.dumps(task, indent=2).encode())
            events = job.execute_task(folder, options.cache)
            _show_progress((event for event in events if isinstance(event, TaskProgress)), options.json)
    except Held:
        while folder.alive:
            time.sleep(job.POLL_SECONDS)
    end = folder.last_end
    if end is None or end.outcome != "finished":
        raise RunError(end.message if end else "The work was interrupted; try again.")


def _range_test(options: argparse.Namespace) -> int:
    from cifar_core.datasets import open_dataset, prepare
    from cifar_core.suggestions import suggestions, tried

    config = _asked(options)
    if not config.data:
        raise ValueError(job.NO_DATA)
    _show_progress(prepare(config.data, options.cache), options.json)
    info = open_dataset(config.data, options.cache).info
    folder, task = job.range_task(config, options.cache.parent, info)
    if folder.state != "finished":
        _do(folder, task, options)
    points = tried(folder.events())
    found = suggestions(points, config.optimizer == "muon" and config.fixed_norm)
    if options.json:
        curve = [[point.learning_rate, point.loss, point.smoothed] for point in points]
        print(json.dumps({"suggestions": {one.name: one.learning_rate for one in found}, "points": curve}))
        return 0
    print(f"{len(points)} steps with {config.optimizer}; the weights were thrown away.")
    for one in found:
        rate = "none" if one.learning_rate is None else f"{one.learning_rate:g}"
        print(f"{one.name:9} {rate:>8}  {one.sentence}")
    return 0


def _write_report(options: argparse.Namespace) -> int:
    from cifar_core.reporting import report
    from cifar_core.runs import write_whole

    runs = [_named(name, options.runs) for name in options.run]
    content = report(runs).encode()
    try:
        write_whole(options.output, content)
    except OSError as error:
        raise ValueError(f"{options.output} cannot be written: {error.strerror}.") from None
    if options.json:
        print(json.dumps({"report": str(options.output), "runs": [run.id for run in runs], "bytes": len(content)}))
    else:
        print(f"{options.output}, {size(len(content))}; open it in a browser.")
    return 0


def _predict(options: argparse.Namespace) -> int:
    import torch

    from cifar_core import logits
    from cifar_core.compute import choose
    from cifar_core.evaluation import softmax
    from cifar_core.explain import grad_cam, overlay
    from cifar_core.networks import load_network
    from cifar_core.photos import read_photo, square, to_input

    run = _find(options)
    checkpoint = _checkpoint(run, options.checkpoint)
    try:
        photo = read_photo(options.photo.read_bytes(), options.photo.name)
    except OSError as error:
        raise ValueError(f"{options.photo} cannot be read: {error.strerror}.") from None
    network = load_network(run.checkpoints()[checkpoint], choose("auto", "float32").device)
    pixels = to_input(photo)[None]
    temperature = logits.temperature(run.logits("validation"), float(network.metadata["epoch"]))
    probabilities = softmax(next(network.logits(pixels)).numpy(), temperature.value)[0]
    order = probabilities.argsort()[::-1].tolist()
    strange = _strange(run, checkpoint, network, pixels)
    written = None
    if options.heatmap:
        images = network.normalise(torch.from_numpy(pixels))
        heat = grad_cam(network.model, images, torch.tensor([order[0]], device=network.device))[0]
        try:
            overlay(square(photo), heat.cpu().numpy(), opacity=0.6).save(options.heatmap, format="PNG")
        except OSError as error:
            raise ValueError(f"{options.heatmap} cannot be written: {error.strerror}.") from None
        written = str(options.heatmap)
    if options.json:
        print(
            json.dumps(
                {
                    "run": run.id,
                    "checkpoint": checkpoint,
                    "epoch": network.metadata["epoch"],
                    "photo": str(options.photo),
                    "predicted": network.classes[order[0]],
                    "probabilities": {network.classes[i]: float(probabilities[i]) for i in order},
                    "temperature": None if temperature.why_not else temperature.value,
                    "foreign": strange,
                    "heatmap": written,
                }
            )
        )
        return 0
    by = "not calibrated" if temperature.why_not else f"calibrated (temperature {temperature.value:.3f})"
    print(f"run {run.id}, {checkpoint} checkpoint (epoch {network.metadata['epoch']:g}), {by}")
    if strange:
        print("Unlike anything it was trained on; of the classes that it knows it would say:")
    for index in order[:5]:
        print(f"{probabilities[index]:7.2%}  {network.classes[index]}")
    if written:
        print(f"Heat map for {network.classes[order[0]]}: {written}")
    return 0


def _strange(run: Run, checkpoint: str, network: Any, pixels: Any) -> bool | None:
    """Whether the one picture (1, 3, H, W) is foreign to a network; None where that was never found out."""
    from cifar_core.strangeness import Strangeness, StrangenessError

    if (path := job.strangeness_found(run, checkpoint)) is None:
        return None
    try:
        known = Strangeness.load(path)
    except StrangenessError:
        return None
    return bool(known.foreign(known.measure(network, pixels))[0])


def _answered(run: Run, wanted: tuple[str, ...]) -> bool:
    limit = time.monotonic() + ANSWER_SECONDS
    while run.state not in wanted:
        if time.monotonic() > limit:
            return False
        time.sleep(0.1)
    return True


def _report(run: Run, options: argparse.Namespace, answered: bool) -> int:
    state = run.state
    if options.json:
        print(json.dumps({"run": run.id, "state": state}))
    elif state == "waiting":
        then = "it pauses as soon as it trains" if run.requested("pause") else "it begins when that is free"
        print(f"Run {run.id} is waiting for its device; {then}.")
    elif answered:
        print(f"Run {run.id} is {state}.")
    else:
        print(f"Run {run.id} is still {state}; it does what was asked after its current step.")
    return 0


def _stop(options: argparse.Namespace) -> int:
    run = _find(options)
    if not run.alive:
        raise RunError(f"Run {run.id} is not running; it is {run.state}.")
    run.request("stop")
    if not _answered(run, ("stopped", "finished", "failed", "interrupted")):
        raise RunError(
            f"Run {run.id} has not stopped within {ANSWER_SECONDS:g} seconds and is still {run.state}; it stops after "
            "its current step."
        )
    return _report(run, options, True)


def _pause(options: argparse.Namespace) -> int:
    run = _find(options)
    if not run.alive:
        raise RunError(f"Run {run.id} is not running; it is {run.state}.")
    run.request("pause")
    return _report(run, options, _answered(run, ("paused", "waiting", "finished", "stopped", "failed", "interrupted")))


def _resume(options: argparse.Namespace) -> int:
    run = _find(options)
    run.must_be_ours()
    values = {name: value for name, value in vars(options).items() if name in FIELDS}
    run.settings.changed(values)
    trains = run.alive and run.last_end is None
    if not trains and run.state == "finished" and values.get("epochs", 0) <= run.settings.epochs:
        raise RunError(
            f"Run {run.id} has finished; to train on, add --epochs with more than its {run.settings.epochs}."
        )
    said = len(run.events())
    if values:
        run.request("change", values)
    if trains:
        run.withdraw("pause")
    else:
        job.launch(run, options.cache)
    answered = _resumed(run)
    if values:
        _in_force(run, values, said)
    return _report(run, options, answered)


def _change(options: argparse.Namespace) -> int:
    run = _find(options)
    run.must_be_ours()
    values = {name: value for name, value in vars(options).items() if name in FIELDS}
    if not values:
        raise ValueError("Name what to change, e.g. --learning-rate 0.001.")
    run.settings.changed(values)
    if not run.alive or run.last_end is not None:
        raise RunError(f"Run {run.id} is not running; it is {run.state}. Settings can be given to resume, too.")
    said = len(run.events())
    run.request("change", values)
    changed = _in_force(run, values, said)
    if options.json:
        about = {"step": changed.step, "epoch": changed.epoch} if changed else {"step": None, "epoch": None}
        print(json.dumps({"run": run.id, "state": run.state, "values": values, **about}))
    elif changed:
        print(f"Run {run.id}: {_listed(values)} from step {changed.step + 1} on, in epoch {changed.epoch:.2f}.")
    else:
        print(f"Run {run.id} is {run.state}; {_listed(values)} from its next step on.")
    return 0


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in values.items())


def _in_force(run: Run, values: Mapping[str, Any], said: int) -> Changed | None:
    """Wait until the run has changed its settings; None where it will only later, or they were so already.

    Args:
        said: How many events there were before it was asked.

    Raises:
        RunError: The run refuses.
    """
    limit = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < limit:
        same = all(getattr(run.settings, name) == value for name, value in values.items())
        for event in run.events()[said:]:
            if isinstance(event, Refused) and not same:
                raise RunError(event.message)
            if isinstance(event, Changed) and event.values.items() >= dict(values).items():
                return event
        if same or not run.alive or run.state in ("paused", "waiting"):
            return None
        time.sleep(0.1)
    return None


def _save(options: argparse.Namespace) -> int:
    run = _find(options)
    if not run.alive or run.last_end is not None or run.state == "paused":
        raise RunError(f"Run {run.id} is not running; it is {run.state}, and its last weights are kept.")
    there = set(run.checkpoints())
    run.request("save")
    limit = time.monotonic() + ANSWER_SECONDS
    while not (kept := sorted(name for name in set(run.checkpoints()) - there if name.startswith("step-"))):
        if time.monotonic() > limit or not run.alive:
            raise RunError(
                f"Run {run.id} is {run.state} and has not kept its weights within {ANSWER_SECONDS:g} seconds."
            )
        time.sleep(0.1)
    print(json.dumps({"run": run.id, "checkpoint": kept[-1]}) if options.json else f"Run {run.id} keeps {kept[-1]}.")
    return 0


def _runs(options: argparse.Namespace) -> int:
    if options.action == "list":
        return _list_runs(options)
    if options.run is None:
        raise RunError(f"Name the run to {options.action}, e.g. python -m cifar_core runs {options.action} RUN.")
    if options.words and options.action not in ("rename", "note"):
        raise RunError(f"{options.action} takes one run and nothing else, but {options.words[0]!r} follows it.")
    run = _find(options)
    match options.action:
        case "rename":
            run.describe(name=" ".join(options.words))
        case "note":
            run.describe(note=" ".join(options.words))
        case "star" | "unstar":
            run.describe(starred=options.action == "star")
        case "archive" | "unarchive":
            run.describe(archived=options.action == "archive")
        case "delete":
            run.must_be_ours()
            if not options.yes and not _agreed(f"Delete run {run.id} with its weights for ever?"):
                raise RunError(f"Run {run.id} is kept; to delete it without being asked, add --yes.")
            run.delete()
            print(json.dumps({"run": run.id, "deleted": True}) if options.json else f"Run {run.id} is deleted.")
            return 0
        case move:
            queues.move(run, move)
    print(json.dumps(_run_facts(run)) if options.json else f"Run {run.id}: {_told_about(run)}.")
    return 0


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        return False
    print(f"{question} [y/N] ", end="", flush=True, file=sys.stderr)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _list_runs(options: argparse.Namespace) -> int:
    runs = [run for run in list_runs(options.runs.resolve()) if options.all or not run.about.archived]
    if options.json:
        print(json.dumps({"runs": [_run_facts(run) for run in runs]}))
        return 0
    for run in runs:
        best = run.best
        accuracy = f"{best.validation_accuracy:7.2%} validation" if best else f"{'–':>7}{'':11}"
        print(
            f"{run.id:{max(len(other.id) for other in runs)}}  {run.state:11}  {accuracy}  {_told_about(run)}".rstrip()
        )
    own = [run for run in runs if not run.read_only]
    total = sum(run.disk_use().total for run in own)
    besides = ", and the one that comes with the program" if len(own) < len(runs) else ""
    print(f"{len(own)} run{'s' if len(own) != 1 else ''}, {size(total)}{besides}")
    return 0


def _run_facts(run: Run) -> dict[str, Any]:
    best, latest, parent, waits = run.best, run.latest, run.parent, queues.waiting_for(run)
    return {
        "run": run.id,
        "state": run.state,
        "name": run.about.name,
        "note": run.about.note,
        "starred": run.about.starred,
        "archived": run.about.archived,
        "parent": parent and parent[0],
        "epochs": latest.epoch if latest else 0,
        "best_validation_accuracy": best and best.validation_accuracy,
        "checkpoints": list(run.checkpoints()),
        "bytes": run.disk_use().total,
        "waits_for": waits,
        "place": waits and [other.id for other in queues.queue(run.path.parent, waits)].index(run.id) + 1,
    }


def _told_about(run: Run) -> str:
    """Name, star, archive and place in the queue, in words."""
    about, waits = run.about, queues.waiting_for(run)
    said = [repr(about.name) if about.name else "", "starred" if about.starred else ""]
    said += ["archived" if about.archived else "", about.note]
    if waits:
        line = [other.id for other in queues.queue(run.path.parent, waits)]
        said.append(f"number {line.index(run.id) + 1} of {len(line)} that wait for {waits}")
    return ", ".join(filter(None, said)) or "no name, no star"


def _resumed(run: Run) -> bool:
    answered = _answered(run, ("running", "waiting", "finished", "stopped", "failed", "interrupted"))
    end = run.last_end
    if end and end.outcome == "failed":
        raise RunError(end.message)
    if run.state == "interrupted":
        raise RunError(f"The worker of run {run.id} ended without a word; {run.log_path} may say why.")
    return answered


if __name__ == "__main__":
    sys.exit(main())
