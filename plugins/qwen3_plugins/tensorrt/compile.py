"""Compiles the Triton kernels ahead of time, without a GPU: `python -m qwen3_plugins.tensorrt.compile --output FOLDER`.

For each kernel and compute capability: PTX (which the driver translates), a cubin (which it need not), and what
they use of a multiprocessor, in `resources.json` and `resources.md`.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from qwen3_plugins.tensorrt.bindings.capabilities import WITH_KERNELS
from qwen3_plugins.tensorrt.errors import KernelCompileError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from qwen3_plugins.tensorrt.kernels.kernel import Kernel

__all__ = [
    "TABLES",
    "TABLE_CAPABILITIES",
    "Compiled",
    "Resources",
    "compile_kernel",
    "kernel_table",
    "problems",
    "resource_table",
    "write_kernel",
]

TABLE_CAPABILITIES = (80, 89, 90, 100, 120)
"""What the table is compiled for: one of each kind of GPU."""

TABLES = {
    "attention": "qwen3_plugins.tensorrt.kernels.attention_table",
    "moe": "qwen3_plugins.tensorrt.kernels.moe_table",
}
"""Modules with a function `table(capability) -> Iterable[tuple[str, Kernel]]`: the kernels to compile, each after the
name of its variant, such as `qwen3-8b-fp16`. A new family of kernels adds a line."""


@dataclass(frozen=True)
class Resources:
    """What a compiled kernel uses.

    Attributes:
        registers: of a thread.
        stack: bytes of a thread in local memory: spilled registers, and arrays that are not in registers.
        shared: bytes of a block.
        threads: of a block.
    """

    registers: int
    stack: int
    shared: int
    threads: int


@dataclass(frozen=True)
class Compiled:
    """A kernel as machine code.

    Attributes:
        kernel: what was compiled.
        capability: for which compute capability, times ten.
        entry: the name of its entry point in PTX and cubin. It takes the kernel's arguments, then two pointers to
            scratch memory of Triton's, which none of these kernels has: pass null.
        resources: what it uses; `threads` and `shared` are needed to launch it.
    """

    kernel: Kernel
    capability: int
    entry: str
    ptx: str
    cubin: bytes
    resources: Resources

    def bare_ptx(self) -> str:
        """PTX whose entry point takes the kernel's arguments alone, for TensorRT's ahead-of-time plugins.

        They pass what a plugin declares and know nothing of scratch memory; the driver would read two pointers more.

        Raises:
            KernelCompileError: the parameters are not what was described, or the kernel uses its scratch memory.
        """
        names = [f"{self.entry}_param_{place}" for place in range(len(self.kernel.arguments) + 2)]
        found = re.search(rf"\.visible \.entry {self.entry}\(([^)]*)\)", self.ptx)
        parameters = found[1].split(",") if found else []
        if found is None or [each.split()[-1] for each in parameters] != names:
            raise KernelCompileError(
                f"{self.kernel.name}: PTX with {len(names)} parameters expected, found {len(parameters)}"
            )
        if any(re.search(rf"\[{name}[\]+]", self.ptx) for name in names[-2:]):
            raise KernelCompileError(f"{self.kernel.name}: uses scratch memory, which TensorRT does not give it")
        return self.ptx.replace(found[1], ",".join(parameters[:-2]) + "\n")


def compile_kernel(kernel: Kernel, capability: int) -> Compiled:
    """Compile one kernel; Triton keeps what it made in its own cache (`TRITON_CACHE_DIR`).

    Args:
        kernel: the description.
        capability: compute capability times ten, such as 89.

    Returns:
        PTX, cubin and what they use.

    Raises:
        KernelCompileError: Triton is missing, refuses the kernel, or made one that needs scratch memory.
    """
    try:
        import triton
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource
    except ImportError as error:
        raise KernelCompileError(f"Triton is not installed ({error}): pip install 'triton==3.7.*'") from error
    types = {argument.name: argument.type for argument in kernel.arguments}
    aligned = {(place,): [["tt.divisibility", 16]] for place, kind in enumerate(types.values()) if kind.startswith("*")}
    source = ASTSource(
        fn=kernel.device_function(),
        signature={**types, **dict.fromkeys(kernel.constants, "constexpr")},
        constexprs=dict(kernel.constants),
        attrs=aligned,
    )
    # Line numbers would put the path of this installation into the engine.
    options = {"num_warps": kernel.warps, "num_stages": kernel.stages, "enable_fp_fusion": True}
    try:
        with triton.knobs.compilation.scope():
            triton.knobs.compilation.disable_line_info = True
            made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    except Exception as error:  # Triton's own families, LLVM's and the assembler's
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise KernelCompileError(f"{kernel.name} for SM{capability}: {said[-1]}") from error
    if made.metadata.global_scratch_size or made.metadata.profile_scratch_size:
        raise KernelCompileError(f"{kernel.name} for SM{capability}: needs scratch memory, which no plugin gives it")
    registers, stack = _registers_and_stack(made.asm["cubin"])
    resources = Resources(registers, stack, made.metadata.shared, 32 * made.metadata.num_warps)
    return Compiled(kernel, capability, made.metadata.name, made.asm["ptx"], made.asm["cubin"], resources)


def _registers_and_stack(cubin: bytes) -> tuple[int, int]:
    """What `cuobjdump`, which comes with Triton, says of a cubin with one kernel."""
    from triton import knobs

    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", said)
    if found is None:
        raise KernelCompileError(f"cuobjdump gave no register count: {said.strip()[:200]}")
    return int(found[1]), int(found[2])


def kernel_table(
    families: Iterable[str] = TABLES, capabilities: Iterable[int] = TABLE_CAPABILITIES
) -> Iterator[tuple[str, Kernel, int]]:
    """All (variant, kernel, capability) of some families of kernels; imports no Triton."""
    for family in families:
        module = import_module(TABLES[family])
        for capability in capabilities:
            for variant, kernel in module.table(capability):
                yield variant, kernel, capability


def problems(made: Compiled) -> list[str]:
    """Why a compiled kernel should not be shipped for its GPU: spilled registers, too much shared memory."""
    used = made.resources
    limit = next(each.shared_memory for each in WITH_KERNELS if each.number == made.capability)
    found = []
    if used.stack:
        found.append(f"{used.stack} bytes of a thread's registers are spilled to memory")
    if used.shared > limit:
        found.append(f"{used.shared} bytes of shared memory, where a block has {limit}")
    return [f"{made.kernel.name} for SM{made.capability}: {what}" for what in found]


def write_kernel(folder: Path, variant: str, made: Compiled) -> None:
    """Write `<folder>/sm<capability>/<variant>.<kernel>.ptx` and `.cubin`, each replaced in one step."""
    place = folder / f"sm{made.capability}"
    place.mkdir(parents=True, exist_ok=True)
    for suffix, content in (("ptx", made.ptx.encode()), ("cubin", made.cubin)):
        _replace(place / f"{variant}.{made.kernel.name}.{suffix}", content)


def resource_table(rows: Sequence[tuple[str, Compiled]]) -> str:
    """A table for documents: a row for each variant and kernel, a column for each compute capability.

    Args:
        rows: (variant, compiled kernel); what was not compiled for a capability leaves its cell empty.
    """
    capabilities = sorted({made.capability for _, made in rows})
    cells: dict[tuple[str, str, int], dict[int, str]] = {}
    for variant, made in rows:
        used = made.resources
        cell = f"{used.registers} / {used.shared / 1024:.0f}" + (f" / spills {used.stack}" if used.stack else "")
        cells.setdefault((variant, made.kernel.name, used.threads), {})[made.capability] = cell
    lines = [
        "Registers of a thread / KiB of shared memory of a block.",
        "",
        "| variant | kernel | threads | " + " | ".join(f"SM{capability}" for capability in capabilities) + " |",
        "|---|---|---|" + "---|" * len(capabilities),
    ]
    for (variant, name, threads), row in cells.items():
        columns = " | ".join(row.get(capability, "") for capability in capabilities)
        lines.append(f"| {variant} | `{name}` | {threads} | {columns} |")
    return "\n".join(lines) + "\n"


def _replace(path: Path, content: bytes) -> None:
    beside = path.with_name(path.name + ".new")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def main() -> int:
    """The command: compiles the table and writes it; fails if a kernel does not fit its GPU."""
    parser = argparse.ArgumentParser(
        prog="python -m qwen3_plugins.tensorrt.compile", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for PTX, cubins and the tables")
    parser.add_argument("--family", action="append", choices=sorted(TABLES), help="only these kernels (repeatable)")
    parser.add_argument(
        "--capability",
        action="append",
        type=int,
        choices=[each.number for each in WITH_KERNELS],
        help="only these (repeatable)",
    )
    chosen = parser.parse_args()
    rows: list[tuple[str, Compiled]] = []
    try:
        for variant, kernel, capability in kernel_table(
            chosen.family or TABLES, chosen.capability or TABLE_CAPABILITIES
        ):
            made = compile_kernel(kernel, capability)
            write_kernel(chosen.output, variant, made)
            rows.append((variant, made))
            print(f"SM{capability} {variant} {kernel.name}: {made.resources}", flush=True)  # noqa: T201 - output
        _write_tables(chosen.output, rows)
    except (KernelCompileError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - a command's output
        return 1
    bad = [line for _, made in rows for line in problems(made)]
    for line in bad:
        print(f"error: {line}", file=sys.stderr)  # noqa: T201 - a command's output
    return 1 if bad else 0


def _write_tables(folder: Path, rows: Sequence[tuple[str, Compiled]]) -> None:
    record = [
        {"variant": variant, "kernel": made.kernel.name, "capability": made.capability, **asdict(made.resources)}
        for variant, made in rows
    ]
    _replace(folder / "resources.json", (json.dumps(record, indent=1) + "\n").encode())
    _replace(folder / "resources.md", resource_table(rows).encode())


if __name__ == "__main__":
    sys.exit(main())
