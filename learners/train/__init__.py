"""From feedback to a judged version: the heavy steps, each a child process (`learners.children`)."""
