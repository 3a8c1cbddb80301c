//! CPU time and memory of processes and threads, as the kernel counts them.

use std::fs;
use std::time::Duration;

/// What a process has used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// CPU time, all threads, user and kernel.
    pub cpu: Duration,
    /// Resident memory now, in bytes.
    pub rss_bytes: u64,
    /// Resident memory at its peak, in bytes.
    pub rss_peak_bytes: u64,
}

/// Usage of a process on this machine.
pub fn process(pid: u32) -> Result<Usage, String> {
    let read = |file: &str| {
        let path = format!("/proc/{pid}/{file}");
        fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))
    };
    let ticks = parse_stat(&read("stat")?).ok_or("/proc/<pid>/stat has no CPU times")?;
    let status = read("status")?;
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Ok(Usage {
        cpu: Duration::from_secs_f64(ticks as f64 / per_second as f64),
        rss_bytes: parse_status(&status, "VmRSS").unwrap_or(0),
        rss_peak_bytes: parse_status(&status, "VmHWM").unwrap_or(0),
    })
}

/// CPU time of the calling thread. `None` where the kernel keeps no such account.
pub fn thread_cpu() -> Option<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ')
        .next()?
        .parse()
        .ok()
        .map(Duration::from_nanos)
}

/// User and kernel ticks of a `stat` line. The process name may hold spaces and parentheses, so
/// fields count from the last closing one.
fn parse_stat(line: &str) -> Option<u64> {
    let rest = &line[line.rfind(')')? + 1..];
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let kernel: u64 = fields.next()?.parse().ok()?;
    user.checked_add(kernel)
}

/// A `Vm...` line of `status`, in bytes.
fn parse_status(text: &str, name: &str) -> Option<u64> {
    let line = text
        .lines()
        .find(|line| line.split(':').next() == Some(name))?;
    let kib: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_survives_odd_process_names() {
        let line = "42 (a) b (c)) S 1 42 42 0 -1 4194560 9 0 0 0 150 50 0 0 20 0 5 0 1000 1 2";
        assert_eq!(parse_stat(line), Some(200));
        assert_eq!(parse_stat("42 (x"), None);
        assert_eq!(parse_stat("42 (x) S 1"), None);
    }

    #[test]
    fn status_lines() {
        let text = "Name:\tx\nVmHWM:\t   2048 kB\nVmRSS:\t   1024 kB\n";
        assert_eq!(parse_status(text, "VmRSS"), Some(1 << 20));
        assert_eq!(parse_status(text, "VmHWM"), Some(2 << 20));
        assert_eq!(parse_status(text, "VmSwap"), None);
    }

    #[test]
    fn this_process_is_there() {
        let usage = process(std::process::id()).unwrap();
        assert!(usage.rss_bytes > 0 && usage.rss_peak_bytes >= usage.rss_bytes);
        assert!(process(u32::MAX).is_err());
    }
}
