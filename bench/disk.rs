//! What the disk gives, by the same ring code as the broker's: why there is one
//! store per core, written ahead, and not a file per partition.
//!
//! Each line writes 64 KiB to each of K partitions and makes them durable, over and
//! over: to K files with an fdatasync each, or to one store file, as a flush does it:
//! a journal block and K pieces of chunks, then one fdatasync. The bytes counted are
//! those of the partitions.

// Measuring the disk takes a disk.
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use millrace::base::{BLOCK, PageBuf, Rng};
use millrace::runtime::ring::{Op, Ring};
use millrace::runtime::sys;

/// What one partition gets per flush.
const PIECE: u64 = 64 * 1024;
/// Chunk of the store, and the span of a file that is written ahead at a time.
const CHUNK: u64 = 4 << 20;
/// Journal of the store.
const JOURNAL: u64 = 32 << 20;
const PARTITIONS: [u64; 4] = [1, 4, 20, 100];

/// How to measure the disk.
#[derive(Args, Clone, Debug)]
pub struct DiskArgs {
    /// Directory on the disk to measure; files made in it are removed
    #[arg(long, default_value = ".")]
    pub dir: PathBuf,
    /// MiB written by each measurement, at most
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u64).range(64..))]
    pub mib: u64,
    /// Seconds for each measurement, at most
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: u64,
}

/// Measures everything and returns the table.
///
/// # Errors
/// The directory cannot be written to with O_DIRECT, or the disk fails.
pub fn run(args: &DiskArgs) -> io::Result<String> {
    let dir = tempdir(&args.dir)?;
    let bench = Bench {
        dir: dir.0.clone(),
        bytes_max: args.mib << 20,
        ns_max: args.seconds * 1_000_000_000,
        data: random_pages(5 * 256 * 1024),
    };
    let mut table = String::from(
        "MB/s (CPU seconds per GB)                     K = 1             4            20           100\n",
    );
    let files = |prepared| move |bench: &Bench, k| bench.files(k, prepared);
    let store = |flushes| move |bench: &Bench, k| bench.store(k, flushes);
    bench.line(
        &mut table,
        "K files, preallocated, fdatasync each",
        files(false),
    )?;
    bench.line(
        &mut table,
        "K files, written ahead, fdatasync each",
        files(true),
    )?;
    bench.line(&mut table, "one store, 1 flush in flight", store(1))?;
    bench.line(&mut table, "one store, 4 flushes in flight", store(4))?;
    for (name, prepared) in [("preallocated", false), ("written ahead", true)] {
        let result = bench.sequential(prepared)?;
        let _ = writeln!(
            table,
            "{:40} {result}",
            format!("1.25 MiB at a time, {name}")
        );
    }
    Ok(table)
}

struct Bench {
    dir: PathBuf,
    bytes_max: u64,
    ns_max: u64,
    data: Bytes,
}

/// One fdatasync and the writes it makes durable.
struct Unit {
    fd: RawFd,
    writes: Vec<(u64, Bytes)>,
}

/// What a measurement gave.
struct Measured {
    bytes: u64,
    ns: u64,
    cpu_ns: u64,
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mb_per_s = self.bytes as f64 / 1e6 / (self.ns as f64 / 1e9);
        let cpu_per_gb = self.cpu_ns as f64 / self.bytes as f64;
        write!(f, "{mb_per_s:6.0} ({cpu_per_gb:4.2})")
    }
}

impl Bench {
    fn line(
        &self,
        table: &mut String,
        name: &str,
        measure: impl Fn(&Self, u64) -> io::Result<Measured>,
    ) -> io::Result<()> {
        let _ = write!(table, "{name:40}");
        for k in PARTITIONS {
            let _ = write!(table, " {:>13}", measure(self, k)?.to_string());
        }
        table.push('\n');
        Ok(())
    }

    fn files(&self, k: u64, written_ahead: bool) -> io::Result<Measured> {
        let rounds = self.bytes_max / PIECE / k;
        let each = rounds * PIECE;
        let files: Vec<File> = (0..k)
            .map(|i| self.file(&format!("partition-{i}"), each, written_ahead))
            .collect::<io::Result<_>>()?;
        self.measure(1, rounds, &mut |round| {
            let piece = self.data.slice(..PIECE as usize);
            let unit = |file: &File| Unit {
                fd: file.as_raw_fd(),
                writes: vec![(round * PIECE, piece.clone())],
            };
            files.iter().map(unit).collect()
        })
    }

