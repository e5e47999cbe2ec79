"""Which device calculates, in which number format, and why."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import nn

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
NAMES = {"cuda": "CUDA", "mps": "MPS", "cpu": "CPU"}

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""glibc's names for how much freed memory is kept, and for how many pieces may come from the system one by one."""

WORTHWHILE_SPEEDUP = 1.1
"""bfloat16 keeps 8 significant bits; a smaller gain than this is not worth them."""

CORES = torch.get_num_threads()
"""What torch computes on where nobody says otherwise."""


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Inside, torch computes on one core, as is quickest for a single image.

    Several would wait for each other at each layer, for long where one of them is kept busy by something else, such as
    the browser that draws the page: 0.15 s were seen instead of 0.01.
    """
    torch.set_num_threads(1)
    try:
        yield
    finally:
        # Not as many as before, which may be the one of another visitor's image.
        torch.set_num_threads(CORES)


@dataclass(frozen=True)
class Compute:
    """A device, the number format of convolutions and matrix products on it, and the reason in one sentence."""

    device: torch.device
    dtype: torch.dtype
    reason: str

    def autocast(self) -> AbstractContextManager[None]:
        """Within it, operations that tolerate `dtype` calculate in it; without effect for float32."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not torch.float32)

    def grad_scaler(self) -> torch.amp.GradScaler:
        """Loss scaling, which float16 needs for its small range; without effect for other formats."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16)

    @property
    def memory_format(self) -> torch.memory_format:
        """The order of pixels and channels in memory that convolutions are fastest with."""
        return torch.channels_last

    def describe(self) -> str:
        """Device and number format in a few words, such as "CPU, bfloat16"."""
        return f"{NAMES[self.device.type]}, {str(self.dtype).removeprefix('torch.')}"


def choose(device: str = "auto", precision: str = "auto") -> Compute:
    """The fastest device there is and the fastest number format that works well on it, or the ones asked for.

    The first automatic choice on a CPU with bfloat16 instructions takes a fraction of a second, for a measurement.

    Args:
        device: auto, cuda, mps or cpu.
        precision: auto, float32, bfloat16 or float16.

    Raises:
        ValueError: The device is not there, or the number format does not work on it.
    """
    present = [name for name, there in (("cuda", _has_cuda()), ("mps", _has_mps())) if there] + ["cpu"]
    if device not in ("auto", *NAMES):
        raise ValueError(f"device must be one of auto, {', '.join(NAMES)}, but is {device!r}.")
    if precision not in ("auto", *DTYPES):
        raise ValueError(f"precision must be one of auto, {', '.join(DTYPES)}, but is {precision!r}.")
    if device not in ("auto", *present):
        there = " and ".join(NAMES[name] for name in present)
        raise ValueError(
            f"device is {device}, but this machine offers PyTorch only {there}; choose {' or '.join(present)} or auto."
        )
    chosen = present[0] if device == "auto" else device
    dtype, why_dtype = _cheapest_dtype(chosen) if precision == "auto" else _asked_dtype(chosen, precision)
    return Compute(torch.device(chosen), dtype, f"{_why_device(chosen, device == 'auto')}; {why_dtype}.")


def prepare_device(compute: Compute) -> None:
    """Let CUDA use TF32 for what stays float32 and try for its fastest convolution; let a CPU keep freed memory.

    These are settings of the whole process. Trying may settle on another algorithm in another process, so that a
    result on CUDA repeats to rounding rather than bit for bit. Nothing is changed for MPS.
    """
    if compute.device.type == "cpu":
        keep_memory()
    if compute.device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True


def keep_memory() -> None:
    """Let glibc keep what is freed for the next step, instead of fetching each large tensor from the system anew.

    A step frees and asks again for the same tensors, and every page of fresh memory is first filled with zeros by the
    system: a tenth to a quarter of a step's time. Without effect where the C library is another one.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


@functools.cache
def has_matrix_units() -> bool:
    """Whether the processor multiplies tiles of bfloat16 matrices in one instruction (Intel's AMX)."""
    return torch.cpu._is_amx_tile_supported()


