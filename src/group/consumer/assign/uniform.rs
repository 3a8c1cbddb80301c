//! `uniform`: everybody has as many partitions as everybody else, give or take one, as far as what they are subscribed
//! to lets them; and keeps what it has as far as that allows. If all are subscribed to the same, what each may keep is
//! known from the beginning; otherwise partitions move from who has more to who has less until that helps nobody.

use std::collections::VecDeque;

use super::spec::{Assigned, Assigning, Assignor, Spec, works};

/// See the module.
#[derive(Debug)]
pub struct UniformAssignor;

impl Assignor for UniformAssignor {
    fn name(&self) -> &'static str {
        "uniform"
    }

    fn begin(&self, spec: &Spec) -> Box<dyn Assigning> {
        match spec.is_homogeneous() {
            true => Box::new(Quotas::new(spec)),
            false => Box::new(Balance::new(spec)),
        }
    }
}

/// All are subscribed to the same.
#[derive(Debug)]
struct Quotas {
    /// What everybody has at least,
    each: usize,
    /// and how many have one more, of those for whom that is not decided.
    more: usize,
    /// How many members have kept what they may.
    kept: usize,
    taken: Vec<Vec<bool>>,
    /// Those who have less than everybody has at least, in turns.
    lacking: VecDeque<u32>,
    /// Who may be the next to have one more.
    next_more: usize,
    /// The next partition to be given.
    at: (usize, usize),
    assigned: Assigned,
}

impl Quotas {
    fn new(spec: &Spec) -> Self {
        let all: usize = spec.topics.iter().map(|(_, count)| *count as usize).sum();
        let of = spec.members.len().max(1);
        Self {
            each: all / of,
            more: all % of,
            kept: 0,
            taken: spec.of_partitions(false),
            lacking: VecDeque::new(),
            next_more: 0,
            at: (0, 0),
            assigned: vec![Vec::new(); spec.members.len()],
        }
    }

    /// A member keeps what it may.
    fn keep(&mut self, spec: &Spec, left: &mut usize) {
        let member = &spec.members[self.kept];
        let has = &mut self.assigned[self.kept];
        for (topic, partition) in member.before.all() {
            works(left, 1);
            let Some(place) = spec.place_for(member, topic, partition) else {
                continue;
            };
            let has_one_more = has.len() >= self.each;
            if has.len() > self.each || has_one_more && self.more == 0 {
                break;
            }
            let taken = &mut self.taken[place as usize][partition as usize];
            if !std::mem::replace(taken, true) {
                has.push((place, partition));
                self.more -= usize::from(has_one_more);
            }
        }
        if has.len() < self.each {
            self.lacking.push_back(self.kept as u32);
        }
        self.kept += 1;
        works(left, 1);
    }

    /// Who is given the next partition.
    fn next(&mut self) -> Option<u32> {
        if let Some(member) = self.lacking.pop_front() {
            if self.assigned[member as usize].len() + 1 < self.each {
                self.lacking.push_back(member);
            }
            return Some(member);
        }
        while let Some(has) = self.assigned.get(self.next_more) {
            self.next_more += 1;
            if has.len() == self.each && self.more > 0 {
                self.more -= 1;
                return Some(self.next_more as u32 - 1);
            }
        }
        None
    }
}

impl Assigning for Quotas {
    fn go_on(&mut self, spec: &Spec, left: &mut usize) -> Option<Assigned> {
        while self.kept < spec.members.len() {
            if *left == 0 {
                return None;
            }
            self.keep(spec, left);
        }
        while let Some(of_topic) = self.taken.get(self.at.0) {
            let (topic, partition) = self.at;
            let Some(taken) = of_topic.get(partition) else {
                self.at = (topic + 1, 0);
                continue;
            };
            if *left == 0 {
                return None;
            }
            works(left, 1);
            if !taken && let Some(member) = self.next() {
                self.assigned[member as usize].push((topic as u32, partition as i32));
            }
            self.at.1 += 1;
        }
        Some(std::mem::take(&mut self.assigned))
    }
}

/// Nobody has a partition.
const NOBODY: u32 = u32::MAX;
/// How often all partitions are gone through to make loads equal. Each move makes them more so; what is left after so
/// many passes is not worth another one.
const PASSES_MAX: usize = 16;
/// Members whose loads are compared for as much as a partition is looked at.
const COMPARED: usize = 64;

