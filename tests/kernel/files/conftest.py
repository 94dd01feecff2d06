"""Both kinds of files."""

import pytest


@pytest.fixture(params=[".npy", ".zarr"])
def path(request, tmp_path):
    return tmp_path / f"K{request.param}"
