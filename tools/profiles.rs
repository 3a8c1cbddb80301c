//! `profiles`: names for clusters, in a small file of the user's: a line for each, with its name, its
//! brokers, and where their metrics are if that is known.

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use millrace_client::nearest;

use crate::answer::{Answer, Cell, Output, Rows};
use crate::args::{Cli, Profiles};
use crate::failure::{Failure, Outcome, Status};

/// Where a broker is looked for if nothing says another place.
const DEFAULT_BOOTSTRAP: &str = "127.0.0.1:9092";
/// Names the cluster where the command line does not.
const VARIABLE: &str = "MILLRACE_CLUSTER";
/// The file, below the directory for configuration.
const FILE: &str = "millrace/clusters";
/// How a new file begins.
const HEAD: &str =
    "# Clusters of millracectl: name, brokers, and optionally where their metrics are\n";

/// One cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// What it is called.
    pub name: String,
    /// Comma-separated host:port of brokers to ask first.
    pub bootstrap: String,
    /// Comma-separated host:port of metrics listeners.
    pub metrics: Option<String>,
}

/// The cluster that is meant: by --bootstrap, by --cluster, by the environment, or the one on this machine.
pub fn chosen(cli: &Cli) -> Outcome<Profile> {
    if let Some(bootstrap) = &cli.bootstrap {
        return Ok(unnamed(bootstrap));
    }
    let variable = env::var(VARIABLE).ok().filter(|name| !name.is_empty());
    let Some(name) = cli.cluster.clone().or(variable) else {
        return Ok(unnamed(DEFAULT_BOOTSTRAP));
    };
    let path = path()?;
    find(&read(&path)?, &name).map_err(|why| {
        let text =
            format!("{why}; `millracectl profiles set {name} --bootstrap HOST:PORT` makes it");
        Failure::new(Status::CommandLine, text)
    })
}

fn unnamed(bootstrap: &str) -> Profile {
    Profile {
        name: String::new(),
        bootstrap: bootstrap.to_owned(),
        metrics: None,
    }
}

fn find(text: &str, name: &str) -> Result<Profile, String> {
    let profiles = parse(text)?;
    if let Some(found) = profiles.iter().find(|profile| profile.name == name) {
        return Ok(found.clone());
    }
    let near = nearest(name, profiles.iter().map(|profile| profile.name.as_str()));
    let near = near.map_or(String::new(), |near| format!("; did you mean '{near}'?"));
    Err(format!("there is no cluster '{name}'{near}"))
}

/// Runs the command.
pub fn run(output: Output, cli: &Cli, command: &Profiles) -> Outcome {
    let path = path()?;
    let text = read(&path)?;
    let answer = match command {
        Profiles::List => {
            let mut rows = Rows::of(&["cluster", "bootstrap", "metrics"]);
            for profile in parse(&text)? {
                rows.add([
                    profile.name.into(),
                    profile.bootstrap.into(),
                    profile.metrics.into(),
                ]);
            }
            Answer::new().rows("clusters", rows)
        }
        Profiles::Set { name, metrics } => {
            let Some(bootstrap) = cli.bootstrap.clone() else {
                return Err(Failure::new(
                    Status::CommandLine,
                    "give its brokers with --bootstrap",
                ));
            };
            let profile = Profile {
                name: name.clone(),
                bootstrap,
                metrics: metrics.clone(),
            };
            write(&path, &with(&text, name, Some(&line(&profile)?)))?;
            Answer::new()
                .field("set", name)
                .field("file", Cell::from(path.display().to_string()))
        }
        Profiles::Delete { name } => {
            find(&text, name)?;
            write(&path, &with(&text, name, None))?;
            Answer::new().field("deleted", name)
        }
    };
    output.show(&answer)
}

/// `$XDG_CONFIG_HOME/millrace/clusters`, or the same below `~/.config`.
fn path() -> Result<PathBuf, String> {
    let directory = |name| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let config = directory("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
    let config = config.or_else(|| Some(directory("HOME")?.join(".config")));
    let config = config.ok_or("neither XDG_CONFIG_HOME nor HOME says where clusters are kept")?;
    Ok(config.join(FILE))
}

/// Nothing if there is no such file yet.
fn read(path: &Path) -> Result<String, String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        other => other.map_err(|error| format!("cannot read {}: {error}", path.display())),
    }
}

