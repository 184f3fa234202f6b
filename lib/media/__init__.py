"""Reading and writing video and sound files."""
