//! The stores of a data directory before a shard has them: whether they are all there and belong together,
//! which [`identity`] decides before anything is written; then those that are missing are made, and all told
//! that a start of the node has begun.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::blocks;
use super::brain::format_store;
use super::device::Device;
use super::disk::StoreFile;
use super::fatal::{CONFIG, CORRUPT, DIRECTORY, DISK, Fatal};
use super::probe;
use crate::base::{Rng, StoreId};
use crate::config::BrokerConfig;
use crate::store::StoreConfig;
use crate::store::device::Holds;
use crate::store::identity::{self, Found, Look, Refusal};

/// A store that a shard may recover.
pub struct Opened {
    /// Its file or device.
    pub file: StoreFile,
    /// The settings, as they are for what it is on.
    pub settings: StoreConfig,
}

fn fail(path: &Path) -> impl Fn(io::Error) -> Fatal {
    move |error| {
        let status = match error.kind() {
            io::ErrorKind::ResourceBusy => DIRECTORY,
            _ => DISK,
        };
        Fatal::new(status, format!("cannot open {}: {error}", path.display()))
    }
}

/// A start of a node.
#[derive(Clone, Copy, Debug)]
pub struct NodeStart {
    /// By which number the set of its stores is known.
    pub set: u64,
    /// Counts its starts with these stores.
    pub number: u64,
}

/// Opens all stores of a node, in order: one for each shard, and those of earlier starts with more shards. Also
/// says which start of them that is.
///
/// # Errors
/// One is missing, older than the others or somebody else's, and then nothing was written; or it cannot be
/// opened or made.
pub fn open(
    dir: &Path,
    direct: bool,
    shards: u16,
    config: &BrokerConfig,
    rng: &mut Rng,
) -> Result<(NodeStart, Vec<Opened>), Fatal> {
    let shown = dir.display();
    let ids = StoreFile::list(dir)
        .map_err(|error| Fatal::new(DIRECTORY, format!("cannot read {shown}: {error}")))?;
    let mut opened = BTreeMap::new();
    let mut found = BTreeMap::new();
    for id in ids {
        if let Some((store, look)) = look(dir, id, direct, config)? {
            found.insert(id, look.found);
            opened.insert(id, (store, look.worse));
        } else {
            found.insert(id, Found::Blank);
        }
    }
    let node = config.node_id;
    let members = identity::judge(node, shards, &found).map_err(|refusal| {
        let status = match refusal {
            Refusal::Damaged(..) => CORRUPT,
            _ => DIRECTORY,
        };
        Fatal::new(status, format!("{shown}: {refusal}"))
    })?;
    let new = usize::from(members.stores) - opened.len();
    let each = u64::try_from(config.millrace_store_initial_bytes).unwrap_or(0);
    probe::warn_if_full(dir, each.saturating_mul(new as u64));
    // In order, as `judge` expects to find what a crash has left of this.
    let mut stores = Vec::new();
    for id in (0..members.stores).map(StoreId) {
        stores.push(match opened.remove(&id) {
            Some(store) => store,
            None => (make(dir, id, direct, config, rng.next_u64())?, 0),
        });
    }
    let round = members.round(node, rng.next_u64());
    let first = round.first();
    let start = NodeStart {
        set: first.map_or(0, |identity| identity.set),
        number: first.map_or(0, |identity| identity.round),
    };
    for identity in round {
        let (store, worse) = &stores[usize::from(identity.store.0)];
        store
            .file
            .perform(&identity.write(*worse))
            .map_err(|error| {
                let path = StoreFile::path(dir, identity.store);
                Fatal::new(DISK, format!("cannot write {}: {error}", path.display()))
            })?;
    }
    Ok((start, stores.into_iter().map(|(store, _)| store).collect()))
}

/// What a store is on, if that is a device, and the settings for it.
fn place(path: &Path, config: &BrokerConfig) -> Result<(Option<Device>, StoreConfig), Fatal> {
    let mut settings = config.store();
    let device = if path.is_symlink() {
        Device::look(path).map_err(fail(path))?
    } else {
        None
    };
    if let Some(device) = device {
        settings.raw = true;
        settings.bytes_max = settings.bytes_max.min(device.bytes);
        if device.bytes < settings.least_bytes() {
            let message = format!(
                "{} has {} bytes, a store takes {} at least",
                path.display(),
                device.bytes,
                settings.least_bytes()
            );
            return Err(Fatal::new(CONFIG, message));
        }
    }
    Ok((device, settings))
}

/// Opens what exists. A blank device is no store yet.
fn look(
    dir: &Path,
    id: StoreId,
    direct: bool,
    config: &BrokerConfig,
) -> Result<Option<(Opened, Look)>, Fatal> {
    let path = StoreFile::path(dir, id);
    let (device, settings) = place(&path, config)?;
    if device.is_some_and(|device| device.holds == Holds::Nothing) {
        return Ok(None);
    }
    let file = StoreFile::open(id, &path, direct).map_err(fail(&path))?;
    let cached = blocks::open(&path).map_err(fail(&path))?;
    let look = identity::look(id, &mut blocks::reader(&cached));
    for warning in &look.warnings {
        tracing::warn!(
            "{}: whose store it is, {warning}; the other copy is used",
            path.display()
        );
    }
    Ok(Some((Opened { file, settings }, look)))
}

fn make(
    dir: &Path,
    id: StoreId,
    direct: bool,
    config: &BrokerConfig,
    seed: u64,
) -> Result<Opened, Fatal> {
    let path = StoreFile::path(dir, id);
    let (device, settings) = place(&path, config)?;
    let (_, ops) = format_store(id, settings.clone(), seed);
    let file = if device.is_some() {
        StoreFile::on_device(id, &path, &ops)
    } else {
        StoreFile::create(id, dir, direct, &ops)
    };
    let file = file.map_err(fail(&path))?;
    Ok(Opened { file, settings })
}
