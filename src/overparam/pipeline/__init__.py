"""The jobs, from data to findings: a network drawn anew or trained elsewhere, and certificates."""

from overparam.pipeline.result import JobResult as JobResult
from overparam.pipeline.run import anchor_network as anchor_network
from overparam.pipeline.run import run_job as run_job
from overparam.pipeline.settings import AnchorSettings as AnchorSettings
from overparam.pipeline.settings import JobSettings as JobSettings
