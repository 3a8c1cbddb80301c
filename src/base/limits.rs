//! Every bound on memory and queues that is not a Kafka setting, in one place.

/// Requests of one connection that may be in progress at once; the socket is not read past that.
pub const CONN_IN_FLIGHT_MAX: usize = 64;
/// Bytes of such requests; past that, one at a time.
pub const CONN_REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Largest request that counts as small: it gets memory that is set aside for such, if its connection has
/// nothing else in progress.
pub const SMALL_REQUEST_BYTES_MAX: usize = 32 * 1024;
/// A client that has begun a request may be this far behind [`RECEIVE_BYTES_PER_SECOND_MIN`], and then its
/// connection is closed; the second numbers count while request memory is short. Time for which we do not
/// read does not count.
pub const RECEIVE_GRACE_MS: [u64; 2] = [10_000, 1000];
/// See [`RECEIVE_GRACE_MS`].
pub const RECEIVE_BYTES_PER_SECOND_MIN: [u64; 2] = [4 * 1024, 64 * 1024];
/// While request memory is short, a client may keep what it could give back for so long: for a request that it does
/// not finish, that waits for others as it has asked for, or that there is no room for until it takes its replies.
pub const HELD_MS_MAX: u64 = 10_000;
/// A client that has ended its sending side still gets what it has asked for, but no later than this
/// after the last byte that it took.
pub const HALF_CLOSED_MS_MAX: u64 = 10_000;
/// Requests that waited for others of their connection and are begun while one input is handled.
pub const REQUESTS_BEGUN_MAX: usize = 8;
/// Bytes of replies that wait to be sent on one connection; the socket is not read past that.
pub const CONN_REPLY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of long replies, which are made in slices, that wait to be sent on the connections of a shard: past that none
/// is begun. More than [`STALLED_REPLY_BYTES_MAX`], so that it is not clients who take nothing that keep it so. A
/// connection has one such reply at a time.
pub const LONG_REPLIES_BYTES_MAX: usize = 2 * STALLED_REPLY_BYTES_MAX;
/// Memory of replies that wait for clients which take nothing, or next to nothing, over the whole node. What
/// such a client would need longest for goes first, with its connection. Memory that the log's tail keeps
/// anyway does not count.
pub const STALLED_REPLY_BYTES_MAX: usize = 128 * 1024 * 1024;
/// A reply may wait this long before its client can count as one that takes nothing ...
pub const STALLED_AFTER_MS: u64 = 1000;
/// What a client had acknowledged that long ago, in ms, says what it has taken since; what it had before does not.
pub const LOOKED_AT_LATELY_MS: u64 = 2000;
/// ... and, at the rate at which it takes bytes, has to need longer than this for what is waiting.
pub const STALLED_DRAIN_MS_MIN: u64 = 10_000;
/// Connections to `millrace.metrics.listener` at once: for one more, the one that has not said for longest what it
/// wants is ended, or else that one.
pub const HTTP_CONNECTIONS_MAX: usize = 16;
/// Bytes of a request there, without a body, which none has.
pub const HTTP_HEAD_BYTES_MAX: usize = 8 * 1024;
/// Header lines of it.
pub const HTTP_HEADERS_MAX: usize = 64;
/// From when such a connection was accepted until its request is there, in ms.
pub const HTTP_HEAD_MS_MAX: u64 = 1000;
/// From when such a connection was accepted until it is closed, in ms, whatever its client does.
pub const HTTP_TIME_MS_MAX: u64 = 5000;
/// Topics that metrics tell of one by one.
pub const METRIC_TOPICS_MAX: usize = 1000;
/// Connections that a listening socket may give a shard in one turn of its loop.
pub const ACCEPTS_PER_TURN: usize = 16;
/// Messages one shard may have queued for another one in the mesh ring; more wait at the sender,
/// whose connections are bounded by [`CONN_IN_FLIGHT_MAX`].
pub const MESH_QUEUE_MAX: usize = 4096;
/// Largest array that a response to a client of ours may claim.
pub const DECODE_ARRAY_MAX: usize = 1_000_000;
/// Bytes of a request that is decoded at once, which is all but produce. What a member of a group carries
/// goes into a record of `__consumer_offsets`, which takes a megabyte in Kafka.
pub const DECODE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Topics, partitions and the like that a request may list in all: each takes some hundred bytes while it is in
/// progress, however few it has in the request, and some hundred nanoseconds.
pub const REQUEST_ENTRIES_MAX: usize = 20_000;
/// The same of a request that is read some entries at a time, and of its bytes: more than a node is likely to have
/// partitions of.
pub const LISTED_ENTRIES_MAX: usize = 250_000;
/// See [`LISTED_ENTRIES_MAX`].
pub const LISTED_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Partitions whose offsets are committed at a time, in one batch of records. More are refused with the error that
/// Kafka has for records that do not fit into a batch of `__consumer_offsets`.
pub const OFFSETS_PER_COMMIT_MAX: usize = 10_000;
/// Partitions of a commit that is made as it comes; a larger one has its turn when the shard is idle.
pub const OFFSETS_COMMITTED_AT_ONCE_MAX: usize = 2048;
/// Partitions in all the fetch sessions of a shard; past that a client gets no session, or has to open a new one.
pub const FETCH_SESSION_ENTRIES_MAX: usize = 500_000;
/// Slices of memory and ranges of the file that a shard plans for a fetch, behind the first batch of a partition: the
/// tail has one for each flush, however small.
pub const FETCH_PIECES_MAX: usize = 4096;
/// Bytes that a shard reads at a time for fetches to find their place, counted as [`QUERY_READS_BYTES_MAX`]; the rest
/// waits in turn.
pub const FETCH_READS_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The longest that a fetch waits for records, whatever it asks for.
pub const FETCH_WAIT_MS_MAX: u64 = 300_000;
/// Partitions of one request that are read or asked about at a time; the rest waits for its next turn.
pub const PARTITIONS_PER_SLICE: usize = 512;
/// Logs of fetches that wait which are gone through at a time, by as many passes and watches that are over.
pub const WATCHED_LOGS_PER_SLICE: usize = 2048;
/// Partitions of one request whose logs are made, appended to, or deleted at a time: it may be that each has to be
/// given to a checkpoint first, which takes longer than reading it.
pub const LOGS_CHANGED_PER_SLICE: usize = 128;
/// Produced batches that are appended as requests bring them between two idle moments, and one request more: other
/// shards bring any number of requests. The rest has its turn like what is appended in slices.
pub const APPENDED_PER_TURN: usize = 1024;
/// Producers of a log that take as long to look through as a log takes to change.
pub const PRODUCERS_PER_LOG_CHANGED: usize = 256;
/// What compaction may take at a time, in bytes decompressed; a record counts as sixteen. It may be a batch more.
pub const COMPACTION_SLICE_WORK: usize = 64 * 1024;
/// For so long compaction leaves tombstones to a replica that catches up, from when it has last come further.
pub const TOMBSTONES_HELD_MS: u64 = 600_000;
/// Bytes of records that compaction opens of one batch; one that has more stays as it is.
pub const COMPACTION_OPEN_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What checking produced batches and handing them on may take while one input is handled, in bytes decompressed; a
/// record counts as four, for it is looked at, and handing on as much as [`LOGS_CHANGED_PER_SLICE`] says. What is left
/// is done in slices of this when the shard is idle.
pub const VALIDATION_SLICE_WORK: usize = 256 * 1024;
/// The same for all inputs between two idle moments together.
pub const VALIDATION_TURN_WORK: usize = 1024 * 1024;
/// The same for all that is still to be checked when the shard is to stop, and for one request of it: what
/// needs more is not answered any more, and its connection closed.
pub const STOPPING_WORK_MAX: usize = 256 * 1024 * 1024;
/// See [`STOPPING_WORK_MAX`].
pub const STOPPING_REQUEST_WORK_MAX: usize = 16 * 1024 * 1024;
/// Bytes that one produce request may have decompressed for each byte it has, beyond
/// `millrace.produce.open.bytes.max`; what is larger is taken unopened.
pub const OPEN_BYTES_PER_BYTE: usize = 32;
/// Requests whose connection is gone and whose records are still to be checked, in bytes. Of those that are checked and
/// wait to be appended there may be as much again.
pub const ORPHANED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Requests that wait until a store is asked for room for what they change, in bytes; past that there is none.
pub const WAITING_FOR_ROOM_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What coordinators append while a store grows for it, in bytes; past that it is refused, but for one batch. Their
/// requests hold no memory any more.
pub const COORDINATORS_WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Partitions that fetches ask for between two idle moments, some more counted for each fetch; the others have their
/// turn then.
pub const FETCHED_PER_TURN: usize = 4096;
/// Waiting fetches that go on at a time when there is something for them, or their time is up.
pub const WAKES_PER_SLICE: usize = 128;
/// Those who wait for records that are told at a time when they are there, each with a reply at worst.
pub const WAITS_TOLD_PER_SLICE: usize = 1024;
/// Batches and the like that go into one flush, and into all that start at a time.
pub const FLUSH_ITEMS_MAX: usize = 1024;
/// Segments whose memory is let go at a time when a checkpoint has put them into chunks.
pub const SEGMENTS_LET_GO_MAX: usize = 256;
/// Slices of memory that are let go at a time: of segments that are gone, and what the memory tail forgets.
pub const SLICES_LET_GO_MAX: usize = 4096;
/// Chunks that come free at a time when a checkpoint has made that durable.
pub const CHUNKS_FREED_MAX: usize = 1024;
/// A store that has been at rest for so long says on the disk that its last flush is durable.
pub const PROOF_AFTER_MS: u64 = 5;
/// A store that has been at rest for so long writes down what its logs have remarked. Where something is written now
/// and then, the remarks of replicated logs come behind the proof, and would make one record more each time.
pub const REMARKS_AFTER_MS: u64 = 1000;
/// Logs whose remarks go into one record of a store at rest; the others have the next one.
pub const REMARKS_AT_REST_MAX: usize = 256;
/// What a log costs that is given to a checkpoint, besides its bytes, in bytes of a slice.
pub const CHECKPOINT_LOG_COST: u64 = 2 * 1024;
/// Headers of batches that are gone through at a time in memory when a log is cut back, but for the end of a window.
pub const CUT_HEADERS_PER_SLICE: usize = 4096;
/// Longest string that a decoded request may carry, as in Kafka: its records have no place for a longer one.
pub const DECODE_STRING_BYTES_MAX: usize = i16::MAX as usize;
/// Longest name that a topic can have, as in Kafka. A longer one in a produce or fetch request counts as as many
/// entries as it has room for such names.
pub const TOPIC_NAME_BYTES_MAX: usize = 249;
/// Tagged fields that one structure of a decoded request may carry.
pub const DECODE_TAGS_MAX: usize = 256;
/// Segments of a log from which on one is followed by another because of its age (`segment.ms`) only if it has
/// [`SEGMENT_BYTES_OF_MANY`], or if it has been open for that part of the time for which records are kept: they stay
/// for as long as those behind them in it. From twice as many on, full ones not counted, only the first counts.
pub const SEGMENTS_BY_AGE_MAX: usize = 1000;
/// The least that `segment.bytes` can be.
pub const SEGMENT_BYTES_OF_MANY: u64 = 1024 * 1024;
/// Sparse index entries kept per segment; when full, every second one is dropped and the interval doubles.
pub const SEGMENT_INDEX_ENTRIES_MAX: usize = 512;
/// The same from an interval of 512 KiB on. A consumer reads a megabyte at a time, and is to find an
/// indexed batch near its end: where its next fetch begins need not be searched for then.
pub const SEGMENT_INDEX_ENTRIES_COARSE_MAX: usize = 2048;
/// Producers whose sequence state one partition remembers; who was heard of longest ago is forgotten for a new one ...
pub const PRODUCERS_PER_PARTITION_MAX: usize = 10_000;
/// ... if that was before this time, in which a client sends again what was not answered. If not, the new one is told
/// to come again.
pub const PRODUCER_KEPT_MS: u64 = 60_000;
/// Producers of which a partition notes with what they are to begin when they come again. If there are more, none of
/// them begins in the middle for that time.
pub const PRODUCERS_TURNED_AWAY_MAX: usize = 64;
/// Entries of producers in all partitions of a shard, some 300 bytes each. When there are more, each partition may
/// have half as many as before; partitions that have less are not touched.
pub const PRODUCERS_PER_SHARD_MAX: usize = 500_000;
/// What a partition may have however many there are.
pub const PRODUCERS_PER_PARTITION_MIN: usize = 16;
/// Newest segments of a partition for which it is kept what was known of their producers before: as far as it can be
/// cut back and know them as if what is cut off had never been there.
pub const PRODUCER_SNAPSHOTS_MAX: usize = 4;
/// The same for which transactions were open when they began. A log that is cut back farther than that, where there are
/// transactions, has to begin anew.
pub const TRANSACTION_SNAPSHOTS_MAX: usize = 1024;
/// Transactions that may be open in a partition; with more, those who begin one are told to come again.
pub const OPEN_TRANSACTIONS_PER_LOG_MAX: usize = 4096;
/// Aborted transactions that a partition keeps, for those who read what is committed, some 40 bytes each: as long as
/// there are so many none begins there.
pub const ABORTED_TRANSACTIONS_PER_LOG_MAX: usize = 65_536;
/// The same of all partitions of a shard. With more, each may have half as many, for each sixteenth above it half of
/// that again, and [`ABORTED_TRANSACTIONS_PER_LOG_MIN`] in any case: those that have most take no further transactions.
pub const ABORTED_TRANSACTIONS_PER_SHARD_MAX: usize = 2_000_000;
/// A read of what is committed may have to look at all of them: so many cost as much as another partition.
pub const ABORTED_PER_PARTITION_PLANNED: usize = 4096;
/// See [`ABORTED_TRANSACTIONS_PER_SHARD_MAX`].
pub const ABORTED_TRANSACTIONS_PER_LOG_MIN: usize = 64;
/// With so many of them a segment of a partition that is compacted is ended, so that they can go; with half of what it
/// may have, and with that many at least, the partition is cleaned before others, however little of it is dirty.
pub const ABORTED_TRANSACTIONS_PER_SEGMENT: usize = 1024;
/// Producers of a partition about whose transactions their coordinators are asked, or have said something.
pub const VERIFICATIONS_PER_LOG_MAX: usize = 4096;
/// For so long clients are still shown a broker that is lost or fenced, in ms, as by a Kafka with the default of
/// `broker.session.timeout.ms`.
pub const LOST_SHOWN_MS: u64 = 9_000;
/// The same for one that is only silent: its clients do not see that themselves.
pub const SILENT_SHOWN_MS: u64 = 1_000;
/// Batches of one producer to one partition that may wait while its coordinator is asked; clients send five at a time.
pub const VERIFIED_TOGETHER_MAX: usize = 16;
/// Partitions in which one WriteTxnMarkers request may end transactions.
pub const MARKERS_PER_REQUEST_MAX: usize = 4096;
/// Producers that one answer to DescribeProducers tells of, and those of one partition more.
pub const PRODUCERS_DESCRIBED_MAX: usize = 10_000;
/// Ends of transactions that wait for a turn at a shard's partitions, some 80 bytes each.
pub const MARKERS_WAITING_MAX: usize = 16 * MARKERS_PER_REQUEST_MAX;
/// How long the end of a transaction waits for other replicas before whoever wants it is told to ask again.
pub const MARKER_WAITS_MS_MAX: u64 = 30_000;
/// Room that a store has to have for one.
pub const MARKER_ROOM_BYTES: usize = 4096;
/// How long the coordinator of a transaction is waited for that is asked whether a batch belongs to it.
pub const VERIFICATION_WAITS_MS_MAX: u64 = 30_000;
/// Transactions of a partition that have ended, and are not yet known to be committed, which are told apart. With more,
/// the newest ones count as committed when the last one is.
pub const TRANSACTIONS_ENDED_MAX: usize = 256;
/// Batches remembered per producer for duplicate detection, as in Kafka.
pub const PRODUCER_BATCHES_REMEMBERED: usize = 5;
/// Batch boundaries one partition remembers from earlier reads, so that consumers who read on do not scan.
pub const READ_HINTS_PER_PARTITION_MAX: usize = 32;
/// Ends of flushes that one partition remembers while the high watermark stands before them; past that the newest one
/// takes the place of the one before.
pub const WATERMARK_PLACES_MAX: usize = 1024;
/// Places for those who wait for a partition's records that are kept for the next ones while nobody waits.
pub const WAITS_KEPT_MIN: usize = 32;
/// Time lookups of one partition that may be waiting for a file read at once; the oldest one starts again.
pub const TIME_LOOKUPS_PER_PARTITION_MAX: usize = 8;
/// Bytes a batch may decompress to when a time lookup has to open it; past that its first offset is the answer.
/// It is opened in slices of [`VALIDATION_SLICE_WORK`], and nothing of it is kept.
pub const TIME_LOOKUP_OPEN_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// Time lookups of a shard that may wait with a batch in hand for their turn to open it, for each of two queues; more
/// start again.
pub const TIME_LOOKUPS_OPENING_MAX: usize = 16;
/// Bytes that a shard reads at a time for time lookups; the rest waits in turn. What is larger is read alone,
/// and a short read counts as [`LOAD_BYTES_MIN`].
pub const QUERY_READS_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What a time lookup may open of a batch before those that come after it have their turn.
pub const TIME_LOOKUP_SHORT_WORK: usize = 16 * 1024 * 1024;
/// Member ids one consumer group may have handed out to members that have not joined with them yet.
pub const GROUP_PENDING_MEMBERS_MAX: usize = 10_000;
/// While only static members are left in a group and none of them joins, it is looked at no more often than this,
/// however short the rebalance timeout that they have chosen.
pub const GROUP_ROUND_MS_MIN: u64 = 1_000;
/// Keys and values of the offsets that one batch of `__consumer_offsets` commits or deletes, in bytes: each key has the
/// group's id, however long. A commit that needs more is refused, deletions take several batches. Kafka has half of it.
pub const GROUP_BATCH_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Offsets that one batch of `__consumer_offsets` deletes.
pub const TOMBSTONES_PER_BATCH_MAX: usize = 2048;
/// Committed offsets that are looked at at a time, whether their topic is gone or their time is over; other work of
/// coordinators that is due is counted in these.
pub const OFFSETS_PER_SLICE: usize = 4096;
/// Commits that wait until their coordinator's shard serves by the metadata that they came by, and what comes behind
/// them, in bytes. Past that their clients are told to come again, which one that commits asynchronously does not: so
/// it is as much as may wait for a store, and not what is done at a time.
pub const EARLY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Key and value of a record that deletes an offset, at the most: a group's id and a topic.
pub const RECORDS_OF_OFFSETS_BYTES_MAX: usize = 64 * 1024;
/// Keys and values of any batch of `__consumer_offsets`, in bytes: what must not happen, as the others are bounded.
pub const GROUP_APPEND_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What the members of a group carry, in bytes, with what they cost besides: all of it goes into one record, and to the
/// leader, in one piece. Who does not fit in gets GROUP_MAX_SIZE_REACHED. Kafka's record has a quarter of it, without
/// the cost and the protocols that were not chosen.
pub const GROUP_MEMBERS_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Members of a group that are told at a time what has come of a rebalance, or removed because they took no part in it:
/// each is answered, and has a timer.
pub const MEMBERS_TOLD_PER_SLICE: usize = 256;
/// Topics that a member of a group of consumers may name, and all of them together, so that it is known to what the
/// group is subscribed; if there are more it may be to any. All of a member are looked at at a time.
pub const GROUP_TOPICS_MAX: usize = 10_000;
/// Partitions of the topics that the members of a group of the consumer protocol are subscribed to, all together: the
/// target has all of them. Past that who newly subscribes gets GROUP_MAX_SIZE_REACHED, and others go on with the target
/// that there is.
pub const GROUP_PARTITIONS_MAX: usize = 50_000;
/// Subtopologies of a streams application, and names of topics in all of them: what they come to with the topics that
/// there are is worked out at once. A topology that has more is refused with STREAMS_INVALID_TOPOLOGY.
pub const STREAMS_SUBTOPOLOGIES_MAX: usize = 256;
/// See [`STREAMS_SUBTOPOLOGIES_MAX`].
pub const STREAMS_TOPICS_MAX: usize = 1_024;
/// Partitions that all its subtopologies read, so that there are no more tasks; past that it is refused as well. What a
/// member is given, or gives up, is one step.
pub const STREAMS_PARTITIONS_MAX: usize = 10_000;
/// Members, each with a topic, and partitions of those, that are told of endpoints; past that none are.
pub const STREAMS_ENDPOINTS_MAX: usize = 20_000;
/// What such a topology takes, in bytes: it is one record, and kept with the group.
pub const STREAMS_TOPOLOGY_BYTES_MAX: usize = 512 * 1024;
/// Internal topics of a streams application that are missing are asked for no more often than this, ms.
pub const STREAMS_CREATE_RETRY_MS: u64 = 1_000;
/// Requests for them that a shard has on their way to whoever decides; further groups ask again.
pub const STREAMS_CREATES_MAX: usize = 16;
/// One that has no answer for so long, ms, is not waited for any more.
pub const STREAMS_CREATE_WAITS_MS_MAX: u64 = 60_000;
/// Bytes of a heartbeat of a consumer group's member that is taken though the groups have no room for more: what it
/// takes is given back when it is answered.
pub const HEARTBEAT_BYTES_SPARE: usize = 64 * 1024;
/// Bytes of a regular expression of topics, and of what is made of it; larger ones are INVALID_REGULAR_EXPRESSION.
pub const GROUP_REGEX_BYTES_MAX: usize = 4096;
/// See [`GROUP_REGEX_BYTES_MAX`].
pub const GROUP_REGEX_COMPILED_BYTES_MAX: usize = 256 * 1024;
/// Groups of one shard for which new targets are made at the same time, in slices; others wait, unless theirs is made
/// in one. Each keeps a compiled regular expression meanwhile ([`GROUP_REGEX_COMPILED_BYTES_MAX`], and as much to go
/// through it), and the names, members and partitions of the group once more: a dozen MiB at the most.
pub const GROUP_REFRESHES_MAX: usize = 16;
/// Those that wait for it ask again after so many ms.
pub const GROUP_REFRESH_RETRY_MS: u64 = 20;
/// Of a heartbeat no more than such a part of a slice is done at once, however many come at the same time.
pub const HEARTBEATS_PER_SLICE: usize = 16;
/// Heartbeats of a group that are decided on, and become durable, together.
pub const GROUP_HEARTBEATS_PER_TURN: usize = 256;
/// The names of topics are looked at again no sooner, ms, for all regular expressions of a group, however often topics
/// change; and no sooner than after so many times as long as it took the last time.
pub const GROUP_REGEX_REFRESH_MS_MIN: u64 = 1_000;
/// See [`GROUP_REGEX_REFRESH_MS_MIN`].
pub const GROUP_REGEX_REFRESH_SHARE: u64 = 20;
/// Transactional ids of one shard; further ones get COORDINATOR_NOT_AVAILABLE.
pub const TXN_IDS_MAX: usize = 500_000;
/// What the transactional ids of one shard take, in bytes, with the partitions of their transactions and what is being
/// written. Past that new ids and partitions get COORDINATOR_NOT_AVAILABLE.
pub const TXN_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Partitions of one transaction; more are UNKNOWN_SERVER_ERROR, as where Kafka's record of them gets too large. All of
/// them are written down with each that is added.
pub const TXN_PARTITIONS_MAX: usize = 4096;
/// The same of a record that is read: another broker may have written it.
pub const TXN_PARTITIONS_READ_MAX: usize = 1_000_000;
/// Adds of one transaction that wait for writes, the one on its way and the next; more get CONCURRENT_TRANSACTIONS.
pub const TXN_ADDS_TOGETHER_MAX: usize = 1024;
/// Markers of a transaction of which nothing was heard for so long are sent again.
pub const MARKERS_WITHIN_MS: u64 = 30_000;
/// After a transaction was decided so long ago, a partition of it that is not known is one that was deleted: until then
/// this node may not have heard yet that it was made.
pub const UNKNOWN_GONE_MS: i64 = 10_000;
/// How long a new producer id is waited for.
pub const PRODUCER_ID_WITHIN_MS: u64 = 10_000;
/// Partitions of transactions that are told of or written down at a time; whoever asks for more by one request is told
/// to ask again.
pub const TXN_PARTITIONS_TOLD_MAX: usize = 8192;
/// As much of that takes a question itself.
pub const TXN_ASKED_COST: usize = 32;
/// Transactional ids of which something is done at a time by itself; fewer if they have more than so many partitions:
/// [`TXN_PARTITIONS_PER_STEP`].
pub const TXN_IDS_PER_SLICE: usize = 64;
/// So many partitions of a transaction cost as much as another transactional id.
pub const TXN_PARTITIONS_PER_STEP: usize = 64;
/// Markers of one transaction that are on their way at a time.
pub const MARKERS_TOGETHER_MAX: usize = 1024;
/// Those that are refused are tried again after twice as long each time, ms, and at the latest after this.
pub const MARKERS_AGAIN_MS_MAX: u64 = 2_000;
/// Protocols that a member of a group may support.
pub const PROTOCOLS_PER_MEMBER_MAX: usize = 32;
/// Consumer groups of one shard; further ones get COORDINATOR_NOT_AVAILABLE.
pub const GROUPS_MAX: usize = 1_000_000;
/// What the groups of one shard take, in bytes: members, member ids that were handed out, committed offsets, the last
/// record of each, and what is being written. Past that new members and commits get COORDINATOR_NOT_AVAILABLE.
pub const GROUPS_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Groups that may have settings of their own, in a cluster; past that POLICY_VIOLATION.
pub const GROUP_CONFIGS_MAX: usize = 10_000;
/// What these take, in bytes of names, keys and values: every node has them in memory, and drops them at once.
pub const GROUP_CONFIGS_BYTES_MAX: usize = 1024 * 1024;
/// Partitions that one request may create, as in Kafka.
pub const PARTITIONS_PER_REQUEST_MAX: usize = 10_000;
/// A log that is found and was never given out keeps its id if that is less than this ahead of the next one to be given
/// out. Those further away nobody comes to.
pub const LOG_IDS_AHEAD_MAX: u64 = 1 << 32;
/// Records of one change of the metadata, as in Kafka. What comes behind them in the request is refused.
pub const RECORDS_PER_CHANGE_MAX: usize = 10_000;
/// Silence of another node that is suspicious, in ms: never less than this, however often it is heard,
pub const SILENCE_MS_MIN: u64 = 100;
/// and never more, however seldom. Twice of it is taken for its death.
pub const SILENCE_MS_MAX: u64 = 2_000;
/// A node that for so many ms has not brought to its disk what it was pushed is suspected, though it is alive.
pub const STUCK_MS_MAX: u64 = 500;
/// Directories of one broker.
pub const DIRECTORIES_MAX: usize = 4_096;
/// Partitions that get another leader or ISR by one change of the metadata, when a broker is lost or back.
pub const MOVES_PER_CHANGE_MAX: usize = 1_000;
/// The same where leaders change for no other reason than that others are to lead.
pub const BALANCED_PER_CHANGE_MAX: usize = 20;
/// What is decided on at a time, in things that requests list, and records.
pub const DECIDED_PER_SLICE: usize = 512;
/// Changes of the metadata and replies that wait until the disk has the changes and shards serve by them, in bytes;
/// past that nothing more is decided.
pub const DECIDED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Requests that wait to be decided on and whose connections are gone, in bytes; more of them are not decided on.
pub const ORPHANED_DECISIONS_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Requests that wait to be decided on and still are when the shard is to stop, in bytes; the connections of the others
/// are closed.
pub const STOPPING_DECISIONS_BYTES_MAX: usize = 1024 * 1024;
/// What coordinators are asked about groups at a time, in committed offsets that are told; [`GROUP_ASKED_COST`] for a
/// group.
pub const OFFSETS_TOLD_PER_SLICE: usize = 2048;
/// See [`OFFSETS_TOLD_PER_SLICE`].
pub const GROUP_ASKED_COST: usize = 16;
/// Elements of an answer that are made at a time.
pub const LISTED_PER_SLICE: usize = 2048;
/// Questions to logs that a shard asks at a time of those that take more than a slice, and as many about groups. Each
/// keeps what its request lists, up to some 30 MB, or what has been written of its answer.
pub const LONG_QUERIES_MAX: usize = 4;
/// Bytes of settings that are told in one answer: a resource takes a few bytes of the request and some kilobytes of the
/// answer, tens of them with what documents its settings.
pub const CONFIGS_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Bytes that are read from disk for one connection and not sent yet.
pub const CONN_READ_AHEAD_BYTES_MAX: usize = 1024 * 1024;
/// The same for all connections of a shard together; past that each one has [`LOAD_BYTES_MIN`] alone.
pub const READ_AHEAD_BYTES_MAX: usize = 32 * 1024 * 1024;
/// What a connection may read at a time however much the others hold.
pub const LOAD_BYTES_MIN: usize = 32 * 1024;
/// Chunks, of 4 MiB at most, of which a shard remembers who read them last: two that read the same with more between
/// them do not share it in the page cache.
pub const CHUNKS_REMEMBERED_MAX: usize = 256;
/// Chunks that who has read the same as somebody else reads by way of the page cache from then on.
pub const CHUNKS_TOGETHER: usize = 16;
/// Bytes that a shard reads at once for connections, while a flush is on its way and while none is:
/// a flush waits in the disk's queue for what is before it.
pub const LOADS_IN_FLIGHT_BYTES_MAX: [usize; 2] = [1024 * 1024, 4 * 1024 * 1024];
/// What the memory tails of a core may take from the beginning, if they may take so much at all.
pub const TAIL_START_BYTES: usize = 64 * 1024 * 1024;
/// What a store's memory tail may take beyond its bound, or beyond what it had when that came down, before the next
/// flush has to wait until it has forgotten some.
pub const TAIL_OVER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Memory page buffers leave to others, at most: less than that being free, memory tails become smaller.
pub const MEMORY_LEFT_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// Memory of page buffers that are gone, kept on each thread for the next ones.
pub const PAGE_POOL_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Slowest requests that a shard remembers, per kind of request and span of time.
pub const SLOWEST_KEPT: usize = 16;
/// Turns of a shard below this many nanoseconds on the core are not counted.
pub const TURN_TOLD_NS_MIN: u64 = 250_000;
/// Span of time whose slowest requests are remembered, and then those of the next one too.
pub const SLOWEST_WINDOW_MS: u64 = 10_000;
/// Bytes of a client's id that are remembered for its slow requests.
pub const CLIENT_NAME_BYTES_MAX: usize = 31;
/// Voters of the metadata quorum.
pub const QUORUM_VOTERS_MAX: usize = 16;
/// Bytes of one entry of the metadata log: as much as waits for one decision.
pub const QUORUM_ENTRY_BYTES_MAX: usize = DECIDED_BYTES_MAX;
/// What an entry of the metadata log costs besides its records, in bytes.
pub const QUORUM_ENTRY_COST: usize = 64;
/// Entries of the metadata log that go into one message, in bytes; a larger one goes alone.
pub const QUORUM_APPEND_BYTES: usize = 256 * 1024;
/// Bytes of a message between voters: the largest entry, or many of the smallest.
pub const QUORUM_MESSAGE_BYTES_MAX: usize = QUORUM_ENTRY_BYTES_MAX + 64 * 1024;
/// What is on its way from a leader to a voter and not acknowledged, in bytes; a message may go beyond it.
pub const QUORUM_IN_FLIGHT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Entries of the metadata log since its last snapshot, in bytes: with more a leader takes no proposals. A follower
/// keeps up to twice as much.
pub const QUORUM_LOG_BYTES_MAX: usize = 128 * 1024 * 1024;
/// The same from which on a snapshot is wanted.
pub const QUORUM_SNAPSHOT_BYTES: usize = 32 * 1024 * 1024;
/// Committed entries that are handed out at a time.
pub const QUORUM_COMMITTED_PER_READY: usize = 1024;
/// Replicas of the metadata log without a vote; with more, those that came last get nothing of it.
pub const QUORUM_OBSERVERS_MAX: usize = 256;
/// A part of a snapshot of the metadata has to come within so many ms, or the snapshot is given up.
pub const SNAPSHOT_PART_WITHIN_MS: u64 = 2_000;
/// A node that is of no quorum yet says so this often, in ms.
pub const FORMING_TELL_MS: u64 = 100;
/// A broker that is not registered, or fenced, asks to be this often, in ms.
pub const BROKER_ASKS_EVERY_MS: u64 = 100;
/// Who leads the metadata quorum waits so long, in ms, from when it does and has heard of all brokers, before it has
/// others take the place of a process that was registered: all may have been started anew at once, and ask one after
/// the other.
pub const REGISTERED_WITHIN_MS: u64 = 200;
/// A broker that is not heard of since a node leads the metadata quorum is gone after so many ms: Kafka's
/// `broker.session.timeout.ms`. One that was heard of is judged by what is heard of it.
pub const BROKER_SILENT_MS: u64 = 9_000;
/// A node that stops waits so long, in ms, for others to lead the partitions that it leads.
pub const LEAVES_WITHIN_MS: u64 = 2_000;
/// A node that stops and leads the metadata quorum waits so long, in ms, for another one to lead.
pub const RESIGNED_WITHIN_MS: u64 = 1_000;
/// Requests of clients that wait for another node to decide on them, in bytes; one may go beyond.
pub const FORWARDED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Nothing is forwarded for so many ms after the node that was to decide has said that it does not.
pub const FORWARDED_AGAIN_MS: u64 = 20;
/// In a cluster a request on which whoever leads the metadata quorum has to decide is answered within so many ms:
/// REQUEST_TIMED_OUT, and what becomes of it is not known. Clients wait for 30 s by default.
pub const DECIDED_WITHIN_MS: u64 = 15_000;
/// A replica that is to get a vote about the metadata has to have caught up within so many ms: whoever asks is answered
/// before he is told that nobody has decided in time.
pub const VOTER_JOINS_WITHIN_MS: u64 = 12_000;
const _: () = assert!(VOTER_JOINS_WITHIN_MS < DECIDED_WITHIN_MS);
/// Such an answer is made for requests of up to so many bytes; the connection of a longer one is closed.
pub const REFUSED_BYTES_MAX: usize = 64 * 1024;
/// Bytes of the name of a rack.
pub const RACK_BYTES_MAX: usize = 255;
/// Bytes of the id of a cluster.
pub const CLUSTER_ID_BYTES_MAX: usize = 64;
/// Other nodes to which a node has links; further ones take the places of those that are gone.
pub const PEERS_MAX: usize = 256;
/// A host by which another node is reached, in bytes: the longest name there is, and less than one byte can say.
pub const HOST_BYTES_MAX: usize = 253;
/// Bytes of a message of the metadata quorum that go to another node at a time. A longer one goes in parts: whoever
/// receives it hears each of them, and does not take the sender for dead meanwhile.
pub const PEER_PART_BYTES_MAX: usize = 128 * 1024;
/// Bytes of what a node tells another one at a time, without the head of the request: such a part, and small messages
/// beside it.
pub const PEER_FRAME_BYTES_MAX: usize = 2 * PEER_PART_BYTES_MAX;
/// Messages that a node tells another one at a time.
pub const PEER_MESSAGES_MAX: usize = 16;
/// Bytes of the text in which a node tells another one why it does not talk with it.
pub const PEER_REFUSAL_BYTES_MAX: usize = 512;
/// Bytes of a frame that comes back on a connection to another node: the answer to the hello is all that does, and no
/// budget counts what is gathered of it.
pub const LINK_FRAME_BYTES_MAX: usize = 4096;
/// A connection to another node is there within so many ms, the lookup of its name included, or given up.
pub const LINK_UP_WITHIN_MS: u64 = 1_000;
/// What is sent to another node has to be acknowledged by its system within so many ms, or the connection is given up.
pub const LINK_UNACKNOWLEDGED_MS_MAX: u64 = 5_000;
/// Names of hosts that a shard looks up at a time, each once and in a thread.
pub const LOOKUPS_MAX: usize = 8;
/// What was found for a name too late for the connection that asked for it serves the next one within so many ms.
pub const LOOKUP_KEPT_MS: u64 = 5_000;
/// The control shard looks after the other nodes this often, in ms, or its own time is counted too short.
pub const PEER_TICK_MS: u64 = 20;
/// A node to which nothing else is said is told so often that this one is there, in ms.
pub const PEER_HEARTBEAT_MS: u64 = 25;
/// A node that is greeted has to answer within so many ms.
pub const PEER_GREETED_WITHIN_MS: u64 = 1_000;
/// Pause before a node is dialled again, in ms: the first one, and what it grows to.
pub const PEER_REDIAL_MS_MIN: u64 = 50;
/// See [`PEER_REDIAL_MS_MIN`].
pub const PEER_REDIAL_MS_MAX: u64 = 1_000;
/// What waits to be sent to one node, in bytes; a message that nothing stands before may go beyond it.
pub const PEER_UNSENT_BYTES_MAX: usize = QUORUM_IN_FLIGHT_BYTES_MAX;
/// Bytes of a message in the log, and of each value beside it, before those are written out that could do harm.
pub const LOG_LINE_BYTES_MAX: usize = 4096;
/// Lines that wait to be written to the log; more are left out and counted.
pub const LOG_LINES_MAX: usize = 4096;
/// Bytes of such lines.
pub const LOG_QUEUE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of a file of settings.
pub const CONFIG_FILE_BYTES_MAX: usize = 1024 * 1024;
/// Problems of such a file that are told.
pub const CONFIG_PROBLEMS_MAX: usize = 50;
/// Lines that the log gets about one thing, such as another node, in [`RARE_LOG_MS`].
pub const RARE_LOG_LINES: u32 = 10;
/// Lines about what is created, deleted and elected, of each kind and on each shard, in [`RARE_LOG_MS`].
pub const LIFE_LOG_LINES: u32 = 100;
/// See [`RARE_LOG_LINES`].
pub const RARE_LOG_MS: u64 = 60_000;
/// Messages about replicas that a shard tells one of another node at a time.
pub const REPLICA_MESSAGES_MAX: usize = 256;
/// Bytes of what it tells at a time, but for one message that is longer by itself: a batch is as long as its client
/// made it.
pub const REPLICA_FRAME_BYTES: usize = 1024 * 1024;
/// Bytes that such a request takes beside the one batch that is all of it: room for them beyond
/// `socket.request.max.bytes`, to which a client may have sent the batch.
pub const REPLICA_FRAME_HEAD_BYTES: usize = 256;
/// What waits to be sent to one shard of another node, in bytes, before no more is pushed to it. As much again may be
/// said to it that is no push; then it is taken for one that takes nothing, and its connection is ended.
pub const REPLICA_UNSENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A produce waits for other replicas no longer than this, however long its client would.
pub const PRODUCE_WAITS_MS_MAX: u64 = 600_000;
/// Batches of a shard that wait until they are answered, when no more are taken that would wait for other replicas:
/// about 80 MB.
pub const BATCHES_WAITING_MAX: usize = 256 * 1024;
/// How often it is looked who has waited for other replicas for too long.
pub const LATE_CHECKS_MS: u64 = 500;

