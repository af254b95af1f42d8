"""New plugin packages, complete from the first minute."""

from zoo.scaffold.plugin import Package, write_plugin

__all__ = ["Package", "write_plugin"]
