//! Changes of the metadata are decided on in slices, counted in what they are about and not in time.

use bytes::Bytes;
use kafka_wire::create_topics_request::CreatableTopic;
use kafka_wire::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_wire::metadata_request::MetadataRequestTopic;
use kafka_wire::{
    CreateTopicsRequest, DeleteTopicsRequest, IncrementalAlterConfigsRequest, MetadataRequest,
};

use super::cost_tests::bench;
use super::io::Input;
use super::testing::{Bench, create_topic};
use crate::base::limits::{
    DECIDED_BYTES_MAX, DECIDED_PER_SLICE, DECODE_BYTES_MAX, STOPPING_DECISIONS_BYTES_MAX,
};
use crate::wire::client::{decode_response, encode_request};

/// The topics are too many for a few slices: each is read, decided on, and made of two records.
const TOPICS: usize = 3 * DECIDED_PER_SLICE;

/// CreateTopics version 4 of so many topics with a partition each.
fn create(topics: usize) -> Bytes {
    let topic = |n: usize| {
        let mut topic = CreatableTopic::default();
        topic.name = format!("new-{n}").into();
        topic.num_partitions = 1;
        topic.replication_factor = 1;
        topic
    };
    let mut request = CreateTopicsRequest::default();
    request.topics = (0..topics).map(topic).collect();
    encode_request(1, Some("test"), 4, &request).unwrap()
}

/// The error codes of the last CreateTopics reply to a connection.
fn created(bench: &Bench, conn: u64) -> Vec<i16> {
    let reply = bench.last_reply(conn).expect("it is answered");
    let (_, response) = decode_response::<CreateTopicsRequest>(reply.slice(4..), 4).unwrap();
    response.topics.iter().map(|t| t.error_code).collect()
}

/// Metadata of a topic, which is not to be created.
fn metadata(topic: &str) -> Bytes {
    let mut asked = MetadataRequestTopic::default();
    asked.name = Some(topic.into());
    let mut request = MetadataRequest::default();
    request.allow_auto_topic_creation = false;
    request.topics = Some(vec![asked]);
    encode_request(1, Some("test"), 4, &request).unwrap()
}

fn error_of_topic(reply: &Bytes) -> i16 {
    let (_, response) = decode_response::<MetadataRequest>(reply.slice(4..), 4).unwrap();
    response.topics[0].error_code
}

/// How many slices go by until as many replies are there, each with time for what comes meanwhile.
fn slices_until(bench: &mut Bench, replies: usize) -> usize {
    let mut slices = 0;
    while bench.replies.len() < replies {
        bench.deliver();
        assert!(bench.idle(0) || !bench.coming.is_empty(), "nothing goes on");
        slices += 1;
    }
    slices
}

#[test]
fn a_decision_on_much_is_made_in_slices_and_shown_as_a_whole() {
    let mut bench = bench(1, 1);
    bench.open(1);
    let before = bench.replies.len();
    bench.send(1, &create(TOPICS));
    let mut slices = 0;
    loop {
        bench.send(0, &metadata("new-0"));
        // Who asks for little does not wait for it, and sees all of it or nothing.
        let reply = bench.last_reply(0).expect("at once");
        if error_of_topic(&reply) == 0 {
            break;
        }
        bench.deliver();
        bench.idle(0);
        slices += 1;
    }
    bench.send(0, &metadata(&format!("new-{}", TOPICS - 1)));
    assert_eq!(error_of_topic(&bench.last_reply(0).unwrap()), 0);
    // Read, decided on and two records each.
    assert!(slices >= 4 * TOPICS / DECIDED_PER_SLICE, "{slices}");
    bench.settle();
    assert_eq!(created(&bench, 1), vec![0; TOPICS]);
    assert!(bench.replies.len() > before);
}

