//! Memory for requests, per shard: from when a request is read until its reply has
//! left. Whoever finds none left is remembered and looked at again when there is.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::conn::Conn;
use crate::broker::ConnId;

/// What a request in progress holds.
#[derive(Clone, Copy, Debug)]
pub struct Charge {
    bytes: usize,
    /// It got in by the overdraft, which is free again when it is answered.
    overdraft: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Overdraft {
    Free,
    /// This connection is receiving a frame with it.
    Receiving(ConnId),
    /// A frame received with it is in progress.
    InProgress,
}

/// Request memory of a shard.
pub struct Budget {
    limit: usize,
    held: Cell<usize>,
    /// One frame at a time may go over the limit. Without that, frames received by half could hold
    /// all the memory and wait for each other for ever.
    overdraft: Cell<Overdraft>,
    waiting: RefCell<Vec<Rc<Conn>>>,
    woken: RefCell<Vec<ConnId>>,
}

impl Budget {
    /// Memory of `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            held: Cell::new(0),
            overdraft: Cell::new(Overdraft::Free),
            waiting: RefCell::default(),
            woken: RefCell::default(),
        }
    }

    /// Whether a connection may have more memory; it may then overdraw by one frame.
    pub fn may_take(&self, conn: ConnId) -> bool {
        if self.held.get() < self.limit {
            return true;
        }
        if self.overdraft.get() == Overdraft::Free {
            self.overdraft.set(Overdraft::Receiving(conn));
        }
        self.overdraft.get() == Overdraft::Receiving(conn)
    }

    /// Lets a connection that was refused hear of memory, once.
    pub fn wait(&self, conn: &Rc<Conn>) {
        if !conn.waits_for_memory.replace(true) {
            self.waiting.borrow_mut().push(Rc::clone(conn));
        }
    }

    /// Whether somebody was refused memory and has not heard of any since.
    #[must_use]
    pub fn is_short(&self) -> bool {
        !self.waiting.borrow().is_empty()
    }

    /// Connections that should try again, added to `conns`.
    pub fn take_woken(&self, conns: &mut Vec<ConnId>) {
        conns.append(&mut self.woken.borrow_mut());
    }

    /// Charges what the frame that is being received takes.
    pub fn take(&self, bytes: usize) {
        self.held.set(self.held.get() + bytes);
    }

    /// Charges a whole frame.
    pub fn admit(&self, conn: ConnId, bytes: usize) -> Charge {
        self.take(bytes);
        let overdraft = self.overdraft.get() == Overdraft::Receiving(conn);
        if overdraft {
            self.overdraft.set(Overdraft::InProgress);
        }
        Charge { bytes, overdraft }
    }

    /// Takes back what was charged for a frame.
    pub fn release(&self, charge: Charge) {
        self.give(charge.bytes);
        if charge.overdraft {
            self.end_overdraft();
        }
    }

    /// Takes memory back.
    pub fn give(&self, bytes: usize) {
        self.held.set(self.held.get() - bytes);
        if bytes > 0 && self.held.get() < self.limit {
            self.wake();
        }
    }

    /// A connection receives nothing more.
    pub fn left(&self, conn: ConnId) {
        if self.overdraft.get() == Overdraft::Receiving(conn) {
            self.end_overdraft();
        }
    }

    fn end_overdraft(&self) {
        self.overdraft.set(Overdraft::Free);
        self.wake();
    }

    fn wake(&self) {
        let mut woken = self.woken.borrow_mut();
        for conn in self.waiting.borrow_mut().drain(..) {
            conn.waits_for_memory.set(false);
            woken.push(conn.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::base::Mono;

    fn conn(id: u64) -> Rc<Conn> {
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        Rc::new(Conn::new(ConnId(id), -1, peer, Mono(0)))
    }

    #[test]
    fn one_frame_at_a_time_may_overdraw() {
        let budget = Budget::new(100);
        let (a, b) = (ConnId(1), ConnId(2));
        assert!(budget.may_take(a));
        assert!(!budget.admit(a, 100).overdraft);
        assert!(budget.may_take(a), "takes the overdraft");
        assert!(!budget.may_take(b));
        assert!(budget.may_take(a), "keeps it");
        let over = budget.admit(a, 50);
        assert!(over.overdraft);
        assert!(!budget.may_take(a), "has used it");
        assert!(!budget.may_take(b));
        budget.release(over);
        assert!(budget.may_take(b));
        assert!(!budget.may_take(a));
        budget.left(b);
        assert!(budget.may_take(a), "who leaves does not keep it");
        budget.give(60);
        assert!(budget.may_take(b));
    }

    #[test]
    fn who_waits_is_woken_once_and_only_for_memory() {
        let budget = Budget::new(100);
        let (a, b) = (conn(1), conn(2));
        let woken = |budget: &Budget| {
            let mut ids = Vec::new();
            budget.take_woken(&mut ids);
            ids
        };
        let (first, over) = (budget.admit(a.id, 150), ConnId(9));
        assert!(budget.may_take(over));
        budget.wait(&a);
        budget.wait(&b);
        budget.wait(&a);
        assert!(budget.is_short());
        budget.give(0);
        assert_eq!(woken(&budget), []);
        budget.release(first);
        assert_eq!(woken(&budget), [a.id, b.id]);
        assert!(!budget.is_short());
        assert_eq!(woken(&budget), []);
    }
}
