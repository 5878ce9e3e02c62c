"""One module a screen; each loads when it is first shown."""
