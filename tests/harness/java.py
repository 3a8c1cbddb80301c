"""Programs that are written in Java and run beside a broker, each in a JVM of its own: to start, kill and look into."""

import functools
import pathlib
import shutil
import subprocess
import sys
import tempfile

from . import paths
from .broker import die_with_parent

SOURCES = paths.ROOT / "tests" / "clients" / "java"
STOPPING_SECONDS_MAX = 60
LOG_LINES_MAX = 60
LOGGING = """\
appender.err.type = Console
appender.err.name = err
appender.err.target = SYSTEM_ERR
appender.err.layout.type = PatternLayout
appender.err.layout.pattern = %d{ABSOLUTE} %p %c{1} %m%n%ex{12}
rootLogger.level = warn
rootLogger.appenderRef.err.ref = err
"""
# Folders to be removed at the end of a suite.
COMPILED: list[pathlib.Path] = []


@functools.cache
def compiled(source: str, classpath: str) -> pathlib.Path:
    """The folder with the classes of one of our programs, which is compiled once."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="millrace-classes-"))
    COMPILED.append(folder)
    subprocess.run(["javac", "-d", str(folder), "-cp", classpath, str(SOURCES / source)], check=True, timeout=120)
    return folder


def put_away():
    """Removes what was compiled; for the end of a suite."""
    for folder in COMPILED:
        shutil.rmtree(folder, ignore_errors=True)


def properties(settings: dict[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in settings.items())


class Program:
    """One program with a directory of its own, in which its files and its log are. Use as a context manager: it leaves nothing behind."""

    def __init__(self, name: str, classpath: str, main: str, files: dict[str, str]):
        """`files` are written into the directory, and their names are the arguments of the class `main`."""
        self.name, self.home = name, pathlib.Path(tempfile.mkdtemp(prefix=f"{name}-test-"))
        self.log_path = self.home / "stderr.log"
        (self.home / "log4j2.properties").write_text(LOGGING)
        for file, text in files.items():
            (self.home / file).write_text(text)
        self.command = ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dlog4j2.configurationFile=log4j2.properties",
                        "-cp", classpath, main, *files]
        self.process: subprocess.Popen | None = None

    def start(self) -> "Program":
        assert not self.alive, "already running"
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.home,
                                            preexec_fn=die_with_parent)
        return self

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """kill -9: it has no time to say anything to anybody."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM, and the exit status it led to: 143 where it ends as it should."""
        self.process.terminate()
        try:
            return self.process.wait(STOPPING_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.show()
            self.kill()
            raise AssertionError(f"{self.name} did not stop within {STOPPING_SECONDS_MAX} s of SIGTERM") from None

    def log_tail(self, lines: int = LOG_LINES_MAX) -> str:
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    def show(self):
        """What it said last, and where its threads are: for what stands still."""
        print(f"--- last lines of {self.name}'s log\n{self.log_tail()}", file=sys.stderr)
        if self.alive:
            stacks = subprocess.run(["jstack", str(self.process.pid)], capture_output=True, text=True, timeout=30).stdout
            print(f"--- threads of {self.name}\n{stacks}---", file=sys.stderr)

    def __enter__(self) -> "Program":
        return self.start()

    def __exit__(self, kind, error, trace):
        if error is not None:
            self.show()
        if self.alive:
            self.kill()
        shutil.rmtree(self.home, ignore_errors=True)
