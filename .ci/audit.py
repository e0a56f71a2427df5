"""Ask a source of advisories about what applications may need: the lowest versions, and ours.

Exit status: 0, nothing is known that is not argued in docs/dependencies.md; 1, something is; 3, no
source could be reached, and nothing was audited.
"""

import json
import re
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

ROOT = Path(__file__).parents[1]
ARGUED = (
    *("CVE-2025-66221", "CVE-2026-21860", "CVE-2026-27199"),  # Werkzeug, on Windows
    *("CVE-2026-134820", "CVE-2026-134821"),  # gunicorn, for ASGI
)
"""What does not reach who uses this package: docs/dependencies.md says why."""

SOURCES = ("pypi", "osv")


def lowest() -> list[str]:
    """The lowest versions, pinned."""
    command = [sys.executable, str(ROOT / ".ci/lowest.py")]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def installed(names: list[str]) -> list[str]:
    """These packages, and all that they need, in the versions that are installed."""
    found: dict[str, str] = {}
    while names:
        name = names.pop()
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # what another system needs, or an extra
        needed = [need for need in requires(name) or () if "extra ==" not in need]
        names += [each for need in needed if (each := re.split(r"[^\w.-]", need)[0]) not in found]
    return [f"{name}=={found[name]}" for name in sorted(found)]


def audit(pinned: list[str], source: str) -> tuple[list[str], list[str]]:
    """What is known of these versions, and those of which nothing could be learned."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(pinned))
        file.flush()
        command = [sys.executable, "-m", "pip_audit", "--requirement", file.name, "--no-deps"]
        command += ["--disable-pip", "--vulnerability-service", source, "--format", "json"]
        command += ["--progress-spinner", "off", "--timeout", "10"]
        for each in ARGUED:
            command += ["--ignore-vuln", each]
        done = subprocess.run(command, capture_output=True, text=True)
    try:
        asked = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        return [], pinned
    known = [
        f"{each['name']} {each['version']}: {', '.join([one['id'], *one['aliases']])}"
        for each in asked
        for one in each.get("vulns", ())
    ]
    return known, [each["name"] for each in asked if "skip_reason" in each]


def main() -> int:
    """Audit with the first source that answers for all, and say what came of it."""
    pinned = lowest()
    sets = pinned, installed([each.split("==")[0] for each in pinned])
    for source in SOURCES:
        audited = [audit(each, source) for each in sets]
        if any(unknown for _, unknown in audited):
            continue
        found = sorted({line for known, _ in audited for line in known})
        print(*found, sep="\n")
        print(f"audit: {len(found)} known in {sum(map(len, sets))} versions ({source})")
        return 1 if found else 0
    print(
        f"audit: no advisory source could be reached ({', '.join(SOURCES)}); nothing was audited. "
        "docs/dependencies.md argues the lowest versions."
    )
    return 3


if __name__ == "__main__":
    sys.exit(main())
