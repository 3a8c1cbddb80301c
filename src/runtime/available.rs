//! How much memory there is: the machine's, or what a control group allows.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Memory that this process may use, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// All of it.
    pub total: u64,
    /// What can be had without taking it from anybody; the page cache can.
    pub available: u64,
}

/// A file in which the system says something, kept open: it can be read again when there are no descriptors left.
struct Said(File);

impl Said {
    fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        File::open(path).map(Self)
    }

    /// The same of one that need not be there.
    fn open_if_there(path: impl AsRef<Path>) -> io::Result<Option<Self>> {
        match Self::open(path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What it says now.
    fn read(&self) -> io::Result<String> {
        let mut text = vec![0; 16 * 1024];
        let mut len = 0;
        loop {
            match self.0.read_at(&mut text[len..], len as u64)? {
                0 => break,
                n => len += n,
            }
        }
        text.truncate(len);
        String::from_utf8(text).map_err(|_| unexpected())
    }

    /// The number that is all it says; `None` if that is no number, where there is no limit.
    fn number(&self) -> io::Result<Option<u64>> {
        Ok(self.read()?.trim().parse().ok())
    }
}

fn unexpected() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the system says how much memory there is in an unknown way",
    )
}

/// Where the system says what memory there is: of the machine, and what control groups allow.
pub struct System {
    machine: Said,
    groups: Vec<Group>,
}

impl System {
    /// Of this process, in the groups that it is in now.
    ///
    /// # Errors
    /// The system does not say, or does not let us read it.
    pub fn open() -> io::Result<Self> {
        let own = Said::open_if_there("/proc/self/cgroup")?;
        let own = own.map_or(Ok(String::new()), |own| own.read())?;
        let mut groups = Vec::new();
        for version in [&VERSION_2, &VERSION_1] {
            for dir in version.dirs(&own) {
                groups.extend(Group::open(version, &dir)?);
            }
        }
        let machine = Said::open("/proc/meminfo")?;
        Ok(Self { machine, groups })
    }

    /// What there is now: the machine's, or what a control group allows where that is less.
    ///
    /// # Errors
    /// It cannot be read this time.
    pub fn memory(&self) -> io::Result<Memory> {
        let mut least = parse_meminfo(&self.machine.read()?).ok_or_else(unexpected)?;
        for group in &self.groups {
            if let Some(group) = group.memory()? {
                least.total = least.total.min(group.total);
                least.available = least.available.min(group.available);
            }
        }
        Ok(least)
    }
}

/// How a version of control groups names things.
struct Cgroups {
    /// What is before the path of a group in `/proc/self/cgroup`, up to a number in front of it.
    own: &'static str,
    root: &'static str,
    limits: &'static [&'static str],
    usage: &'static str,
    cached: [&'static str; 2],
}

const VERSION_2: Cgroups = Cgroups {
    own: "::/",
    root: "/sys/fs/cgroup",
    // Beyond the second one nothing is refused, but everything is slow.
    limits: &["memory.max", "memory.high"],
    usage: "memory.current",
    cached: ["inactive_file ", "active_file "],
};

const VERSION_1: Cgroups = Cgroups {
    own: ":memory:/",
    root: "/sys/fs/cgroup/memory",
    limits: &["memory.limit_in_bytes"],
    usage: "memory.usage_in_bytes",
    cached: ["total_inactive_file ", "total_active_file "],
};

impl Cgroups {
    /// The directories of this process' group and of those that it is in, given `/proc/self/cgroup`.
    fn dirs(&self, own: &str) -> Vec<PathBuf> {
        let path = own.lines().find_map(|line| {
            let number = line.trim_start_matches(|c: char| c.is_ascii_digit());
            number.strip_prefix(self.own)
        });
        let Some(dir) = path.map(|path| Path::new(self.root).join(path)) else {
            return Vec::new();
        };
        let above = dir.ancestors().take_while(|dir| dir.starts_with(self.root));
        above.map(Path::to_owned).collect()
    }
}

