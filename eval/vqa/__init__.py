"""The benchmark of questions about images, and the drawings: a small one made here, with a student for it."""
