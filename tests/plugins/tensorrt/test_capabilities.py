"""What is known of NVIDIA's architectures.

Reference: NVIDIA's own `cuda_occupancy.h`, which Triton ships
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from qwen3_plugins.tensorrt.bindings.capabilities import CAPABILITIES

triton = pytest.importorskip("triton")
COMPILER = shutil.which("cc")
PROGRAM = """
#include <stdio.h>
#include "cuda_occupancy.h"
int main(void) {
  int major, minor;
  while (scanf("%d.%d", &major, &minor) == 2) {
    cudaOccDeviceProp device = {0};
    device.computeMajor = major, device.computeMinor = minor;
    size_t most = 0;
    for (size_t asked = 1024; asked <= 1024 * 1024; asked += 1024) {
      size_t size = asked;
      if (cudaOccAlignUpShmemSizeVoltaPlus(&size, &device) == CUDA_OCC_SUCCESS) most = size;
    }
    printf("%d.%d %zu\\n", major, minor, most);
  }
}
"""


@pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")
def test_a_block_may_have_the_shared_memory_of_a_multiprocessor_but_what_the_driver_keeps(tmp_path: Path) -> None:
    (tmp_path / "program.c").write_text(PROGRAM)
    headers = Path(str(triton.__file__)).parent / "backends" / "nvidia" / "include"
    subprocess.run([str(COMPILER), f"-I{headers}", "program.c", "-o", "program"], cwd=tmp_path, check=True)
    names = "\n".join(each.name for each in CAPABILITIES)
    found = subprocess.check_output([str(tmp_path / "program")], input=names, text=True).splitlines()
    kept = {each.name: 1024 if each.number >= 80 else 0 for each in CAPABILITIES}  # "Starting Ampere", it says
    assert found == [f"{each.name} {each.shared_memory + kept[each.name]}" for each in CAPABILITIES]
