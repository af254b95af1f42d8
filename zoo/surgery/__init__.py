"""Changing the structure of any `nn.Module`."""
