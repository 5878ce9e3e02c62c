"""The systems that a benchmark sets side by side, and the student calls they are made of."""
