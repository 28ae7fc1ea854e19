"""Constraints that hold what an extra of pyproject.toml needs to the lowest versions that it allows, on stdout.

``python .ci/lowest.py EXTRA``. What its packages need in turn is not held: it comes as it comes to anybody.
"""

import re
import sys
import tomllib
from pathlib import Path

NEED = re.compile(r"([\w.-]+)(?:\[([\w,-]+)\])?(?:>=([\w.]+))?")


def lowest(extra: str) -> dict[str, str]:
    """Lowest version of each package that an extra names, with those of the package itself."""
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    found, left = {}, [*project["dependencies"], f"{project['name']}[{extra}]"]
    while left:
        need = left.pop()
        match = NEED.match(need)
        name, extras, version = match.groups() if match else ("", "", "")
        if name == project["name"]:
            left += [need for part in extras.split(",") for need in project["optional-dependencies"][part]]
        elif version:
            found[name] = version
        else:
            sys.exit(f"{need}: a lowest version was expected, as in {need}>=1.0")
    return found


if __name__ == "__main__":
    for name, version in sorted(lowest(sys.argv[1]).items()):
        print(f"{name}=={version}")
