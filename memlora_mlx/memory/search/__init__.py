"""Search memories and messages together: candidates from vectors and words, one score, and hits as records."""
