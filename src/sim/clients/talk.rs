//! A client that does one thing after the other: a script of requests, each sent
//! when the one before is answered, taken up again after a cut.

use bytes::Bytes;

use super::client::{Act, Client, Ctx};
use super::frames::with_correlation;
use crate::sim::clock::MS;
use crate::sim::fact::{Address, Moment};
use crate::sim::what::What;
use crate::wire::client;

/// What a script wants to do next.
#[derive(Debug)]
pub enum Next {
    /// Send a request.
    Ask(Bytes),
    /// Send two, the second right behind the first one.
    AskBehind(Bytes, Bytes),
    /// Wait (ns).
    Pause(u64),
    /// Nothing any more.
    Done,
}

/// What a sequential client does.
pub trait Script: std::fmt::Debug {
    /// The next step.
    fn next(&mut self, ctx: &mut Ctx<'_>) -> Next;
    /// The answer to what was asked last, and when it was asked.
    fn answer(&mut self, ctx: &mut Ctx<'_>, frame: Bytes, asked: Moment);
    /// Where the broker listens that it has its business with, if there is more than one and it knows.
    fn home(&self, _ctx: &mut Ctx<'_>) -> Option<Address> {
        None
    }
    /// The connection was cut; the request, if one was on its way, may or may not have had its effect.
    fn lost(&mut self, _ctx: &mut Ctx<'_>) {}
    /// What it is doing, for people.
    fn doing(&self) -> String {
        format!("{self:?}")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Connecting,
    Asked(i32, Moment),
    Paused(u64),
    Done,
}

/// A client that follows a script.
#[derive(Debug)]
pub struct Talk<S> {
    script: S,
    state: State,
    /// Correlation ids and timer tokens.
    numbers: u64,
    /// What was sent right behind what is asked.
    behind: Option<i32>,
    /// The shard that it has gone to since it was last cut off.
    went_to: Option<Address>,
}

impl<S: Script> Talk<S> {
    /// A client that will follow this script.
    pub const fn new(script: S) -> Self {
        Self {
            script,
            state: State::Connecting,
            numbers: 0,
            behind: None,
            went_to: None,
        }
    }

    /// As clients do, it begins with any broker and then goes to the one that it is told of, once.
    fn goes_home(&mut self, ctx: &mut Ctx<'_>) -> bool {
        if !ctx.shared.direct || self.went_to.is_some() {
            return false;
        }
        self.went_to = self.script.home(ctx);
        if self.went_to.is_some() {
            ctx.oracle.saw(What::WentHome);
            self.script.lost(ctx);
            self.state = State::Connecting;
            let (after, to) = (ctx.up_to_ms(2), self.went_to);
            ctx.acts
                .extend([Act::Disconnect, Act::Connect { after, to }]);
        }
        self.went_to.is_some()
    }

    fn send(&mut self, ctx: &mut Ctx<'_>, frame: &Bytes) -> i32 {
        let correlation = (self.numbers & 0x7fff_ffff) as i32;
        let frame = with_correlation(frame, correlation);
        let answered = true;
        ctx.acts.push(Act::Send { frame, answered });
        correlation
    }

    fn proceed(&mut self, ctx: &mut Ctx<'_>) {
        if self.goes_home(ctx) {
            return;
        }
        self.numbers += 1;
        match self.script.next(ctx) {
            Next::Ask(frame) => {
                let correlation = self.send(ctx, &frame);
                self.state = State::Asked(correlation, ctx.oracle.moment());
            }
            Next::AskBehind(first, second) => {
                let correlation = self.send(ctx, &first);
                self.numbers += 1;
                self.behind = Some(self.send(ctx, &second));
                self.state = State::Asked(correlation, ctx.oracle.moment());
            }
            Next::Pause(after) => {
                self.state = State::Paused(self.numbers);
                let token = self.numbers;
                ctx.acts.push(Act::Timer { after, token });
            }
            Next::Done => {
                self.state = State::Done;
                ctx.acts.push(Act::Disconnect);
            }
        }
    }
}

impl<S: Script> Client for Talk<S> {
    fn start(&mut self, ctx: &mut Ctx<'_>) {
        let after = ctx.up_to_ms(2);
        ctx.acts.push(Act::Connect { after, to: None });
    }

    fn connected(&mut self, ctx: &mut Ctx<'_>) {
        self.proceed(ctx);
    }

    fn answer(&mut self, ctx: &mut Ctx<'_>, frame: Bytes) {
        let State::Asked(correlation, asked) = self.state else {
            return ctx
                .oracle
                .fail("RepliesInOrder", "an answer to nothing".into());
        };
        if client::correlation_id(&frame) != Some(correlation) {
            return ctx
                .oracle
                .fail("RepliesInOrder", "an answer to something else".into());
        }
        self.script.answer(ctx, frame, asked);
        if let Some(behind) = self.behind.take() {
            // It takes effect after what was answered just now, so it has to show what that did.
            self.state = State::Asked(behind, ctx.oracle.moment());
        } else {
            self.proceed(ctx);
        }
    }

    fn cut(&mut self, ctx: &mut Ctx<'_>) {
        if self.state == State::Done {
            return;
        }
        self.script.lost(ctx);
        self.behind = None;
        self.state = State::Connecting;
        // Longer than a request of the old connection can be on its way, so that it cannot overtake a
        // request of the new one.
        let after = 50 * MS + ctx.up_to_ms(50);
        self.went_to = None;
        ctx.acts.push(Act::Connect { after, to: None });
    }

    fn timer(&mut self, ctx: &mut Ctx<'_>, token: u64) {
        if self.state == State::Paused(token) {
            self.proceed(ctx);
        }
    }

    fn is_done(&self) -> bool {
        self.state == State::Done
    }

    fn doing(&self) -> String {
        format!("{:?}: {}", self.state, self.script.doing())
    }
}
