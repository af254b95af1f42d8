"""Quantization-aware training of any `nn.Module` that torch.fx can trace: int8 that engines run whole."""
