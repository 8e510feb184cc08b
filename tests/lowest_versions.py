"""Print pip constraints that pin what pyproject.toml requires to the lowest versions that it declares."""

import re
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

project = tomllib.loads(Path(sys.argv[1]).read_text())["project"]
for requirement in project["dependencies"]:
    name, version, marker = re.fullmatch(r"([\w-]+)>=([\d.]+)(.*)", requirement).groups()
    print(f"{name}=={version}{marker}")