/// As a whole or not at all.
fn write(path: &Path, text: &str) -> Result<(), String> {
    let new = path.with_extension("new");
    let directory = path.parent().unwrap_or(path);
    fs::create_dir_all(directory)
        .and_then(|()| fs::write(&new, text))
        .and_then(|()| fs::rename(&new, path))
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// The words of a line, if it is more than a remark.
fn words(line: &str) -> Option<Vec<&str>> {
    let line = line.split('#').next().unwrap_or_default();
    let words: Vec<&str> = line.split_whitespace().collect();
    (!words.is_empty()).then_some(words)
}

fn parse(text: &str) -> Result<Vec<Profile>, String> {
    let mut profiles = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let Some(words) = words(line) else { continue };
        let (name, bootstrap, metrics) = match words[..] {
            [name, bootstrap] => (name, bootstrap, None),
            [name, bootstrap, metrics] => (name, bootstrap, Some(metrics)),
            _ => {
                return Err(format!(
                    "line {} of the file of clusters is not NAME BROKERS [METRICS]: '{line}'",
                    number + 1
                ));
            }
        };
        profiles.push(Profile {
            name: name.to_owned(),
            bootstrap: bootstrap.to_owned(),
            metrics: metrics.map(str::to_owned),
        });
    }
    Ok(profiles)
}

fn line(profile: &Profile) -> Result<String, Failure> {
    let words = [
        Some(&profile.name),
        Some(&profile.bootstrap),
        profile.metrics.as_ref(),
    ];
    let words: Vec<&str> = words.into_iter().flatten().map(String::as_str).collect();
    let sound =
        |word: &&str| !word.is_empty() && !word.contains(|c: char| c.is_whitespace() || c == '#');
    match words.iter().find(|word| !sound(word)) {
        None => Ok(words.join("  ")),
        Some(word) => Err(Failure::new(
            Status::CommandLine,
            format!("'{word}' has to be a word without blanks and #"),
        )),
    }
}

/// The file with this line for the cluster, or without one. What else is in it stays.
fn with(text: &str, name: &str, line: Option<&str>) -> String {
    let mut out = String::from(if text.is_empty() { HEAD } else { "" });
    let mut due = line;
    for old in text.lines() {
        let new = match words(old) {
            Some(words) if words[0] == name => due.take(),
            _ => Some(old),
        };
        out.extend(new.map(|line| format!("{line}\n")));
    }
    out.extend(due.map(|line| format!("{line}\n")));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# mine\nprod  a:1,b:1  a:2\n\ntest c:1 # the other one\n";

    #[test]
    fn clusters_are_found_by_name() {
        let prod = find(TEXT, "prod").unwrap();
        assert_eq!(
            (prod.bootstrap.as_str(), prod.metrics.as_deref()),
            ("a:1,b:1", Some("a:2"))
        );
        assert_eq!(find(TEXT, "test").unwrap().metrics, None);
        assert_eq!(
            find(TEXT, "tset").unwrap_err(),
            "there is no cluster 'tset'"
        );
        assert!(
            find(TEXT, "tes")
                .unwrap_err()
                .ends_with("did you mean 'test'?")
        );
        assert!(find("one", "one").unwrap_err().contains("line 1"));
    }

    #[test]
    fn what_is_set_takes_the_place_of_what_was() {
        let text = with(TEXT, "prod", Some("prod x:1"));
        assert_eq!(text, "# mine\nprod x:1\n\ntest c:1 # the other one\n");
        assert_eq!(
            with(TEXT, "prod", None),
            "# mine\n\ntest c:1 # the other one\n"
        );
        assert_eq!(
            with(TEXT, "new", Some("new y:1")),
            format!("{TEXT}new y:1\n")
        );
        assert_eq!(with("", "new", Some("new y:1")), format!("{HEAD}new y:1\n"));
    }

    #[test]
    fn names_are_words() {
        let profile = |name: &str| Profile {
            name: name.into(),
            bootstrap: "a:1".into(),
            metrics: None,
        };
        assert_eq!(line(&profile("x")).unwrap(), "x  a:1");
        for wrong in ["", "a b", "#x"] {
            assert!(line(&profile(wrong)).is_err(), "{wrong}");
        }
    }
}
