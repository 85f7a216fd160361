"""Links the stand-in for CUDA: one library for each that ONNX Runtime's CUDA provider asks for.

    link.py PROVIDER INCLUDE FOLDER

PROVIDER is libonnxruntime_providers_cuda.so, INCLUDE the folder of CUDA's driver_types.h, FOLDER where the libraries
go.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
RUNTIME = "libcudart.so"
NVIDIA = re.compile(r"lib(cuda|cudart|cublas|cublasLt|curand)\.so\.\d+")


def imported(provider: Path) -> dict[str, list[str]]:
    """The functions that the provider takes from each of NVIDIA's libraries."""
    dynamic = subprocess.run(["readelf", "-dW", provider], check=True, capture_output=True, text=True).stdout
    symbols = subprocess.run(
        ["nm", "-D", "--undefined-only", provider], check=True, capture_output=True, text=True
    ).stdout
    found: dict[str, list[str]] = {match.group(): [] for match in NVIDIA.finditer(dynamic)}
    driver = next(library for library in found if library.startswith("libcuda.so"))
    for line in symbols.splitlines():
        name, _, library = line.split()[-1].partition("@")
        library = library.lstrip("@")
        if library in found:
            found[library].append(name)
        elif re.match(r"cu[A-Z]", name):  # the driver's functions carry no version
            found[driver].append(name)
    return found


def source(library: str, names: list[str]) -> str:
    """C of a library: what `runtime.c` defines, and functions that only report success."""
    written = (HERE / "runtime.c").read_text() if library.startswith(RUNTIME) else "static char object[4096];\n"
    defined = set(re.findall(r"^[a-z][\w* ]*?(\w+)\(", written, re.MULTILINE))
    lines = []
    for name in sorted(set(names) - defined):
        if name.endswith(("StatusString", "StatusName")):
            lines.append(f'const char* {name}(int status) {{ return "stand-in"; }}')
        elif re.fullmatch(r"cublas(Lt)?Create(_v2)?", name):
            lines.append(f"int {name}(void** handle) {{ *handle = object; return 0; }}")
        else:
            lines.append(f"int {name}() {{ return 0; }}")
    return "\n".join([written, *lines, ""])


def link(library: str, names: list[str], include: Path, folder: Path) -> None:
    (folder / f"{library}.c").write_text(source(library, names))
    (folder / f"{library}.map").write_text(f"{library} {{ global: *; }};\n")
    subprocess.run(
        [
            *("cc", "-w", "-shared", "-fPIC", "-O1", f"-I{HERE}", f"-I{include}", folder / f"{library}.c"),
            *("-o", folder / library, f"-Wl,-soname,{library}", f"-Wl,--version-script={folder / library}.map"),
        ],
        check=True,
    )


if __name__ == "__main__":
    provider_path, include_path, target = map(Path, sys.argv[1:])
    target.mkdir(parents=True, exist_ok=True)
    for name, functions in imported(provider_path).items():
        link(name, functions, include_path, target)
