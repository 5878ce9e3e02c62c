"""Teacher data, the training of experts, and the search for the best training settings."""
