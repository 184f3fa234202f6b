"""The one exception for mistakes in what the user gave."""


class InputError(ValueError):
    """A mistake in the input; its text says what was seen, what is allowed and where to change it."""
