"""Real time: live events, the online store, and lists made from it at once. Imports neither pyspark nor mlflow."""