/// They are subscribed to different topics.
#[derive(Debug)]
struct Balance {
    /// By topic: who is subscribed to it.
    subscribers: Vec<Vec<u32>>,
    /// By topic and partition: who has it.
    owners: Vec<Vec<u32>>,
    /// How many each member has.
    loads: Vec<usize>,
    stage: Stage,
    /// The topics, those with few subscribers first.
    order: Vec<u32>,
    /// The place in the stage: the member, or the topic in that order, and the partition.
    at: (usize, usize),
    /// Something has moved in this pass.
    moved: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Members keep what they have.
    Keep,
    /// What nobody has is given.
    Give,
    /// Partitions move to who has less, in this pass.
    Move(usize),
}

impl Balance {
    fn new(spec: &Spec) -> Self {
        Self {
            subscribers: vec![Vec::new(); spec.topics.len()],
            owners: spec.of_partitions(NOBODY),
            loads: vec![0; spec.members.len()],
            stage: Stage::Keep,
            order: Vec::new(),
            at: (0, 0),
            moved: false,
        }
    }

    fn keep(&mut self, spec: &Spec, left: &mut usize) {
        let at = self.at.0;
        let member = &spec.members[at];
        for topic in &*member.topics {
            self.subscribers[*topic as usize].push(at as u32);
        }
        works(left, 1 + member.topics.len());
        for (topic, partition) in member.before.all() {
            works(left, 1);
            if let Some(place) = spec.place_for(member, topic, partition) {
                let owner = &mut self.owners[place as usize][partition as usize];
                if *owner == NOBODY {
                    *owner = at as u32;
                    self.loads[at] += 1;
                }
            }
        }
        self.at.0 += 1;
        if self.at.0 == spec.members.len() {
            let mut order: Vec<u32> = (0..spec.topics.len() as u32).collect();
            order.sort_by_key(|topic| self.subscribers[*topic as usize].len());
            works(left, order.len());
            self.order = order;
            self.goes_to(Stage::Give);
        }
    }

    fn goes_to(&mut self, stage: Stage) {
        (self.stage, self.at, self.moved) = (stage, (0, 0), false);
    }

    /// The next partition has its turn; false if there is none.
    fn next(&mut self, left: &mut usize) -> bool {
        let Some(topic) = self.order.get(self.at.0) else {
            return false;
        };
        let topic = *topic as usize;
        let Some(owner) = self.owners[topic].get_mut(self.at.1) else {
            self.at = (self.at.0 + 1, 0);
            return true;
        };
        self.at.1 += 1;
        works(left, 1 + self.subscribers[topic].len() / COMPARED);
        let loads = &mut self.loads;
        let least = self.subscribers[topic].iter().copied();
        let Some(least) = least.min_by_key(|member| loads[*member as usize]) else {
            return true;
        };
        let moves = match *owner {
            NOBODY => true,
            owner => loads[owner as usize] > loads[least as usize] + 1,
        };
        if moves {
            if *owner != NOBODY {
                loads[*owner as usize] -= 1;
            }
            loads[least as usize] += 1;
            *owner = least;
            self.moved = true;
        }
        true
    }
}

impl Assigning for Balance {
    fn go_on(&mut self, spec: &Spec, left: &mut usize) -> Option<Assigned> {
        while *left > 0 {
            match self.stage {
                Stage::Keep => self.keep(spec, left),
                stage => {
                    if self.next(left) {
                        continue;
                    }
                    match stage {
                        Stage::Move(pass) if !self.moved || pass == PASSES_MAX => {
                            return Some(self.assigned(left));
                        }
                        Stage::Move(pass) => self.goes_to(Stage::Move(pass + 1)),
                        Stage::Keep | Stage::Give => self.goes_to(Stage::Move(1)),
                    }
                }
            }
        }
        None
    }
}

impl Balance {
    fn assigned(&self, left: &mut usize) -> Assigned {
        let mut assigned = vec![Vec::new(); self.loads.len()];
        for (topic, owners) in (0..).zip(&self.owners) {
            for (partition, owner) in (0..).zip(owners) {
                if *owner != NOBODY {
                    assigned[*owner as usize].push((topic, partition));
                }
            }
        }
        // It takes little for each.
        works(left, self.loads.iter().sum::<usize>() / 8);
        assigned
    }
}
