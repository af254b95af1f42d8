"""How fast artifacts are, against each other on one machine: for `zoo bench`."""
