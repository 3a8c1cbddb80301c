//! A client that does one thing after the other: a script of requests, each sent
//! when the one before is answered, taken up again after a cut.

use bytes::Bytes;

use super::client::{Act, Client, Ctx};
use super::finding::{ask_for, told};
use super::frames::with_correlation;
use super::shared::Whom;
use crate::sim::clock::MS;
use crate::sim::fact::{Address, Moment};
use crate::sim::what::What;
use crate::wire::client;

/// How long it waits for an answer in a cluster, where whoever is asked may have to wait for others, ms.
const PATIENCE_MS: (u64, u64) = (1_000, 3_000);
/// In the token of the timer that says so.
const GIVES_UP: u64 = 1 << 40;

/// What a script wants to do next.
#[derive(Debug)]
pub enum Next {
    /// Send a request.
    Ask(Bytes),
    /// Send two, the second right behind the first one.
    AskBehind(Bytes, Bytes),
    /// Wait (ns).
    Pause(u64),
    /// Go on at any other node.
    Elsewhere,
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
    /// In a cluster: whom its next request is for.
    fn whom(&self, _ctx: &Ctx<'_>) -> Whom {
        Whom::Anybody
    }
    /// Nobody that it has asked knows who that is.
    fn finds_nobody(&mut self) {}
    /// It goes to another node, with nothing under way.
    fn leaves(&mut self, _ctx: &mut Ctx<'_>) {}
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
    /// Whom it looks for, and the version of what it has asked.
    finding: Option<(Whom, i16)>,
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
            finding: None,
        }
    }

    /// In a cluster it goes to whoever its next request is for, or asks who that is.
    fn goes(&mut self, ctx: &mut Ctx<'_>) -> bool {
        if !ctx.shared.cluster {
            return self.goes_home(ctx);
        }
        let whom = self.script.whom(ctx);
        if whom == Whom::Anybody || ctx.is_at(whom) {
            return false;
        }
        match ctx.shared.address(whom) {
            Some(address) => {
                ctx.oracle.saw(What::WentToAnother);
                self.leave(ctx, Some(address));
            }
            None => {
                let (version, frame) = ask_for(ctx, whom);
                self.finding = Some((whom, version));
                self.ask(ctx, &frame);
            }
        }
        true
    }

    /// It goes to another node, with nothing under way.
    fn leave(&mut self, ctx: &mut Ctx<'_>, to: Option<Address>) {
        self.script.leaves(ctx);
        self.state = State::Connecting;
        let after = ctx.up_to_ms(2);
        ctx.acts
            .extend([Act::Disconnect, Act::Connect { after, to }]);
    }

    /// It has looked for somebody.
    fn found(&mut self, ctx: &mut Ctx<'_>, (whom, version): (Whom, i16), frame: Bytes) {
        if let Err(why) = told(ctx, whom, version, frame) {
            let what = format!("{whom:?}, v{version}: {why}");
            return ctx.oracle.fail("ClientsFindTheirWay", what);
        }
        if ctx.shared.address(whom).is_some() {
            return self.proceed(ctx);
        }
        self.script.finds_nobody();
        match ctx.rng.chance(1, 2) {
            true => self.leave(ctx, None),
            false => self.pause(ctx, 20),
        }
    }

    fn pause(&mut self, ctx: &mut Ctx<'_>, up_to_ms: u64) {
        self.numbers += 1;
        self.state = State::Paused(self.numbers);
        let (after, token) = (ctx.up_to_ms(up_to_ms), self.numbers);
        ctx.acts.push(Act::Timer { after, token });
    }

    fn ask(&mut self, ctx: &mut Ctx<'_>, frame: &Bytes) {
        self.numbers += 1;
        let correlation = self.send(ctx, frame);
        self.state = State::Asked(correlation, ctx.oracle.moment());
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
        if ctx.shared.cluster {
            let after = PATIENCE_MS.0 * MS + ctx.up_to_ms(PATIENCE_MS.1);
            let token = self.numbers | GIVES_UP;
            ctx.acts.push(Act::Timer { after, token });
        }
        correlation
    }

    fn proceed(&mut self, ctx: &mut Ctx<'_>) {
        if self.goes(ctx) {
            return;
        }
        self.numbers += 1;
        match self.script.next(ctx) {
            Next::Elsewhere => self.leave(ctx, None),
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
        if let Some(finding) = self.finding.take() {
            return self.found(ctx, finding, frame);
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
        if self.finding.take().is_none() {
            self.script.lost(ctx);
        } else {
            self.script.leaves(ctx);
        }
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
        let gives_up = |asked: i32| token == asked as u64 | GIVES_UP;
        if matches!(self.state, State::Asked(asked, _) if gives_up(asked)) {
            ctx.oracle.saw(What::LostPatience);
            ctx.acts.push(Act::Disconnect);
            self.cut(ctx);
        }
    }

    fn is_done(&self) -> bool {
        self.state == State::Done
    }

    fn doing(&self) -> String {
        format!("{:?}: {}", self.state, self.script.doing())
    }
}
