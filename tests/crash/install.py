"""Installing: what `make install` and `make deb` put where, the package as dpkg unpacks, installs and removes it, and a broker that is
started from it with its sample settings."""

import gzip
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile

from confluent_kafka import Consumer, Producer

from harness import paths
from harness.broker import Millrace
from harness.suite import Skipped, equal, eventually, main, test, unique

PROGRAMS = ["millrace", "millracectl", "millrace-bench"]
BIN = pathlib.Path(paths.binary("millrace")).parent
VERSION = re.search(r'^version = "(.*)"$', (paths.ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
# All of it is below one directory, which goes at the end.
SCRATCH = pathlib.Path(tempfile.mkdtemp(prefix="millrace-install-"))


def run(*command, status: int = 0, **options) -> str:
    done = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=300, cwd=paths.ROOT, **options)
    equal(done.returncode, status, f"{command[0]}: {done.stdout[-500:]}")
    return done.stdout


def make(*args: str) -> str:
    return run("make", f"BIN={BIN}", *args)


def package() -> pathlib.Path:
    """The package, built once."""
    built = list(SCRATCH.glob("millrace_*.deb"))
    if not built:
        make("deb", f"TARGET={SCRATCH}")
        built = list(SCRATCH.glob("millrace_*.deb"))
    return built[0]


class Installed(Millrace):
    """A broker from an installed tree, with the settings in it, but for where it listens and has its data."""

    def __init__(self, root: pathlib.Path):
        super().__init__()
        self.root = root

    def command(self) -> list[str]:
        return [str(self.root / "usr/bin/millrace"), "--config", str(self.root / "etc/millrace/server.properties"),
                "--override", f"listeners=PLAINTEXT://{self.address}", "--override", f"log.dirs={self.data}"]


@test(seconds=300)
def a_package_is_unpacked_and_its_broker_serves():
    root = SCRATCH / "unpacked"
    run("dpkg-deb", "-x", package(), root)
    for program in PROGRAMS:
        file = root / "usr/bin" / program
        assert ".symtab" not in run("readelf", "-S", "-W", file), f"{program} is not stripped"
        said = run(file, "--version").strip()
        assert re.fullmatch(rf"{program} {re.escape(VERSION)}( \([0-9a-f]+\+?\))?", said), said
        page = gzip.decompress((root / f"usr/share/man/man1/{program}.1.gz").read_bytes()).decode()
        assert ".SH OPTIONS" in page or ".SH SUBCOMMANDS" in page, page
    assert (root / "usr/share/man/man1/millracectl-topics-create.1.gz").exists()
    with Installed(root) as server:
        topic = unique("installed")
        producer = Producer({"bootstrap.servers": server.address})
        producer.produce(topic, b"x")
        equal(producer.flush(20), 0, "left")
        consumer = Consumer({"bootstrap.servers": server.address, "group.id": topic, "auto.offset.reset": "earliest"})
        consumer.subscribe([topic])
        equal(eventually(lambda: consumer.poll(0.5), 30, "a record").value(), b"x", "the record")
        consumer.close()
        assert "changes nothing" not in server.log_path.read_text(), server.log_tail()
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: "SIGHUP: no setting is different" in server.log_path.read_text(), 20, "a reload")
        equal(server.stop(), 0, "exit status")


@test(seconds=300)
def a_package_says_what_it_is_and_what_it_needs():
    control = run("dpkg-deb", "--field", package())
    for line in [f"Version: {VERSION}\n", "Package: millrace\n"]:
        assert line in control, control
    needed = [tuple(map(int, version.split("."))) for program in PROGRAMS
              for version in re.findall(r"GLIBC_([\d.]+)", run("objdump", "-T", BIN / program))]
    assert f"libc6 (>= {'.'.join(map(str, max(needed)))})" in control, control
    unpacked = SCRATCH / "control"
    run("dpkg-deb", "--control", package(), unpacked)
    equal((unpacked / "conffiles").read_text(), "/etc/millrace/server.properties\n", "conffiles")
    for script in ["postinst", "prerm", "postrm"]:
        run("sh", "-n", unpacked / script)
    listed = run("dpkg-deb", "--contents", package())
    for line in listed.splitlines():
        assert " root/root " in line, line
        mode = line.split()[0]
        assert mode[5] == "-" and mode[8] == "-", f"others may write: {line}"
    for file in ["lib/systemd/system/millrace.service", "lib/sysusers.d/millrace.conf", "share/bash-completion/completions/millracectl",
                 "share/zsh/vendor-completions/_millracectl", "share/fish/vendor_completions.d/millracectl.fish",
                 "share/doc/millrace/copyright", "share/doc/millrace/OPERATING.md"]:
        assert f" ./usr/{file}\n" in listed, f"no {file} in {listed}"


