from overparam.steps.stable_step import StableStep as StableStep
from overparam.steps.stable_step import stable_step as stable_step
from overparam.steps.transfer import CertifiedSteps as CertifiedSteps
from overparam.steps.transfer import StepGuarantee as StepGuarantee
from overparam.steps.transfer import StepTransfer as StepTransfer
from overparam.steps.transfer import certified_steps as certified_steps
from overparam.steps.transfer import step_guarantee as step_guarantee
from overparam.steps.transfer import transfer_step as transfer_step
