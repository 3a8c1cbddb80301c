//! Where a run took place: this machine, the broker and its settings. A figure
//! without them says nothing.

use std::fs;

use kafka_wire::DescribeConfigsRequest;
use kafka_wire::describe_configs_request::DescribeConfigsResource;
use kafka_wire_core::StrBytes;
use serde_json::{Map, Value as Json, json};

use crate::args::LoadArgs;
use millrace_client::{Cluster, message};

/// Type of a resource that is a broker, in DescribeConfigs.
const RESOURCE_BROKER: i8 = 4;
/// Settings of a broker that decide about speed and safety.
const SETTINGS: [&str; 12] = [
    "log.flush.interval.messages",
    "log.flush.interval.ms",
    "log.dirs",
    "log.segment.bytes",
    "num.io.threads",
    "num.network.threads",
    "socket.send.buffer.bytes",
    "socket.receive.buffer.bytes",
    "message.max.bytes",
    "compression.type",
    "min.insync.replicas",
    "default.replication.factor",
];
/// Settings of Millrace's own begin with this.
const OWN_SETTINGS: &str = "millrace.";

/// What can be found out.
pub fn describe(cluster: &mut Cluster, load: &LoadArgs) -> Json {
    let mut broker = broker(cluster);
    if let Some(pid) = load.broker_pid {
        process(pid, &mut broker);
    }
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let pinned = load.cores.as_ref().map(|cores| cores.0.clone());
    json!({
        "generator": format!("millrace-bench {}", env!("CARGO_PKG_VERSION")),
        "host": line("/proc/sys/kernel/hostname"),
        "kernel": line("/proc/sys/kernel/osrelease"),
        "cpu": cpu_model(),
        "cores": cores,
        "generator_cores": pinned,
        "memory_gib": memory_gib(),
        "load_average_at_start": line("/proc/loadavg"),
        "tls": "none",
        "broker": broker,
    })
}

fn line(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned())
}

fn cpu_model() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let model = text.lines().find(|line| line.starts_with("model name"))?;
    Some(model.split_once(':')?.1.trim().to_owned())
}

fn memory_gib() -> Option<f64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let total = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: f64 = total.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some((kib / f64::from(1 << 20) * 10.0).round() / 10.0)
}

/// What the broker itself tells.
fn broker(cluster: &mut Cluster) -> Map<String, Json> {
    let mut told = Map::new();
    let Some((&node, address)) = cluster.brokers().iter().next() else {
        return told;
    };
    told.insert("address".into(), address.clone().into());
    told.insert("nodes".into(), cluster.brokers().len().into());
    let settings = settings(cluster, node).unwrap_or_default();
    let is_millrace = settings.keys().any(|name| name.starts_with(OWN_SETTINGS));
    let flush = settings
        .get("log.flush.interval.messages")
        .and_then(Json::as_str);
    let durable = match (is_millrace, flush) {
        (true, _) => "before every acknowledgement, always",
        (false, Some("1")) => "after every append",
        (false, Some(_)) => "not before acknowledging (page cache)",
        (false, None) => "unknown",
    };
    told.insert("fsync".into(), durable.into());
    told.insert("settings".into(), settings.into());
    told
}

fn settings(cluster: &mut Cluster, node: i32) -> Option<Map<String, Json>> {
    let resource = message!(DescribeConfigsResource {
        resource_type: RESOURCE_BROKER,
        resource_name: StrBytes::from(node.to_string().as_str()),
        configuration_keys: None,
    });
    let request = message!(DescribeConfigsRequest {
        resources: vec![resource],
    });
    // A broker that does not tell is no reason not to measure it.
    let response = cluster.node(node).ok()?.call(&request).ok()?;
    let result = response.results.into_iter().next()?;
    let wanted = |name: &str| SETTINGS.contains(&name) || name.starts_with(OWN_SETTINGS);
    let settings = result
        .configs
        .into_iter()
        .filter(|config| wanted(&config.name));
    Some(
        settings
            .map(|config| {
                let value = config.value.map(|value| value.to_string());
                (config.name.to_string(), value.into())
            })
            .collect(),
    )
}

/// What the kernel tells of a broker on this machine.
fn process(pid: u32, told: &mut Map<String, Json>) {
    let program = line(&format!("/proc/{pid}/comm"));
    let cores = fs::read_to_string(format!("/proc/{pid}/status")).ok();
    let cores = cores.as_deref().and_then(|text| {
        let allowed = text
            .lines()
            .find(|line| line.starts_with("Cpus_allowed_list:"))?;
        Some(allowed.split_once(':')?.1.trim().to_owned())
    });
    told.insert("program".into(), program.into());
    told.insert("cores".into(), cores.into());
    let dirs = told.get("settings").and_then(|s| s["log.dirs"].as_str());
    let first = dirs
        .and_then(|dirs| dirs.split(',').next())
        .map(str::to_owned);
    let mounts = fs::read_to_string(format!("/proc/{pid}/mounts")).unwrap_or_default();
    let mount = first.as_deref().and_then(|dir| mount_of(dir, &mounts));
    if let Some((device, filesystem, options)) = mount {
        told.insert("disk".into(), device.into());
        told.insert(
            "filesystem".into(),
            format!("{filesystem} ({options})").into(),
        );
    }
}

/// Device, filesystem and options of the mount that holds a path.
fn mount_of<'a>(path: &str, mounts: &'a str) -> Option<(&'a str, &'a str, &'a str)> {
    let holds = |point: &str| {
        let rest = path.strip_prefix(point);
        rest.is_some_and(|rest| point.ends_with('/') || rest.is_empty() || rest.starts_with('/'))
    };
    let mut best: Option<(&str, (&str, &str, &str))> = None;
    for line in mounts.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        if let [device, point, filesystem, options, ..] = fields[..]
            && holds(point)
            // Of two at one point the later one is on top.
            && best.is_none_or(|(known, _)| point.len() >= known.len())
        {
            best = Some((point, (device, filesystem, options)));
        }
    }
    best.map(|(_, mount)| mount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_mount_point_holds_a_path() {
        let mounts =
            "/dev/a / ext4 rw 0 0\n/dev/b /data xfs rw,noatime 0 0\nt /data/tmp tmpfs rw 0 0\n";
        assert_eq!(
            mount_of("/data/x", mounts),
            Some(("/dev/b", "xfs", "rw,noatime"))
        );
        assert_eq!(mount_of("/data", mounts).unwrap().0, "/dev/b");
        assert_eq!(mount_of("/database", mounts).unwrap().0, "/dev/a");
        assert_eq!(mount_of("/data/tmp/y", mounts).unwrap().1, "tmpfs");
        assert_eq!(mount_of("relative", mounts), None);
    }

    #[test]
    fn this_machine_says_something() {
        assert!(line("/proc/sys/kernel/osrelease").is_some());
        assert!(memory_gib().unwrap() > 0.0);
    }
}
