//! The first records of a cluster: its id, and which records may follow; and what a broker registers.

use super::features::FEATURE_LEVEL;
use super::image::Image;
use super::record::{Directory, MetadataRecord};
use crate::base::{Rng, TopicId};
use crate::config::BrokerConfig;

/// What has to be recorded before the broker serves anybody; nothing at most starts. `here` is what the broker has,
/// by store.
///
/// # Errors
/// The cluster has another id than the configuration says: this is somebody else's data.
pub fn bootstrap(
    image: &Image,
    config: &BrokerConfig,
    here: &[Directory],
    rng: &mut Rng,
) -> Result<Vec<MetadataRecord>, String> {
    let mut records = first_records(image, config, rng)?;
    let node = config.node();
    if image.registered(node) != Some(here) {
        let directories = here.to_vec();
        records.push(MetadataRecord::Broker { node, directories });
    }
    Ok(records)
}

fn first_records(
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
        (Some(_), _) => Ok(Vec::new()),
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
    use crate::base::{DirectoryId, ShardId, StoreId};

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
        let records = bootstrap(&image, &config, &here(1), &mut rng).unwrap();
        for record in &records {
            image.replay(record).unwrap();
        }
        assert_eq!(image.features, FEATURE_LEVEL);
        assert_eq!(image.cluster_id.as_ref().unwrap().len(), 22);
        assert_eq!(bootstrap(&image, &config, &here(1), &mut rng), Ok(vec![]));
        // One store more is registered again, and nothing else.
        let more = MetadataRecord::Broker {
            node: config.node(),
            directories: here(2),
        };
        assert_eq!(
            bootstrap(&image, &config, &here(2), &mut rng),
            Ok(vec![more])
        );
        config.millrace_cluster_id = Some("other".to_owned());
        assert!(
            bootstrap(&image, &config, &here(1), &mut rng)
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
        let records = bootstrap(&Image::default(), &config, &[], &mut Rng::new(1)).unwrap();
        assert_eq!(records[0], MetadataRecord::Cluster { id });
    }
}
