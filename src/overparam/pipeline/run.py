"""The jobs: one from a network drawn anew, one from a network trained elsewhere."""

from pathlib import Path

from overparam.data import Dataset
from overparam.importers.imported_network import ImportedNetwork
from overparam.pipeline.from_initialisation import Drawn, Verdict
from overparam.pipeline.from_initialisation_decayed import DecayedJob
from overparam.pipeline.imported import Imported
from overparam.pipeline.result import JobResult
from overparam.pipeline.settings import AnchorSettings, JobSettings
from overparam.progress import Progress
from overparam.threads import threads_for


def run_job(
    dataset: Dataset,
    settings: JobSettings | None = None,
    *,
    progress: Progress | None = None,
    verdict: Verdict | None = None,
    checkpoint: str | Path | None = None,
) -> JobResult:
    """Certify a network on a data set, train it to an anchor and check the theory against the run.

    Args:
        dataset: From ``overparam.data.load``.
        settings: What to do; None means the defaults.
        progress: Called as the job advances.
        verdict: Called once the certificates are known, before the consequences are measured.
        checkpoint: A file from which the optimiser's run resumes after a kill; one beside it
            (``certified_run``) is for the run that Theorem C makes.

    Returns:
        The :class:`JobResult`.

    Raises:
        InputError: Data and settings do not fit, or memory does not suffice.
        TheoremViolatedError: A certified claim did not hold in a run.
    """
    with threads_for(dataset.train.n * dataset.train.outputs):
        settings = settings or JobSettings()
        job = DecayedJob if settings.weight_decay else Drawn
        return job(dataset, settings, progress, checkpoint).run(verdict)


def anchor_network(
    dataset: Dataset,
    network: ImportedNetwork,
    settings: AnchorSettings | None = None,
    *,
    progress: Progress | None = None,
) -> JobResult:
    """Anchor a certificate at a network that was trained elsewhere.

    Args:
        dataset: The data it was trained on, prepared as they were for the training.
        network: From one of the importers.
        settings: What to do; None means the defaults.
        progress: Called as the job advances.

    Returns:
        The :class:`JobResult`, certified or not.

    Raises:
        InputError: Data, network and settings do not fit together.
        TheoremViolatedError: A certified claim did not hold in a run.
    """
    with threads_for(dataset.train.n * dataset.train.outputs):
        return Imported(dataset, network, settings or AnchorSettings(), progress).run()