/// How often it is looked for links about replicas that nobody wants any more, such as to shards that are gone, in ms.
pub const REPLICA_LINKS_CHECKED_MS: u64 = 10_000;

/// What a leader reads of a partition for one push, if a batch is no longer.
pub const REPLICA_PUSH_BYTES: usize = 512 * 1024;
/// What of a partition is on its way to a follower without being on its disk: no push begins beyond it.
pub const REPLICA_IN_FLIGHT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes that a shard reads of its stores for followers at a time: no read begins beyond it.
pub const REPLICA_READ_BYTES_MAX: usize = 8 * 1024 * 1024;
/// A follower that lacks something and comes no further for so long has to leave the ISR.
pub const REPLICA_SILENT_MS: u64 = 1_000;
/// One that has to for the second time is not in the ISR again before so many ms are over, and each further time twice
/// as long, up to
pub const REPLICA_PROBATION_MS_MIN: u64 = 1_000;
/// so many ms.
pub const REPLICA_PROBATION_MS_MAX: u64 = 8_000;
/// When so many ms have passed since it had to last, that is forgotten.
pub const REPLICA_PROBATION_OVER_MS: u64 = 60_000;
/// How often a leader looks for such followers.
pub const REPLICA_CHECKS_MS: u64 = 100;
/// A follower that has everything is told this long after it where the marks are.
pub const REPLICA_MARKS_AFTER_MS: u64 = 10;
/// A follower that has asked asks again after this, and each time after twice as long, up to
/// [`REPLICA_ASKS_AGAIN_MS_MAX`].
pub const REPLICA_ASKS_AGAIN_MS_MIN: u64 = 25;
/// See [`REPLICA_ASKS_AGAIN_MS_MIN`].
pub const REPLICA_ASKS_AGAIN_MS_MAX: u64 = 1_000;
/// A follower that can take nothing, for its store is full, asks again after [`REPLICA_ASKS_AGAIN_MS_MAX`], and each
/// time after twice as long, up to this: what it is pushed then may be as much as may be on its way.
pub const REPLICA_REFUSES_MS_MAX: u64 = 30_000;
/// Partitions with replicas that a shard looks at before others have their turn.
pub const REPLICA_LOGS_PER_SLICE: usize = 256;
/// Partitions in which something has moved that a shard pushes before others have their turn.
pub const REPLICA_PUSHED_PER_SLICE: usize = 4 * REPLICA_LOGS_PER_SLICE;
/// Partitions whose ISR is asked for by one call.
pub const ALTERS_PER_CALL_MAX: usize = MOVES_PER_CHANGE_MAX;
/// A call that asks for ISRs is not waited for any longer than this.
pub const ALTERED_WITHIN_MS: u64 = 2_000;
/// A change of an ISR is asked for again after this, if it is not known what has become of it.
pub const REPLICA_ALTERS_AGAIN_MS: u64 = 200;
