"""The choice of device and number format, with devices simulated."""

from __future__ import annotations

import platform
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from cifar_core import compute
from cifar_core.compute import Compute, choose, prepare_device


@pytest.fixture
def cpu_only(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(compute, "_cpu_has_bfloat16", lambda: True)
    monkeypatch.setattr(compute, "bfloat16_speedup", lambda: 2.1)
    return monkeypatch


@pytest.fixture
def cuda(cpu_only: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    cpu_only.setattr(torch.cuda, "is_available", lambda: True)
    cpu_only.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    cpu_only.setattr(torch.cuda, "get_device_name", lambda: "Example GPU")
    return cpu_only


@pytest.fixture
def mps(cpu_only: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    cpu_only.setattr(torch.backends.mps, "is_available", lambda: True)
    cpu_only.setattr(torch.backends.mps, "is_macos_or_newer", lambda major, minor: False)
    return cpu_only


def test_cpu_takes_bfloat16_where_it_was_measured_to_be_faster(cpu_only: pytest.MonkeyPatch) -> None:
    chosen = choose()
    assert chosen.dtype is torch.bfloat16
    assert chosen.describe() == "CPU, bfloat16"
    assert chosen.reason == (
        "CPU (2 threads): no CUDA or MPS device here; "
        "bfloat16 because a convolution ran 2.1 times as fast as in float32."
    )


def test_cpu_stays_with_float32_where_bfloat16_gains_nothing(cpu_only: pytest.MonkeyPatch) -> None:
    cpu_only.setattr(compute, "bfloat16_speedup", lambda: 0.52)
    chosen = choose()
    assert chosen.dtype is torch.float32
    assert chosen.reason.endswith("float32 because a convolution in bfloat16 ran only 0.52 times as fast.")


def test_cpu_without_bfloat16_instructions_is_not_measured(cpu_only: pytest.MonkeyPatch) -> None:
    cpu_only.setattr(compute, "_cpu_has_bfloat16", lambda: False)
    cpu_only.setattr(compute, "bfloat16_speedup", lambda: pytest.fail("measured"))
    assert choose().dtype is torch.float32
    assert choose().reason.endswith("float32 because the processor has no bfloat16 instructions.")
    assert "emulated here and slow" in choose(precision="bfloat16").reason


@pytest.mark.parametrize("instructions", ["avx512_bf16", "amx_bf16", "bf16", None])
def test_bfloat16_instructions_are_read_from_the_processor(
    monkeypatch: pytest.MonkeyPatch, instructions: str | None
) -> None:
    listed = {"avx2": True, "avx512_bf16": False} | ({instructions: True} if instructions else {})
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: listed, raising=False)
    assert compute._cpu_has_bfloat16() is (instructions is not None)


def test_cuda_comes_first_and_takes_native_bfloat16(cuda: pytest.MonkeyPatch) -> None:
    cuda.setattr(torch.backends.mps, "is_available", lambda: True)
    chosen = choose()
    assert chosen.device.type == "cuda"
    assert chosen.dtype is torch.bfloat16
    assert chosen.reason.startswith("CUDA (Example GPU): the fastest device here; bfloat16 because")
    assert not chosen.grad_scaler().is_enabled()


def test_cuda_without_native_bfloat16_takes_float16_with_loss_scaling(cuda: pytest.MonkeyPatch) -> None:
    cuda.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    chosen = choose()
    assert chosen.dtype is torch.float16
    assert "loss scaling" in chosen.reason
    assert "emulated here and slow" in choose("cuda", "bfloat16").reason


def test_mps_comes_before_the_cpu_and_calculates_in_float32(mps: pytest.MonkeyPatch) -> None:
    chosen = choose()
    assert chosen.device.type == "mps"
    assert chosen.describe() == "MPS, float32"
    assert "because Apple GPUs" in chosen.reason


def test_mps_before_macos_14_refuses_bfloat16(mps: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="macOS 14"):
        choose("mps", "bfloat16")
    mps.setattr(torch.backends.mps, "is_macos_or_newer", lambda major, minor: (major, minor) <= (14, 0))
    assert choose("mps", "bfloat16").dtype is torch.bfloat16


def test_an_explicit_choice_is_honoured(cuda: pytest.MonkeyPatch) -> None:
    cuda.setattr(compute, "bfloat16_speedup", lambda: pytest.fail("measured"))
    chosen = choose("cpu", "float32")
    assert chosen.device.type == "cpu"
    assert chosen.dtype is torch.float32
    assert chosen.reason == "CPU (2 threads): as asked; float32 as asked."
    assert choose("cuda", "float16").dtype is torch.float16


@pytest.mark.parametrize("missing", ["cuda", "mps"])
def test_a_missing_device_is_refused_with_what_is_there(cpu_only: pytest.MonkeyPatch, missing: str) -> None:
    with pytest.raises(ValueError, match=f"device is {missing}, but .* only CPU; choose cpu or auto"):
        choose(missing)


def test_float16_on_the_cpu_is_refused(cpu_only: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"float16.*choose bfloat16, float32 or auto\.$"):
        choose("cpu", "float16")
    with pytest.raises(ValueError, match="float16"):
        choose("auto", "float16")


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="device must be one of auto, cuda, mps, cpu, but is 'gpu'"):
        choose("gpu")
    with pytest.raises(ValueError, match=r"precision must be one of auto, .*, but is 'int8'"):
        choose("cpu", "int8")


@pytest.mark.parametrize(
    ("dtype", "product"), [(torch.float32, torch.float32), (torch.bfloat16, torch.bfloat16)], ids=str
)
def test_autocast_calculates_in_the_chosen_format(dtype: torch.dtype, product: torch.dtype) -> None:
    # PyTorch warns where autocast is asked for float32.
    with warnings.catch_warnings(action="error"), Compute(torch.device("cpu"), dtype, "").autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is product


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_only_float16_scales_the_loss(name: str) -> None:
    scaler = Compute(torch.device("cpu"), compute.DTYPES[name], "").grad_scaler()
    assert (scaler.scale(torch.tensor(1.0)).item() > 1) is (name == "float16")


def test_the_measurement_is_made_once_and_disturbs_nothing() -> None:
    compute.bfloat16_speedup.cache_clear()
    before = torch.get_rng_state()
    with torch.inference_mode():
        speedup = compute.bfloat16_speedup(0.02)
    assert 0.01 < speedup < 100
    assert compute.bfloat16_speedup(0.02) == speedup
    assert compute.bfloat16_speedup.cache_info().misses == 1
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture
def backend_settings() -> Iterator[None]:
    kept = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = False
    yield
    torch.set_float32_matmul_precision(kept[0])
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = kept[1:]


@pytest.mark.usefixtures("backend_settings")
@pytest.mark.parametrize(("device", "changed"), [("cuda", True), ("cpu", False), ("mps", False)])
def test_tf32_and_the_choice_by_trying_are_for_cuda(device: str, changed: bool) -> None:
    prepare_device(Compute(torch.device(device), torch.float32, ""))
    assert torch.get_float32_matmul_precision() == ("high" if changed else "highest")
    assert torch.backends.cudnn.allow_tf32 is changed
    assert torch.backends.cudnn.benchmark is changed


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps memory in its own way")
def test_the_memory_of_a_step_is_kept_for_the_next() -> None:
    """Pages that a process touches for the first time are counted by the system; in a process of its own, as the
    setting is of the whole process."""
    code = """
import resource, sys, torch
from cifar_core.compute import Compute, prepare_device
if sys.argv[1] == "kept":
    prepare_device(Compute(torch.device("cpu"), torch.float32, ""))
for _ in range(20):
    torch.ones(16, 2**20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(16, 2**20)
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize() / 2**20)
"""

    def fetched(how: str) -> float:
        words = [sys.executable, "-c", code, how]
        return float(
            subprocess.run(words, check=True, capture_output=True, text=True, cwd=Path(__file__).parent.parent).stdout
        )

    assert fetched("left") > 1000, "MiB of 20 times 64"
    assert fetched("kept") < 10
