//! What a metrics listener says (`millrace.metrics.listener`): the text that Prometheus reads.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

/// Longest answer that is read.
const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// One reading of one process.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    /// `host:port` of the listener.
    pub address: String,
    /// The node that it belongs to, if it is Millrace's.
    pub node: Option<String>,
    /// Sums over all labels, by name.
    sums: BTreeMap<String, f64>,
}

impl Metrics {
    /// Asks a listener.
    pub fn read(address: &str, timeout: Duration) -> Result<Self, String> {
        let named = |error: io::Error| format!("cannot read the metrics of {address}: {error}");
        let answer = get(address, timeout).map_err(named)?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.lines().next().unwrap_or_default();
        if status.split(' ').nth(1) != Some("200") {
            return Err(format!(
                "{address} answers '{status}': is it a millrace.metrics.listener?"
            ));
        }
        Ok(Self::parse(address, body))
    }

    fn parse(address: &str, text: &str) -> Self {
        let mut found = Self {
            address: address.to_owned(),
            node: None,
            sums: BTreeMap::new(),
        };
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            // Labels may hold blanks; the value comes after the last one.
            let Some((what, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let (name, labels) = what.split_once('{').unwrap_or((what, ""));
            if name == "millrace_build_info" {
                let node = labels
                    .split_once("node_id=\"")
                    .and_then(|(_, rest)| rest.split_once('"'));
                found.node = node.map(|(node, _)| node.to_owned());
            }
            if let Ok(value) = value.parse::<f64>() {
                *found.sums.entry(name.to_owned()).or_default() += value;
            }
        }
        found
    }

    /// The sum of a metric over all its labels, if there is such a metric.
    pub fn sum(&self, name: &str) -> Option<f64> {
        self.sums.get(name).copied()
    }
}

fn get(address: &str, timeout: Duration) -> io::Result<String> {
    let resolved = address.to_socket_addrs()?.next();
    let resolved = resolved.ok_or_else(|| io::Error::other("the name has no address"))?;
    let mut stream = TcpStream::connect_timeout(&resolved, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    write!(
        stream,
        "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.take(BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_go_over_all_labels() {
        let text = "# HELP x y\nmillrace_build_info{version=\"1\",node_id=\"7\"} 1\n\
                    a_total{shard=\"0\"} 1.5\na_total{shard=\"1\",topic=\"x y\"} 2\nb 3\nnonsense\n";
        let found = Metrics::parse("h:1", text);
        assert_eq!(found.node.as_deref(), Some("7"));
        assert_eq!(
            (found.sum("a_total"), found.sum("b"), found.sum("c")),
            (Some(3.5), Some(3.0), None)
        );
    }
}
