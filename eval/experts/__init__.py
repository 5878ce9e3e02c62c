"""What each expert adds: base against experts under the same constrained decoding, in one table."""
