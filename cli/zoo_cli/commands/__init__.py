"""The sub-commands, one per module, each imported only when used; see :data:`zoo_cli.main.COMMANDS`."""
