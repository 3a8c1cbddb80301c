//! Settings of the file that was read again: what shards serve by from then on.

use std::sync::Arc;

use super::io::Input;
use super::testing::Bench;
use crate::base::ErrorCode;
use crate::config::BrokerConfig;

fn with(key: &str, value: &str) -> BrokerConfig {
    let mut config = BrokerConfig::default();
    config.set(key, value).expect("a setting");
    config
}

fn read_again(bench: &mut Bench, config: BrokerConfig) {
    let config = Arc::new(config);
    for shard in 0..bench.shards.len() {
        bench.handle(shard, Input::Settings(Arc::clone(&config)));
    }
    bench.settle();
}

#[test]
fn topics_that_are_there_and_new_ones_follow_the_file() {
    let mut bench = Bench::new(2, BrokerConfig::default());
    bench.open(0);
    bench.create_topic(0, "before", 2);
    let produce = |bench: &mut Bench, topic: &str| -> Vec<i16> {
        let errors = (0..2).map(|index| bench.produce(topic, index, 1000));
        errors.collect()
    };
    let (taken, refused) = ([0; 2], [ErrorCode::MessageTooLarge.code(); 2]);
    assert_eq!(produce(&mut bench, "before"), taken);
    read_again(&mut bench, with("message.max.bytes", "500"));
    assert_eq!(produce(&mut bench, "before"), refused);
    bench.create_topic(0, "behind", 2);
    assert_eq!(produce(&mut bench, "behind"), refused);
    read_again(&mut bench, BrokerConfig::default());
    assert_eq!(produce(&mut bench, "before"), taken);
    assert_eq!(produce(&mut bench, "behind"), taken);
}

#[test]
fn what_is_read_before_there_is_any_metadata_holds_for_it() {
    let mut bench = Bench::new(1, BrokerConfig::default());
    bench.open(0);
    // Twice at once: the second one comes while the first is looked at.
    for size in ["400", "1000"] {
        let config = Arc::new(with("message.max.bytes", size));
        bench.handle(0, Input::Settings(config));
    }
    bench.settle();
    bench.create_topic(0, "t", 1);
    let refused = ErrorCode::MessageTooLarge.code();
    assert_eq!(bench.produce("t", 0, 1100), refused);
    assert_eq!(bench.produce("t", 0, 600), 0, "by the second one");
}
