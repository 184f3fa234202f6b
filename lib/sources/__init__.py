"""Corpora, a module each: how their files come in and which labels they have; and what is done with all of them alike."""
