//! What the system says of this process, in `/proc`.

use super::sys;
use crate::broker::metrics::Process;

/// As it is now; what cannot be read is 0.
#[must_use]
pub fn look() -> Process {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/self/{file}"));
    let mut process = stat(
        &read("stat").unwrap_or_default(),
        boot_seconds(&std::fs::read_to_string("/proc/stat").unwrap_or_default()),
        sys::page_bytes() as u64,
    );
    process.cpu_seconds = sys::process_cpu_ns() as f64 / 1e9;
    // The descriptor that reads the directory is one of them.
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    process.open_fds = open.saturating_sub(1) as u64;
    process.max_fds = sys::limit(libc::RLIMIT_NOFILE).0;
    process
}

/// Memory and start by `/proc/self/stat`, whose second field, the name, may have anything in it but ends with the last
/// parenthesis.
fn stat(text: &str, boot_seconds: f64, page_bytes: u64) -> Process {
    /// In which the kernel tells times, on every machine that there is.
    const TICKS_PER_SECOND: f64 = 100.0;
    let fields: Vec<&str> = text
        .rsplit_once(')')
        .map_or(Vec::new(), |(_, rest)| rest.split_whitespace().collect());
    // The first one here is the third of proc(5).
    let field = |number: usize| -> u64 {
        let field = fields.get(number - 3).and_then(|field| field.parse().ok());
        field.unwrap_or(0)
    };
    Process {
        virtual_bytes: field(23),
        resident_bytes: field(24) * page_bytes,
        start_seconds: boot_seconds + field(22) as f64 / TICKS_PER_SECOND,
        ..Process::default()
    }
}

/// When the machine was started, in seconds since 1970, by `/proc/stat`.
fn boot_seconds(text: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix("btime "));
    line.and_then(|at| at.trim().parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let text =
            "7 (a ) b (c) S 1 7 7 0 -1 4194560 0 0 0 0 11 22 0 0 20 0 9 0 250 4096 3 1844 1 1";
        let process = stat(text, 1000.0, 4096);
        assert_eq!(
            (process.virtual_bytes, process.resident_bytes),
            (4096, 3 * 4096)
        );
        assert!((process.start_seconds - 1002.5).abs() < 1e-9);
        assert_eq!(stat("", 0.0, 4096), Process::default());
        assert!((boot_seconds("cpu 1\nbtime 17\n") - 17.0).abs() < 1e-9);
    }

    #[test]
    fn this_process_has_memory_and_files() {
        let process = look();
        assert!(process.resident_bytes > 1 << 20 && process.virtual_bytes > process.resident_bytes);
        assert!(process.open_fds >= 3 && process.max_fds >= process.open_fds);
        assert!(process.cpu_seconds > 0.0 && process.start_seconds > 1e9);
    }
}
