//! What nodes of a cluster say to each other: the first byte says as what the rest is read.

use bytes::Bytes;
use millrace::base::{
    DirectoryId, Incarnation, LeaderEpoch, LogId, NodeId, NodeProcess, Offset, ShardId,
};
use millrace::broker::{ReplicaSaid, ReplicaWhat};
use millrace::replica::{EpochEnd, LeaderLog, OnDisk, Push, Term};
use millrace::wire::NodePlace;
use millrace::wire::peer::{
    Hello, HelloAnswer, NodeFacts, PEER_VERSION, PeerMessage, PeerMessages, PeerRefusal, Purpose,
};

use super::{DECODING, Target, outcome};

pub const TARGET: Target = Target {
    name: "peer",
    corpus,
    check,
    repair,
    memory: DECODING,
};

const HELLO: u8 = 0;
const ANSWER: u8 = 1;
const MESSAGES: u8 = 2;
const REPLICAS: u8 = 3;

/// Bytes of a request before its body.
const HEAD: usize = 14;

/// What decodes encodes, and decodes to the same again.
fn check(input: &[u8]) -> u64 {
    let Some((as_what, rest)) = input.split_first() else {
        return 0;
    };
    let bytes = Bytes::copy_from_slice(rest);
    match *as_what % 4 {
        HELLO => {
            let read = Hello::decode(bytes);
            if let Ok(Ok(hello)) = &read {
                let again = Hello::decode(hello.encode(1).slice(HEAD..));
                assert_eq!(again, read);
            }
            outcome(
                "hello",
                &read.map(|read| read.map(|hello| hello.from.cluster_id.is_some())),
            )
        }
        ANSWER => {
            let read = HelloAnswer::decode(bytes);
            if let Ok(answer) = &read {
                let again = HelloAnswer::decode(answer.encode().into());
                assert!(again == read || matches!(answer, HelloAnswer::Refused { .. }));
            }
            let said = read.map(|answer| match answer {
                HelloAnswer::Welcome { .. } => None,
                HelloAnswer::Refused { why, .. } => Some(why),
            });
            outcome("answer", &said)
        }
        MESSAGES => {
            let read = PeerMessages::decode(bytes);
            if let Ok(messages) = &read {
                let again = PeerMessages::decode(PeerMessages::encode(messages).slice(HEAD..));
                assert_eq!(again, read);
            }
            outcome("messages", &read.map(|messages| messages.len().min(4)))
        }
        _ => {
            let read = ReplicaSaid::decode_all(bytes.clone());
            if let Ok(messages) = &read {
                assert_eq!(replicas(messages), bytes);
            }
            let kind = |said: &ReplicaSaid| match &said.what {
                ReplicaWhat::Asks(_) => 1,
                ReplicaWhat::Answers { .. } => 2,
                ReplicaWhat::Pushes(push) => 3 + push.batches.len().min(2),
                ReplicaWhat::Tells(_) => 6,
                ReplicaWhat::Lost => 7,
            };
            let kinds = |messages: Vec<ReplicaSaid>| -> Vec<usize> {
                messages.iter().take(4).map(kind).collect()
            };
            outcome("replicas", &read.map(kinds))
        }
    }
}

/// The body of a request.
fn replicas(messages: &[ReplicaSaid]) -> Vec<u8> {
    let mut body = Vec::new();
    for said in messages {
        let batches = match &said.what {
            ReplicaWhat::Pushes(push) => &push.batches[..],
            _ => &[],
        };
        said.put(batches.len(), &mut body);
        body.extend_from_slice(batches);
    }
    body
}

/// Bytes of a message about a replica before its head, and of the checksum that is the end of them.
const BEFORE: usize = 9;
const CRC: usize = 4;

/// Gives messages about replicas the lengths and checksums that they have to have, as far as there are messages.
fn repair_replicas(mut rest: &mut [u8]) {
    const HEADS: [usize; 5] = [12, 48, 32, 16, 0];
    while rest.len() > BEFORE {
        let kind = usize::from(rest[0] % 8);
        let Some(what) = HEADS.get(kind.wrapping_sub(1)) else {
            return;
        };
        let head = 36 + what;
        if rest.len() < BEFORE + head {
            return;
        }
        rest[0] = kind as u8;
        let claimed = u32::from_le_bytes(rest[1..5].try_into().expect("four bytes")) as usize;
        let most = rest.len() - 5;
        let len = if kind == 3 {
            claimed.clamp(CRC + head, most)
        } else {
            CRC + head
        };
        rest[1..5].copy_from_slice(&(len as u32).to_le_bytes());
        // Signs that nobody reads.
        for at in [8, 12, 24] {
            rest[BEFORE + at + 3] &= 0x7f;
        }
        let covered = [&rest[..5], &rest[BEFORE..BEFORE + head]];
        let crc = millrace::base::crc::crc32c_parts(covered);
        rest[5..BEFORE].copy_from_slice(&crc.to_le_bytes());
        rest = &mut rest[5 + len..];
    }
}

