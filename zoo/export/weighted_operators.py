"""The operators of a file that are layers of the network."""

from __future__ import annotations

#: Operators that hold a layer's weight, whose names they have in the files that are exported here, and at which input.
WEIGHTED = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1, "ConvInteger": 1, "MatMulInteger": 1}
