"""Sweeps: many trainings of one request with other values, chosen by Optuna, and the best of them published."""