/// Makes it one of the four, a hello of a version that is known, and messages about replicas whole.
fn repair(input: &mut [u8]) {
    let Some((as_what, rest)) = input.split_first_mut() else {
        return;
    };
    *as_what %= 4;
    if *as_what == REPLICAS {
        repair_replicas(rest);
    }
    if *as_what == HELLO
        && let Some(versions) = rest.first_chunk_mut::<4>()
    {
        *versions = [PEER_VERSION.to_le_bytes(); 2]
            .concat()
            .try_into()
            .expect("four bytes");
    }
}

fn corpus() -> Vec<Vec<u8>> {
    let facts = |cluster: Option<&str>| NodeFacts {
        node: NodeId(1),
        directory: DirectoryId([7; 16]),
        incarnation: Incarnation(3),
        start: 9,
        levels: (1, 2),
        cluster_id: cluster.map(Into::into),
    };
    let hello = |cluster| {
        let hello = Hello {
            versions: (PEER_VERSION, PEER_VERSION),
            purpose: match cluster {
                None => Purpose::Metadata,
                Some(_) => Purpose::Replicas {
                    from: ShardId(1),
                    to: ShardId(2),
                },
            },
            to: NodeId(2),
            number: 4,
            from: facts(cluster),
            place: NodePlace {
                voters: vec![NodeId(1), NodeId(2)],
                reached: Some(("node-1".to_owned(), 9093)),
            },
        };
        hello.encode(1)[HEAD..].to_vec()
    };
    let welcome = HelloAnswer::Welcome {
        version: PEER_VERSION,
        from: facts(Some("cluster")),
    };
    let refused = HelloAnswer::Refused {
        why: PeerRefusal::OtherCluster,
        text: "another cluster".to_owned(),
    };
    let messages = [
        PeerMessage::Heartbeat { stuck_ms: 5 },
        PeerMessage::Quorum(Bytes::from_static(b"a message of the quorum")),
    ];
    let said = said();
    let all = [
        (REPLICAS, replicas(&said)),
        (REPLICAS, replicas(&said[2..3])),
        (REPLICAS, replicas(&said[3..])),
        (HELLO, hello(None)),
        (HELLO, hello(Some("cluster"))),
        (ANSWER, welcome.encode()),
        (ANSWER, refused.encode()),
        (MESSAGES, PeerMessages::encode(&messages)[HEAD..].to_vec()),
        (
            MESSAGES,
            PeerMessages::encode(&messages[..1])[HEAD..].to_vec(),
        ),
    ];
    all.into_iter()
        .map(|(as_what, bytes)| [vec![as_what], bytes].concat())
        .collect()
}

/// What is said of replicas, a message of each kind.
fn said() -> [ReplicaSaid; 5] {
    let process = |node| NodeProcess {
        node: NodeId(node),
        incarnation: Incarnation(3),
    };
    let end = |end| EpochEnd {
        epoch: LeaderEpoch(4),
        end: Offset(end),
    };
    [
        ReplicaWhat::Asks(end(7)),
        ReplicaWhat::Answers {
            asked: end(7),
            log: LeaderLog {
                ends: end(9),
                start: Offset(0),
                end: Offset(11),
                committed: Offset(8),
                tombstones: Offset(3),
            },
        },
        ReplicaWhat::Pushes(Push {
            from: Offset(7),
            batches: Bytes::from_static(b"batches"),
            to: Offset(9),
            committed: Offset(8),
            start: Offset(0),
        }),
        ReplicaWhat::Tells(OnDisk {
            end: Offset(9),
            start: Offset(0),
        }),
        ReplicaWhat::Lost,
    ]
    .map(|what| ReplicaSaid {
        log: LogId(12),
        term: Term {
            epoch: LeaderEpoch(5),
            leader: process(1),
            follower: process(2),
        },
        what,
    })
}
