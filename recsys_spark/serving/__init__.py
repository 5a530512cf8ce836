"""The HTTP service: lists, similar items and events over the online store and the champion. Imports no mlflow."""
