"""The explanations: functions from a model and a batch to frozen records."""
