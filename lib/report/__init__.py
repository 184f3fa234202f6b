"""Documents for readers: figures, report, paper draft, model card, data sheet, and tables of experiments."""
