"""What is watched: drift, bias and anomalies of a day, judged and told."""
