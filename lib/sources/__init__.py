"""Sources of clips, one module for each corpus (its files and labels), and the code that all corpora share."""