    fn store(&self, k: u64, flushes: usize) -> io::Result<Measured> {
        let rounds = self.bytes_max / PIECE / k;
        let per_chunk = CHUNK / PIECE;
        let chunks = rounds.div_ceil(per_chunk) * k;
        let file = self.file("store", JOURNAL + chunks * CHUNK, true)?;
        self.measure(flushes, rounds, &mut |round| {
            let journal = (round * BLOCK as u64 % JOURNAL, self.data.slice(..BLOCK));
            let in_chunk = round % per_chunk * PIECE;
            let pieces = (0..k).map(|partition| {
                let chunk = round / per_chunk * k + partition;
                let from = (partition as usize % 16) * BLOCK;
                (
                    JOURNAL + chunk * CHUNK + in_chunk,
                    self.data.slice(from..from + PIECE as usize),
                )
            });
            let writes = std::iter::once(journal).chain(pieces).collect();
            vec![Unit {
                fd: file.as_raw_fd(),
                writes,
            }]
        })
        .map(|measured| Measured {
            bytes: measured.bytes / (k * PIECE + BLOCK as u64) * (k * PIECE),
            ..measured
        })
    }

    fn sequential(&self, written_ahead: bool) -> io::Result<Measured> {
        let step = self.data.len() as u64;
        let rounds = self.bytes_max / step;
        let file = self.file("sequential", rounds * step, written_ahead)?;
        self.measure(1, rounds, &mut |round| {
            vec![Unit {
                fd: file.as_raw_fd(),
                writes: vec![(round * step, self.data.clone())],
            }]
        })
    }

    /// A file of `len` bytes, its blocks reserved, and all of it written once if asked for.
    fn file(&self, name: &str, len: u64, written_ahead: bool) -> io::Result<File> {
        let path = self.dir.join(name);
        let _ = std::fs::remove_file(&path);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .custom_flags(libc::O_DIRECT)
            .open(&path)?;
        sys::allocate(&file, 0, len)?;
        if written_ahead {
            let zeroes = PageBuf::zeroed(CHUNK as usize);
            for pos in (0..len).step_by(CHUNK as usize) {
                let n = CHUNK.min(len - pos) as usize;
                file.write_all_at(&zeroes.as_bytes()[..n], pos)?;
            }
        }
        file.sync_all()?;
        Ok(file)
    }

    /// Runs rounds, so many at a time, until all are done or time is up.
    fn measure(
        &self,
        in_flight: usize,
        rounds: u64,
        round: &mut dyn FnMut(u64) -> Vec<Unit>,
    ) -> io::Result<Measured> {
        let mut ring = Ring::new()?;
        let (began, cpu) = (sys::now().mono.0, sys::process_cpu_ns());
        let (mut started, mut bytes) = (0, 0);
        // Per round in flight: its units, each with the writes that are still on their way.
        let mut flights: Vec<Vec<(RawFd, usize)>> = vec![Vec::new(); in_flight];
        let mut busy = 0;
        loop {
            let more = started < rounds && sys::now().mono.0 - began < self.ns_max;
            for (slot, flight) in flights.iter_mut().enumerate() {
                if flight.is_empty() && more && started < rounds {
                    for (unit, Unit { fd, writes }) in round(started).into_iter().enumerate() {
                        flight.push((fd, writes.len()));
                        for (pos, data) in writes {
                            bytes += data.len() as u64;
                            ring.push(
                                (slot, unit),
                                Op::Write {
                                    fd,
                                    pos,
                                    data,
                                    through: false,
                                },
                            );
                        }
                    }
                    started += 1;
                    busy += 1;
                }
            }
            if busy == 0 {
                break;
            }
            ring.wait();
            while let Some(done) = ring.reap() {
                let (slot, unit) = done.tag;
                let moved = done.result.map_err(io::Error::from_raw_os_error)?;
                match done.op {
                    Op::Write { data, .. } if moved == data.len() => {
                        let (fd, left) = &mut flights[slot][unit];
                        *left -= 1;
                        if *left == 0 {
                            ring.push((slot, unit), Op::DataSync { fd: *fd });
                        }
                    }
                    Op::Write { .. } => return Err(io::ErrorKind::WriteZero.into()),
                    _ => {
                        flights[slot][unit].0 = -1;
                        if flights[slot].iter().all(|(fd, _)| *fd == -1) {
                            flights[slot].clear();
                            busy -= 1;
                        }
                    }
                }
            }
        }
        let (ns, cpu_ns) = (sys::now().mono.0 - began, sys::process_cpu_ns() - cpu);
        Ok(Measured { bytes, ns, cpu_ns })
    }
}

fn random_pages(len: usize) -> Bytes {
    let mut pages = PageBuf::zeroed(len);
    let mut rng = Rng::new(1);
    for word in pages.as_mut_bytes().chunks_exact_mut(8) {
        word.copy_from_slice(&rng.next_u64().to_le_bytes());
    }
    pages.freeze()
}

/// A directory that goes when this does.
struct TempDir(PathBuf);

fn tempdir(parent: &Path) -> io::Result<TempDir> {
    let dir = parent.join(format!("millrace-bench-{}", std::process::id()));
    std::fs::create_dir(&dir)?;
    Ok(TempDir(dir))
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
