"""A sweep's study and its queue of trials."""
