import sys
from pathlib import Path

import pytest

TINY = Path(__file__).parents[2] / "examples" / "tiny"
sys.path.insert(0, str(TINY))


@pytest.fixture(scope="session", params=["dense", "moe"])
def checkpoint(request):
    """The folder of a committed tiny checkpoint."""
    return TINY / request.param
