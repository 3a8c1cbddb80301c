//! What a start may say of the end before it.

use super::invariant::{By, Invariant};
use crate::sim::fact::{Fact, Moment};

/// How a node has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// Drained, and its stores say so.
    Stopped,
    /// Drained; what its stores say was cut off, or what the next start did to take it back.
    Unclear,
    Crashed,
}

/// A clean stop is recognized, and a crash is never taken for one.
#[derive(Debug, Default)]
pub struct StopsAreToldFromCrashes {
    nodes: By<usize, Ended>,
}

impl Invariant for StopsAreToldFromCrashes {
    fn name(&self) -> &'static str {
        "StopsAreToldFromCrashes"
    }

    fn see(&mut self, _now: Moment, fact: &Fact<'_>) -> Result<(), String> {
        match *fact {
            Fact::Crashed { node } => {
                self.nodes.insert(node, Ended::Crashed);
            }
            Fact::Stopped { node, whole } => {
                let ended = if whole {
                    Ended::Stopped
                } else {
                    Ended::Unclear
                };
                self.nodes.insert(node, ended);
            }
            Fact::StartCut { node } => {
                if let Some(ended @ Ended::Stopped) = self.nodes.get_mut(&node) {
                    *ended = Ended::Unclear;
                }
            }
            Fact::Restarted { node, clean } => match self.nodes.get(&node) {
                Some(Ended::Stopped) if !clean => {
                    return Err(format!("node {node} was stopped, and does not know it"));
                }
                Some(Ended::Crashed) if clean => {
                    return Err(format!("node {node} takes its crash for a clean stop"));
                }
                _ => {}
            },
            _ => {}
        }
        Ok(())
    }
}
