"""The benchmark of conversations and questions: LoCoMo, files of its form, and the user's own conversations."""
