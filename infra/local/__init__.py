"""The laptop and CI stack: a supervisor and a Kafka broker, without root, docker or a system Java."""
