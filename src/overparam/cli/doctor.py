"""``overparam doctor``: what the machine is, and whether its arithmetic is what proofs assume."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from overparam.cli.terminal import print_table, say_json
from overparam.memory import available_memory, readable
from overparam.programs import keep_programs
from overparam.rounding.probes import arithmetic_fault
from overparam.version import VERSION

PACKAGES = ("jax", "jaxlib", "numpy", "scipy", "numba", "optax", "scikit-learn", "polars", "torch")
"""Whose versions matter most; one that is not installed is left out."""

INNER = (2, 64, 512, 4096)
"""Inner dimensions of the products that are probed."""

SINGLE = 1e-5
"""Relative error of a float32 product of order 512 beyond which it is none: TF32 has 5e-4."""


def doctor(as_json: bool) -> None:
    """Say what overparam runs on; exit status 1 if its arithmetic is not what proofs assume."""
    found = examine()
    if as_json:
        say_json(found)
    else:
        print_table(_table(found))
    if found["arithmetic"]["fault"] is not None:
        sys.exit(1)


def examine() -> dict[str, Any]:
    """All that is asked of the machine."""
    fault = arithmetic_fault(INNER)
    error = _single_error()
    return {
        "overparam": VERSION,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: found for name in PACKAGES if (found := _version(name)) is not None},
        "devices": [_device(device) for device in jax.devices()],
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "memory": available_memory(),
        "arithmetic": {
            "fault": None if fault is None else str(fault),
            "float32_error": error,
            "float32": error <= SINGLE,
        },
        "cache": _cache(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _device(device: jax.Device) -> dict[str, Any]:
    return {"platform": device.platform, "kind": device.device_kind, "id": device.id}


def _single_error() -> float:
    """The relative error of a float32 product on the device that JAX takes by default."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 512, 512)).astype(np.float32)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    found = np.asarray(jnp.asarray(a) @ jnp.asarray(b), dtype=np.float64)
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def _cache() -> dict[str, Any]:
    """The folder of compiled programs, which is in use by now."""
    folder = keep_programs()
    if folder is None:
        return {"folder": None, "programs": 0, "bytes": 0}
    sizes = [path.stat().st_size for path in Path(folder).glob("*-cache") if path.is_file()]
    return {"folder": str(folder), "programs": len(sizes), "bytes": sum(sizes)}


def _table(found: dict[str, Any]) -> list[tuple[str, str]]:
    arithmetic, cache = found["arithmetic"], found["cache"]
    devices = ", ".join(
        f"{each['platform']} {each['id']} ({each['kind']})" for each in found["devices"]
    )
    double = arithmetic["fault"]
    return [
        ("overparam", found["overparam"]),
        ("Python", f"{found['python']} on {found['platform']}"),
        ("packages", ", ".join(f"{name} {number}" for name, number in found["packages"].items())),
        ("devices", devices),
        ("cores, memory", f"{found['cores']}, {readable(found['memory'])} free"),
        (
            "float64",
            f"products of inner dimension {', '.join(map(str, INNER))} are plain sums, as rigor="
            "'proved' assumes"
            if double is None
            else f"not what rigor='proved' assumes: {double}",
        ),
        (
            "float32",
            f"relative error {arithmetic['float32_error']:.1e} of a product of order 512"
            + ("" if arithmetic["float32"] else ": reduced precision, such as TF32"),
        ),
        (
            "compiled programs",
            f"{cache['programs']:,} ({readable(cache['bytes'])}) in {cache['folder']}"
            if cache["folder"]
            else "not kept: each run compiles its own",
        ),
    ]
