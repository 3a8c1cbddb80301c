//! What has to hold of the times of groups whose members the coordinator assigns: each between its bounds, and
//! heartbeats more often than sessions end.

use std::ops::RangeInclusive;

use super::broker::BrokerConfig;

/// The times of groups of one kind, ms, and their bounds.
struct GroupTimes {
    session_ms: i32,
    sessions: RangeInclusive<i32>,
    interval_ms: i32,
    intervals: RangeInclusive<i32>,
    assignment_ms: i32,
    assignments: RangeInclusive<i32>,
}

/// A setting, and what it has to be; and whether it is.
type Rule = (&'static str, &'static str);
type Held = (bool, &'static str, &'static str);

impl GroupTimes {
    /// Whether rules hold: of assignments, sessions, heartbeats, of those and sessions, and of the bounds of both.
    fn held(&self, rules: [Rule; 5]) -> [Held; 5] {
        let holds = [
            self.assignments.contains(&self.assignment_ms),
            self.sessions.contains(&self.session_ms),
            self.intervals.contains(&self.interval_ms),
            self.interval_ms < self.session_ms,
            self.intervals.end() < self.sessions.end(),
        ];
        let mut holds = holds.into_iter();
        rules.map(|(key, why)| (holds.next().unwrap_or(true), key, why))
    }
}

impl BrokerConfig {
    /// What has to hold of the times of groups of the consumer protocol.
    pub(super) fn consumer_group_rules(&self) -> [(bool, &'static str, &'static str); 5] {
        let times = GroupTimes {
            session_ms: self.group_consumer_session_timeout_ms,
            sessions: self.group_consumer_min_session_timeout_ms
                ..=self.group_consumer_max_session_timeout_ms,
            interval_ms: self.group_consumer_heartbeat_interval_ms,
            intervals: self.group_consumer_min_heartbeat_interval_ms
                ..=self.group_consumer_max_heartbeat_interval_ms,
            assignment_ms: self.group_consumer_assignment_interval_ms,
            assignments: self.group_consumer_min_assignment_interval_ms
                ..=self.group_consumer_max_assignment_interval_ms,
        };
        let rules = [
            (
                "group.consumer.assignment.interval.ms",
                "between group.consumer.min.assignment.interval.ms and \
                 group.consumer.max.assignment.interval.ms",
            ),
            (
                "group.consumer.session.timeout.ms",
                "between group.consumer.min.session.timeout.ms and group.consumer.max.session.timeout.ms",
            ),
            (
                "group.consumer.heartbeat.interval.ms",
                "between group.consumer.min.heartbeat.interval.ms and \
                 group.consumer.max.heartbeat.interval.ms",
            ),
            (
                "group.consumer.heartbeat.interval.ms",
                "less than group.consumer.session.timeout.ms",
            ),
            (
                "group.consumer.max.heartbeat.interval.ms",
                "less than group.consumer.max.session.timeout.ms",
            ),
        ];
        times.held(rules)
    }

    /// The same of streams groups.
    pub(super) fn streams_group_rules(&self) -> [(bool, &'static str, &'static str); 5] {
        let times = GroupTimes {
            session_ms: self.group_streams_session_timeout_ms,
            sessions: self.group_streams_min_session_timeout_ms
                ..=self.group_streams_max_session_timeout_ms,
            interval_ms: self.group_streams_heartbeat_interval_ms,
            intervals: self.group_streams_min_heartbeat_interval_ms
                ..=self.group_streams_max_heartbeat_interval_ms,
            assignment_ms: self.group_streams_assignment_interval_ms,
            assignments: self.group_streams_min_assignment_interval_ms
                ..=self.group_streams_max_assignment_interval_ms,
        };
        let rules = [
            (
                "group.streams.assignment.interval.ms",
                "between group.streams.min.assignment.interval.ms and group.streams.max.assignment.interval.ms",
            ),
            (
                "group.streams.session.timeout.ms",
                "between group.streams.min.session.timeout.ms and group.streams.max.session.timeout.ms",
            ),
            (
                "group.streams.heartbeat.interval.ms",
                "between group.streams.min.heartbeat.interval.ms and group.streams.max.heartbeat.interval.ms",
            ),
            (
                "group.streams.heartbeat.interval.ms",
                "less than group.streams.session.timeout.ms",
            ),
            (
                "group.streams.max.heartbeat.interval.ms",
                "less than group.streams.max.session.timeout.ms",
            ),
        ];
        times.held(rules)
    }
}
