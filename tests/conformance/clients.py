"""The clients, in the order of the table, and how each one's driver is started."""

from harness import paths

PYTHON = str(paths.PYTHON)


def python(script: str):
    return lambda: [PYTHON, f"drivers/{script}"]


def go(name: str):
    return lambda: [str(paths.DEPS / "conformance" / name)]


CLIENTS = {
    "confluent-kafka-python": python("confluent.py"),
    "aiokafka": python("aio.py"),
    "kafka-python": python("kafkapython.py"),
    "Sarama": go("sarama"),
    "kafka-go": go("kafkago"),
    "franz-go": go("franz"),
}
# Makes topics and records for clients that are not to, or cannot.
MAKER = "confluent-kafka-python"
