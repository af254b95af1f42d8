"""Sensor data: decoding, packing into network inputs, and writing DNG files. Torch-free."""
