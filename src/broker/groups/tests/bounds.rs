//! What names too much, or the same thing too often.

use super::*;

#[test]
fn commits_and_fetches_of_too_many_partitions_close_the_connection() {
    let mut b = Broker::new();
    let many: Vec<i32> = (0..20_000).collect();
    let mut commit = commit_of(5, 0, 1);
    let one = commit.topics[0].partitions[0].clone();
    commit.topics[0].partitions = vec![one; many.len()];
    let frames = [
        encode_request(42, Some("client"), 5, &commit).unwrap(),
        encode_request(42, Some("client"), 5, &fetch_of(5, Some(&many))).unwrap(),
        encode_request(42, Some("client"), 8, &fetch_of(8, Some(&many[..10_000]))).unwrap(),
    ];
    for frame in frames {
        let token = b.send_frame(frame.slice(4..));
        assert!(b.failed.contains(&token), "{token}");
    }
    b.call(5, &fetch_of(5, Some(&many[1..])));
}

#[test]
fn a_group_named_many_times_is_answered_once() {
    let mut b = Broker::new();
    b.member(5, 3);
    let mut request = DescribeGroupsRequest::default();
    request.groups = vec!["g".into(); 1000];
    assert_eq!(b.call(5, &request).groups.len(), 1);
    let mut request = fetch_of(8, None);
    request.groups = vec![request.groups[0].clone(); 1000];
    assert_eq!(b.call(8, &request).groups.len(), 1);
}

#[test]
fn a_partition_named_many_times_is_answered_once() {
    let mut b = Broker::new();
    assert_eq!(b.commit(8, |_| {}), 0);
    for version in versions(9) {
        let mut request = fetch_of(version, Some(&[2; 1000]));
        let again = |topics: &mut Vec<_>| topics.extend_from_within(..);
        request.topics.as_mut().map(again);
        for group in &mut request.groups {
            if let Some(topics) = &mut group.topics {
                topics.extend_from_within(..);
            }
        }
        let fetched = b.call(version, &request);
        check_fetched(version, &fetched, &[(2, 5, "note")]);
        let mut topics = fetched.topics.iter().skip(1);
        assert!(topics.all(|topic| topic.partitions.is_empty()));
        let mut topics = fetched.groups.iter().flat_map(|g| g.topics.iter().skip(1));
        assert!(topics.all(|topic| topic.partitions.is_empty()));
    }
}

#[test]
fn an_id_that_no_record_has_room_for_closes_the_connection() {
    let mut b = Broker::new();
    let id = |bytes: usize| StrBytes::from("g".repeat(bytes));
    let longest = b.commit(8, |r| r.group_id = id(32_767));
    assert_eq!(longest, 0);
    let mut commit = commit_of(8, 2, 5);
    commit.group_id = id(32_768);
    let frame = encode_request(42, Some("client"), 8, &commit).unwrap();
    let token = b.send_frame(frame.slice(4..));
    assert!(b.failed.contains(&token));
}
