"""`make bench`: what this machine does. One module a group of figures; `__main__` puts them into one table."""
