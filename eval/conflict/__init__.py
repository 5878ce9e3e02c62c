"""The benchmark of memory operations: facts that change, repeat and mislead."""
