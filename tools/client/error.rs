//! What can go wrong between a client and a broker, in words that say what to do.

use std::fmt;
use std::io;

use millrace::base::ErrorCode;

/// Failure of a client operation.
#[derive(Debug)]
pub enum ClientError {
    /// No connection could be made.
    Unreachable {
        /// `host:port` as given or as the broker advertised it.
        address: String,
        /// What the last attempt said.
        source: io::Error,
    },
    /// The connection broke, or the answer did not come in time; the request may have been done.
    Lost {
        /// The broker.
        address: String,
        /// What the socket said.
        source: io::Error,
    },
    /// The broker sent something that is no answer to what was asked.
    Malformed {
        /// The broker.
        address: String,
        /// What does not fit.
        what: String,
    },
    /// The broker does not offer a request, or in no version that we speak.
    Unsupported {
        /// Name of the request.
        api: &'static str,
        /// Versions that the broker offers, if it knows the request.
        broker: Option<(i16, i16)>,
        /// Versions that we speak.
        ours: (i16, i16),
    },
    /// The broker answered with an error code.
    Refused {
        /// What was asked for.
        what: String,
        /// The code on the wire.
        code: i16,
        /// The broker's own words, if it sent any.
        message: Option<String>,
    },
    /// There is no such topic.
    UnknownTopic {
        /// As asked for.
        topic: String,
        /// An existing name that is close.
        nearest: Option<String>,
    },
    /// The topic has no such partition.
    UnknownPartition {
        /// The topic.
        topic: String,
        /// As asked for.
        partition: i32,
        /// Partitions the topic has.
        partitions: usize,
    },
    /// A partition has no leader at the moment.
    NoLeader {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
}

impl ClientError {
    /// An error answer, unless `code` is 0.
    pub fn check(
        what: impl FnOnce() -> String,
        code: i16,
        message: Option<&str>,
    ) -> Result<(), Self> {
        if code == 0 {
            return Ok(());
        }
        Err(Self::Refused {
            what: what(),
            code,
            message: message.filter(|text| !text.is_empty()).map(str::to_owned),
        })
    }

    /// Whether the same request may succeed a little later, on a fresh connection and with fresh
    /// metadata: what a client does by itself while a broker restarts or leadership moves.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Lost { .. } | Self::NoLeader { .. } => true,
            Self::Refused { code, .. } => ErrorCode::from_code(*code).is_some_and(is_retriable),
            Self::Malformed { .. }
            | Self::Unsupported { .. }
            | Self::UnknownTopic { .. }
            | Self::UnknownPartition { .. } => false,
        }
    }
}

/// Whether Kafka calls this error code retriable.
pub fn is_retriable(code: ErrorCode) -> bool {
    use ErrorCode::*;
    matches!(
        code,
        CorruptMessage
            | UnknownTopicOrPartition
            | LeaderNotAvailable
            | NotLeaderOrFollower
            | RequestTimedOut
            | NetworkException
            | CoordinatorLoadInProgress
            | CoordinatorNotAvailable
            | NotCoordinator
            | NotEnoughReplicas
            | NotEnoughReplicasAfterAppend
            | NotController
            | KafkaStorageError
            | FencedLeaderEpoch
            | UnknownLeaderEpoch
            | OffsetNotAvailable
            | ThrottlingQuotaExceeded
            | UnknownTopicId
            | InconsistentTopicId
    )
}

impl std::error::Error for ClientError {}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { address, source } => write!(
                f,
                "cannot reach broker {address}: {source}\n\
                 Check that the broker runs, that --bootstrap names its client listener, and that \
                 the address it advertises (advertised.listeners) can be reached from here."
            ),
            Self::Lost { address, source } => write!(
                f,
                "lost the connection to broker {address}: {source}\n\
                 The request may or may not have been carried out; look at the broker's log, then repeat it."
            ),
            Self::Malformed { address, what } => write!(
                f,
                "broker {address} sent an answer that makes no sense: {what}\n\
                 Is {address} a plaintext Kafka listener (not TLS, not a controller, not HTTP)?"
            ),
            Self::Unsupported {
                api,
                broker: Some(broker),
                ours,
            } => write!(
                f,
                "the broker speaks {api} in versions {}-{}, this program {}-{}: use a build of the broker's age",
                broker.0, broker.1, ours.0, ours.1
            ),
            Self::Unsupported {
                api, broker: None, ..
            } => {
                write!(
                    f,
                    "the broker does not offer {api}: a newer broker is needed for this"
                )
            }
            Self::Refused {
                what,
                code,
                message,
            } => {
                let known = ErrorCode::from_code(*code);
                let name = known.map_or("unknown error", ErrorCode::name);
                let words = message.as_deref().or(known.map(ErrorCode::message));
                write!(f, "{what}: {name} ({code})")?;
                words.map_or(Ok(()), |words| write!(f, ": {words}"))
            }
            Self::UnknownTopic {
                topic,
                nearest: Some(nearest),
            } => {
                write!(f, "there is no topic '{topic}'; did you mean '{nearest}'?")
            }
            Self::UnknownTopic {
                topic,
                nearest: None,
            } => write!(
                f,
                "there is no topic '{topic}'; `millracectl topics list` shows those there are"
            ),
            Self::UnknownPartition {
                topic,
                partition,
                partitions,
            } => write!(
                f,
                "topic '{topic}' has no partition {partition}: it has {partitions}, counted from 0"
            ),
            Self::NoLeader { topic, partition } => write!(
                f,
                "partition {topic}-{partition} has no leader now: its brokers are down or still starting; try again"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_carry_name_number_and_words() {
        let refused = ClientError::check(|| "create topic 't'".into(), 36, None).unwrap_err();
        let text = refused.to_string();
        assert!(
            text.starts_with("create topic 't': TOPIC_ALREADY_EXISTS (36): "),
            "{text}"
        );
        let own =
            ClientError::check(|| "x".into(), 36, Some("Topic 't' already exists.")).unwrap_err();
        assert!(own.to_string().ends_with("Topic 't' already exists."));
        assert!(ClientError::check(|| unreachable!(), 0, None).is_ok());
    }

    #[test]
    fn only_passing_troubles_are_retried() {
        let refused = |code| ClientError::Refused {
            what: String::new(),
            code,
            message: None,
        };
        assert!(refused(ErrorCode::NotLeaderOrFollower.code()).is_retriable());
        assert!(!refused(ErrorCode::OutOfOrderSequenceNumber.code()).is_retriable());
        assert!(!refused(ErrorCode::MessageTooLarge.code()).is_retriable());
        assert!(!refused(12345).is_retriable());
    }
}
