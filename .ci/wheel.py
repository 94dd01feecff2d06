"""Does a wheel hold the package, all of it and nothing else?

python .ci/wheel.py dist/*.whl
"""

import subprocess
import sys
import zipfile

held = {name for name in zipfile.ZipFile(sys.argv[1]).namelist() if ".dist-info/" not in name}
listed = subprocess.run(
    ["git", "ls-files", "src/overparam"], capture_output=True, text=True, check=True
)
wanted = {name.removeprefix("src/") for name in listed.stdout.split()}
for what, names in {"missing": wanted - held, "not of the package": held - wanted}.items():
    for name in sorted(names):
        print(f"{what}: {name}", file=sys.stderr)
if held != wanted:
    sys.exit(1)
print(f"{len(held)} files, and no other")
