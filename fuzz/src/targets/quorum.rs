//! Messages between replicas of the metadata log, and a replica that is told them.

use bytes::Bytes;
use millrace::base::crc::crc32c;
use millrace::base::{DirectoryId, LeaderEpoch, Mono, NodeId};
use millrace::quorum::{
    EntryId, EntryIndex, Payload, Quorum, QuorumConfig, QuorumEntry, QuorumInput, QuorumMessage,
    ReplicaKey, Restored, Says, SnapshotMark, Vote, Voters,
};

use super::{DECODING, Target, outcome};

pub const TARGET: Target = Target {
    name: "quorum",
    corpus,
    check,
    repair,
    memory: DECODING,
};

/// Where the bytes begin that the checksum covers.
const SUMMED_AT: usize = 4;

/// What decodes encodes to the same, and a replica bears it.
fn check(input: &[u8]) -> u64 {
    let bytes = Bytes::copy_from_slice(input);
    let read = QuorumMessage::decode(&bytes);
    let Ok(mut message) = read else {
        return outcome("bad", &read);
    };
    assert_eq!(message.encode(), bytes);
    message.to = replica(1);
    let restored = Restored::empty(voters(3));
    let config = QuorumConfig::new(1);
    let mut quorum =
        Quorum::new(replica(1), config, restored, Mono(0)).expect("an empty log is a log");
    quorum.step(Mono(0), QuorumInput::Message(message.clone()));
    let ready = quorum.ready();
    let answers = ready.messages.iter().chain(&ready.messages_when_durable);
    let answers: Vec<u8> = answers.map(|answer| answer.encode()[5]).collect();
    let written = ready.write.map(|write| write.entries.len().min(4));
    outcome((bytes[5], answers, written), &ready.fault)
}

/// Gives it the checksum that it has.
fn repair(input: &mut [u8]) {
    if input.len() >= SUMMED_AT {
        let crc = crc32c(&input[SUMMED_AT..]);
        input[..SUMMED_AT].copy_from_slice(&crc.to_le_bytes());
    }
}

fn replica(node: i32) -> ReplicaKey {
    ReplicaKey {
        node: NodeId(node),
        directory: DirectoryId([node as u8; 16]),
    }
}

fn voters(count: i32) -> Voters {
    Voters::new((1..=count).map(replica)).expect("few voters")
}

/// Each kind of message once, and entries of each kind.
fn corpus() -> Vec<Vec<u8>> {
    let id = |index: u64| EntryId {
        term: LeaderEpoch(i32::from(index > 0)),
        index: EntryIndex(index),
    };
    let vote = |pre| {
        Says::Vote(Vote {
            pre,
            by_leader: false,
            last: id(3),
        })
    };
    let payloads = [
        Payload::LeaderChange,
        Payload::Records(Bytes::from_static(b"a batch of records")),
        Payload::Voters(voters(3)),
    ];
    let entries: Vec<QuorumEntry> = (1..)
        .zip(payloads)
        .map(|(index, payload)| QuorumEntry {
            id: id(index),
            payload,
        })
        .collect();
    let mark = SnapshotMark {
        id: id(9),
        voters: voters(3),
    };
    let all = [
        vote(true),
        vote(false),
        Says::Voted {
            pre: true,
            granted: true,
        },
        Says::Append {
            prev: id(0),
            entries,
            commit: EntryIndex(2),
        },
        Says::Appended {
            matched: EntryIndex(3),
        },
        Says::Rejected {
            prev: id(4),
            hint: id(3),
        },
        Says::Offer(mark),
        Says::Elect,
    ];
    let message = |says| QuorumMessage {
        from: replica(2),
        to: replica(1),
        term: LeaderEpoch(2),
        says,
    };
    all.map(|says| message(says).encode()).into()
}
