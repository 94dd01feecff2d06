"""The main job: from a data set to certificates, a trained network and the check of one by the other."""

from overparam.job.result import JobResult as JobResult
from overparam.job.run import run_job as run_job
from overparam.job.settings import JobSettings as JobSettings
