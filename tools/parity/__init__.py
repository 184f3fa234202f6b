"""Published networks, rebuilt from this project's parts: a module for each family of fixtures."""