#[test]
fn one_topic_of_many_partitions_is_made_in_slices() {
    const PARTITIONS: usize = 8 * DECIDED_PER_SLICE;
    let mut bench = bench(1, 1);
    let before = bench.replies.len();
    bench.send(0, &create_topic("wide", PARTITIONS as i32));
    let slices = slices_until(&mut bench, before + 1);
    assert!(slices >= PARTITIONS / DECIDED_PER_SLICE, "{slices}");
    bench.settle();
    assert_eq!(
        bench.shards[0].partitions(),
        PARTITIONS + 4,
        "and four more"
    );
}

/// What is answered meanwhile is kept until the disk has what it was decided by, also for those who are gone.
#[test]
fn nothing_is_decided_while_too_much_waits_for_the_disk() {
    const REQUESTS: u64 = 64;
    const TOPICS: usize = 2_000;
    let mut request = DeleteTopicsRequest::default();
    let name = |n: usize| format!("no-{n}-{}", "x".repeat(200)).into();
    request.topic_names = (0..TOPICS).map(name).collect();
    let frame = encode_request(1, Some("test"), 5, &request).unwrap();
    let mut bench = bench(1, 1);
    let before = bench.replies.len();
    bench.send(0, &create_topic("new", 1));
    bench.idle(0);
    let hangs = std::mem::take(&mut bench.coming);
    for conn in 1..=REQUESTS {
        bench.open(conn);
        bench.send(conn, &frame);
    }
    while bench.idle(0) {}
    let waits = bench.shards[0].undecided();
    let kept = (REQUESTS as usize - waits) * frame.len();
    assert!(waits > 0, "all were decided on: {kept} bytes of replies");
    assert!(kept > DECIDED_BYTES_MAX / 2, "{kept}");
    assert_eq!(bench.replies.len(), before);
    bench.coming = hangs;
    bench.settle();
    assert_eq!(bench.shards[0].undecided(), 0);
    assert_eq!(bench.replies.len() - before, 1 + REQUESTS as usize);
}

/// Those that come meanwhile wait, and are decided by what it has come to.
#[test]
fn changes_are_decided_in_the_order_in_which_they_came() {
    let mut bench = bench(1, 1);
    let before = bench.replies.len();
    for conn in [3, 5] {
        bench.open(conn);
    }
    bench.send(0, &create(TOPICS));
    bench.send(3, &create(1));
    let mut request = DeleteTopicsRequest::default();
    request.topic_names = vec!["new-1".into()];
    let delete = encode_request(1, Some("test"), 5, &request).unwrap();
    bench.send(5, &delete);
    bench.settle();
    assert_eq!(bench.replies.len(), before + 3);
    assert_eq!(created(&bench, 0), vec![0; TOPICS]);
    assert_eq!(created(&bench, 3), [36], "it exists");
    let reply = bench.last_reply(5).unwrap();
    let (_, response) = decode_response::<DeleteTopicsRequest>(reply.slice(4..), 5).unwrap();
    assert_eq!(response.responses[0].error_code, 0);
    assert!(bench.shards[0].store_of("new-1", 0).is_none());
    assert!(bench.shards[0].store_of("new-0", 0).is_some());
}

/// Many small ones are no more than one of many parts.
#[test]
fn requests_share_the_slices() {
    let mut bench = bench(1, 1);
    let clients = DECIDED_PER_SLICE as u64;
    let before = bench.replies.len();
    let mut request = IncrementalAlterConfigsRequest::default();
    for n in 0..10 {
        let mut setting = AlterableConfig::default();
        setting.name = "retention.ms".into();
        setting.value = Some("5".into());
        let mut resource = AlterConfigsResource::default();
        resource.resource_type = 2;
        resource.resource_name = format!("absent-{n}").into();
        resource.configs = vec![setting];
        request.resources.push(resource);
    }
    let frame = encode_request(1, Some("test"), 1, &request).unwrap();
    for conn in 1..=clients {
        bench.open(conn);
        bench.send(conn, &frame);
    }
    let at_once = bench.replies.len() - before;
    assert!(at_once <= DECIDED_PER_SLICE / 20, "{at_once}");
    let slices = slices_until(&mut bench, before + clients as usize);
    assert!(slices >= 20, "{slices}");
    let order = bench.replies[before..].iter().map(|(conn, _)| conn.0);
    assert!(order.eq(1..=clients), "in their order");
}

