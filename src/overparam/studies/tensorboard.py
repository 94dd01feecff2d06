"""A study's numbers as TensorBoard's scalars and figure."""

import importlib.util
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg

from overparam.errors import InputError
from overparam.studies.run import StudyResult


def require_tensorboard() -> None:
    """Find out before any work whether logs can be written.

    Raises:
        InputError: tensorboardX is not installed.
    """
    if importlib.util.find_spec("tensorboardX") is None:
        raise InputError("--tensorboard needs tensorboardX: pip install 'overparam[tensorboard]'")


def log_study(result: StudyResult, folder: Path) -> None:
    """Log every number by its series, over the first numeric column that identifies a row.

    Args:
        result: The study's result.
        folder: TensorBoard's log directory.

    Raises:
        InputError: tensorboardX is not installed.
    """
    require_tensorboard()
    from tensorboardX import SummaryWriter

    table, keys = result.table, result.study.keys
    axis = next((key for key in keys if table[key].dtype.is_numeric()), None)
    numbers = [c for c in table.columns if c not in keys and table[c].dtype.is_numeric()]
    with SummaryWriter(str(folder / result.study.name)) as writer:
        for row in table.iter_rows(named=True):
            series = "-".join(f"{key}_{row[key]}" for key in keys if key != axis)
            for name in numbers:
                if row[name] is not None:
                    writer.add_scalar(f"{name}/{series}", row[name], int(row[axis] if axis else 0))
        canvas = FigureCanvasAgg(result.figure())
        canvas.draw()
        pixels = np.asarray(canvas.buffer_rgba())[..., :3]
        writer.add_image("figure", pixels, dataformats="HWC")
