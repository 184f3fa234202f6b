"""The speaker's face in every frame, aligned to one template."""
