"""How good an answer is, what a judge says of it, and how sure a difference between two systems is."""
