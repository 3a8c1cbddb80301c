//! A request frame: header, then the body as the API's generated type. What
//! decodes must encode, and decode to the same again. The bytes after the header
//! are read as a response of the API as well.

use bytes::Bytes;
use kafka_wire::*;
use kafka_wire_core::ApiVersion;
use millrace::broker::apis::{INSIDE, advertised};
use millrace::wire::client::{decode_response, encode_request};
use millrace::wire::{
    Api, ListedRequest, Lists, ListsPartitions, PartitionsRequest, WireError, decode, parse_header,
};

use super::{DECODING, Target, outcome};

pub const TARGET: Target = Target {
    name: "frame",
    corpus,
    check,
    repair,
    memory: DECODING,
};

macro_rules! apis {
    ($($key:literal $request:ident,)*) => {
        fn check_body(key: i16, version: i16, body: Bytes) -> Result<(), WireError> {
            match key {
                $($key => round_trip::<$request>(version, body),)*
                _ => unreachable!("the table and this list name the same APIs"),
            }
        }

        fn corpus() -> Vec<Vec<u8>> {
            let mut out = Vec::new();
            $(for version in versions($key) {
                // A default request, and one of every response's worth of bytes behind it.
                if let Ok(frame) = encode_request(1, Some("fuzz"), version, &$request::default()) {
                    out.push(frame[4..].to_vec());
                }
                let response = <$request as RequestResponsePair>::Response::default();
                if let Ok(frame) = millrace::wire::encode_response(1, version, &response) {
                    let head = [i16::to_be_bytes($key), version.to_be_bytes()].concat();
                    out.push([&head, &[0, 0, 0, 1, 0xff, 0xff, 0][..], &frame[4..]].concat());
                }
            })*
            out
        }
    };
}

apis! {
    0 ProduceRequest,
    1 FetchRequest,
    2 ListOffsetsRequest,
    3 MetadataRequest,
    8 OffsetCommitRequest,
    9 OffsetFetchRequest,
    10 FindCoordinatorRequest,
    11 JoinGroupRequest,
    12 HeartbeatRequest,
    13 LeaveGroupRequest,
    14 SyncGroupRequest,
    15 DescribeGroupsRequest,
    16 ListGroupsRequest,
    18 ApiVersionsRequest,
    19 CreateTopicsRequest,
    20 DeleteTopicsRequest,
    21 DeleteRecordsRequest,
    22 InitProducerIdRequest,
    23 OffsetForLeaderEpochRequest,
    24 AddPartitionsToTxnRequest,
    25 AddOffsetsToTxnRequest,
    26 EndTxnRequest,
    27 WriteTxnMarkersRequest,
    28 TxnOffsetCommitRequest,
    29 DescribeAclsRequest,
    32 DescribeConfigsRequest,
    33 AlterConfigsRequest,
    35 DescribeLogDirsRequest,
    37 CreatePartitionsRequest,
    42 DeleteGroupsRequest,
    43 ElectLeadersRequest,
    44 IncrementalAlterConfigsRequest,
    46 ListPartitionReassignmentsRequest,
    47 OffsetDeleteRequest,
    55 DescribeQuorumRequest,
    56 AlterPartitionRequest,
    60 DescribeClusterRequest,
    61 DescribeProducersRequest,
    64 UnregisterBrokerRequest,
    65 DescribeTransactionsRequest,
    66 ListTransactionsRequest,
    68 ConsumerGroupHeartbeatRequest,
    69 ConsumerGroupDescribeRequest,
    74 ListConfigResourcesRequest,
    75 DescribeTopicPartitionsRequest,
    80 AddRaftVoterRequest,
    81 RemoveRaftVoterRequest,
    88 StreamsGroupHeartbeatRequest,
    89 StreamsGroupDescribeRequest,
}

fn versions(key: i16) -> impl Iterator<Item = i16> {
    known(key).into_iter().flat_map(|api| api.min..=api.max)
}

