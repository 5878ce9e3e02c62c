"""Learning from a teacher: data, training and the search for experts."""
