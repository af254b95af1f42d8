"""The files for contributors: they parse, agree with pyproject.toml, and name what exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from zoo.errors import ZooError
from zoo.schema import parse_toml

ROOT = Path(__file__).resolve().parents[2]
YAML = sorted([*(ROOT / ".github").rglob("*.yml"), ROOT / ".pre-commit-config.yaml"])
#: Packages of zoo that are not for others to import.
INTERNAL = {
    "processes",
    "architectures",
    "benchmarking",
    "doctor",
    "explanation",
    "images",
    "machine",
    "raw",
    "scaffold",
    "schema",
    "storage",
}
PAGES = [ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "CODE_OF_CONDUCT.md")]


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def project() -> dict[str, Any]:
    content = (ROOT / "pyproject.toml").read_bytes()
    return parse_toml(content, "pyproject.toml", error=ZooError)["project"]


def steps(job: str) -> list[dict[str, Any]]:
    return read(".github/workflows/ci.yml")["jobs"][job]["steps"]


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.name)
def test_yaml_files_parse(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text()), dict)


def test_ci_runs_on_every_python_that_the_metadata_name() -> None:
    matrix = read(".github/workflows/ci.yml")["jobs"]["checks"]["strategy"]["matrix"]["python"]
    stated = [found[1] for each in project()["classifiers"] if (found := re.search(r":: (3\.\d+)$", each))]
    assert matrix == stated
    lowest, highest = re.findall(r"3\.(\d+)", project()["requires-python"])
    assert (matrix[0], matrix[-1]) == (f"3.{lowest}", f"3.{int(highest) - 1}")


def test_ci_runs_the_one_command_and_builds_the_documentation() -> None:
    commands = [step["run"] for step in steps("checks") if "run" in step]
    assert commands == ["bash .ci/run"]
    assert (ROOT / ".ci" / "run").is_file()
    assert "mkdocs build --strict --site-dir site" in [step.get("run") for step in steps("docs")]
    for job in ("checks", "docs"):
        assert "pip" in [step.get("with", {}).get("cache") for step in steps(job)]


def test_issue_forms_are_complete() -> None:
    forms = [path for path in YAML if path.parent.name == "ISSUE_TEMPLATE" and path.stem != "config"]
    assert len(forms) >= 3
    for path in forms:
        form = yaml.safe_load(path.read_text())
        assert {"name", "description", "body"} <= form.keys()
        identifiers = [field["id"] for field in form["body"]]
        assert len(set(identifiers)) == len(identifiers)
        assert all(field["attributes"]["label"] for field in form["body"])


def test_hooks_run_the_tools_of_the_extra_lint() -> None:
    names = {re.split(r"[><=~]", each)[0] for each in project()["optional-dependencies"]["lint"]}
    programs = {"lint-imports": "import-linter"}
    for repository in read(".pre-commit-config.yaml")["repos"]:
        assert repository["repo"] == "local"
        for hook in repository["hooks"]:
            words = [word for word in shlex.split(hook["entry"]) if "=" not in word and word != "env"]
            assert programs.get(words[0], words[0]) in names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_folders_that_are_named_exist(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (ROOT / target).exists(), target
    if page.name == "CONTRIBUTING.md":
        for name in re.findall(
            r"`((?:zoo|techniques|cli|plugins|tests|docs|examples|checkpoints)/[\w/.-]*)`", text
        ):
            assert (ROOT / name).exists(), name


def test_the_changelog_leads_to_modules_that_exist() -> None:
    rows = re.findall(r"^\| .*? \| (.*?) \|$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`(zoo(?:\.\w+)+)`", row)]
    assert len(named) > 20
    for name in named:
        path = ROOT.joinpath(*name.split("."))
        assert path.is_dir() or path.with_suffix(".py").is_file(), name


def test_every_public_package_has_a_page_in_the_api_reference() -> None:
    documented = {path.stem for path in (ROOT / "docs" / "api").glob("*.md")}
    packages = {path.parent.name for path in (ROOT / "zoo").glob("*/__init__.py")}
    assert packages - INTERNAL <= documented
    nav = (ROOT / "mkdocs.yml").read_text()
    assert [name for name in documented if f"api/{name}.md" not in nav] == []
