"""Triton kernels compiled ahead of time, without a GPU.

Covers: PTX and cubin for SM80, 89, 90, 100 and 120, one each for 86, 103 and 121: no spills, shared memory within
    the GPU's, weights fetched ahead, arguments as described, the same bytes again
Reference: limits of each GPU; `docs/gpu-kernels.md` has the table
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from qwen3_plugins.tensorrt.compile import TABLE_CAPABILITIES, compile_kernel, kernel_table, problems
from qwen3_plugins.tensorrt.kernels.attention import AttentionShape, attention_kernels

if TYPE_CHECKING:
    from qwen3_plugins.tensorrt.kernels.kernel import Kernel


def one_of_each(capability: int) -> list[Kernel]:
    """The first variant of every kernel in the table."""
    kernels: dict[str, Kernel] = {}
    for _, kernel, _ in kernel_table(capabilities=[capability]):
        kernels.setdefault(kernel.name, kernel)
    return list(kernels.values())


@pytest.mark.parametrize(
    ("kernel", "capability"),
    [
        pytest.param(kernel, capability, id=f"{kernel.name}-sm{capability}")
        for capability in TABLE_CAPABILITIES
        for kernel in one_of_each(capability)
    ],
)
def test_every_kernel_compiles_without_spills_within_its_gpu(kernel: Kernel, capability: int) -> None:
    made = compile_kernel(kernel, capability)
    assert problems(made) == []
    assert made.cubin.startswith(b"\x7fELF")
    specific = "a" if capability >= 90 else ""  # runs on that architecture alone: see `binary.for_device`
    assert re.search(rf"^\.target sm_{capability}{specific}$", made.ptx, re.MULTILINE)
    entry = re.search(rf"\.visible \.entry {made.entry}\(([^)]*)\)", made.ptx)
    assert entry is not None
    kinds = re.findall(r"\.param \.(\w+)", entry[1])
    # Pointers and int32 scalars in the described order, then Triton's two scratch pointers.
    expected = ["u64" if argument.type.startswith("*") else "u32" for argument in kernel.arguments]
    assert kinds == [*expected, "u64", "u64"]
    assert re.search(rf"{made.entry}_param_{len(expected) - 1}\s*\)", made.bare_ptx())
    assert f"{made.entry}_param_{len(expected)}" not in made.bare_ptx()
    for text in (made.ptx, made.bare_ptx(), made.cubin.decode("latin-1")):
        assert "_device.py" not in text  # nor the folder it is in
    assert made.resources.threads == 32 * kernel.warps
    assert made.resources.registers * made.resources.threads <= 65536


@pytest.mark.parametrize(("capability", "head_dim"), [(80, 64), (90, 128)])
def test_attention_in_bfloat16_compiles(capability: int, head_dim: int) -> None:
    kernels = attention_kernels(AttentionShape(32, 8, head_dim, 64, 1e-6, "bf16"), capability)
    for kernel in (kernels.append, kernels.split, kernels.attend):
        assert problems(compile_kernel(kernel, capability)) == []


@pytest.mark.parametrize("capability", [86, 103, 121])
def test_relatives_of_those_gpus_are_compiled_for_too(capability: int) -> None:
    kernels = attention_kernels(AttentionShape(32, 8, 128, 16, 1e-6, "fp16"), capability)
    assert problems(compile_kernel(kernels.attend, capability)) == []


@pytest.mark.parametrize("small", [False, True])
def test_other_gpus_are_refused_by_name(small: bool) -> None:
    with pytest.raises(ValueError, match="no tile sizes for SM75, only for SM80"):
        attention_kernels(AttentionShape(32, 8, 128, 16, 1e-6, "fp16"), 75, small=small)


@pytest.mark.parametrize("capability", TABLE_CAPABILITIES)
def test_small_attention_fits_what_every_launch_may_have(capability: int) -> None:
    kernels = attention_kernels(AttentionShape(32, 8, 128, 16, 1e-6, "fp16"), capability, small=True)
    for kernel in (kernels.append, kernels.split, kernels.attend):
        made = compile_kernel(kernel, capability)
        assert problems(made) == []
        assert made.resources.shared <= 48 * 1024


@pytest.mark.parametrize(
    ("capability", "product"),
    [(80, "mma.sync"), (89, "mma.sync"), (90, "wgmma.mma_async"), (100, "tcgen05.mma"), (120, "mma.sync")],
)
def test_prompts_use_the_matrix_units_and_fetch_keys_ahead_in_16_byte_pieces(capability: int, product: str) -> None:
    kernel = next(kernel for kernel in one_of_each(capability) if kernel.name == "attention_attend")
    ptx = compile_kernel(kernel, capability).ptx
    assert product in ptx
    copies = re.findall(r"cp\.async\.c[ag]\.shared\.global.*?,\s*(0x[0-9a-f]+|\d+)[,;]", ptx)
    sizes = [int(size, 0) for size in copies]
    assert sizes.count(16) >= 16
    assert set(sizes) <= {16, 4}  # block ids are fetched ahead too, one by one


def test_ptx_without_scratch_pointers_assembles() -> None:
    from triton import knobs

    kernel = attention_kernels(AttentionShape(32, 8, 128, 16, 1e-6, "fp16"), 89).append
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        source.write_text(compile_kernel(kernel, 89).bare_ptx(), encoding="utf-8")
        subprocess.run([knobs.nvidia.ptxas.path, "-arch=sm_89", str(source), "-o", str(made)], check=True)
        said = subprocess.run(
            [knobs.nvidia.cuobjdump.path, "-elf", str(made)], capture_output=True, text=True, check=True
        )
    assert len(re.findall("EIATTR_KPARAM_INFO", said.stdout)) == len(kernel.arguments)


def test_the_same_kernel_gives_the_same_bytes(tmp_path: Path) -> None:
    code = (
        "import hashlib; from qwen3_plugins.tensorrt.compile import compile_kernel;"
        "from qwen3_plugins.tensorrt.kernels.attention import AttentionShape, attention_kernels;"
        "made = compile_kernel(attention_kernels(AttentionShape(32, 8, 128, 16, 1e-6, 'fp16'), 90).split, 90);"
        "print(hashlib.sha256(made.ptx.encode() + made.cubin).hexdigest())"
    )
    digests = []
    for seed in ("1", "2"):
        settings = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path / seed), "PYTHONHASHSEED": seed}
        said = subprocess.run([sys.executable, "-c", code], env=settings, capture_output=True, text=True, check=True)
        digests.append(said.stdout)
    assert digests[0] == digests[1]


def test_a_folder_that_cannot_be_made_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    command = [sys.executable, "-m", "qwen3_plugins.tensorrt.compile", "--family", "moe", "--capability", "89"]
    ran = subprocess.run(
        [*command, "--output", str(tmp_path / "file" / "folder")], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert re.fullmatch(r"error: .*Not a directory: .*\n", ran.stderr)


def test_describing_kernels_needs_no_triton() -> None:
    code = (
        "from qwen3_plugins.tensorrt.compile import kernel_table; import sys; list(kernel_table()); "
        "sys.exit('triton' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
