//! Where the settings of a node come from, and how they are read again while it runs: at SIGHUP.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::logging;
use super::mesh::Mesh;
use crate::base::limits::CONFIG_FILE_BYTES_MAX;
use crate::broker::Msg;
use crate::config::{self, BrokerConfig, Ignored};

/// A file of settings, and those of the command line, which win over it.
#[derive(Clone, Debug, Default)]
pub struct SettingsSource {
    /// The file, if there is one.
    pub path: Option<PathBuf>,
    /// Names and values.
    pub overrides: Vec<(String, String)>,
}

impl SettingsSource {
    /// The text of the file, if there is one.
    ///
    /// # Errors
    /// It cannot be read, or is far too long; for people.
    pub fn read(&self) -> Result<Option<String>, String> {
        let path = self.path.as_deref();
        path.map(|path| read(path, false)).transpose()
    }

    /// The settings, with such a text.
    ///
    /// # Errors
    /// Everything that is wrong, each with its place.
    pub fn load(&self, text: Option<&str>) -> Result<BrokerConfig, Vec<String>> {
        let file = self.path.as_ref().map(|path| path.display().to_string());
        match config::load(text, &self.overrides) {
            Ok(mut config) => {
                config.file = file;
                Ok(config)
            }
            Err(error) => {
                let place = |line: Option<usize>| match (&file, line) {
                    (Some(file), Some(line)) => format!("{file}:{line}"),
                    _ => "--override".to_owned(),
                };
                let problems = error.problems.into_iter();
                Err(problems
                    .map(|(line, problem)| format!("{}: {problem}", place(line)))
                    .collect())
            }
        }
    }
}

fn read(path: &Path, again: bool) -> Result<String, String> {
    let shown = path.display();
    let read = || -> io::Result<String> {
        // What can be read once, such as a pipe, would be waited for.
        if again && !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        let mut text = String::new();
        let most = CONFIG_FILE_BYTES_MAX as u64 + 1;
        File::open(path)?.take(most).read_to_string(&mut text)?;
        if text.len() as u64 == most {
            return Err(io::Error::other("it is too long for a file of settings"));
        }
        Ok(text)
    };
    read().map_err(|error| format!("cannot read {shown}: {error}"))
}

/// Says what was set and changes nothing, but for what was said before.
pub fn warn_about_ignored(config: &BrokerConfig, said: &[Ignored]) {
    for ignored in &config.ignored {
        if !said.iter().any(|before| before.key == ignored.key) {
            let named = config.named(ignored.key);
            tracing::warn!("{named} changes nothing here. {}", ignored.why);
        }
    }
}

/// The settings that the shards of a node serve by.
#[derive(Debug)]
pub struct Settings {
    /// How often they have changed.
    version: AtomicU64,
    current: Mutex<Arc<BrokerConfig>>,
}

impl Settings {
    /// Those of a start.
    #[must_use]
    pub fn new(config: Arc<BrokerConfig>) -> Arc<Self> {
        Arc::new(Self {
            version: AtomicU64::new(0),
            current: Mutex::new(config),
        })
    }

    fn current(&self) -> MutexGuard<'_, Arc<BrokerConfig>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that are newer than what was seen last, which this becomes. Costs a load where there are none.
    #[must_use]
    pub fn newer(&self, seen: &mut u64) -> Option<Arc<BrokerConfig>> {
        let version = self.version.load(Ordering::Acquire);
        (version != *seen).then(|| {
            *seen = version;
            Arc::clone(&self.current())
        })
    }

    /// Whether there are newer ones than what was seen last.
    #[must_use]
    pub fn is_newer(&self, seen: u64) -> bool {
        self.version.load(Ordering::Acquire) != seen
    }

    fn apply(&self, read: &BrokerConfig) {
        let mut current = self.current();
        let mut config = BrokerConfig::clone(&current);
        config.apply(read);
        *current = Arc::new(config);
        self.version.fetch_add(1, Ordering::Release);
    }
}