def is_out_of_memory(error: Exception) -> bool:
    """Whether PyTorch found no room; its devices say so in different ways."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)


def _has_cuda() -> bool:
    return torch.cuda.is_available()


def _has_mps() -> bool:
    return torch.backends.mps.is_available()


def _why_device(name: str, automatic: bool) -> str:
    what = NAMES[name]
    if name == "cuda":
        what += f" ({torch.cuda.get_device_name()})"
    if name == "cpu":
        threads = torch.get_num_threads()
        what += f" ({threads} thread{'s' if threads != 1 else ''})"
    if not automatic:
        return f"{what}: as asked"
    return (
        f"{what}: "
        + {
            "cuda": "the fastest device here",
            "mps": "no CUDA device here, and faster than the CPU",
            "cpu": "no CUDA or MPS device here",
        }[name]
    )


def _cheapest_dtype(device: str) -> tuple[torch.dtype, str]:
    """The fastest format that works well, and why in half a sentence."""
    if device == "cuda":
        if _cuda_has_bfloat16():
            return torch.bfloat16, "bfloat16 because the device calculates it natively and it needs no loss scaling"
        return torch.float16, "float16 with loss scaling because the device has no native bfloat16"
    if device == "mps":
        # Apple's GPUs have no separate units for half precision as NVIDIA's have.
        return torch.float32, "float32 because Apple GPUs gain little speed from fewer bits"
    if not _cpu_has_bfloat16():
        return torch.float32, "float32 because the processor has no bfloat16 instructions"
    speedup = bfloat16_speedup()
    if speedup >= WORTHWHILE_SPEEDUP:
        return torch.bfloat16, f"bfloat16 because a convolution ran {speedup:.1f} times as fast as in float32"
    return torch.float32, f"float32 because a convolution in bfloat16 ran only {speedup:.2g} times as fast"


def _asked_dtype(device: str, precision: str) -> tuple[torch.dtype, str]:
    """The format asked for, and what to know about it."""
    if device == "cpu" and precision == "float16":
        raise ValueError(
            "precision is float16, whose small range needs loss scaling on a GPU and which trains neither fast nor "
            "reliably on the CPU; choose bfloat16, float32 or auto."
        )
    if device == "mps" and precision == "bfloat16" and not torch.backends.mps.is_macos_or_newer(14, 0):
        raise ValueError("precision is bfloat16, which MPS offers from macOS 14 on; choose float16, float32 or auto.")
    slow = precision == "bfloat16" and (
        (device == "cuda" and not _cuda_has_bfloat16()) or (device == "cpu" and not _cpu_has_bfloat16())
    )
    if slow:
        return DTYPES[precision], "bfloat16 as asked, though it is only emulated here and slow"
    return DTYPES[precision], f"{precision} as asked{' with loss scaling' if precision == 'float16' else ''}"


def _cuda_has_bfloat16() -> bool:
    return torch.cuda.get_device_capability() >= (8, 0)


def _cpu_has_bfloat16() -> bool:
    # PyTorch before 2.11 cannot list instructions; what it can say then also counts emulation, which the
    # measurement that follows finds slow.
    if not hasattr(torch.cpu, "get_capabilities"):
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    there = torch.cpu.get_capabilities()
    return any(there.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))


@functools.cache
def bfloat16_speedup(budget_seconds: float = 0.3) -> float:
    """Time of a training step in float32 over that in bfloat16, on this CPU; measured once per process.

    The step is forward and backward through two convolutions of the size that dominates the networks here. The
    formats take turns on one thread, and the quickest time of each counts: what else the machine does only adds to a
    time, most of all where threads wait for each other.
    """
    times: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    # Whatever modes and random numbers the caller works with, they are neither used nor changed.
    threads = torch.get_num_threads()
    with contextlib.ExitStack() as stack:
        stack.callback(torch.set_num_threads, threads)
        torch.set_num_threads(1)
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        block = nn.Sequential(
            nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1)
        ).to(memory_format=torch.channels_last)
        maps = torch.randn(16, 64, 16, 16).to(memory_format=torch.channels_last).requires_grad_()
        end = time.perf_counter() + budget_seconds
        # The first turn prepares the kernels and is not counted.
        while len(times[torch.float32]) < 5 or (time.perf_counter() < end and len(times[torch.float32]) < 12):
            for dtype, taken in times.items():
                start = time.perf_counter()
                with torch.autocast("cpu", dtype, enabled=dtype is not torch.float32):
                    loss = block(maps).float().square().mean()
                loss.backward()
                taken.append(time.perf_counter() - start)
    return min(times[torch.float32][1:]) / min(times[torch.bfloat16][1:])
