"""What is remembered: stages, store, index and the `Memory` that ties them together."""
