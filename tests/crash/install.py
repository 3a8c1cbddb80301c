"""Installing: what `make install` and `make deb` put where, the package as dpkg unpacks, installs and removes it, and a broker that is
started from it with its sample settings."""

import gzip
import pathlib
import re
import shutil
import signal
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
    built = list(SCRATCH.glob("*.deb"))
    if not built:
        make("deb", f"TARGET={SCRATCH}")
        built = list(SCRATCH.glob("*.deb"))
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
                 "StateDirectory=millrace", "ExecReload=/bin/kill -HUP $MAINPID"]:
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
