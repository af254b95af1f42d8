"""New plugin packages, complete from the first minute."""

from zoo.scaffold.plugin import KINDS, Package, write_plugin

__all__ = ["KINDS", "Package", "write_plugin"]