def dpkg(root: pathlib.Path, *args) -> str:
    """In a directory of its own; scripts know from DPKG_ROOT that it is not the system's."""
    return run("dpkg", f"--root={root}", "--force-script-chrootless", "--force-not-root", "--force-depends", "--log=/dev/null", *args,
               env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"})


@test(seconds=300)
def what_is_stripped_off_is_kept_for_debuggers():
    package()
    (debug,) = SCRATCH.glob("millrace-dbgsym_*.deb")
    assert f"millrace (= {VERSION})" in run("dpkg-deb", "--field", debug), "it is of one build of the programs"
    root, symbols = SCRATCH / "unpacked", SCRATCH / "symbols"
    if not root.exists():
        run("dpkg-deb", "-x", package(), root)
    run("dpkg-deb", "-x", debug, symbols)
    for program in PROGRAMS:
        (build,) = re.findall(r"Build ID: (\w+)", run("readelf", "-n", root / "usr/bin" / program))
        file = symbols / "usr/lib/debug/.build-id" / build[:2] / f"{build[2:]}.debug"
        sections = run("readelf", "-S", "-W", file)
        assert ".symtab" in sections and ".debug_line" in sections, f"{program}: {sections[-500:]}"
    assert not (root / "usr/lib/debug").exists(), "it is in the package of the programs, too"


@test(seconds=600)
def the_image_is_built_and_its_profile_lets_io_uring_through():
    install = paths.ROOT / "tools" / "install"
    profile = json.loads((install / "seccomp.json").read_text())
    equal(profile["defaultAction"], "SCMP_ACT_ERRNO", "what is not named")
    allowed = {name for rule in profile["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" and not rule.get("args") for name in rule["names"]}
    equal({"io_uring_setup", "io_uring_enter", "io_uring_register"} - allowed, set(), "refused")
    for name in ["mount", "ptrace", "bpf", "kexec_load", "init_module", "unshare", "setns"]:
        assert name not in allowed, f"{name} is allowed"
    used = system_calls_of_a_broker()
    equal(used - allowed, set(), "system calls of a broker that the profile refuses")
    # It copies what is there, and its settings are such as the broker takes.
    for source in re.findall(r"^COPY (?!--from)(\S+) ", (install / "Containerfile").read_text(), re.MULTILINE):
        assert (paths.ROOT / source).exists(), f"{source} is not there"
    for line in (install / "container.properties").read_text().splitlines():
        assert not line or line.startswith("#") or re.fullmatch(r"[a-z.]+=\S+", line), line
    engine = next((name for name in ["podman", "docker"] if shutil.which(name)
                   and subprocess.run([name, "info"], capture_output=True, timeout=60).returncode == 0), None)
    if not engine:
        raise Skipped("the image was not built: there is no podman or docker that runs; the profile was looked at")
    run("make", "container", f"ENGINE={engine}")
    assert VERSION in run(engine, "run", "--rm", f"millrace:{VERSION}", "--version")


def system_calls_of_a_broker() -> set[str]:
    """From its first instruction to its last, as strace tells; none without it."""
    if not shutil.which("strace"):
        return set()
    log = SCRATCH / "strace.log"

    class Traced(Millrace):
        def command(self) -> list[str]:
            return ["strace", "-f", "-qq", "-c", "-S", "name", "-o", str(log), *super().command()]

    with Traced() as server:
        producer = Producer({"bootstrap.servers": server.address})
        producer.produce(unique("traced"), b"x")
        equal(producer.flush(30), 0, "left")
        # The broker is a child of who traces it.
        children = pathlib.Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGTERM)
        server.process.wait(30)
    # The last word of each line of the table, but for its head and its sum.
    lines = [line.split() for line in log.read_text().splitlines()]
    return {words[-1] for words in lines if words and re.fullmatch(r"[a-z_0-9]+", words[-1]) and words[-1] not in ("syscall", "total")}


@test(seconds=120)
def a_service_manager_is_told():
    """READY=1 not before clients are let in, STOPPING=1 at a stop."""
    with tempfile.TemporaryDirectory(prefix="millrace-notify-") as home, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"{home}/notify")
        manager.settimeout(30)
        os.environ["NOTIFY_SOCKET"] = f"{home}/notify"
        try:
            server = Millrace()
            server.spawn()
        finally:
            del os.environ["NOTIFY_SOCKET"]
        try:
            assert manager.recv(1000).startswith(b"READY=1\n"), "the first that it hears"
            socket.create_connection((server.host, server.port), timeout=10).close()
            equal(server.stop(), 0, "exit status")
            assert manager.recv(1000).startswith(b"STOPPING=1\n"), "the next"
        finally:
            server.__exit__(None, None, None)


