"""What rounding does to each tensor of an exported file, measured on data in the engine."""
