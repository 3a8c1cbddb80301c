//! What a shard serves by: the settings of the file, also when it is read again, and over them those that clients set.

use std::sync::Arc;

use super::Shard;
use crate::broker::fx::Fx;
use crate::broker::owner::adopt::Adoption;
use crate::config::BrokerConfig;
use crate::controller::{Delta, Image};

impl Shard {
    /// Serves by what clients have set for this broker and for all.
    pub(super) fn apply_settings(&mut self, image: &Image) {
        let node = Some(self.config.node());
        let (all, own) = (image.broker_configs(None), image.broker_configs(node));
        let known = &self.front.image;
        if all != known.broker_configs(None) || own != known.broker_configs(node) {
            self.set_config(image);
        }
    }

    /// The file's settings are others: with what clients have set, they hold for every topic, which takes slices. An
    /// image that comes after them finds them.
    pub(super) fn read_again(&mut self, config: Arc<BrokerConfig>, fx: &mut Fx<'_>) {
        self.config = config;
        // What clients have set in the image that is being looked at holds already.
        let begun = self.images.front().filter(|adoption| adoption.is_begun);
        let image = Arc::clone(begun.map_or(&self.front.image, |adoption| &adoption.image));
        self.set_config(&image);
        let newest = self.images.back();
        let image = newest.map_or(image, |adoption| Arc::clone(&adoption.image));
        if image.version > 0 {
            let everything = Arc::new(Delta::everything());
            self.images.push_back(Adoption::new(image, everything));
            if self.images.len() == 1 {
                self.adopt_some(fx);
            }
        }
    }

    fn set_config(&mut self, image: &Image) {
        let node = Some(self.config.node());
        let (all, own) = (image.broker_configs(None), image.broker_configs(node));
        let config = Arc::new(self.config.with_dynamic(all, own));
        self.front.config = Arc::clone(&config);
        self.owner.config = Arc::clone(&config);
        self.coordinators.set_config(Arc::clone(&config));
        if let Some(control) = &mut self.control {
            control.set_config(config);
        }
    }
}
