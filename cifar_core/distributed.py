"""Several processes that train one network together: who they are, what each does, and what they tell each other.

Data-parallel training as in Li et al. (2020, "PyTorch Distributed"), with gradients added up after the backward pass
rather than during it: the networks here have a few megabytes of them, and clipping, accumulation, loss scaling and any
objective then see nothing of it. Each process takes its rows of the batch that one process would take, so that any
number of them does what one does, but for rounding, dropout and the statistics of batch norm.
"""

from __future__ import annotations

import datetime
import functools
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import PrefixStore, Store, TCPStore

TIMEOUT_SECONDS = 600.0
"""How long a process waits for the others before it gives up; above all for a checkpoint to be written."""

BUCKET_NUMBERS = 4_000_000
"""Gradients are sent in pieces of about this many numbers, of which one is sent while the next is put together."""


class MemberLost(ConnectionAbortedError):
    """Another process of the team has ended, or does not answer."""


@contextmanager
def _talking() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        why = _first_sentence(error)
        raise MemberLost(f"Another process of this training has ended or does not answer ({why}).") from error


def _first_sentence(error: RuntimeError) -> str:
    line = (str(error).splitlines() or [type(error).__name__])[0]
    # Without the place in torch's sources, and its advice.
    return re.sub(r"\[/\S*\] ", "", line).split(". ")[0].rstrip(".")


@dataclass(frozen=True)
class Team:
    """The processes that train together, as one of them sees it; one alone is a team too.

    All of them must call the same methods in the same order. Alone, each returns at once and changes nothing.

    Args:
        rank: Of this process, from 0; 0 leads: it keeps the run and takes requests.
        size: How many processes there are, on all machines.
        local_rank: Of this process among those of its machine.
        local_size: How many there are on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def part(self, count: int) -> slice:
        """Which of so many things are this process's; none where there are fewer than processes."""
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def shares(self, count: int) -> bool:
        """Whether a batch of so many images is divided; one that would leave a process without two is done by all."""
        return count >= 2 * self.size > 2

    def rows(self, count: int) -> slice:
        """Which rows of a batch of so many images this process computes."""
        return self.part(count) if self.shares(count) else slice(0, count)

    def weight(self, count: int) -> float:
        """What a mean over this process's rows weighs in the mean over the batch; all of them add up to 1."""
        rows = self.rows(count)
        return (rows.stop - rows.start) / count if self.shares(count) else 1 / self.size

    def told(self, value: Any) -> Any:
        """What the leader says; the others' own value is not looked at."""
        if self.size == 1:
            return value
        said = [value if self.leads else None]
        with _talking():
            dist.broadcast_object_list(said, src=0, device=torch.device("cpu"))
        return said[0]

    def add_up(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by their sums over all processes, the same bit for bit in each."""
        if self.size == 1:
            return
        with _talking():
            under_way = []
            for bucket in _buckets(tensors):
                flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
                under_way.append((bucket, flat, dist.all_reduce(flat, async_op=True)))
            for bucket, flat, work in under_way:
                work.wait()
                for tensor, total in zip(bucket, flat.split([tensor.numel() for tensor in bucket]), strict=True):
                    tensor.copy_(total.view(tensor.shape))

    def gather(self, mine: Tensor, count: int) -> Tensor:
        """All rows, of which this process has its part; gradients flow back to that part alone.

        Args:
            mine: (b, ...), the rows `part(count)`.

        Returns:
            (count, ...).
        """
        return _Gathered.apply(mine, self, count) if self.size > 1 else mine

    def copy(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by the leader's."""
        if self.size == 1:
            return
        with _talking():
            for tensor in tensors:
                # Sent in the order of its memory, which need not be the same everywhere.
                plain = tensor.contiguous()
                dist.broadcast(plain, src=0)
                tensor.copy_(plain)


ALONE = Team()


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    for tensor in tensors:
        bucket.append(tensor)
        if sum(map(torch.Tensor.numel, bucket)) >= BUCKET_NUMBERS:
            yield bucket
            bucket = []
    if bucket:
        yield bucket


@contextmanager
def joined(environment: Mapping[str, str]) -> Iterator[Team]:
    """Take one's place in the team that torchrun describes in the environment, and leave it at the end.

    Raises:
        MemberLost: The processes do not find each other.
    """
    rank, size, local_rank, local_size = (
        int(environment.get(name, default))
        for name, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0), ("LOCAL_WORLD_SIZE", 1))
    )
    team = Team(rank, size, local_rank, local_size)
    has_cuda = torch.cuda.is_available()
    if has_cuda and local_rank < torch.cuda.device_count():
        torch.cuda.set_device(local_rank)
    if size == 1:
        yield team
        return
    store = memory(environment)
    if store:
        # One store serves all starts by torchrun; there the dead must not be taken for the living.
        store = PrefixStore(f"cifar_core/{environment.get('TORCHELASTIC_RESTART_COUNT', 0)}/{size}", store)
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if has_cuda else "gloo",
            store=store,
            rank=rank,
            world_size=size,
            timeout=datetime.timedelta(seconds=TIMEOUT_SECONDS),
        )
    except RuntimeError as error:
        why = _first_sentence(error)
        raise MemberLost(f"The {size} processes of this training do not find each other ({why}).") from error
    yield team
    # Not after an error: what others still send would be waited for.
    dist.destroy_process_group()