/// A control group.
struct Group {
    limits: Vec<Said>,
    usage: Said,
    stat: Said,
    cached: [&'static str; 2],
}

impl Group {
    /// `None` if it is not one that has limits: the topmost is none, nor one that is seen from within a container under
    /// a path of the machine.
    fn open(version: &Cgroups, dir: &Path) -> io::Result<Option<Self>> {
        let mut limits = Vec::new();
        for name in version.limits {
            limits.extend(Said::open_if_there(dir.join(name))?);
        }
        let usage = Said::open_if_there(dir.join(version.usage))?;
        let stat = Said::open_if_there(dir.join("memory.stat"))?;
        let (Some(usage), Some(stat), false) = (usage, stat, limits.is_empty()) else {
            return Ok(None);
        };
        Ok(Some(Self {
            limits,
            usage,
            stat,
            cached: version.cached,
        }))
    }

    /// What it has and leaves, if it has a limit now.
    fn memory(&self) -> io::Result<Option<Memory>> {
        let mut total: Option<u64> = None;
        for limit in &self.limits {
            let limit = limit.number()?;
            total = [total, limit].into_iter().flatten().min();
        }
        let Some(total) = total else {
            return Ok(None);
        };
        let usage = self.usage.number()?.ok_or_else(unexpected)?;
        let stat = self.stat.read()?;
        let cached = self
            .cached
            .iter()
            .filter_map(|name| number_after(&stat, name));
        let cached: u64 = cached.sum();
        let available = total.saturating_sub(usage.saturating_sub(cached));
        Ok(Some(Memory { total, available }))
    }
}

fn parse_meminfo(text: &str) -> Option<Memory> {
    Some(Memory {
        total: number_after(text, "MemTotal:")? * 1024,
        available: number_after(text, "MemAvailable:")? * 1024,
    })
}

/// The number behind a name at the beginning of a line.
fn number_after(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_system_are_read() {
        let text = "MemTotal:       24683748 kB\nMemFree:  1 kB\nMemAvailable:   22012345 kB\n";
        let memory = parse_meminfo(text).expect("both lines");
        assert_eq!(memory.total, 24_683_748 * 1024);
        assert_eq!(memory.available, 22_012_345 * 1024);
        assert_eq!(parse_meminfo("MemTotal: x kB"), None);
        let slice = Path::new("/sys/fs/cgroup/system.slice/millrace.service");
        let own = "0::/system.slice/millrace.service\n";
        let above = slice.ancestors().take(3).map(Path::to_owned);
        assert_eq!(VERSION_2.dirs(own), above.collect::<Vec<_>>());
        assert!(VERSION_1.dirs(own).is_empty());
        let own = "12:cpu:/y\n4:memory:/x\n0::/\n";
        assert_eq!(VERSION_2.dirs(own), [Path::new("/sys/fs/cgroup/")]);
        let both = ["/sys/fs/cgroup/memory/x", "/sys/fs/cgroup/memory"];
        assert_eq!(VERSION_1.dirs(own), both.map(PathBuf::from));
    }

    #[test]
    fn a_control_group_limits_what_there_is() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).unwrap();
        let open = || Group::open(&VERSION_2, dir);
        assert!(open().unwrap().is_none());
        write("memory.max", "max\n");
        write("memory.high", "max\n");
        write("memory.current", "5000\n");
        write(
            "memory.stat",
            "anon 3000\ninactive_file 1500\nactive_file 500\n",
        );
        let group = open().unwrap().expect("a group");
        assert_eq!(group.memory().unwrap(), None);
        let limited = |max: &str, high: &str| {
            write("memory.max", max);
            write("memory.high", high);
            group.memory().unwrap().map(|m| (m.total, m.available))
        };
        assert_eq!(limited("8000\n", "max\n"), Some((8000, 5000)));
        assert_eq!(limited("8000\n", "6000\n"), Some((6000, 3000)));
        assert_eq!(limited("max\n", "7000\n"), Some((7000, 4000)));
        write("memory.current", "many\n");
        assert!(group.memory().is_err(), "a limit does not vanish");
        std::fs::remove_file(dir.join("memory.current")).unwrap();
        write("memory.current", "1\n");
        assert!(group.memory().is_err(), "nor is another file taken for it");
    }
}
