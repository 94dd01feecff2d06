"""The studies by name."""

import importlib

from overparam.choices import STUDIES
from overparam.errors import InputError
from overparam.limits import require_choice
from overparam.studies.study import Study

NAMES = STUDIES
"""Each is a module of this package that holds its ``STUDY``."""


def get_study(name: str) -> Study:
    """Return a study by its name, or one's own by the module that holds it as ``STUDY``.

    Args:
        name: One of ``NAMES``, or a dotted module path such as ``my_package.my_study``, which
            every worker must be able to import; it is then the study's name, too.

    Raises:
        InputError: There is none of that name.
    """
    if "." in name:
        try:
            return importlib.import_module(name).STUDY
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            raise InputError(f"there is no study in the module {name}: {error}") from None
    require_choice("study", name, NAMES)
    return importlib.import_module(f"overparam.studies.{name}").STUDY
