"""The main job: from a data set to certificates and a network held against them."""

from overparam.pipeline.result import JobResult as JobResult
from overparam.pipeline.run import run_job as run_job
from overparam.pipeline.settings import JobSettings as JobSettings
