"""Running an artifact on files: decode, pack, infer in tiles, write. Needs no torch."""