/// One of Kafka's APIs that are served. Our own have targets of their own, or no body.
fn known(key: i16) -> Option<&'static Api> {
    advertised().chain([&INSIDE]).find(|api| api.key == key)
}

/// Turns key and version into ones that are served, if they are not.
fn repair(input: &mut [u8]) {
    let Some(head) = input.first_chunk_mut::<4>() else {
        return;
    };
    let key = i16::from_be_bytes([head[0], head[1]]);
    let served = advertised().chain([&INSIDE]).collect::<Vec<_>>();
    let any = Some(served[usize::from(head[1]) % served.len()]);
    let Some(api) = known(key).or(any) else {
        return;
    };
    let mut version = i16::from_be_bytes([head[2], head[3]]);
    if !api.serves(version) {
        version = api.min + i16::from(head[3]) % (api.max - api.min + 1);
    }
    head[..2].copy_from_slice(&api.key.to_be_bytes());
    head[2..].copy_from_slice(&version.to_be_bytes());
}

fn check(input: &[u8]) -> u64 {
    let frame = Bytes::copy_from_slice(input);
    match parse_header(frame, known) {
        Err(error) => outcome("header", &error),
        // A version of ApiVersions that is not served: there is no body to look at.
        Ok((header, body)) if !versions(header.key).any(|version| version == header.version) => {
            assert!(header.key == 18 && body.is_empty());
            outcome("future", &())
        }
        Ok((header, body)) => {
            let read = read_in_parts(header.key, header.version, &body);
            let checked = check_body(header.key, header.version, body);
            // What is read at once can be read in parts.
            assert!(checked.is_err() || read.is_ok(), "{read:?}");
            outcome((header.key, header.version), &checked)
        }
    }
}

/// Reads a request that the broker reads in parts.
fn read_in_parts(key: i16, version: i16, body: &Bytes) -> Result<(), WireError> {
    fn list<Q: Lists>(version: i16, body: &Bytes) -> Result<(), WireError> {
        let mut request = ListedRequest::<Q>::new(body.clone(), version)?;
        while request.read()?.is_some() {}
        request.rest().map(drop)
    }
    fn read<Q: ListsPartitions>(version: i16, body: &Bytes) -> Result<(), WireError> {
        let mut request = PartitionsRequest::<Q>::new(body.clone(), version)?;
        while request.read()?.is_some() {}
        Ok(())
    }
    match key {
        2 => read::<ListOffsetsRequest>(version, body),
        3 => list::<MetadataRequest>(version, body),
        10 => list::<FindCoordinatorRequest>(version, body),
        19 => list::<CreateTopicsRequest>(version, body),
        20 => list::<DeleteTopicsRequest>(version, body),
        21 => read::<DeleteRecordsRequest>(version, body),
        23 => read::<OffsetForLeaderEpochRequest>(version, body),
        32 => list::<DescribeConfigsRequest>(version, body),
        33 => list::<AlterConfigsRequest>(version, body),
        35 => read::<DescribeLogDirsRequest>(version, body),
        37 => list::<CreatePartitionsRequest>(version, body),
        44 => list::<IncrementalAlterConfigsRequest>(version, body),
        74 => list::<ListConfigResourcesRequest>(version, body),
        75 => list::<DescribeTopicPartitionsRequest>(version, body),
        _ => Ok(()),
    }
}

fn round_trip<R>(version: i16, body: Bytes) -> Result<(), WireError>
where
    R: RequestResponsePair + PartialEq + std::fmt::Debug,
{
    // Most bytes are no response; none may do harm.
    let _ = decode_response::<R>(body.clone(), version);
    let request = decode::<R>(body, version)?;
    let bytes = request
        .encode_to_bytes(ApiVersion::new(version))
        .unwrap_or_else(|error| panic!("decoded but does not encode: {error}: {request:?}"));
    let again = decode::<R>(bytes, version).expect("what was encoded decodes");
    assert_eq!(again, request);
    Ok(())
}
