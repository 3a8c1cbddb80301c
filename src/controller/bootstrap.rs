//! The first records of a cluster: its id, and which records may follow.

use super::features::FEATURE_LEVEL;
use super::image::Image;
use super::record::MetadataRecord;
use crate::base::{Rng, TopicId};
use crate::config::BrokerConfig;

/// What has to be recorded before the broker serves anybody; nothing after the first start.
///
/// # Errors
/// The cluster has another id than the configuration says: this is somebody else's data.
pub fn bootstrap(
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

    #[test]
    fn a_cluster_gets_its_id_once() {
        let (mut image, mut config, mut rng) =
            (Image::default(), BrokerConfig::default(), Rng::new(1));
        let records = bootstrap(&image, &config, &mut rng).unwrap();
        for record in &records {
            image.replay(record).unwrap();
        }
        assert_eq!(image.features, FEATURE_LEVEL);
        assert_eq!(image.cluster_id.as_ref().unwrap().len(), 22);
        assert_eq!(bootstrap(&image, &config, &mut rng), Ok(vec![]));
        config.millrace_cluster_id = Some("other".to_owned());
        assert!(
            bootstrap(&image, &config, &mut rng)
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
        let records = bootstrap(&Image::default(), &config, &mut Rng::new(1)).unwrap();
        assert_eq!(records[0], MetadataRecord::Cluster { id });
    }
}
