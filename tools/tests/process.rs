//! `millracectl` as a process.
#![allow(clippy::disallowed_methods, reason = "a test of processes starts some")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::{Command, Output, Stdio};

use millrace::base::StoreId;
use millrace::store::{DiskOp, Store, StoreConfig};

/// A data directory with one empty store, and the store's file.
fn data() -> (tempfile::TempDir, File) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a scratch directory");
    let file = File::create(directory.path().join("store-0")).expect("a store");
    let (_, ops) = Store::format(StoreId(0), StoreConfig::default(), 7);
    for op in ops {
        if let DiskOp::Write { pos, data, .. } = op {
            file.write_all_at(&data, pos).expect("written");
        }
    }
    (directory, file)
}

fn store(what: &str, data: &tempfile::TempDir, stdout: impl Into<Stdio>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_millracectl"))
        .args(["store", what])
        .arg(data.path())
        .stdout(stdout)
        .output()
        .expect("ended")
}

/// As `millracectl ... | head` meets it.
#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let (data, _) = data();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let listed = store("ls", &data, writer);
    assert_eq!(String::from_utf8_lossy(&listed.stderr), "");
}

/// A broker that serves has its stores locked; only who writes needs the lock.
#[test]
fn a_store_that_a_process_writes_to_can_be_looked_into() {
    let (data, file) = data();
    file.lock().expect("locked");
    for what in ["ls", "check"] {
        let looked = store(what, &data, Stdio::null());
        assert!(
            looked.status.success(),
            "store {what}: {}",
            String::from_utf8_lossy(&looked.stderr)
        );
    }
}

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_millracectl"))
        .args(args)
        .env_remove("MILLRACE_CLUSTER")
        .env("XDG_CONFIG_HOME", env!("CARGO_TARGET_TMPDIR"))
        .stdin(Stdio::null())
        .output()
        .expect("ended")
}

#[test]
fn statuses_tell_what_went_wrong() {
    // Port 9 (discard) of the loopback is served nowhere these programs are run.
    for (args, status, why) in [
        (
            &["topics", "list", "--bootstrap", "127.0.0.1:9"][..],
            3,
            "cannot reach broker",
        ),
        (
            &["topics", "list", "--cluster", "nobodys"],
            2,
            "there is no cluster 'nobodys'",
        ),
        (&["topics"], 2, "Usage"),
        (&["consume", "t", "--from", "soon"], 2, "neither beginning"),
        (&["store", "ls", "/nowhere"], 1, "cannot read /nowhere"),
    ] {
        let done = run(args);
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(status), "{args:?}: {said}");
        assert!(said.contains(why), "{args:?}: {said}");
        assert!(done.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn stores_are_told_as_one_object() {
    let (data, _) = data();
    let path = data.path().to_str().expect("text");
    for (what, field) in [
        ("ls", "\"stores\":[{\"path\":"),
        ("check", "\"whole\":true"),
    ] {
        let done = run(&["store", what, path, "--json"]);
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(said.starts_with('{') && said.ends_with("}\n"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains(field), "{said}");
    }
}
