//! Batches that would begin a transaction in their partitions, while the coordinator is asked whether these are part of
//! it, or is to make them part of it (KIP-890). What comes from the same producer for the same partition meanwhile
//! waits behind them. A coordinator that has something else to write about the producer, or still ends its transaction
//! before, is asked again for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::base::limits::{
    COORDINATORS_WAITING_BYTES_MAX, VERIFICATION_WAITS_MS_MAX, VERIFIED_TOGETHER_MAX,
};
use crate::base::{ErrorCode, IdMap, LogId, Mono, Now, Refused};
use crate::broker::fx::Fx;
use crate::broker::msg::{
    Appender, InTransaction, Msg, ProducePart, ProduceParts, ReqRef, TransactionQuestion,
};
use crate::broker::owner::Owner;
use crate::log::TransactionAdmission;

/// What one producer sends to one log.
type Key = (LogId, i64);

/// Batches that wait, in their order.
#[derive(Debug)]
struct Waiting {
    /// Number of the question, and of it in the log.
    question: u64,
    token: u64,
    /// Each with the number that the question had in the log when it came: what came before a transaction ended is not
    /// for the next one.
    parts: Vec<(u64, Appender, ProduceParts)>,
}

/// A question, to which no answer has come that lasts.
#[derive(Debug)]
struct Asked {
    /// What it is about, in its order.
    keys: Vec<Key>,
    question: TransactionQuestion,
    /// When something is to be done about it.
    due: Mono,
    /// Until when it is asked again.
    again_until: Mono,
    /// It is to be asked again then; otherwise nobody waits for its answer any longer.
    sleeps: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Verifying {
    waiting: BTreeMap<Key, Waiting>,
    asked: IdMap<u64, Asked>,
    deadlines: BTreeSet<(Mono, u64)>,
    questions: u64,
    /// Bytes of what coordinators append.
    own_bytes: usize,
}

/// What may be appended now, and what is refused.
#[derive(Debug, Default)]
pub struct Verified {
    pub parts: Vec<(Appender, ProduceParts)>,
    pub refused: Vec<(Appender, u32, Refused)>,
}

/// What is to be done about a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// It was asked too long ago.
    Late(u64),
    /// It is to be asked again.
    Again(u64),
}

/// What is to be asked of one producer.
struct Question {
    producer: (i64, i16),
    transaction: InTransaction,
    about: Vec<(Key, (Arc<str>, i32))>,
}

impl Verifying {
    /// Takes out of a request what has to wait, and asks about it.
    pub fn take(
        &mut self,
        owner: &mut Owner,
        appender: Appender,
        parts: &mut ProduceParts,
        fx: &mut Fx<'_>,
    ) -> Vec<(Appender, u32, Refused)> {
        let mut refused = Vec::new();
        let Some(transaction) = parts.transaction.clone() else {
            return refused;
        };
        let mut questions: Vec<Question> = Vec::new();
        let mut stay = Vec::with_capacity(parts.batches.len());
        for mut part in std::mem::take(&mut parts.batches) {
            let key = (part.log, part.info.producer_id);
            let waits = part.info.is_transactional() && self.waiting.contains_key(&key);
            let open = owner.partitions.get_mut(&part.log);
            // One that is not here, or led elsewhere, is refused by whoever appends.
            let open = open.filter(|open| open.leader.is_some());
            let Some(open) = open else {
                stay.push(part);
                continue;
            };
            if !waits && !open.log.needs_verification(&part.info) {
                part.admission = open.log.admission(&part.info);
                stay.push(part);
                continue;
            }
            let own = own_bytes(appender, &part);
            let is_much = own > 0 && self.own_bytes + own > COORDINATORS_WAITING_BYTES_MAX;
            let waiting = self.waiting.get(&key).map_or(0, |it| it.parts.len());
            let begun = match is_much || waiting >= VERIFIED_TOGETHER_MAX {
                true => Err(ErrorCode::KafkaStorageError.into()),
                false => open.log.begin_verification(&part.info, transaction.adds),
            };
            let (token, is_new) = match begun {
                Ok(begun) => begun,
                Err(why) => {
                    open.log.turn_away(fx.now, &part.info);
                    refused.push((appender, part.slot, why));
                    continue;
                }
            };
            part.admission = Some(TransactionAdmission::Verified(token));
            self.own_bytes += own;
            let waiting = self.waiting.entry(key).or_insert(Waiting {
                question: 0,
                token,
                parts: Vec::new(),
            });
            if is_new {
                let label = open.log.label();
                let about = (key, (label.topic.as_str().into(), label.partition));
                let producer = (part.info.producer_id, part.info.producer_epoch);
                waiting.token = token;
                match questions.iter_mut().find(|it| it.producer == producer) {
                    Some(question) => question.about.push(about),
                    None => questions.push(Question {
                        producer,
                        transaction: transaction.clone(),
                        about: vec![about],
                    }),
                }
            }
            let alone = ProduceParts {
                transaction: Some(transaction.clone()),
                batches: vec![part],
                ..*parts
            };
            waiting.parts.push((token, appender, alone));
        }
        parts.batches = stay;
        for question in questions {
            let again_ms = owner.config.add_partitions_to_txn_retry_backoff_max_ms;
            self.ask(question, parts.until, again_ms, fx);
        }
        refused
    }

