//! What a program has to be installed with besides itself: its man pages and its completions for shells, made from its
//! command line, so that they say what it does. `make install` asks each program for them.

#![allow(
    clippy::disallowed_methods,
    reason = "a program writes its manual into a directory"
)]

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Command;
use clap_complete::Shell;

/// The only arguments with which a program does this: the option and a directory.
const OPTION: &str = "--write-manual";
/// Completions, and where they lie below the directory.
const SHELLS: [(Shell, &str); 3] = [
    (Shell::Bash, "bash"),
    (Shell::Zsh, "zsh"),
    (Shell::Fish, "fish"),
];

/// Writes the manual of a program if its arguments ask for that, which ends it then.
#[must_use]
pub fn written(command: Command) -> Option<ExitCode> {
    let dir = asked(std::env::args_os())?;
    Some(match write(command, &dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot write into {}: {error}", dir.display());
            ExitCode::FAILURE
        }
    })
}

fn asked(args: impl IntoIterator<Item = OsString>) -> Option<PathBuf> {
    let args: Vec<OsString> = args.into_iter().take(4).collect();
    match &args[..] {
        [_, option, dir] if option == OPTION => Some(PathBuf::from(dir)),
        _ => None,
    }
}

/// Writes `man/*.1`, and a file for each shell: `bash/NAME`, `zsh/_NAME`, `fish/NAME.fish`.
fn write(mut command: Command, dir: &Path) -> io::Result<()> {
    let name = command.get_name().to_owned();
    let man = dir.join("man");
    fs::create_dir_all(&man)?;
    // Each subcommand gets a page of its own; those of `help` would say nothing.
    clap_mangen::generate_to(command.clone().disable_help_subcommand(true), &man)?;
    for (shell, place) in SHELLS {
        let dir = dir.join(place);
        fs::create_dir_all(&dir)?;
        let file = match shell {
            Shell::Zsh => format!("_{name}"),
            Shell::Fish => format!("{name}.fish"),
            _ => name.clone(),
        };
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut command, &name, &mut text);
        fs::write(dir.join(file), text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(args: &[&str]) -> Option<PathBuf> {
        asked(args.iter().map(OsString::from))
    }

    #[test]
    fn nothing_else_asks_for_it() {
        assert_eq!(args(&["x", OPTION, "d"]), Some(PathBuf::from("d")));
        for other in [
            &["x"][..],
            &["x", OPTION],
            &["x", "y", OPTION],
            &["x", OPTION, "d", "e"],
        ] {
            assert_eq!(args(other), None, "{other:?}");
        }
    }

    #[test]
    fn each_subcommand_has_a_page_and_each_shell_a_file() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let sub = Command::new("create").about("Makes one");
        let command = Command::new("x").version("1").subcommand(sub);
        write(command, dir.path()).expect("written");
        for (file, text) in [
            ("man/x.1", "create"),
            ("man/x-create.1", "Makes one"),
            ("bash/x", "complete -F"),
            ("zsh/_x", "#compdef x"),
            ("fish/x.fish", "complete -c x"),
        ] {
            let found = fs::read_to_string(dir.path().join(file)).expect(file);
            assert!(found.contains(text), "{file}: {found}");
        }
        let pages = fs::read_dir(dir.path().join("man")).expect("a directory");
        assert_eq!(pages.count(), 2);
    }
}
