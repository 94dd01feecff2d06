"""The main job: from a data set to certificates and a network held against them."""

from overparam.job.result import JobResult as JobResult
from overparam.job.run import run_job as run_job
from overparam.job.settings import JobSettings as JobSettings
