"""What is kept: the SQLite database, the pictures beside it, and everything that reads or changes them."""
