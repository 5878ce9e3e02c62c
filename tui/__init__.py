"""The Textual app: the same library calls as the command line, on a full screen."""
