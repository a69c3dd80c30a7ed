"""The learner's daemon: reads the state, takes the step that is due, writes it to the log, reads it back."""
