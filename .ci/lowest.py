"""The lowest versions that pyproject.toml allows, as constraints for pip.

python .ci/lowest.py > lowest.txt && pip install -c lowest.txt -e '.[dev]'
"""

import re
import tomllib
from pathlib import Path

project = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text("utf-8"))
required = project["project"]["dependencies"] + project["project"]["optional-dependencies"]["dev"]
for requirement in required:
    name, lowest = re.fullmatch(r"([\w.-]+)>=([\d.]+)(?:,.*)?", requirement).groups()
    print(f"{name}=={lowest}")
