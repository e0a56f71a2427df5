"""Before a release: `release.py look` says what is in its way, `release.py build` makes dist/.

`make release` does both, with every test in between. Nothing is uploaded and no tag is set: the
last lines say how. Exit status: 0, or 1 with the reasons.
"""

import json
import re
import shutil
import subprocess
import sys
from datetime import UTC, date, datetime
from os import environ
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERSION = re.compile(r"\d+\.\d+\.\d+")
HEADING = re.compile(r"^## \[(.*?)\] - (.*)$", re.MULTILINE)


def said(*command: str, folder: Path) -> str:
    return subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def version_of(folder: Path) -> str:
    """The version's one place."""
    text = (folder / "streaming/__init__.py").read_text("utf-8")
    return re.findall(r'^__version__ = "(.*)"$', text, re.MULTILINE)[0]


def of_versions(folder: Path, version: str) -> list[str]:
    found = []
    if not VERSION.fullmatch(version):
        found.append(f"streaming.__version__ is {version}, and no release: 1.2.3")
    npm = json.loads((folder / "browser/package.json").read_text("utf-8"))["version"]
    if npm != version:
        found.append(f"browser/package.json says {npm}, streaming.__version__ {version}")
    return found


def of_changelog(folder: Path, version: str, today: date) -> list[str]:
    text = (folder / "CHANGELOG.md").read_text("utf-8")
    newest, dated = next(iter(HEADING.findall(text)), ("nothing", ""))
    if newest != version:
        return [f"CHANGELOG.md begins with {newest}, and not with {version}"]
    if dated != today.isoformat():
        return [f"CHANGELOG.md dates {version} {dated}; today is {today.isoformat()}"]
    if not re.search(r"^- ", HEADING.split(text)[3], re.MULTILINE):
        return [f"CHANGELOG.md says nothing of {version}"]
    return []


def of_git(folder: Path, version: str) -> list[str]:
    found = []
    if changed := said("git", "status", "--porcelain", folder=folder):
        found.append(f"not everything is committed:\n{changed}")
    if said("git", "tag", "--list", f"v{version}", folder=folder):
        found.append(f"the tag v{version} is there already")
    return found


def refusals(folder: Path, today: date) -> list[str]:
    """All that is in the way of a release of what this folder holds."""
    version = version_of(folder)
    return [
        *of_versions(folder, version),
        *of_changelog(folder, version, today),
        *of_git(folder, version),
    ]


def build(folder: Path) -> list[Path]:
    """The wheel, the source distribution and npm's package, anew in dist/; the wheel is tried."""
    dist = folder / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    python = [sys.executable, "-m"]
    run([*python, "build", "--outdir", str(dist), "."], folder)
    run(["npm", "pack", "--silent", "--pack-destination", str(dist)], folder / "browser")
    made = sorted(dist.iterdir())
    if [file.suffix for file in made] != [".tgz", ".whl", ".gz"]:
        raise SystemExit(f"dist/ has {', '.join(file.name for file in made)}")
    uploaded = [str(file) for file in made if file.suffix != ".tgz"]
    run([*python, "twine", "check", "--strict", *uploaded], folder)
    # Into an empty environment, where the README's examples are served and types are checked.
    run([*python, "pytest", "-q", "tests/live/test_install.py"], folder, WHEEL=uploaded[0])
    return made


def run(command: list[str], folder: Path, **variables: str) -> None:
    print("$", *command, flush=True)
    subprocess.run(command, cwd=folder, check=True, env={**environ, **variables})


def farewell(version: str, made: list[Path]) -> str:
    npm, *python = (f"dist/{file.name}" for file in made)
    return f"""
{version} is ready. What is left is yours:

    git tag --annotate v{version} --message "flask-streaming {version}"
    git push origin HEAD v{version}
    {Path(sys.executable).parent}/twine upload {" ".join(python)}
    npm publish {npm}
"""


def main(step: str) -> int:
    found = refusals(ROOT, datetime.now(UTC).date())
    if found:
        print("No release:", *found, sep="\n- ")
        return 1
    if step == "build":
        made = build(ROOT)
        if changed := said("git", "status", "--porcelain", folder=ROOT):
            print(f"Building has changed the tree:\n{changed}")
            return 1
        print(farewell(version_of(ROOT), made))
    return 0


if __name__ == "__main__":
    if sys.argv[1:] not in (["look"], ["build"]):
        raise SystemExit(__doc__)
    raise SystemExit(main(sys.argv[1]))
