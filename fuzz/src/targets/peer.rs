//! What nodes of a cluster say to each other: the first byte says as what the rest is read.

use bytes::Bytes;
use millrace::base::{DirectoryId, Incarnation, NodeId};
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

/// Bytes of a request before its body.
const HEAD: usize = 14;

/// What decodes encodes, and decodes to the same again.
fn check(input: &[u8]) -> u64 {
    let Some((as_what, rest)) = input.split_first() else {
        return 0;
    };
    let bytes = Bytes::copy_from_slice(rest);
    match *as_what % 3 {
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
        _ => {
            let read = PeerMessages::decode(bytes);
            if let Ok(messages) = &read {
                let again = PeerMessages::decode(PeerMessages::encode(messages).slice(HEAD..));
                assert_eq!(again, read);
            }
            outcome("messages", &read.map(|messages| messages.len().min(4)))
        }
    }
}

/// Makes it one of the three, and a hello of a version that is known.
fn repair(input: &mut [u8]) {
    let Some((as_what, rest)) = input.split_first_mut() else {
        return;
    };
    *as_what %= 3;
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
            purpose: Purpose::Metadata,
            to: NodeId(2),
            number: 4,
            from: facts(cluster),
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
    let all = [
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
