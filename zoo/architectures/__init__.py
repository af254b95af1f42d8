"""Built-in architectures, each an entry point of the group `zoo.architectures`."""
