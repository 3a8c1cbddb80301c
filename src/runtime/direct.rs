//! Direct ports: next to each listener, a port for each shard, on which that shard
//! alone accepts. See `broker::admin::Brokers` for what clients are told of them.

use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener};

use super::bind::{Buffers, claim};
use super::fatal::{CONFIG, Fatal, SYSTEM};
use crate::base::ShardId;
use crate::config::{BrokerConfig, Endpoint};

/// Binds the direct ports next to the listeners that were `asked` for, which are bound already, if they are on,
/// and tells the configuration the ones that the system chose. Sockets are added to those of their
/// shards, numbered after all listeners.
///
/// # Errors
/// A port does not exist, is needed twice, or is taken.
pub fn listen(
    config: &mut BrokerConfig,
    asked: &[Endpoint],
    listeners: &[SocketAddr],
    by_shard: &mut [Vec<(usize, TcpListener)>],
) -> Result<(), Fatal> {
    if !config.is_direct() {
        return Ok(());
    }
    let mut wanted = addresses(config, asked, listeners, by_shard.len())?.into_iter();
    let buffers = Buffers::new(config);
    let mut bound = Vec::new();
    for index in 0..listeners.len() {
        let mut ports = Vec::new();
        for (sockets, address) in by_shard.iter_mut().zip(&mut wanted) {
            let fail = |error| {
                let message = format!(
                    "cannot listen on {address}: {error}: see millrace.direct.ports, which needs a free port for each core"
                );
                Fatal::new(SYSTEM, message)
            };
            let socket = claim(address, buffers).map_err(fail)?;
            ports.push(socket.local_addr().map_err(fail)?.port());
            sockets.push((listeners.len() + index, socket));
        }
        bound.push(ports);
    }
    config.direct_bound = bound;
    Ok(())
}

/// The direct addresses: of each listener, those of all shards. Next to a listener whose port the
/// system chose, it chooses these too.
fn addresses(
    config: &BrokerConfig,
    asked: &[Endpoint],
    listeners: &[SocketAddr],
    shards: usize,
) -> Result<Vec<SocketAddr>, Fatal> {
    let mut taken: HashSet<SocketAddr> = listeners.iter().copied().collect();
    let mut all = Vec::new();
    for (listener, endpoint) in listeners.iter().zip(asked) {
        for shard in 0..shards {
            let mut address = *listener;
            let refuse = |why: String| Fatal::new(CONFIG, format!("millrace.direct.ports: {why}"));
            let what = || format!("core {shard} next to the listener {}", endpoint.name);
            if endpoint.port == 0 {
                address.set_port(0);
            } else {
                let port = config.direct_port(listener.port(), ShardId(shard as u16));
                let port = port.ok_or_else(|| refuse(format!("no port is left for {}", what())))?;
                address.set_port(port);
                if !taken.insert(address) {
                    return Err(refuse(format!(
                        "port {port}, of {}, is needed twice",
                        what()
                    )));
                }
            }
            all.push(address);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(listeners: &str, direct: &str, shards: usize) -> Result<Vec<u16>, Fatal> {
        let mut config = BrokerConfig::default();
        config.set("listeners", listeners).unwrap();
        config.set("millrace.direct.ports", direct).unwrap();
        let asked = config.listeners.0.clone();
        let bound = |endpoint: &Endpoint| SocketAddr::from(([127, 0, 0, 1], endpoint.port));
        let bound: Vec<SocketAddr> = asked.iter().map(bound).collect();
        let all = addresses(&config, &asked, &bound, shards)?;
        Ok(all.iter().map(SocketAddr::port).collect())
    }

    #[test]
    fn ports_come_in_a_row() {
        let listeners = "A://127.0.0.1:9092,B://127.0.0.1:9292";
        let all = ports(listeners, "100", 2).unwrap();
        assert_eq!(all, [9192, 9193, 9392, 9393]);
        assert_eq!(ports("A://127.0.0.1:0", "100", 2).unwrap(), [0, 0]);
    }

    #[test]
    fn ports_that_cannot_be_had_are_refused_with_the_reason() {
        let why = |listeners, direct| ports(listeners, direct, 2).unwrap_err().to_string();
        let all = why("A://127.0.0.1:9092,B://127.0.0.1:9093", "1");
        assert!(all.contains("9093") && all.contains("twice"), "{all}");
        let all = why("A://127.0.0.1:9092,B://127.0.0.1:9093", "2");
        assert!(all.contains("9095") && all.contains("twice"), "{all}");
        let all = why("A://127.0.0.1:65534", "1");
        assert!(all.contains("core 1 next to the listener A"), "{all}");
    }
}
