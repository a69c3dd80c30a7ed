"""The laptop and CI stack: a supervisor of processes and a Kafka broker, without root, docker or a system Java."""
