"""Finding memories again: filters as SQL conditions, the vector indexes, and the search that joins both."""
