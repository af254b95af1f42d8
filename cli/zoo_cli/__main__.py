"""``python -m zoo_cli`` is the `zoo` command, also for launchers such as ``accelerate launch -m zoo_cli``."""

from __future__ import annotations

from zoo_cli.main import program

if __name__ == "__main__":
    program()
