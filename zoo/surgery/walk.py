"""The former name of :mod:`zoo.surgery.module_tree`, kept for plugins written for contract 1."""

from zoo.surgery.module_tree import names_of, replace_module

__all__ = ["names_of", "replace_module"]
