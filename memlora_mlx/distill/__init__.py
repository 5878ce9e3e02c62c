"""From a teacher's answers to experts: teacher data, training, the search for the best of them."""
