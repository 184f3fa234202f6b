"""What people read: figures, the report's page, the model card."""