/// As in Kafka, which has taken the request: unless there are many of such (`control/turns`).
#[test]
fn who_closes_its_connection_has_decided_all_the_same() {
    for delivered in [0, 3] {
        let mut bench = bench(1, 1);
        for conn in [1, 2] {
            bench.open(conn);
        }
        bench.send(1, &create(TOPICS));
        bench.send(2, &create_topic("waits", 1));
        for _ in 0..delivered {
            bench.idle(0);
        }
        bench.close(1);
        bench.close(2);
        bench.settle();
        let last = format!("new-{}", TOPICS - 1);
        for topic in ["new-0", &last, "waits"] {
            assert!(bench.shards[0].store_of(topic, 0).is_some(), "{topic}");
        }
        assert_eq!(bench.shards[0].waiting().0, 0);
        bench.shards[0].invariants();
    }
}

#[test]
fn a_stop_decides_on_what_it_has_begun_with_and_on_some_others() {
    let mut bench = bench(1, 1);
    let before = bench.replies.len();
    let frame = create(TOPICS);
    let conns = 2 * STOPPING_DECISIONS_BYTES_MAX / frame.len();
    for conn in 1..=conns as u64 {
        bench.open(conn);
        bench.send(conn, &frame);
    }
    bench.idle(0);
    bench.handle(0, Input::Shutdown);
    bench.settle();
    assert_eq!(bench.drained, 1);
    let answered = bench.replies.len() - before;
    assert_eq!(answered + bench.closed.len(), conns);
    let most = 1 + STOPPING_DECISIONS_BYTES_MAX / frame.len();
    assert!(
        (most - 2..=most).contains(&answered),
        "{answered} of {most}"
    );
    assert_eq!(created(&bench, 1), vec![0; TOPICS]);
    assert_eq!(bench.shards[0].waiting().0, 0);
}

/// It is not kept until its turn comes.
#[test]
fn what_is_too_long_is_refused_while_others_are_decided_on() {
    let mut bench = bench(1, 1);
    bench.open(1);
    bench.send(0, &create(TOPICS));
    let mut long = create(1).to_vec();
    long.resize(DECODE_BYTES_MAX + 100, 0);
    let len = (long.len() - 4) as i32;
    long[..4].copy_from_slice(&len.to_be_bytes());
    bench.send(1, &long.into());
    assert_eq!(bench.closed.len(), 1);
    bench.settle();
    assert_eq!(created(&bench, 0), vec![0; TOPICS]);
}

#[test]
fn what_is_created_by_asking_is_decided_on_in_slices_too() {
    let mut bench = bench(1, 1);
    let mut request = MetadataRequest::default();
    let topic = |n: usize| {
        let mut topic = MetadataRequestTopic::default();
        topic.name = Some(format!("asked-{n}").into());
        topic
    };
    request.allow_auto_topic_creation = true;
    request.topics = Some((0..TOPICS).map(topic).collect());
    let frame = encode_request(1, Some("test"), 4, &request).unwrap();
    let before = bench.replies.len();
    bench.send(0, &frame);
    let slices = slices_until(&mut bench, before + 1);
    assert!(slices >= 4 * TOPICS / DECIDED_PER_SLICE, "{slices}");
    let reply = bench.last_reply(0).unwrap();
    let (_, response) = decode_response::<MetadataRequest>(reply.slice(4..), 4).unwrap();
    assert_eq!(response.topics.len(), TOPICS);
    assert!(response.topics.iter().all(|topic| topic.error_code == 0));
}
