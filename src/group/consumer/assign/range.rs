//! `range`: each topic by itself is cut into as many runs as it has subscribers, who are sorted by instance or id.
//! Topics with the same subscribers and as many partitions are cut alike, so that they can be joined.

use super::spec::{Assigned, Assigning, Assignor, Spec, works};

/// See the module.
#[derive(Debug)]
pub struct RangeAssignor;

impl Assignor for RangeAssignor {
    fn name(&self) -> &'static str {
        "range"
    }

    fn begin(&self, spec: &Spec) -> Box<dyn Assigning> {
        let mut sorted: Vec<u32> = (0..spec.members.len() as u32).collect();
        sorted.sort_by_key(|member| &spec.members[*member as usize].order);
        Box::new(Ranges {
            sorted,
            next: 0,
            assigned: vec![Vec::new(); spec.members.len()],
        })
    }
}

#[derive(Debug)]
struct Ranges {
    sorted: Vec<u32>,
    /// The topic that has its turn.
    next: usize,
    assigned: Assigned,
}

impl Assigning for Ranges {
    fn go_on(&mut self, spec: &Spec, left: &mut usize) -> Option<Assigned> {
        while *left > 0
            && let Some((_, count)) = spec.topics.get(self.next)
        {
            let topic = self.next as u32;
            let subscribed = |member: &u32| {
                let topics = &spec.members[*member as usize].topics;
                topics.binary_search(&topic).is_ok()
            };
            let members: Vec<u32> = self.sorted.iter().copied().filter(subscribed).collect();
            if !members.is_empty() {
                let of = members.len() as i32;
                let (each, more) = (count / of, count % of);
                let mut from = 0;
                for (at, member) in (0..).zip(&members) {
                    let until = from + each + i32::from(at < more);
                    let run = (from..until).map(|partition| (topic, partition));
                    self.assigned[*member as usize].extend(run);
                    from = until;
                }
            }
            self.next += 1;
            works(left, 1 + self.sorted.len() / 4 + *count as usize / 16);
        }
        let is_done = self.next == spec.topics.len();
        is_done.then(|| std::mem::take(&mut self.assigned))
    }
}
