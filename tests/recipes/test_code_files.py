"""A recipe file has no Python code executed that the user did not name or trust."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo.recipes.code_files import code_files
from zoo.recipes.recipe_toml import loads
from zoo_cli.main import main

CODE = "open('canary', 'w').write('executed')\nimport torch\ndef make(): return torch.nn.Conv2d(3, 3, 1)\n"
STAGE = '[[stage]]\ntechnique = "ptq"\n'


@pytest.mark.parametrize(
    "text",
    [
        f'architecture = "./evil.py:make"\n{STAGE}',
        f'architecture = "unet"\ndata = "./evil.py:Data(root=/tmp)"\n{STAGE}',
        'architecture = "unet"\n[[stage]]\ntechnique = "distill"\noptions = {teacher = "./evil.py:make"}\n',
    ],
)
def test_code_that_only_the_file_names_is_not_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("evil.py").write_text(CODE)
    Path("recipe.toml").write_text(text)
    assert code_files(loads(text)) == ("./evil.py",)
    assert main(["apply", "--recipe", "recipe.toml"]) == 2
    assert "would execute Python code: ./evil.py" in capsys.readouterr().err
    assert not Path("canary").exists()


@pytest.mark.parametrize("name", ["./a=.py:Data", "./a b/ .py:Data", "./(.py:Data(root=x)"])
def test_no_name_of_a_file_hides_it(name: str) -> None:
    assert code_files(loads(f'architecture = "unet"\ndata = "{name}"\n{STAGE}')) == (name,)


@pytest.mark.parametrize("more", ["./evil.py:make", "--trust-code"])
def test_code_that_the_user_names_or_trusts_is_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("evil.py").write_text(f"# {more}\n{CODE}")
    Path("recipe.toml").write_text(f'architecture = "./evil.py:make"\n{STAGE}')
    assert main(["apply", "--recipe", "recipe.toml", more]) == 2  # what it takes is not stated
    assert Path("canary").exists()
