//! The broker as a process: exit statuses and signals.

// A test of processes starts some.
#![allow(clippy::disallowed_methods, reason = "a test of processes starts some")]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Command, Stdio};

fn millrace(args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_millrace"))
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started")
}

fn status(args: &[&str]) -> (Option<i32>, String) {
    let output = millrace(args).wait_with_output().expect("ended");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), text)
}

fn signal(child: &Child, name: &str) {
    let kill = Command::new("kill")
        .args([name, &child.id().to_string()])
        .status();
    assert!(kill.expect("kill").success());
}

/// A broker that serves, with the setting of its directory, and the rest of what it logs.
fn serving(dir: &str) -> (Child, BufReader<ChildStderr>) {
    let listener = "listeners=PLAINTEXT://127.0.0.1:0";
    let mut child = millrace(&["--override", dir, "--override", listener]);
    let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
    until(&mut stderr, "ready");
    (child, stderr)
}

/// Reads on to a line with this text.
fn until(stderr: &mut BufReader<ChildStderr>, text: &str) {
    let mut line = String::new();
    while !line.contains(text) {
        line.clear();
        assert!(stderr.read_line(&mut line).expect("a line") > 0, "it ended");
    }
}

#[test]
fn exit_statuses_tell_what_is_wrong() {
    assert_eq!(status(&["--no-such-option"]).0, Some(64));
    assert_eq!(status(&["--override", "no-equals-sign"]).0, Some(64));
    let (code, text) = status(&["--override", "log.dirz=/tmp"]);
    assert_eq!(code, Some(78));
    assert!(text.contains("log.dirs"), "{text}");
    assert_eq!(status(&["--config", "no/such/file"]).0, Some(78));
    let (code, text) = status(&["--override", "log.dirs=/proc/no-such-directory"]);
    assert_eq!(code, Some(73));
    assert!(text.contains("log.dirs"), "{text}");
}

/// For whichever thread the kernel picks: the first signal stops the broker cleanly.
#[test]
fn both_signals_stop_it_cleanly_and_it_starts_again() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a scratch directory");
    let dir = format!("log.dirs={}", dir.path().join("data").display());
    for name in ["-TERM", "-INT"] {
        let (mut child, mut stderr) = serving(&dir);
        // They mean something to other daemons; their default would end the process.
        for harmless in ["-HUP", "-USR1", "-USR2"] {
            signal(&child, harmless);
            until(&mut stderr, &harmless[1..]);
        }
        signal(&child, name);
        let code = child.wait().expect("ended").code();
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).expect("text");
        assert_eq!(code, Some(0), "{rest}");
        assert!(rest.contains("stopped"), "{rest}");
    }
}

/// As `millrace --list-settings | head` meets it.
#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let listing = Command::new(env!("CARGO_BIN_EXE_millrace"))
        .arg("--list-settings")
        .stdout(writer)
        .output();
    let text = listing.map(|o| String::from_utf8_lossy(&o.stderr).into_owned());
    assert_eq!(text.expect("ended"), "");
}

/// As after a `kill -9` whose last writes hang in the disk: what comes late would be written over what is new.
#[test]
fn a_store_that_another_process_writes_to_is_refused() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a scratch directory");
    let data = dir.path().join("data");
    let setting = format!("log.dirs={}", data.display());
    let stop = |(child, stderr)| {
        signal(&child, "-TERM");
        drop::<BufReader<ChildStderr>>(stderr);
        assert!(child.wait_with_output().expect("ended").status.success());
    };
    stop(serving(&setting));
    let store = data.join("store-0");
    let options = std::fs::OpenOptions::new().write(true).open(&store);
    let writer = options.expect("the store");
    writer.lock().expect("locked");
    let (code, text) = status(&["--override", &setting]);
    assert_eq!(code, Some(73), "{text}");
    assert!(text.contains("store-0: another process has it"), "{text}");
    drop(writer);
    stop(serving(&setting));
}
