"""Plugins of real distributions: found without being imported, checked when loaded, refused by name."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.fake_distributions import Result, install, install_technique, python, technique, zoo
from zoo import plugins
from zoo.contracts import CONTRACT_VERSION
from zoo.errors import UnknownIdError, UsageError
from zoo.plugins.discovery import BUILTIN_DISTRIBUTION, discover
from zoo_cli.main import main

NOISY = """
import os
print("noise")
os.system("echo noise of a child")
os.write(1, b"noise of native code")
"""
NET = """
from zoo.contracts import Architecture, InputSpec, OutputSpec

class Net(Architecture):
    contract = 1
    family = True
    summary = "a net"
    task = "classification"
    input = InputSpec("rgb", 3)
    output = OutputSpec("logits", 10)

    def __init__(self, member):
        self.id = "nets:" + member
        if member == "bad":
            raise RuntimeError("no GPU")

    def build(self):
        from torch import nn
        return nn.Conv2d(3, 10, 1)
"""

Run = Callable[..., Result]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs a command in this process, with the distributions in `tmp_path` installed."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("ZOO_PLUGINS", raising=False)
    before = set(sys.modules)

    def run(*args: str) -> Result:
        capfd.readouterr()
        try:
            code = main(args)
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        return Result(code, *capfd.readouterr())

    yield run
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def standings(run: Run, *, check: bool = True) -> dict[str, dict[str, str]]:
    """What ``zoo plugins --json`` says of the plugins that are not built in, by full id."""
    records = run("plugins", "--json", *(["--check"] if check else [])).json["plugins"]
    return {f"{each['distribution']}:{each['id']}": each for each in records if not each["builtin"]}


def elsewhere(*path: Path, **environment: str) -> Run:
    """Runs a command in a process of its own, with the distributions in `path` installed."""
    return functools.partial(zoo, path=path, **environment)


# ---------------------------------------------------------------------------------------------- the good case


def test_a_third_party_technique_is_listed_and_used_like_a_built_in_one(tmp_path: Path, here: Run) -> None:
    install_technique(tmp_path, "zoo-fancy", "fancy", version="2.5")
    listed = here("list", "techniques", "--json").json["techniques"]
    assert {"fancy", "depthwise", "qat"} <= {each["id"] for each in listed}
    found = standings(here)["zoo-fancy:fancy"]
    assert (found["state"], found["version"]) == ("ok", "2.5")
    told = here("info", "fancy", "--json").json
    assert told["distribution"] == "zoo-fancy"
    assert told["options"][0]["name"] == "strength"


def test_built_in_plugins_are_ordinary_entry_points() -> None:
    found = {(plugin.kind, plugin.id) for plugin in discover() if plugin.distribution == BUILTIN_DISTRIBUTION}
    assert {("architectures", "unet"), ("techniques", "qat"), ("engines", "onnxruntime")} <= found
    assert {("datasets", "darkroom"), ("devices", "host")} <= found


def test_finding_500_plugins_imports_none_of_them(tmp_path: Path, here: Run) -> None:
    for number in range(500):
        source = "raise RuntimeError('imported')"
        install_technique(tmp_path, f"zoo-fake{number}", f"fake-{number}", source)
    program = (
        "import sys\nfrom zoo.plugins.discovery import discover\n"
        "found = [p for p in discover() if p.distribution.startswith('zoo-fake')]\n"
        "from zoo_cli.main import main\n"
        "assert main(['list', 'techniques', '--json']) == 0 and main(['plugins', '--json']) == 0\n"
        "imported = [name for name in sys.modules if name.startswith('zoo_fake')]\n"
        "print(len(found), len(imported), file=sys.stderr)\n"
    )
    done = python("-c", program, path=(tmp_path,))
    assert done.err.split() == ["500", "0"], done.err
    assert done.out.count('"fake-499"') == 2


# ------------------------------------------------------------------------------------------- broken at import


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise ValueError('the wheel is for another CPU')", "ValueError: the wheel is for another CPU"),
        ("import a_package_that_is_not_there", "No module named 'a_package_that_is_not_there'"),
        ("import sys\nsys.exit(0)", "it ends the program with exit(0)"),
        ("raise BaseException", "BaseException"),
        ("def f(:", "SyntaxError"),
        ("Other = 1", "no attribute 'Fancy'"),
    ],
    ids=["error", "missing package", "exit", "BaseException", "syntax", "no such class"],
)
def test_a_plugin_that_fails_to_import_is_broken_and_the_rest_work(
    tmp_path: Path, here: Run, source: str, reason: str
) -> None:
    install_technique(tmp_path, "zoo-bad", "bad", NOISY + source)
    install_technique(tmp_path, "zoo-good", "good")
    found = standings(here)
    assert found["zoo-bad:bad"]["state"] == "broken"
    assert reason in found["zoo-bad:bad"]["reason"]
    assert found["zoo-good:good"]["state"] == "ok"

    used = here("info", "bad", "--json")
    assert used.code == 3
    assert used.json["exit_code"] == 3
    assert "zoo-bad 1.0" in used.err
    assert reason in used.err
    assert "Traceback" not in used.err
    assert here("info", "good").code == 0


def test_what_a_plugin_prints_does_not_get_into_the_json(tmp_path: Path, here: Run) -> None:
    install_technique(tmp_path, "zoo-noisy", "noisy", NOISY + technique("noisy"))
    done = elsewhere(tmp_path)("info", "noisy", "--json")
    assert done.json["id"] == "noisy"
    assert done.err.count("noise") == 3


def test_a_plugin_that_lacks_a_package_of_the_extra_names_the_pip_command(tmp_path: Path, here: Run) -> None:
    source = "raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')"
    install_technique(tmp_path, "zoo-heavy", "heavy", source)
    assert standings(here)["zoo-heavy:heavy"]["state"] == "unavailable"
    done = here("info", "heavy")
    assert done.code == 6
    assert "pip install '.[compress]'" in done.err


def test_an_error_while_a_plugin_is_constructed_names_it(tmp_path: Path, here: Run) -> None:
    install(tmp_path, "zoo-nets", {"zoo.architectures": {"nets": "zoo_nets:Net"}}, NET)
    done = here("info", "nets:bad")
    assert done.code == 3
    assert "zoo-nets" in done.err
    assert "no GPU" in done.err


# --------------------------------------------------------------------------------------------- duplicate ids


def test_an_id_of_two_distributions_is_refused_and_both_are_named(tmp_path: Path, here: Run) -> None:
    install_technique(tmp_path, "zoo-one", "twin", version="1.1")
    install_technique(tmp_path, "zoo-two", "twin", version="2.2")
    found = standings(here)
    assert found["zoo-one:twin"]["state"] == found["zoo-two:twin"]["state"] == "duplicate"
    done = here("info", "twin")
    assert done.code == 3
    assert "zoo-one 1.1 and zoo-two 2.2" in done.err
    assert "zoo-two:twin" in done.err
    assert here("info", "zoo-two:twin", "--json").json["distribution"] == "zoo-two"


def test_a_third_party_does_not_shadow_a_built_in_plugin(tmp_path: Path, here: Run) -> None:
    install_technique(tmp_path, "zoo-evil", "depthwise")
    done = here("info", "depthwise")
    assert done.code == 3
    assert "compression-zoo" in done.err
    assert "zoo-evil" in done.err
    chosen = here("info", "compression-zoo:depthwise", "--json").json
    assert chosen["distribution"] == "compression-zoo"
    chosen = here("info", "Zoo_Evil:depthwise", "--json").json
    assert chosen["distribution"] == "zoo-evil"


def test_of_two_copies_of_a_distribution_the_first_on_the_path_counts(tmp_path: Path, here: Run) -> None:
    install_technique(tmp_path / "new", "zoo-fancy", "fancy", version="2.0")
    install_technique(tmp_path / "old", "zoo-fancy", "older", version="1.0")
    found = standings(elsewhere(tmp_path / "new", tmp_path / "old"))
    assert list(found) == ["zoo-fancy:fancy"]
    assert list(standings(elsewhere(tmp_path / "old", tmp_path / "new"))) == ["zoo-fancy:older"]


def test_a_copy_without_plugins_hides_an_older_copy_with_some(tmp_path: Path, here: Run) -> None:
    install(tmp_path / "new", "zoo-fancy", {})
    install_technique(tmp_path / "old", "zoo-fancy", "fancy")
    assert standings(elsewhere(tmp_path / "new", tmp_path / "old")) == {}


def test_of_two_versions_in_one_folder_the_newer_counts(tmp_path: Path, here: Run) -> None:
    install_technique(tmp_path, "zoo-fancy", "fancy", version="10.0")
    stale = tmp_path / "zoo_fancy-9.5.dist-info"
    stale.mkdir()
    (stale / "entry_points.txt").write_text("[zoo.techniques]\nstale = zoo_fancy:Stale\n")
    assert list(standings(here)) == ["zoo-fancy:fancy"]


# ---------------------------------------------------------------------------------- contract, names, targets


@pytest.mark.parametrize("contract", [CONTRACT_VERSION + 1, 0, "'1'"])
def test_a_plugin_for_another_contract_version_is_refused_with_both_versions(
    tmp_path: Path, here: Run, contract: object
) -> None:
    install_technique(tmp_path, "zoo-future", "future", contract=contract)
    assert standings(here)["zoo-future:future"]["state"] == "wrong contract"
    done = here("info", "future")
    assert done.code == 3
    assert "zoo-future" in done.err
    assert f"version {str(contract).strip(chr(39))}" in done.err
    assert f"version {CONTRACT_VERSION}" in done.err


def test_a_third_party_that_does_not_state_its_contract_version_is_refused(tmp_path: Path, here: Run) -> None:
    source = technique("silent").replace("    contract = 1\n", "")
    install_technique(tmp_path, "zoo-silent", "silent", source)
    done = here("info", "silent")
    assert done.code == 3
    assert f"contract = {CONTRACT_VERSION}" in done.err


@pytest.mark.parametrize("name", ["Fancy", "f", "9lives", "under_score", "x" * 33, "a b", "fan\x07cy", "f:g"])
def test_a_bad_name_is_listed_as_broken_and_cannot_be_used(tmp_path: Path, here: Run, name: str) -> None:
    install(tmp_path, "zoo-names", {"zoo.techniques": {name: "zoo_names:Fancy"}}, technique("fancy"))
    (found,) = standings(here, check=False).values()
    assert found["state"] == "broken"
    assert "not a valid id" in found["reason"]
    done = here("info", name)
    assert done.code != 0
    assert "Traceback" not in done.err
    assert "\x07" not in done.out + done.err


@pytest.mark.parametrize("target", ["", "zoo_names:", "not a target", "zoo_names:Fancy:More", "../x:y"])
def test_a_bad_target_is_listed_as_broken(tmp_path: Path, here: Run, target: str) -> None:
    install(tmp_path, "zoo-names", {"zoo.techniques": {"fancy": target}}, technique("fancy"))
    assert standings(here, check=False)["zoo-names:fancy"]["state"] == "broken"


def test_damaged_metadata_of_one_distribution_does_not_hide_the_others(tmp_path: Path, here: Run) -> None:
    info = install_technique(tmp_path, "zoo-damaged", "damaged")
    (info / "entry_points.txt").write_bytes(b"[zoo.techniques\nx\n[zoo.techniques]\n\xff\xfe = \x00\n=\n[[\n")
    (tmp_path / "zoo_file-1.0.dist-info").write_text("a file where a folder should be")
    (tmp_path / "broken.egg").write_bytes(b"PK\x03\x04 no zip")
    install_technique(tmp_path, "zoo-good", "good")
    found = standings(elsewhere(tmp_path, tmp_path / "broken.egg", tmp_path / "absent"), check=False)
    assert found["zoo-good:good"]["state"] == "not checked"
    assert all(each["state"] == "broken" for name, each in found.items() if name != "zoo-good:good")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("(Technique)", ""), "not a subclass of Technique"),
        (('id = "odd"', 'id = "even"'), "calls itself 'even'"),
        (("Phase.STRUCTURE", "'structure'"), "not a Phase"),
        (("    @dataclass(frozen=True)\n", ""), "not a dataclass"),
        (('    summary = "a technique of a third party"\n', ""), "no 'summary'"),
    ],
)
def test_a_class_that_breaks_the_contract_is_refused(
    tmp_path: Path, here: Run, change: tuple[str, str], reason: str
) -> None:
    install_technique(tmp_path, "zoo-odd", "odd", technique("odd").replace(*change))
    found = standings(here)["zoo-odd:odd"]
    assert found["state"] == "broken"
    assert reason in found["reason"]


# ------------------------------------------------------------------------------------------- switching off


def test_an_empty_zoo_plugins_switches_third_parties_off(
    tmp_path: Path, here: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_technique(tmp_path, "zoo-evil", "depthwise")
    install_technique(tmp_path, "zoo-fancy", "fancy")
    monkeypatch.setenv("ZOO_PLUGINS", "")
    assert {each["state"] for each in standings(here).values()} == {"off"}
    assert here("info", "depthwise", "--json").json["distribution"] == "compression-zoo"
    done = here("info", "fancy")
    assert done.code == 3
    assert "ZOO_PLUGINS" in done.err
    monkeypatch.setenv("ZOO_PLUGINS", "other, Zoo.Fancy")
    assert here("info", "fancy").code == 0


# ------------------------------------------------------------------------------------------ naming in-process


def test_a_misspelt_id_gets_did_you_mean() -> None:
    with pytest.raises(UnknownIdError, match=r"no technique 'depthwize'; did you mean 'depthwise'\?"):
        plugins.technique("depthwize")
    with pytest.raises(UnknownIdError, match="did you mean 'lighter-unet'"):
        plugins.architecture("lihgter-unet")


def test_an_id_of_another_kind_says_so() -> None:
    with pytest.raises(UnknownIdError, match="'unet' is an architecture, not a technique"):
        plugins.technique("unet")


def test_a_family_needs_a_member_and_a_single_architecture_takes_none() -> None:
    with pytest.raises(UsageError, match="timm:NAME"):
        plugins.architecture("timm")
    with pytest.raises(UsageError, match="not a family"):
        plugins.architecture("unet:resnet18")
    assert plugins.architecture("compression-zoo:unet").id == "unet"


def test_a_member_of_a_family_is_found_with_and_without_its_distribution(tmp_path: Path, here: Run) -> None:
    install(tmp_path, "zoo-nets", {"zoo.architectures": {"nets": "zoo_nets:Net"}}, NET)
    for name in ("nets:a", "zoo-nets:nets:a"):
        assert plugins.architecture(name).id == "nets:a"
    assert plugins.architecture("nets:a:b").id == "nets:a:b"


def test_a_family_may_do_without_a_member(tmp_path: Path, here: Run) -> None:
    source = NET.replace('"nets:" + member', '"nets" if member is None else "nets:" + member')
    source = source.replace("family = True", "family = member_optional = True")
    install(tmp_path, "zoo-nets", {"zoo.architectures": {"nets": "zoo_nets:Net"}}, source)
    for name in ("nets", "nets:a"):
        assert plugins.architecture(name).id == name