def check_devices(team: Team, device: str) -> None:
    """Raises ValueError where the processes of this machine cannot each have a device of this kind."""
    if team.size > 1 and device == "mps":
        raise ValueError("Several processes cannot share an Apple GPU; choose --device cpu or train with one process.")
    if device == "cuda" and team.local_size > torch.cuda.device_count():
        there = torch.cuda.device_count()
        raise ValueError(
            f"There are {team.local_size} processes on this machine, but {there} CUDA device{'s' if there != 1 else ''}"
            f"; start with --nproc-per-node {there}, or choose --device cpu."
        )


def memory(environment: Mapping[str, str]) -> Store | None:
    """What torchrun remembers from one start of its processes to the next; None without torchrun.

    It is the store of torchrun's own process, so it ends with it: what is found there was said by a process that this
    very torchrun has started before.
    """
    if environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    patience = datetime.timedelta(seconds=TIMEOUT_SECONDS)
    with _talking():
        return TCPStore(environment["MASTER_ADDR"], int(environment["MASTER_PORT"]), None, False, timeout=patience)


class Pace:
    """Says when some seconds have passed: to all processes of a team after the same unit of work.

    Their clocks differ, so the leader foretells after how many units it will be.
    """

    def __init__(self, team: Team) -> None:
        self._team = team
        self._units, self._left = 0, 1
        self._since = time.perf_counter()

    def due(self, seconds: float) -> bool:
        """Whether this is the moment; called after each unit by all."""
        self._units += 1
        self._left -= 1
        if self._left > 0:
            return False
        now = time.perf_counter()
        per_unit = (now - self._since) / self._units
        # Cautious growth, as the first units are slow and a pause may lie between.
        self._left = self._team.told(max(1, min(int(seconds / max(per_unit, 1e-9)), 4 * self._units)))
        self._units, self._since = 0, now
        return True


class SharedNorms:
    """Lets the batch norms of a model take mean and variance over the rows of all processes, while it is `on`.

    As torch's `SyncBatchNorm`, which works on CUDA only and knows no layers without scale; running statistics too are
    those of the whole batch. With it, any number of processes computes what one does, within rounding.
    """

    def __init__(self, model: nn.Module, team: Team) -> None:
        self.on = True
        self._team = team
        for layer in model.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.forward = functools.partial(self._norm, layer, layer.forward)  # type: ignore[method-assign]

    def _norm(self, layer: nn.modules.batchnorm._BatchNorm, alone: Callable[[Tensor], Tensor], maps: Tensor) -> Tensor:
        if not (self.on and layer.training):
            return alone(maps)
        over = [axis for axis in range(maps.dim()) if axis != 1]
        exact = maps.float()
        variance, mean = torch.var_mean(exact, over, correction=0)
        # In double precision, where the difference of large squares is still exact enough.
        count = mean.new_full((1,), maps.numel() / maps.shape[1], dtype=torch.float64)
        parts = torch.cat([count, count * mean, count * (variance + mean.double().square())])
        total = _Sum.apply(parts, self._team)
        number = total[0].detach()
        mean, square = (total[1:] / number).chunk(2)
        variance = square - mean.square()
        if layer.track_running_stats:
            self._remember(layer, mean.detach(), variance.detach() * number / (number - 1))
        scale = (variance + layer.eps).rsqrt()
        if layer.weight is not None:
            scale = scale * layer.weight
        offset = -mean * scale
        if layer.bias is not None:
            offset = offset + layer.bias
        shape = [1, -1] + [1] * (maps.dim() - 2)
        return (exact * scale.float().view(shape) + offset.float().view(shape)).to(maps.dtype)

    @staticmethod
    def _remember(layer: nn.modules.batchnorm._BatchNorm, mean: Tensor, variance: Tensor) -> None:
        assert layer.running_mean is not None
        assert layer.running_var is not None
        assert layer.num_batches_tracked is not None
        layer.num_batches_tracked += 1
        share = layer.momentum if layer.momentum is not None else 1 / float(layer.num_batches_tracked)
        layer.running_mean.lerp_(mean.to(layer.running_mean.dtype), share)
        layer.running_var.lerp_(variance.to(layer.running_var.dtype), share)


class _Gathered(torch.autograd.Function):
    """The rows of all processes, from which each computes the same, so that no gradient need be exchanged."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor, team: Team, count: int) -> Tensor:
        ctx.rows = team.part(count)
        whole = mine.new_zeros(count, *mine.shape[1:])
        whole[ctx.rows] = mine
        team.add_up([whole])
        return whole

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient[ctx.rows], None, None


class _Sum(torch.autograd.Function):
    """The sum over all processes, through which gradients flow: each part's is the sum of what all say of the total."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, team: Team) -> Tensor:
        ctx.team = team
        total = values.clone()
        team.add_up([total])
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        total = gradient.clone()
        ctx.team.add_up([total])
        return total, None
