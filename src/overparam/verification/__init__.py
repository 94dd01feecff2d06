"""The independent re-check of certificates in ball arithmetic (python-flint, Arb).

It shares with the code that makes certificates the text of the theorems, the file format and the
classes that hold data; every number that enters a theorem is computed again, along other ways.
"""

from overparam.verification.verify import Verification as Verification
from overparam.verification.verify import verify as verify
