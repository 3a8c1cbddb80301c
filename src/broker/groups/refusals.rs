//! Commits in transactions that their group refuses. As in Kafka, which looks at the transaction first, the coordinator
//! of that is asked before the refusal is told: what it says comes first, and with version 2 the partition is part of
//! the transaction all the same.

use super::topic::OFFSETS_TOPIC;
use crate::base::limits::VERIFICATION_WAITS_MS_MAX;
use crate::base::{ErrorCode, IdMap, name};
use crate::broker::fx::Fx;
use crate::broker::msg::{Msg, ReqRef, TransactionQuestion};
use crate::coordinator::{GroupAnswer, GroupAsk, Question};
use crate::group::TransactionalProducer;
use crate::group::writes::transaction_error;

/// Who commits in a transaction, and the partition of the group.
pub type InTransactionOf = (TransactionalProducer, i32);

/// One whose transaction is looked at.
#[derive(Debug)]
struct Refused {
    reply: (ReqRef, u32),
    producer: TransactionalProducer,
    error: ErrorCode,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Refusals {
    waiting: IdMap<u64, Refused>,
}

/// Who commits in a transaction, if it is that what is asked.
pub fn in_transaction_of(question: &Question) -> Option<InTransactionOf> {
    match question {
        Question::To(partition, GroupAsk::Commit(commit)) => {
            Some((commit.producer.clone()?, *partition))
        }
        _ => None,
    }
}

/// Why a group refuses a commit, if it does.
pub const fn refusal(answer: &GroupAnswer) -> Option<ErrorCode> {
    use ErrorCode as E;
    match answer {
        GroupAnswer::Done(
            error @ (E::IllegalGeneration
            | E::UnknownMemberId
            | E::FencedInstanceId
            | E::RebalanceInProgress
            | E::GroupIdNotFound),
        ) => Some(*error),
        _ => None,
    }
}

impl Refusals {
    /// Asks about the transaction of a commit that is refused, by a number that nothing else has.
    pub fn begin(
        &mut self,
        number: u64,
        reply: (ReqRef, u32),
        (producer, partition): InTransactionOf,
        error: ErrorCode,
        fx: &mut Fx<'_>,
    ) {
        let question = Box::new(TransactionQuestion {
            transactional_id: producer.transactional_id.clone(),
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            adds: producer.adds,
            partitions: vec![(name(OFFSETS_TOPIC), partition)],
            until: fx.now.mono.plus_ms(VERIFICATION_WAITS_MS_MAX),
        });
        let refused = Refused {
            reply,
            producer,
            error,
        };
        self.waiting.insert(number, refused);
        let req = ReqRef::of_transactions(fx.me, number);
        fx.send(fx.me, Msg::AskTransaction { req, question });
    }

    /// What has come of a question.
    pub fn told(&mut self, number: u64, errors: &[ErrorCode], fx: &mut Fx<'_>) {
        let Some(refused) = self.waiting.remove(&number) else {
            return;
        };
        let error = match errors.first() {
            Some(ErrorCode::None) => refused.error,
            Some(error) => transaction_error(*error, &refused.producer),
            None => ErrorCode::CoordinatorNotAvailable,
        };
        let (req, slot) = refused.reply;
        let (id, answers) = (req.id, vec![(slot, GroupAnswer::Done(error))]);
        fx.send(req.shard, Msg::GroupsDone { id, answers });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Mono, Now, ShardId};
    use crate::broker::testing::with_fx;

    const NOW: Now = Now {
        mono: Mono(1),
        wall_ms: 1,
    };

    /// What is told of a commit that its group refuses, when this is said of the transaction.
    fn told(adds: bool, knows_abortable: bool, errors: &[ErrorCode]) -> GroupAnswer {
        let producer = TransactionalProducer {
            id: 7,
            epoch: 3,
            transactional_id: name("t"),
            adds,
            knows_abortable,
        };
        let mut refusals = Refusals::default();
        let reply = (
            ReqRef {
                shard: ShardId(0),
                id: 9,
            },
            2,
        );
        let ((), _, mut local) = with_fx(NOW, |fx| {
            let of = (producer, 5);
            refusals.begin(1, reply, of, ErrorCode::IllegalGeneration, fx);
        });
        let Some(Msg::AskTransaction { req, question }) = local.pop_front() else {
            panic!("it is not asked");
        };
        assert_eq!(ReqRef::number_of_transactions(req.id), Some(1));
        assert_eq!((question.producer_id, question.producer_epoch), (7, 3));
        assert_eq!(question.partitions, [(name(OFFSETS_TOPIC), 5)]);
        assert_eq!(question.adds, adds);
        let ((), _, mut local) = with_fx(NOW, |fx| {
            refusals.told(1, errors, fx);
            refusals.told(1, errors, fx);
        });
        let Some(Msg::GroupsDone { id: 9, mut answers }) = local.pop_front() else {
            panic!("it is not told");
        };
        assert!(local.is_empty(), "it is told once");
        let (slot, answer) = answers.remove(0);
        assert_eq!(slot, 2);
        answer
    }

    #[test]
    fn what_is_wrong_with_the_transaction_comes_first() {
        use ErrorCode as E;
        for (said, wanted) in [
            (E::None, E::IllegalGeneration),
            (E::ProducerFenced, E::InvalidProducerEpoch),
            (E::InvalidProducerIdMapping, E::InvalidProducerIdMapping),
            (E::NetworkException, E::CoordinatorLoadInProgress),
        ] {
            assert_eq!(told(true, true, &[said]), GroupAnswer::Done(wanted));
        }
        let abortable = [E::TransactionAbortable];
        let (new, old) = (
            told(false, true, &abortable),
            told(false, false, &abortable),
        );
        assert_eq!(new, GroupAnswer::Done(E::TransactionAbortable));
        assert_eq!(old, GroupAnswer::Done(E::InvalidTxnState));
    }

    #[test]
    fn what_is_wrong_with_the_group_is_a_refusal_and_nothing_else_is() {
        use ErrorCode as E;
        for (error, is_one) in [
            (E::IllegalGeneration, true),
            (E::UnknownMemberId, true),
            (E::FencedInstanceId, true),
            (E::None, false),
            (E::NotCoordinator, false),
            (E::CoordinatorNotAvailable, false),
        ] {
            let found = refusal(&GroupAnswer::Done(error));
            assert_eq!(found.is_some(), is_one, "{error:?}");
        }
    }
}
