//! What a metric is, and how it is written.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::node::Node;
use crate::broker::trace::{BUCKETS, upper_ns};

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MetricKind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// How often something was how long.
    Histogram,
}

impl MetricKind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }

    const fn of_library(self) -> MetricType {
        match self {
            Self::Counter => MetricType::Counter,
            Self::Gauge => MetricType::Gauge,
            Self::Histogram => MetricType::Histogram,
        }
    }
}

/// What a metric counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum In {
    Pieces,
    Bytes,
    Seconds,
}

impl In {
    const fn unit(self) -> Option<Unit> {
        match self {
            Self::Pieces => None,
            Self::Bytes => Some(Unit::Bytes),
            Self::Seconds => Some(Unit::Seconds),
        }
    }

    const fn suffix(self) -> &'static str {
        match self {
            Self::Pieces => "",
            Self::Bytes => "_bytes",
            Self::Seconds => "_seconds",
        }
    }
}

/// A metric, whose samples `read` gives: the values of its labels, and its own.
pub(super) struct Metric {
    /// Without unit and `_total`.
    pub(super) name: &'static str,
    pub(super) unit: In,
    pub(super) kind: MetricKind,
    pub(super) labels: &'static [&'static str],
    /// A phrase without its full stop.
    pub(super) help: &'static str,
    pub(super) read: Read,
}

/// Takes a sample: the values of its labels, and its own.
pub(super) type Tell<'a> = dyn FnMut(&[&str], MetricValue) + 'a;

/// Tells all samples of a metric.
pub(super) type Read = fn(&Node, &mut Tell<'_>);

/// One value of a metric.
pub(super) enum MetricValue {
    Whole(u64),
    Real(f64),
    Durations(Box<Durations>),
}

/// A distribution of durations, by bucket of a trace.
pub(super) struct Durations {
    pub(super) counts: [u64; BUCKETS],
    pub(super) sum_ns: u64,
}

impl Durations {
    /// Ends of the buckets that are told, in nanoseconds: of four times the length before, from 16 us to 17 s.
    const TOLD: [u64; 11] = {
        let (mut ends, mut i) = ([0; 11], 0);
        while i < ends.len() {
            ends[i] = (1 << 14) << (2 * i);
            i += 1;
        }
        ends
    };

    /// In seconds, each with those of it that are not in a bucket before; the last one has all the rest.
    fn told(&self) -> Vec<(f64, u64)> {
        let mut told: Vec<(f64, u64)> = Self::TOLD.iter().map(|ns| (seconds(*ns), 0)).collect();
        told.push((f64::MAX, 0));
        for (bucket, count) in self.counts.iter().enumerate() {
            let at = Self::TOLD.partition_point(|end| *end < upper_ns(bucket));
            told[at].1 += count;
        }
        told
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

impl Metric {
    pub(super) fn full_name(&self) -> String {
        let total = match self.kind {
            MetricKind::Counter => "_total",
            MetricKind::Gauge | MetricKind::Histogram => "",
        };
        self.family() + total
    }

    /// Its name without `_total`.
    pub(super) fn family(&self) -> String {
        format!("{}{}", self.name, self.unit.suffix())
    }

    pub(super) fn encode(&self, node: &Node, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let unit = self.unit.unit();
        let kind = self.kind.of_library();
        let mut encoder = encoder.encode_descriptor(self.name, self.help, unit.as_ref(), kind)?;
        let mut outcome = Ok(());
        (self.read)(node, &mut |labels, value| {
            debug_assert_eq!(labels.len(), self.labels.len(), "{}", self.name);
            if outcome.is_ok() {
                outcome = self.sample(labels, &value, &mut encoder);
            }
        });
        outcome
    }

    fn sample(
        &self,
        labels: &[&str],
        value: &MetricValue,
        encoder: &mut MetricEncoder<'_>,
    ) -> fmt::Result {
        let labels: Vec<(&str, &str)> = std::iter::zip(self.labels, labels)
            .map(|(name, value)| (*name, *value))
            .collect();
        if labels.is_empty() {
            return self.value(value, encoder);
        }
        self.value(value, &mut encoder.encode_family(&labels)?)
    }

    fn value(&self, value: &MetricValue, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        type NoLabels = [(&'static str, &'static str); 0];
        match (self.kind, value) {
            (MetricKind::Counter, MetricValue::Whole(count)) => {
                encoder.encode_counter::<NoLabels, _, u64>(count, None)
            }
            (MetricKind::Counter, MetricValue::Real(count)) => {
                encoder.encode_counter::<NoLabels, _, u64>(count, None)
            }
            (_, MetricValue::Whole(value)) => match i64::try_from(*value) {
                Ok(value) => encoder.encode_gauge(&value),
                // The library takes none so large; nobody needs its last digits.
                Err(_) => encoder.encode_gauge(&(*value as f64)),
            },
            (_, MetricValue::Real(value)) => encoder.encode_gauge(value),
            (_, MetricValue::Durations(durations)) => {
                let all = durations.counts.iter().sum();
                let sum = seconds(durations.sum_ns);
                encoder.encode_histogram::<NoLabels>(sum, all, &durations.told(), None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_is_in_one_bucket_that_ends_behind_it() {
        let mut durations = Durations {
            counts: [0; BUCKETS],
            sum_ns: 0,
        };
        for bucket in 0..BUCKETS {
            durations.counts[bucket] = 1;
            let told = durations.told();
            assert_eq!(told.iter().map(|(_, count)| count).sum::<u64>(), 1);
            let (end, _) = told.iter().find(|(_, count)| *count == 1).unwrap();
            assert!(*end >= seconds(upper_ns(bucket)), "{bucket}");
            durations.counts[bucket] = 0;
        }
        let told = durations.told();
        assert!(told.is_sorted_by(|a, b| a.0 < b.0), "{told:?}");
    }
}