    fn ask(&mut self, question: Question, until: Mono, again_ms: i32, fx: &mut Fx<'_>) {
        self.questions += 1;
        let id = self.questions;
        let until = until.min(fx.now.mono.plus_ms(VERIFICATION_WAITS_MS_MAX));
        let (keys, partitions): (Vec<Key>, Vec<_>) = question.about.into_iter().unzip();
        for key in &keys {
            if let Some(waiting) = self.waiting.get_mut(key) {
                waiting.question = id;
            }
        }
        let (producer_id, producer_epoch) = question.producer;
        let transaction = question.transaction;
        let question = TransactionQuestion {
            transactional_id: transaction.transactional_id,
            producer_id,
            producer_epoch,
            adds: transaction.adds,
            partitions,
            until,
        };
        let asked = Asked {
            keys,
            question,
            due: until,
            again_until: fx.now.mono.plus_ms(again_ms.max(0) as u64),
            sleeps: true,
        };
        self.asked.insert(id, asked);
        self.put(id, fx);
    }

    /// Asks the coordinator, perhaps [again](Due::Again).
    pub fn put(&mut self, id: u64, fx: &mut Fx<'_>) {
        let Some(asked) = self.asked.get_mut(&id) else {
            return;
        };
        self.deadlines.remove(&(asked.due, id));
        asked.sleeps = false;
        asked.due = asked.question.until;
        self.deadlines.insert((asked.due, id));
        let req = ReqRef { shard: fx.me, id };
        let question = Box::new(asked.question.clone());
        fx.send(fx.me, Msg::AskTransaction { req, question });
    }

    /// Whether a question to which these are the answers is to be asked again, as Kafka does where a client counts on
    /// the broker for adding partitions: it is noted then.
    fn sleeps(&mut self, id: u64, errors: &[ErrorCode], (now, backoff_ms): (Mono, i32)) -> bool {
        let Some(asked) = self.asked.get_mut(&id) else {
            return false;
        };
        let again = now.plus_ms(backoff_ms.max(1) as u64);
        let is_busy = errors.contains(&ErrorCode::ConcurrentTransactions);
        if !asked.question.adds || !is_busy || again >= asked.again_until {
            return false;
        }
        self.deadlines.remove(&(asked.due, id));
        (asked.due, asked.sleeps) = (again, true);
        self.deadlines.insert((again, id));
        true
    }

