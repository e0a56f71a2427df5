"""Print the lowest version of each package that an application may need, as pip's constraints."""

import tomllib
from pathlib import Path

BELOW = ("greenlet==3.1.1", "werkzeug==3.1.0")
"""Of what lies below them, too: gevent before 26.5 ends the interpreter on a newer greenlet."""

project = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text("utf-8"))
needed = list(project["project"]["dependencies"])
for extra in ("redis", "demo", "openai", "otel", "metrics"):
    needed += project["project"]["optional-dependencies"][extra]
for each in needed:
    name, lowest = each.split(">=")
    print(f"{name.split('[')[0]}=={lowest}")
print(*BELOW, sep="\n")
