//! The broker as a process: exit statuses and signals.

// A test of processes starts some.
#![allow(clippy::disallowed_methods)]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

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
    let listener = "listeners=PLAINTEXT://127.0.0.1:0";
    for name in ["-TERM", "-INT"] {
        let mut child = millrace(&["--override", &dir, "--override", listener]);
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        let mut line = String::new();
        while !line.contains("ready") {
            line.clear();
            assert!(stderr.read_line(&mut line).expect("a line") > 0, "it ended");
        }
        signal(&child, name);
        let code = child.wait().expect("ended").code();
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).expect("text");
        assert_eq!(code, Some(0), "{rest}");
        assert!(rest.contains("stopped"), "{rest}");
    }
}
