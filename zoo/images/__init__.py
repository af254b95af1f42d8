"""Pictures: reading and writing files, and comparing pixels."""
