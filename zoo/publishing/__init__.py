"""The Hugging Face Hub: where it is, who one is there, and publishing to it."""