    /// A coordinator has answered, with an error for each partition.
    pub fn told(&mut self, owner: &mut Owner, id: u64, errors: &[ErrorCode], now: Now) -> Verified {
        let mut verified = Verified::default();
        let backoff_ms = owner.config.add_partitions_to_txn_retry_backoff_ms;
        if self.sleeps(id, errors, (now.mono, backoff_ms)) {
            return verified;
        }
        let Some(asked) = self.asked.remove(&id) else {
            return verified;
        };
        self.deadlines.remove(&(asked.due, id));
        for (place, key) in asked.keys.into_iter().enumerate() {
            let error = errors.get(place).copied();
            let error = error.unwrap_or(ErrorCode::CoordinatorNotAvailable);
            let here = |waiting: &Waiting| waiting.question == id;
            if !self.waiting.get(&key).is_some_and(here) {
                continue;
            }
            let Some(waiting) = self.waiting.remove(&key) else {
                continue;
            };
            let (log, producer) = key;
            let gone = Err(owner.missing(log));
            let open = owner.partitions.get_mut(&log);
            let counts = open.map_or(gone, |open| {
                (open.log).end_verification(producer, waiting.token, error.is_none())
            });
            for (token, appender, parts) in waiting.parts {
                let own: usize = parts.batches.iter().map(|it| own_bytes(appender, it)).sum();
                self.own_bytes -= own;
                if error.is_none() && counts.is_ok() && token == waiting.token {
                    verified.parts.push((appender, parts));
                    continue;
                }
                let why = match error.is_none() {
                    // The transaction has ended while it was asked about, or somebody else has led.
                    true => counts.err().unwrap_or(ErrorCode::InvalidTxnState),
                    false => error,
                };
                let transaction = parts.transaction.as_ref();
                for part in &parts.batches {
                    let mut why = why;
                    if let Some(open) = owner.partitions.get_mut(&log) {
                        open.log.turn_away(now, &part.info);
                        if error.is_none() {
                            why = open.log.why_over(&part.info, why);
                        }
                    }
                    let why = told_to(appender, why, transaction);
                    verified.refused.push((appender, part.slot, why));
                }
            }
        }
        verified
    }

    /// A question about which something is to be done; with `all`, nobody waits for any of them any longer.
    pub fn due(&self, now: Mono, all: bool) -> Option<Due> {
        let first = self.deadlines.first().filter(|(due, _)| all || *due <= now);
        let (_, id) = *first?;
        let sleeps = self.asked.get(&id).is_some_and(|asked| asked.sleeps);
        Some(match sleeps && !all {
            true => Due::Again(id),
            false => Due::Late(id),
        })
    }

    /// When [`Verifying::due`] has something to say.
    pub fn deadline(&self) -> Mono {
        self.deadlines.first().map_or(Mono::NEVER, |(due, _)| *due)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }
}

/// Bytes of a batch that is a coordinator's: nobody's request memory is held for it.
fn own_bytes(appender: Appender, part: &ProducePart) -> usize {
    match appender {
        Appender::Coordinator(..) => part.batch.len(),
        Appender::Client(_) => 0,
    }
}

/// What is told of what a coordinator of transactions has said. Clients know less, so that they do the right thing:
/// what may be otherwise soon is NOT_ENOUGH_REPLICAS to them, which they retry without asking for metadata.
fn told_to(appender: Appender, why: ErrorCode, transaction: Option<&InTransaction>) -> Refused {
    use ErrorCode as E;
    let knows_abortable = transaction.is_some_and(|it| it.knows_abortable);
    let adds = transaction.is_some_and(|it| it.adds);
    if matches!(appender, Appender::Coordinator(..)) {
        return why.into();
    }
    match why {
        E::InvalidTxnState => {
            let message = "The partition was not added to the transaction.";
            Refused::because(E::InvalidTxnState, message)
        }
        E::TransactionAbortable if !knows_abortable => E::InvalidTxnState.into(),
        E::ProducerFenced => E::InvalidProducerEpoch.into(),
        E::ConcurrentTransactions if adds => why.into(),
        E::ConcurrentTransactions
        | E::NetworkException
        | E::CoordinatorLoadInProgress
        | E::CoordinatorNotAvailable
        | E::NotCoordinator => {
            let message = format!(
                "It could not be told whether the partition is part of the transaction: {}.",
                why.name()
            );
            Refused::because(E::NotEnoughReplicas, message)
        }
        _ => why.into(),
    }
}
