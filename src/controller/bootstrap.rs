//! The first records of a cluster: its id, and which records may follow; and what a broker registers that is alone.

use super::features::FEATURE_LEVEL;
use super::image::Image;
use super::record::MetadataRecord;
use super::registered::{BrokerAddress, Directory, Registration};
use crate::base::{Incarnation, NodeProcess, Rng, ShardId, TopicId};
use crate::config::BrokerConfig;

/// What has to be recorded before a broker that is alone serves anybody; nothing at most starts. `here` is what the
/// broker has, by store, `shards` how many shards. Alone, it need not show that it is alive.
///
/// # Errors
/// The cluster has another id than the configuration says: this is somebody else's data. Or it has other brokers.
pub fn bootstrap(
    image: &Image,
    config: &BrokerConfig,
    shards: u16,
    here: &[Directory],
    rng: &mut Rng,
) -> Result<Vec<MetadataRecord>, String> {
    let node = config.node();
    if !image.brokers.has_none_but(node) {
        return Err(format!(
            "the metadata in {} is of a cluster of several brokers ({:?}), and this release serves one that is alone",
            config.log_dirs,
            image.brokers.nodes()
        ));
    }
    let mut records = first_records(image, config, rng)?;
    let known = image.brokers.get(node);
    // Where it is reached, others do not ask: it may be elsewhere at each start.
    let is_same = |known: &Registration| {
        known.directories == here
            && known.level == FEATURE_LEVEL
            && known.rack == config.broker_rack
            && !known.fenced
    };
    let is_same = known.is_some_and(is_same);
    if !is_same {
        let version = image.version + records.len() as u64 + 1;
        records.push(MetadataRecord::Broker(Registration {
            member: NodeProcess {
                node,
                incarnation: Incarnation(version),
            },
            start: rng.uuid(),
            fenced: false,
            level: FEATURE_LEVEL,
            rack: config.broker_rack.clone(),
            addresses: addresses(config, shards),
            directories: here.to_vec(),
        }));
    }
    Ok(records)
}

/// Where clients reach a broker of so many shards.
#[must_use]
pub fn addresses(config: &BrokerConfig, shards: u16) -> Vec<BrokerAddress> {
    let listeners = config.listeners.0.iter().enumerate();
    let address = listeners.map(|(at, listener)| {
        let (host, port) = config.advertised(at);
        let shards = (0..shards).filter(|_| config.is_direct());
        BrokerAddress {
            listener: listener.name.clone(),
            host,
            port,
            shards: shards
                .map(|shard| config.advertised_direct(at, ShardId(shard)).1)
                .collect(),
        }
    });
    address.collect()
}

/// What has to be recorded of a cluster before anything else, by whoever leads it.
///
/// # Errors
/// The cluster has another id than the configuration says.
pub fn first_records(
    image: &Image,
    config: &BrokerConfig,
    rng: &mut Rng,
) -> Result<Vec<MetadataRecord>, String> {
    match (&image.cluster_id, &config.millrace_cluster_id) {
        (Some(id), Some(wanted)) if **id != **wanted => Err(format!(
            "the cluster id in {} is {id}, but millrace.cluster.id is {wanted}: \
             correct the setting, or use the directory of that cluster",
            config.log_dirs
        )),
        // Others have to read what is written from now on.
        (Some(_), _) => {
            let brokers = &image.brokers;
            let raised = brokers.level_to_raise_to(image.features, Some(config.node()));
            let raised = raised.map(|level| MetadataRecord::Features { level });
            Ok(raised.into_iter().collect())
        }
        (None, wanted) => {
            // Kafka's cluster ids are UUIDs in the same text form as topic ids.
            let random = || TopicId(rng.uuid()).to_string();
            let id = wanted.clone().unwrap_or_else(random);
            Ok(vec![
                MetadataRecord::Cluster { id },
                MetadataRecord::Features {
                    level: FEATURE_LEVEL,
                },
            ])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{DirectoryId, StoreId};
    use crate::controller::testing::broker;

    #[test]
    fn a_cluster_gets_its_id_once() {
        let (mut image, mut config, mut rng) =
            (Image::default(), BrokerConfig::default(), Rng::new(1));
        let here = |shards: u16| -> Vec<Directory> {
            let stores = 0..shards;
            stores
                .map(|n| Directory {
                    id: DirectoryId::new(1, StoreId(n)),
                    shard: ShardId(n),
                })
                .collect()
        };
        let records = bootstrap(&image, &config, 1, &here(1), &mut rng).unwrap();
        for record in &records {
            image.replay(record).unwrap();
        }
        assert_eq!(image.features, FEATURE_LEVEL);
        assert_eq!(image.cluster_id.as_ref().unwrap().len(), 22);
        assert_eq!(
            bootstrap(&image, &config, 1, &here(1), &mut rng),
            Ok(vec![])
        );
        // One store more is registered again, and nothing else.
        let first = image.brokers.get(config.node()).unwrap();
        let more = bootstrap(&image, &config, 1, &here(2), &mut rng).unwrap();
        let [MetadataRecord::Broker(more)] = &more[..] else {
            panic!("{more:?}");
        };
        assert_eq!(more.directories, here(2));
        assert!(more.member.incarnation > first.member.incarnation && !more.fenced);
        // Nobody else would let it lead again.
        let mut fenced = image.clone();
        fenced.brokers.set_fenced(config.node(), true);
        let again = bootstrap(&fenced, &config, 1, &here(1), &mut rng).unwrap();
        assert!(matches!(&again[..], [MetadataRecord::Broker(again)] if !again.fenced));
        fenced.brokers.register(broker(9, 1)).unwrap();
        let several = bootstrap(&fenced, &config, 1, &here(1), &mut rng).unwrap_err();
        assert!(several.contains("several brokers"), "{several}");
        config.millrace_cluster_id = Some("other".to_owned());
        assert!(
            bootstrap(&image, &config, 1, &here(1), &mut rng)
                .unwrap_err()
                .contains("other")
        );
    }

    #[test]
    fn the_configured_id_is_taken() {
        let config = BrokerConfig {
            millrace_cluster_id: Some("mine".to_owned()),
            ..BrokerConfig::default()
        };
        let id = "mine".to_owned();
        let records = bootstrap(&Image::default(), &config, 1, &[], &mut Rng::new(1)).unwrap();
        assert_eq!(records[0], MetadataRecord::Cluster { id });
    }
}
