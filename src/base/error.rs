//! Kafka's error codes, with the message Millrace sends where a response has room
//! for one. The numbers are the protocol's (`Errors.java`).

use std::fmt;

macro_rules! error_codes {
    ($($(#[$attr:meta])* $code:literal $variant:ident $name:literal $message:literal;)*) => {
        /// A protocol error code. `ErrorCode::None` is success.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        #[repr(i16)]
        pub enum ErrorCode {
            $(#[doc = $message] $(#[$attr])* $variant = $code,)*
        }

        impl ErrorCode {
            /// Kafka's name of the error, as in its documentation.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// One sentence for people.
            #[must_use]
            pub const fn message(self) -> &'static str {
                match self { $(Self::$variant => $message,)* }
            }

            /// The error of a wire number; `None` for a number that Kafka has not assigned.
            #[must_use]
            pub const fn from_code(code: i16) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

impl ErrorCode {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// Whether this is success.
    #[must_use]
    pub const fn is_none(self) -> bool {
        matches!(self, Self::None)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::error::Error for ErrorCode {}

error_codes! {
    -1 UnknownServerError "UNKNOWN_SERVER_ERROR" "The server experienced an unexpected error when processing the request.";
    #[default]
    0 None "NONE" "No error.";
    1 OffsetOutOfRange "OFFSET_OUT_OF_RANGE" "The requested offset is not within the range of offsets maintained by the server.";
    2 CorruptMessage "CORRUPT_MESSAGE" "This message has failed its CRC checksum, exceeds the valid size, has a null key for a compacted topic, or is otherwise corrupt.";
    3 UnknownTopicOrPartition "UNKNOWN_TOPIC_OR_PARTITION" "This server does not host this topic-partition.";
    4 InvalidFetchSize "INVALID_FETCH_SIZE" "The requested fetch size is invalid.";
    5 LeaderNotAvailable "LEADER_NOT_AVAILABLE" "There is no leader for this topic-partition.";
    6 NotLeaderOrFollower "NOT_LEADER_OR_FOLLOWER" "This node is not the leader or a follower of this partition.";
    7 RequestTimedOut "REQUEST_TIMED_OUT" "The request timed out.";
    8 BrokerNotAvailable "BROKER_NOT_AVAILABLE" "The broker is not available.";
    9 ReplicaNotAvailable "REPLICA_NOT_AVAILABLE" "The replica is not available for the requested topic-partition.";
    10 MessageTooLarge "MESSAGE_TOO_LARGE" "The batch is larger than max.message.bytes allows.";
    11 StaleControllerEpoch "STALE_CONTROLLER_EPOCH" "The controller moved to another broker.";
    12 OffsetMetadataTooLarge "OFFSET_METADATA_TOO_LARGE" "The metadata field of the offset request is too large.";
    13 NetworkException "NETWORK_EXCEPTION" "The connection ended before a response was received.";
    14 CoordinatorLoadInProgress "COORDINATOR_LOAD_IN_PROGRESS" "The coordinator is loading and cannot process requests.";
    15 CoordinatorNotAvailable "COORDINATOR_NOT_AVAILABLE" "The coordinator is not available.";
    16 NotCoordinator "NOT_COORDINATOR" "This is not the correct coordinator.";
    17 InvalidTopicException "INVALID_TOPIC_EXCEPTION" "The topic name is not valid.";
    18 RecordListTooLarge "RECORD_LIST_TOO_LARGE" "The record list of this request is larger than the configured segment size.";
    19 NotEnoughReplicas "NOT_ENOUGH_REPLICAS" "There are fewer in-sync replicas than required.";
    20 NotEnoughReplicasAfterAppend "NOT_ENOUGH_REPLICAS_AFTER_APPEND" "The records were written, but to fewer in-sync replicas than required.";
    21 InvalidRequiredAcks "INVALID_REQUIRED_ACKS" "Produce named an invalid value for acks.";
    22 IllegalGeneration "ILLEGAL_GENERATION" "The generation is not the current one.";
    23 InconsistentGroupProtocol "INCONSISTENT_GROUP_PROTOCOL" "The group member's protocol type or protocols do not match those of the group.";
    24 InvalidGroupId "INVALID_GROUP_ID" "The group id is not valid.";
    25 UnknownMemberId "UNKNOWN_MEMBER_ID" "The coordinator does not know this member.";
    26 InvalidSessionTimeout "INVALID_SESSION_TIMEOUT" "The session timeout is outside the range that the broker allows.";
    27 RebalanceInProgress "REBALANCE_IN_PROGRESS" "The group is rebalancing, a rejoin is needed.";
    28 InvalidCommitOffsetSize "INVALID_COMMIT_OFFSET_SIZE" "The committing offset data is too large.";
    29 TopicAuthorizationFailed "TOPIC_AUTHORIZATION_FAILED" "Topic authorization failed.";
    30 GroupAuthorizationFailed "GROUP_AUTHORIZATION_FAILED" "Group authorization failed.";
    31 ClusterAuthorizationFailed "CLUSTER_AUTHORIZATION_FAILED" "Cluster authorization failed.";
    32 InvalidTimestamp "INVALID_TIMESTAMP" "The timestamp of the message is out of the acceptable range.";
    33 UnsupportedSaslMechanism "UNSUPPORTED_SASL_MECHANISM" "The requested SASL mechanism is not supported.";
    34 IllegalSaslState "ILLEGAL_SASL_STATE" "The request is not valid in the current SASL state.";
    35 UnsupportedVersion "UNSUPPORTED_VERSION" "The version of this API is not supported.";
    36 TopicAlreadyExists "TOPIC_ALREADY_EXISTS" "A topic of this name already exists.";
    37 InvalidPartitions "INVALID_PARTITIONS" "The number of partitions is invalid.";
    38 InvalidReplicationFactor "INVALID_REPLICATION_FACTOR" "The replication factor is below 1 or larger than the number of available brokers.";
    39 InvalidReplicaAssignment "INVALID_REPLICA_ASSIGNMENT" "The replica assignment is invalid.";
    40 InvalidConfig "INVALID_CONFIG" "The configuration is invalid.";
    41 NotController "NOT_CONTROLLER" "This is not the controller of the cluster.";
    42 InvalidRequest "INVALID_REQUEST" "The request is malformed or contradicts itself.";
    43 UnsupportedForMessageFormat "UNSUPPORTED_FOR_MESSAGE_FORMAT" "The message format on the broker does not support the request.";
    44 PolicyViolation "POLICY_VIOLATION" "The request parameters do not satisfy the configured policy.";
    45 OutOfOrderSequenceNumber "OUT_OF_ORDER_SEQUENCE_NUMBER" "The broker received an out of order sequence number.";
    46 DuplicateSequenceNumber "DUPLICATE_SEQUENCE_NUMBER" "The broker received a duplicate sequence number.";
    47 InvalidProducerEpoch "INVALID_PRODUCER_EPOCH" "The producer tried to write with an old epoch.";
    48 InvalidTxnState "INVALID_TXN_STATE" "The producer tried a transactional operation in an invalid state.";
    49 InvalidProducerIdMapping "INVALID_PRODUCER_ID_MAPPING" "The producer id is not the one assigned to its transactional id.";
    50 InvalidTransactionTimeout "INVALID_TRANSACTION_TIMEOUT" "The transaction timeout is larger than transaction.max.timeout.ms.";
    51 ConcurrentTransactions "CONCURRENT_TRANSACTIONS" "The producer tried to change a transaction while another change was in progress.";
    52 TransactionCoordinatorFenced "TRANSACTION_COORDINATOR_FENCED" "The transaction coordinator sending a marker is no longer the current one.";
    53 TransactionalIdAuthorizationFailed "TRANSACTIONAL_ID_AUTHORIZATION_FAILED" "Transactional id authorization failed.";
    54 SecurityDisabled "SECURITY_DISABLED" "Security features are disabled.";
    55 OperationNotAttempted "OPERATION_NOT_ATTEMPTED" "The operation was not attempted because another part of the request failed.";
    56 KafkaStorageError "KAFKA_STORAGE_ERROR" "A disk error occurred when trying to access the log.";
    57 LogDirNotFound "LOG_DIR_NOT_FOUND" "The log directory is not found in the broker configuration.";
    58 SaslAuthenticationFailed "SASL_AUTHENTICATION_FAILED" "SASL authentication failed.";
    59 UnknownProducerId "UNKNOWN_PRODUCER_ID" "The broker does not know this producer id any more.";
    60 ReassignmentInProgress "REASSIGNMENT_IN_PROGRESS" "A partition reassignment is in progress.";
    61 DelegationTokenAuthDisabled "DELEGATION_TOKEN_AUTH_DISABLED" "Delegation tokens are not enabled.";
    62 DelegationTokenNotFound "DELEGATION_TOKEN_NOT_FOUND" "The delegation token is not found.";
    63 DelegationTokenOwnerMismatch "DELEGATION_TOKEN_OWNER_MISMATCH" "The principal is not the owner or renewer of the token.";
    64 DelegationTokenRequestNotAllowed "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED" "Delegation token requests are not allowed on this channel.";
    65 DelegationTokenAuthorizationFailed "DELEGATION_TOKEN_AUTHORIZATION_FAILED" "Delegation token authorization failed.";
    66 DelegationTokenExpired "DELEGATION_TOKEN_EXPIRED" "The delegation token is expired.";
    67 InvalidPrincipalType "INVALID_PRINCIPAL_TYPE" "The principal type is not supported.";
    68 NonEmptyGroup "NON_EMPTY_GROUP" "The group is not empty.";
    69 GroupIdNotFound "GROUP_ID_NOT_FOUND" "The group id does not exist.";
    70 FetchSessionIdNotFound "FETCH_SESSION_ID_NOT_FOUND" "The fetch session is not found.";
    71 InvalidFetchSessionEpoch "INVALID_FETCH_SESSION_EPOCH" "The fetch session epoch is invalid.";
    72 ListenerNotFound "LISTENER_NOT_FOUND" "The leader has no endpoint on the listener the request came from.";
    73 TopicDeletionDisabled "TOPIC_DELETION_DISABLED" "Topic deletion is disabled.";
    74 FencedLeaderEpoch "FENCED_LEADER_EPOCH" "The leader epoch in the request is older than the broker's.";
    75 UnknownLeaderEpoch "UNKNOWN_LEADER_EPOCH" "The leader epoch in the request is newer than the broker's.";
    76 UnsupportedCompressionType "UNSUPPORTED_COMPRESSION_TYPE" "The client does not support the compression type of this partition.";
    77 StaleBrokerEpoch "STALE_BROKER_EPOCH" "The broker epoch is stale.";
    78 OffsetNotAvailable "OFFSET_NOT_AVAILABLE" "The leader's high watermark has not caught up after an election, retry.";
    79 MemberIdRequired "MEMBER_ID_REQUIRED" "The member must join again with the member id it was given.";
    80 PreferredLeaderNotAvailable "PREFERRED_LEADER_NOT_AVAILABLE" "The preferred leader is not available.";
    81 GroupMaxSizeReached "GROUP_MAX_SIZE_REACHED" "The group has reached its maximum size.";
    82 FencedInstanceId "FENCED_INSTANCE_ID" "Another member registered with the same group.instance.id.";
    83 EligibleLeadersNotAvailable "ELIGIBLE_LEADERS_NOT_AVAILABLE" "No eligible leader is available.";
    84 ElectionNotNeeded "ELECTION_NOT_NEEDED" "Leader election is not needed for this partition.";
    85 NoReassignmentInProgress "NO_REASSIGNMENT_IN_PROGRESS" "No partition reassignment is in progress.";
    86 GroupSubscribedToTopic "GROUP_SUBSCRIBED_TO_TOPIC" "The group is subscribed to the topic, its offsets cannot be deleted.";
    87 InvalidRecord "INVALID_RECORD" "This record failed validation on the broker and is rejected.";
    88 UnstableOffsetCommit "UNSTABLE_OFFSET_COMMIT" "There are unstable offsets that need to be cleared.";
    89 ThrottlingQuotaExceeded "THROTTLING_QUOTA_EXCEEDED" "The throttling quota is exceeded.";
    90 ProducerFenced "PRODUCER_FENCED" "A newer producer with the same transactional id fences this one.";
    91 ResourceNotFound "RESOURCE_NOT_FOUND" "The resource is not found.";
    92 DuplicateResource "DUPLICATE_RESOURCE" "The resource is named twice.";
    93 UnacceptableCredential "UNACCEPTABLE_CREDENTIAL" "The credential does not meet the requirements.";
    94 InconsistentVoterSet "INCONSISTENT_VOTER_SET" "The voter set is inconsistent.";
    95 InvalidUpdateVersion "INVALID_UPDATE_VERSION" "The update version is invalid.";
    96 FeatureUpdateFailed "FEATURE_UPDATE_FAILED" "The feature update failed.";
    97 PrincipalDeserializationFailure "PRINCIPAL_DESERIALIZATION_FAILURE" "The principal of a forwarded request cannot be read.";
    98 SnapshotNotFound "SNAPSHOT_NOT_FOUND" "The snapshot is not found.";
    99 PositionOutOfRange "POSITION_OUT_OF_RANGE" "The position is out of the range of the snapshot.";
    100 UnknownTopicId "UNKNOWN_TOPIC_ID" "This server does not host this topic id.";
    101 DuplicateBrokerRegistration "DUPLICATE_BROKER_REGISTRATION" "This broker id is already in use.";
    102 BrokerIdNotRegistered "BROKER_ID_NOT_REGISTERED" "The broker id is not registered.";
    103 InconsistentTopicId "INCONSISTENT_TOPIC_ID" "The topic id in the log does not match the one in the request.";
    104 InconsistentClusterId "INCONSISTENT_CLUSTER_ID" "The cluster id in the request does not match.";
    105 TransactionalIdNotFound "TRANSACTIONAL_ID_NOT_FOUND" "The transactional id is not found.";
    106 FetchSessionTopicIdError "FETCH_SESSION_TOPIC_ID_ERROR" "The fetch session met inconsistent topic ids.";
    107 IneligibleReplica "INELIGIBLE_REPLICA" "The new ISR contains an ineligible replica.";
    108 NewLeaderElected "NEW_LEADER_ELECTED" "The partition leadership changed while the ISR was altered.";
    109 OffsetMovedToTieredStorage "OFFSET_MOVED_TO_TIERED_STORAGE" "The requested offset is in tiered storage.";
    110 FencedMemberEpoch "FENCED_MEMBER_EPOCH" "The member epoch is fenced by the group coordinator.";
    111 UnreleasedInstanceId "UNRELEASED_INSTANCE_ID" "The instance id is still used by another member.";
    112 UnsupportedAssignor "UNSUPPORTED_ASSIGNOR" "The assignor or its version range is not supported by the group.";
    113 StaleMemberEpoch "STALE_MEMBER_EPOCH" "The member epoch is stale.";
    114 MismatchedEndpointType "MISMATCHED_ENDPOINT_TYPE" "The request was sent to an endpoint of the wrong type.";
    115 UnsupportedEndpointType "UNSUPPORTED_ENDPOINT_TYPE" "This endpoint type is not supported yet.";
    116 UnknownControllerId "UNKNOWN_CONTROLLER_ID" "The controller id is not known.";
    117 UnknownSubscriptionId "UNKNOWN_SUBSCRIPTION_ID" "The telemetry subscription id is invalid or stale.";
    118 TelemetryTooLarge "TELEMETRY_TOO_LARGE" "The telemetry push is larger than the broker accepts.";
    119 InvalidRegistration "INVALID_REGISTRATION" "The controller has considered the broker registration invalid.";
    120 TransactionAbortable "TRANSACTION_ABORTABLE" "The transaction must be aborted.";
    121 InvalidRecordState "INVALID_RECORD_STATE" "The record state is invalid for this acknowledgement.";
    122 ShareSessionNotFound "SHARE_SESSION_NOT_FOUND" "The share session is not found.";
    123 InvalidShareSessionEpoch "INVALID_SHARE_SESSION_EPOCH" "The share session epoch is invalid.";
    124 FencedStateEpoch "FENCED_STATE_EPOCH" "The share coordinator rejected a stale state epoch.";
    125 InvalidVoterKey "INVALID_VOTER_KEY" "The voter key does not match the receiving replica.";
    126 DuplicateVoter "DUPLICATE_VOTER" "The voter is already part of the set.";
    127 VoterNotFound "VOTER_NOT_FOUND" "The voter is not part of the set.";
    128 InvalidRegularExpression "INVALID_REGULAR_EXPRESSION" "The regular expression is not valid.";
    129 RebootstrapRequired "REBOOTSTRAP_REQUIRED" "The client metadata is stale, the client should bootstrap again.";
    130 StreamsInvalidTopology "STREAMS_INVALID_TOPOLOGY" "The topology of the streams group is invalid.";
}
