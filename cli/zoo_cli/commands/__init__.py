"""The sub-commands, one a module, each imported only when it is used; see :data:`zoo_cli.main.COMMANDS`."""
