"""The clients, in the order of the table, and how each one's driver is started."""

import subprocess

from harness import java, paths

PYTHON = str(paths.PYTHON)


def python(script: str):
    return lambda: [PYTHON, f"drivers/{script}"]


def go(name: str):
    return lambda: [str(paths.DEPS / "conformance" / name)]


def jvm(classpath: str):
    """The driver in Java, compiled for the client that is in the classpath."""
    def command() -> list[str]:
        classes = java.compiled("../../conformance/drivers/java/Driver.java", classpath)
        return ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC",
                f"-Dlog4j2.configurationFile={java.SOURCES}/log4j2.properties", "-cp", f"{classes}:{classpath}", "Driver"]
    return command


CLIENTS = {
    "Java": jvm(paths.KAFKA_CLASSPATH),
    "Java 2.8": jvm(paths.OLD_CLIENT_CLASSPATH),
    "confluent-kafka-python": python("confluent.py"),
    "kcat": python("kcat.py"),
    "aiokafka": python("aio.py"),
    "kafka-python": python("kafkapython.py"),
    "Sarama": go("sarama"),
    "kafka-go": go("kafkago"),
    "franz-go": go("franz"),
    "KafkaJS": lambda: ["node", "drivers/kafkajs.js"],
    "platformatic": lambda: ["node", "drivers/platformatic.js"],
}


def lacking(client: str) -> str | None:
    """Why the client cannot run on this machine, if it cannot."""
    if client != "platformatic":
        return None
    told = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    version = tuple(int(part) for part in told.lstrip("v").split(".")[:2])
    return None if version >= (20, 19) else f"it needs Node.js 20.19, here is {told}"


# Makes topics and records for clients that are not to, or cannot.
MAKER = "confluent-kafka-python"
