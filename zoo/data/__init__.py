"""Built-in datasets, each an entry point of the group `zoo.datasets`."""
