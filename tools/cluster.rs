//! `cluster`: the brokers, and what they say they can do.

use crate::Outcome;
use crate::table::Table;
use millrace_client::Cluster;

/// Runs the command.
pub fn run(cluster: &mut Cluster) -> Outcome {
    let metadata = cluster.metadata(Some(&[])).map_err(|e| e.to_string())?;
    let id = metadata
        .cluster_id
        .as_ref()
        .map_or("unknown", |id| id.as_str());
    println!("cluster     {id}");
    println!("controller  {}", metadata.controller_id);
    let mut table = Table::new(&[
        "NODE",
        "ADDRESS",
        "RACK",
        "REACHABLE",
        "APIS",
        "PRODUCE",
        "FETCH",
    ]);
    for broker in &metadata.brokers {
        let node = broker.node_id;
        let conn = cluster.node(node);
        let (reachable, versions) = match &conn {
            Ok(conn) => ("yes", Some(conn.versions())),
            Err(_) => ("NO", None),
        };
        let range = |key: i16| {
            let range = versions.and_then(|versions| versions.get(&key));
            range.map_or_else(String::new, |(min, max)| format!("{min}-{max}"))
        };
        table.row([
            node.to_string(),
            format!("{}:{}", broker.host, broker.port),
            broker
                .rack
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            reachable.to_owned(),
            versions
                .map(|versions| versions.len().to_string())
                .unwrap_or_default(),
            range(0),
            range(1),
        ]);
    }
    print!("{table}");
    let topics = cluster.topics().map_err(|e| e.to_string())?;
    let partitions = || topics.iter().flat_map(|topic| &topic.partitions);
    let behind = partitions()
        .filter(|p| p.isr.len() < p.replicas.len())
        .count();
    let leaderless = partitions().filter(|p| p.leader < 0).count();
    println!(
        "{} topics, {} partitions, {behind} with replicas out of sync, {leaderless} without a leader",
        topics.len(),
        partitions().count()
    );
    Ok(())
}