@test(seconds=300)
def dpkg_installs_upgrades_and_removes_it_and_keeps_settings_and_data():
    root = SCRATCH / "dpkg"
    for directory in ["info", "updates"]:
        (root / "var/lib/dpkg" / directory).mkdir(parents=True)
    (root / "var/lib/dpkg/status").touch()
    dpkg(root, "--install", package())
    assert "Status: install ok installed" in dpkg(root, "--status", "millrace")
    settings = root / "etc/millrace/server.properties"
    settings.write_text(settings.read_text() + "num.partitions=3\n")
    record = root / "var/lib/millrace/store-0"
    record.parent.mkdir(parents=True)
    record.write_text("data")
    dpkg(root, "--install", package())
    assert settings.read_text().endswith("num.partitions=3\n"), "an upgrade keeps settings"
    with Installed(root) as server:
        equal(server.stop(), 0, "exit status")
        assert f"{settings}:{settings.read_text().count(chr(10))}: num.partitions: 1 -> 3" in server.log_path.read_text(), server.log_tail()
    dpkg(root, "--remove", "millrace")
    assert settings.exists() and not (root / "usr/bin/millrace").exists()
    assert "is kept" in dpkg(root, "--purge", "millrace")
    assert not settings.exists() and record.exists()


@test(seconds=300)
def a_second_make_install_keeps_settings():
    root = SCRATCH / "local"
    make("install", f"DESTDIR={root}")
    settings = root / "usr/local/etc/millrace/server.properties"
    sample = settings.read_text()
    assert "\nlog.dirs=/var/lib/millrace\n" in sample, sample
    unit = (root / "usr/local/lib/systemd/system/millrace.service").read_text()
    assert "ExecStart=/usr/local/bin/millrace --config /usr/local/etc/millrace/server.properties\n" in unit, unit
    settings.write_text("num.partitions=3\n")
    make("install", f"DESTDIR={root}")
    equal(settings.read_text(), "num.partitions=3\n", "the settings")
    equal((root / "usr/local/share/doc/millrace/server.properties").read_text(), sample, "the sample")
    texts = [settings, root / "usr/local/share/doc/millrace/server.properties", root / "usr/local/lib/systemd/system/millrace.service",
             root / "usr/local/lib/sysusers.d/millrace.conf"]
    equal([str(file) for file in texts if re.search("@[A-Z]+@", file.read_text())], [], "places that were not filled in")


@test(seconds=300)
def the_unit_is_what_systemd_takes():
    prefix = SCRATCH / "prefix"
    make("install", f"PREFIX={prefix}")
    unit = prefix / "lib/systemd/system/millrace.service"
    text = unit.read_text()
    for line in ["LimitNOFILE=1048576", "LimitMEMLOCK=infinity", "NoNewPrivileges=yes", "ProtectSystem=strict", "User=millrace",
                 "StateDirectory=millrace", "ExecReload=/bin/kill -HUP $MAINPID", "Type=notify", "TimeoutStartSec=infinity"]:
        assert f"\n{line}\n" in text, f"no {line}"
    assert "@" not in text.replace("@system-service", ""), text
    if not shutil.which("systemd-analyze"):
        raise Skipped("there is no systemd-analyze")
    said = run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit)
    equal(said, "", "what it says of the unit")
    # From 0, safe, to 100: what it would be without hardening is 96.
    run("systemd-analyze", "security", "--offline=true", "--threshold=30", unit)


@test(seconds=120)
def completions_complete_and_pages_are_pages():
    root = SCRATCH / "unpacked"
    if not root.exists():
        run("dpkg-deb", "-x", package(), root)
    script = root / "usr/share/bash-completion/completions/millracectl"
    complete = f'. {script}; COMP_WORDS=(millracectl top); COMP_CWORD=1; _millracectl millracectl top millracectl; echo "${{COMPREPLY[@]}}"'
    assert "topics" in run("bash", "-c", complete).split(), "millracectl top<TAB>"
    for shell, file in [("zsh", "zsh/vendor-completions/_millracectl"), ("fish", "fish/vendor_completions.d/millracectl.fish")]:
        if shutil.which(shell):
            run(shell, "-n", root / "usr/share" / file)
    if not shutil.which("man"):
        raise Skipped("there is no man")
    for page in sorted((root / "usr/share/man/man1").glob("*.1.gz")):
        shown = run("man", "-l", "--warnings=w", page, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "100"})
        assert "NAME" in shown and "SYNOPSIS" in shown, shown


if __name__ == "__main__":
    main("install", at_end=lambda: shutil.rmtree(SCRATCH, ignore_errors=True))
