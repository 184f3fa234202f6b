"""Predict clips with a trained model, and show the evidence for a prediction."""
