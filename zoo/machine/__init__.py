"""What this machine has: processors, memory, control groups, NVIDIA hardware."""
