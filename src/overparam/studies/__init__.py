"""The empirical evidence: seeded, resumable sweeps with a verdict, a table and a figure each."""

from overparam.studies.registry import NAMES as NAMES
from overparam.studies.registry import get_study as get_study
from overparam.studies.run import StudyResult as StudyResult
from overparam.studies.run import run_study as run_study
from overparam.studies.study import Cell as Cell
from overparam.studies.study import Cost as Cost
from overparam.studies.study import Finding as Finding
from overparam.studies.study import Settings as Settings
from overparam.studies.study import Study as Study
