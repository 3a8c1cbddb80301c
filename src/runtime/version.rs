//! Which build this is: the version of the workspace, and the commit where whoever built it named one. The commit is
//! known to the programs alone, so that another one is no reason to build the library anew.

use std::sync::OnceLock;

/// The version, as in `Cargo.toml`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

static COMMIT: OnceLock<&'static str> = OnceLock::new();

/// Version and commit, as `--version` prints them behind the name of the program. Each program calls it with
/// `option_env!("MILLRACE_COMMIT")`, which `make install` and `make deb` set.
#[must_use]
pub fn version(commit: Option<&'static str>) -> String {
    match commit.filter(|commit| !commit.is_empty()) {
        Some(commit) => {
            let commit = COMMIT.get_or_init(|| commit);
            format!("{VERSION} ({commit})")
        }
        None => VERSION.to_owned(),
    }
}

/// The commit of this program, if it is known; see [`version()`].
#[must_use]
pub fn commit() -> Option<&'static str> {
    COMMIT.get().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_called_by_its_commit_if_it_has_one() {
        assert_eq!(version(None), VERSION);
        assert_eq!(
            version(Some("")),
            VERSION,
            "as a shell has it that is not told"
        );
        assert_eq!(commit(), None);
        assert_eq!(version(Some("abc")), format!("{VERSION} (abc)"));
        assert_eq!(commit(), Some("abc"));
    }
}
