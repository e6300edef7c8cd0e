"""The image has all that the service needs, and nothing else of the checkout."""

import re
import tomllib
from pathlib import Path

DOCKERFILE = Path("Dockerfile").read_text()
COPIED = [
    source
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
    for source in line.split()[:-1]
]


def test_every_package_is_in_the_image() -> None:
    tools = tomllib.loads(Path("pyproject.toml").read_text())["tool"]
    packages = [name.rstrip("*") for name in tools["setuptools"]["packages"]["find"]["include"]]
    assert [source for source in COPIED if Path(source).is_dir()] == packages


def test_what_is_copied_into_the_image_exists_and_is_sent_to_its_builder() -> None:
    assert [source for source in COPIED if not Path(source).exists()] == []
    sent = [line[1:] for line in Path(".dockerignore").read_text().splitlines() if line[0] == "!"]
    assert sorted(sent) == sorted(COPIED)