/// Reads the settings of a running node again.
pub struct Reloader {
    pub(super) settings: Arc<Settings>,
    pub(super) mesh: Arc<Mesh<Box<Msg>>>,
}

impl Reloader {
    /// Applies what may change and is different from `known`, which it becomes, and says what that is. Where something
    /// is wrong, nothing changes.
    pub fn reload(&self, source: &SettingsSource, known: &mut BrokerConfig) {
        const STAY: &str = "the settings stay as they are";
        let Some(path) = &source.path else {
            tracing::info!("SIGHUP: there is no file of settings to read again, {STAY}");
            return;
        };
        let read = match read(path, true) {
            Ok(text) => source.load(Some(&text)),
            Err(why) => Err(vec![why]),
        };
        let taken = read.and_then(|read| Ok((known.with(&read)?, read)));
        let (next, read) = match taken {
            Ok(taken) => taken,
            Err(problems) => {
                for problem in &problems {
                    tracing::error!("SIGHUP: {problem}");
                }
                tracing::error!("SIGHUP: {STAY}");
                return;
            }
        };
        let changes = known.changes(&read);
        for change in &changes.applied {
            tracing::info!("SIGHUP: {change}");
        }
        for change in &changes.waiting {
            tracing::warn!("SIGHUP: {change}: takes effect at the next start");
        }
        warn_about_ignored(&read, &known.ignored);
        if changes.applied.is_empty() && changes.waiting.is_empty() {
            tracing::info!("SIGHUP: no setting is different in {}", path.display());
        }
        if known.millrace_log_level != read.millrace_log_level
            && !logging::set_level(read.millrace_log_level)
        {
            let named = read.named("millrace.log.level");
            tracing::warn!("SIGHUP: {named} changes nothing, for RUST_LOG says what is logged");
        }
        *known = next;
        known.ignored = read.ignored;
        if !changes.applied.is_empty() {
            self.settings.apply(known);
            self.mesh.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_as_far_as_they_are_some() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let path = dir.path().join("server.properties");
        let source = SettingsSource {
            path: Some(path.clone()),
            ..SettingsSource::default()
        };
        assert!(
            source
                .read()
                .expect_err("none")
                .contains("server.properties")
        );
        std::fs::write(&path, "num.partitions=3\nnum.partition=4").expect("written");
        let text = source.read().expect("read").expect("a file");
        let problems = source.load(Some(&text)).expect_err("a typing error");
        let [problem] = &problems[..] else {
            panic!("{problems:?}");
        };
        assert!(
            problem.contains("server.properties:2: unknown"),
            "{problem}"
        );
        std::fs::write(&path, "#".repeat(CONFIG_FILE_BYTES_MAX)).expect("written");
        assert!(source.read().is_ok());
        std::fs::write(&path, "#".repeat(CONFIG_FILE_BYTES_MAX + 1)).expect("written");
        assert!(source.read().expect_err("too long").contains("too long"));
        std::fs::write(&path, b"a=\xff").expect("written");
        assert!(source.read().is_err(), "no text");
        assert!(
            read(dir.path(), true)
                .expect_err("a directory")
                .contains("no file")
        );
        assert!(read(Path::new("/dev/zero"), true).is_err());
    }

    #[test]
    fn newer_settings_are_seen_once_by_each() {
        let settings = Settings::new(Arc::default());
        let (mut first, mut second) = (0, 0);
        assert!(settings.newer(&mut first).is_none());
        let read = config::load(Some("log.retention.ms=5\nnum.partitions=4"), &[]).expect("good");
        settings.apply(&read);
        for seen in [&mut first, &mut second] {
            let newer = settings.newer(seen).expect("new");
            assert_eq!((newer.log_retention_ms, newer.num_partitions), (Some(5), 1));
            assert!(settings.newer(seen).is_none());
        }
    }
}
