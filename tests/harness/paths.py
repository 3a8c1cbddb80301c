"""Where things are: the repository, what `make setup` installed, and what cargo built."""

import functools
import json
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPS = pathlib.Path(os.environ.get("MILLRACE_DEPS", ROOT / ".deps"))
PYTHON = DEPS / "venv" / "bin" / "python"
KAFKA_CLASSPATH = f"{DEPS}/kafka-libs/*"
STREAMS_CLASSPATH = f"{KAFKA_CLASSPATH}:{DEPS}/kafka-streams/*"
OLD_CLIENT_CLASSPATH = f"{DEPS}/kafka-clients-2.8/*"
CONNECT_CLASSPATH = f"{DEPS}/kafka-connect/*"


@functools.cache
def target_dir() -> pathlib.Path:
    """Cargo's target directory, whatever decides it: environment, configuration or default."""
    if "CARGO_TARGET_DIR" in os.environ:
        return (ROOT / os.environ["CARGO_TARGET_DIR"]).resolve()
    metadata = subprocess.run(["cargo", "metadata", "--format-version=1", "--no-deps"],
                              cwd=ROOT, check=True, capture_output=True, text=True)
    return pathlib.Path(json.loads(metadata.stdout)["target_directory"])


def binary(name: str) -> str:
    """A program of ours, from the release build unless MILLRACE_BIN_DIR says otherwise."""
    directory = pathlib.Path(os.environ.get("MILLRACE_BIN_DIR") or target_dir() / "release")
    path = directory / name
    if not path.exists():
        raise SystemExit(f"{path} is missing: run `make build` first")
    return str(path)
