//! `logdirs`: which replica lies in which directory of which broker, and how large it is.

use millrace_client::{Cluster, Result, Topic};

use crate::answer::{Answer, Cell, Output, Rows};
use crate::args::LogDirs;
use crate::dirs::directories;
use crate::failure::Outcome;

/// Runs the command.
pub fn run(cluster: &mut Cluster, output: Output, args: &LogDirs) -> Outcome {
    output.show(&replicas(cluster, args)?)
}

fn replicas(cluster: &mut Cluster, args: &LogDirs) -> Result<Answer> {
    let topics = args.topics.iter().map(|name| cluster.topic(name));
    let topics: Vec<Topic> = topics.collect::<Result<_>>()?;
    let topics: Vec<&Topic> = topics.iter().collect();
    let nodes = match &args.nodes[..] {
        [] => cluster.brokers().keys().copied().collect(),
        nodes => nodes.to_vec(),
    };
    let wanted = (!topics.is_empty()).then_some(&topics[..]);
    let mut rows = Rows::of(&["topic", "partition", "node", "path", "bytes", "lag"]);
    let mut found = Vec::new();
    for dir in directories(cluster, nodes, wanted)? {
        for replica in dir.replicas {
            found.push((
                replica.topic,
                replica.partition,
                dir.node,
                dir.path.clone(),
                replica.bytes,
                replica.lag,
            ));
        }
    }
    found.sort();
    let all: u64 = found.iter().map(|(_, _, _, _, bytes, _)| bytes).sum();
    for (topic, partition, node, path, bytes, lag) in found {
        rows.add([
            topic.into(),
            partition.into(),
            node.into(),
            path.into(),
            Cell::Bytes(bytes),
            Cell::from(lag).alarm(lag > 0),
        ]);
    }
    Ok(Answer::new()
        .field("bytes", Cell::Bytes(all))
        .rows("replicas", rows))
}
