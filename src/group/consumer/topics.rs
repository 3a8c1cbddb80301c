//! What a group sees of the topics, and which of them a regular expression means.

use regex_automata::nfa::thompson::{Compiler, NFA, State, WhichCaptures};
use regex_automata::util::primitives::StateID;
use regex_automata::util::syntax;

use super::re2::translated;
use crate::base::limits::{GROUP_REGEX_BYTES_MAX, GROUP_REGEX_COMPILED_BYTES_MAX};
use crate::base::{Name, TopicId};

/// The topics of a cluster.
pub trait GroupTopics {
    /// Becomes another one whenever topics change.
    fn version(&self) -> u64;

    /// The id of a topic, and how many partitions it has.
    fn named(&self, name: &str) -> Option<(TopicId, i32)>;

    /// The name of the topic of this id.
    fn name_of(&self, id: TopicId) -> Option<Name>;

    /// The first topic behind this name.
    fn after(&self, name: Option<&str>) -> Option<Name>;
}

/// No topics at all.
#[derive(Clone, Copy, Debug)]
pub struct NoTopics;

impl GroupTopics for NoTopics {
    fn version(&self) -> u64 {
        0
    }

    fn named(&self, _: &str) -> Option<(TopicId, i32)> {
        None
    }

    fn name_of(&self, _: TopicId) -> Option<Name> {
        None
    }

    fn after(&self, _: Option<&str>) -> Option<Name> {
        None
    }
}

/// Places of an expression that are gone through in the time that a partition takes.
const PLACES_PER_WORK: usize = 32;

/// A regular expression, as it is matched with whole names of topics. It is at all places of the expression at once
/// that a name so far may have come to: so each byte of a name takes no longer than the expression is large, and
/// between two of them it can stop. What is faster mostly, as keeping in mind where it was, is slowest for who wants it
/// to be.
#[derive(Debug)]
pub struct TopicRegex {
    nfa: NFA,
    /// How much of the name is read; none if it has not begun.
    read: Option<usize>,
    /// Where it may be by then, and is after the next byte.
    places: Places,
    next: Places,
    /// Places that are gone through, and not yet counted as work.
    worked: usize,
}

/// A set of places that wait for a byte, or are the end.
#[derive(Debug, Default)]
struct Places {
    waiting: Vec<StateID>,
    /// By place: the round in which it was last come to.
    seen: Vec<u32>,
    round: u32,
    /// Places that are come to, and not yet gone through.
    open: Vec<StateID>,
}

impl Places {
    fn new(count: usize) -> Self {
        Self {
            seen: vec![0; count],
            ..Self::default()
        }
    }

    fn clear(&mut self) {
        self.waiting.clear();
        self.round = self.round.wrapping_add(1);
        if self.round == 0 {
            self.seen.fill(0);
            self.round = 1;
        }
    }

    /// Comes to a place, and to all that are come to from there without a byte; how many it has looked at.
    fn come_to(&mut self, nfa: &NFA, place: StateID, (name, read): (&[u8], usize)) -> usize {
        let mut worked = 0;
        self.open.push(place);
        while let Some(place) = self.open.pop() {
            worked += 1;
            let seen = &mut self.seen[place.as_usize()];
            if std::mem::replace(seen, self.round) == self.round {
                continue;
            }
            match nfa.state(place) {
                State::ByteRange { .. }
                | State::Sparse(_)
                | State::Dense(_)
                | State::Match { .. } => self.waiting.push(place),
                State::Look { look, next } => {
                    if nfa.look_matcher().matches(*look, name, read) {
                        self.open.push(*next);
                    }
                }
                State::Union { alternates } => self.open.extend(alternates.iter()),
                State::BinaryUnion { alt1, alt2 } => self.open.extend([*alt1, *alt2]),
                State::Capture { next, .. } => self.open.push(*next),
                State::Fail => {}
            }
        }
        worked
    }
}

impl TopicRegex {
    /// Reads one; `None` if it is none, or too large.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        if text.len() > GROUP_REGEX_BYTES_MAX {
            return None;
        }
        let text = &translated(text)?;
        let config = NFA::config()
            .utf8(false)
            .which_captures(WhichCaptures::None)
            .nfa_size_limit(Some(GROUP_REGEX_COMPILED_BYTES_MAX));
        let syntax = syntax::Config::new().unicode(false).utf8(false);
        let nfa = Compiler::new().configure(config).syntax(syntax).build(text);
        let nfa = nfa.ok()?;
        let count = nfa.states().len();
        Some(Self {
            nfa,
            read: None,
            places: Places::new(count),
            next: Places::new(count),
            worked: 0,
        })
    }

    /// Goes on with a name, the same until the answer is there: whether the whole of it matches. Does as much as is
    /// `left` of a slice, in partitions that are looked at.
    pub fn go_on(&mut self, name: &str, left: &mut usize) -> Option<bool> {
        let name = name.as_bytes();
        let mut read = self.read.unwrap_or_else(|| {
            self.places.clear();
            let start = self.nfa.start_anchored();
            self.worked += self.places.come_to(&self.nfa, start, (name, 0));
            0
        });
        loop {
            // Also what was looked at before the first byte, which may be all that there is.
            *left = left.saturating_sub(self.worked / PLACES_PER_WORK);
            self.worked %= PLACES_PER_WORK;
            let byte = name.get(read).filter(|_| !self.places.waiting.is_empty());
            let Some(&byte) = byte else { break };
            if *left == 0 {
                self.read = Some(read);
                return None;
            }
            read += 1;
            self.next.clear();
            for place in &self.places.waiting {
                self.worked += 1;
                let next = match self.nfa.state(*place) {
                    State::ByteRange { trans } if trans.matches_byte(byte) => Some(trans.next),
                    State::Sparse(sparse) => {
                        self.worked += sparse.transitions.len() / 4;
                        sparse.matches_byte(byte)
                    }
                    State::Dense(dense) => dense.matches_byte(byte),
                    _ => None,
                };
                if let Some(next) = next {
                    self.worked += self.next.come_to(&self.nfa, next, (name, read));
                }
            }
            std::mem::swap(&mut self.places, &mut self.next);
        }
        self.read = None;
        let is_end = |place: &StateID| matches!(self.nfa.state(*place), State::Match { .. });
        Some(read == name.len() && self.places.waiting.iter().any(is_end))
    }
}

#[cfg(test)]
mod tests {
    use regex_automata::nfa::thompson::pikevm::PikeVM;

    use super::*;
    use crate::base::Rng;

    /// In slices that are as small as can be.
    fn matches(regex: &str, name: &str) -> bool {
        let mut regex = TopicRegex::new(regex).unwrap();
        let mut answer = || {
            for slices in 0..100_000 {
                if let Some(matches) = regex.go_on(name, &mut 1) {
                    return (matches, slices);
                }
            }
            panic!("it is answered");
        };
        let first = answer();
        assert_eq!(answer().0, first.0, "it begins anew");
        first.0
    }

    #[test]
    fn whole_names_match() {
        assert!(matches("a.*", "abc") && !matches("a.*", "xabc"));
        assert!(matches("a|b", "b") && !matches("a|b", "ab") && !matches("a|b", ""));
        assert!(matches("^a$", "a") && matches("(?i)A-\\d+", "a-12"));
        assert!(matches("", "") && !matches("", "a") && matches("(a*)*", "aaa"));
        assert!(!matches("a", "a\n") && matches("a|ab", "ab") && matches("ab|a", "ab"));
        assert!(matches(".*\\bb", "a.b") && !matches(".*\\bb", "ab"));
        assert!(matches("[^a]+", "é") && matches("x(?:y{2,3}z?)+", "xyyzyyy"));
        for wrong in [
            "a)(b",
            "(",
            "*",
            "(?<!a)b",
            "\\1",
            "(?u)\\bx",
            &"a".repeat(100_000),
        ] {
            assert!(TopicRegex::new(wrong).is_none(), "{wrong}");
        }
        assert!(
            TopicRegex::new("(((a{99}){99}){99}){99}").is_none(),
            "it is too large"
        );
    }

    #[test]
    fn expressions_mean_what_they_mean_to_re2() {
        assert!(matches("\\Qa.b\\E.*", "a.bc") && !matches("\\Qa.b\\E", "axb"));
        assert!(matches("\\Q[a", "[a") && matches("x\\Q\\E", "x"));
        assert!(matches("\\pL+\\pN", "ab1") && !matches("\\PL", "a") && matches("\\p{^L}", "."));
        assert!(matches("[\\p{Lu}_]+", "A_B") && matches("[^\\p{Greek}]", "a"));
        assert!(matches("\\141\\x62\\x{63}\\055", "abc-") && matches("[\\060-\\071]", "5"));
        // What the other one takes for something of its own.
        assert!(matches("[a[b]+", "a[b") && matches("[a&&b]", "&") && matches("[+--]", "-"));
        assert!(
            matches("[]a]+", "]a") && matches("[[:alpha:]-]+", "a-b") && matches("[a-]+", "-a")
        );
        assert!(matches("a{,2}", "a{,2}") && matches("a{2}|{", "aa") && matches("a}", "a}"));
        assert!(
            matches("a{01}", "a{01}") && matches("a{1,02}", "a{1,02}") && matches("a{0}b", "b")
        );
        assert!(matches("\\<a\\>", "<a>") && matches("(?P<x>a)(?i:B)", "ab"));
        for wrong in [
            "a**",
            "a+*",
            "a{2}{3}",
            "a{1001}",
            "a{3,2}",
            "(?x)a",
            "(?u)a",
            "(?R)a",
            "\\Z",
            "\\8",
            "\\1",
            "[[:foo:]]",
            "\\p{Nope}",
            "\\p",
            "[b-a]",
            "[a-\\d]",
            "[a",
            "\\x{110000}",
            "\\E",
            "\\u{61}",
            "\\",
        ] {
            assert!(TopicRegex::new(wrong).is_none(), "{wrong}");
        }
    }

    fn random_regex(rng: &mut Rng, depth: u32) -> String {
        let of =
            |rng: &mut Rng, some: &[&str]| some[rng.below(some.len() as u64) as usize].to_owned();
        let less = depth.saturating_sub(1);
        match rng.below(if depth == 0 { 3 } else { 8 }) {
            0 => of(rng, &["a", "b", "_", "\\.", "-"]),
            1 => of(
                rng,
                &[
                    ".",
                    "[ab]",
                    "[^a]",
                    "[.-_]",
                    "\\w",
                    "\\d",
                    "\\pL",
                    "[^[:alpha:]]",
                ],
            ),
            2 => of(rng, &["", "\\b", "^", "$", "\\B", "(?i)", "(?m)", "(?s)"]),
            3 | 4 => random_regex(rng, less) + &random_regex(rng, less),
            5 => format!("{}|{}", random_regex(rng, less), random_regex(rng, less)),
            6 => {
                let how = of(
                    rng,
                    &["*", "+", "?", "{2}", "{1,3}", "{0,2}?", "*?", "{2,}"],
                );
                format!("(?:{}){how}", random_regex(rng, less))
            }
            _ => format!("({})", random_regex(rng, less)),
        }
    }

    /// What goes through the expression for any purpose, without stopping between two bytes, says the same.
    #[test]
    fn random_expressions_match_what_they_match_elsewhere() {
        let mut rng = Rng::new(11);
        let (mut matching, mut compared) = (0, 0);
        for _ in 0..1_500 {
            let regex = random_regex(&mut rng, 4);
            let Some(mut ours) = TopicRegex::new(&regex) else {
                continue;
            };
            let whole = format!("\\A(?:{})\\z", translated(&regex).unwrap());
            let oracle = PikeVM::builder()
                .syntax(syntax::Config::new().unicode(false).utf8(false))
                .thompson(NFA::config().utf8(false))
                .build(&whole)
                .unwrap();
            let mut cache = oracle.create_cache();
            for _ in 0..12 {
                let name: String = (0..rng.below(7))
                    .map(|_| char::from(b"abAB_.-1"[rng.below(8) as usize]))
                    .collect();
                let slice = 1 + rng.below(3) as usize;
                let found = (0..10_000).find_map(|_| ours.go_on(&name, &mut { slice }));
                let expected = oracle.is_match(&mut cache, &*name);
                assert_eq!(found, Some(expected), "{regex:?} and {name:?}");
                (matching, compared) = (matching + usize::from(expected), compared + 1);
            }
        }
        assert!(
            compared > 10_000 && matching > 1_000,
            "{matching} of {compared}"
        );
    }

    /// Where all ways end before anything is read, that costs what it takes, too.
    #[test]
    fn what_is_looked_at_before_the_first_byte_counts() {
        let mut regex = TopicRegex::new("(?:(?:$a)?){1000}$a").unwrap();
        let mut left = 4096;
        assert_eq!(regex.go_on("name", &mut left), Some(false));
        assert!(left < 4096 - 50, "{left}");
    }

    /// However long it takes, it takes little at a time.
    #[test]
    fn what_takes_long_is_done_in_slices() {
        let mut regex = TopicRegex::new("(?:.?){900}x").unwrap();
        let name = "ab".repeat(124);
        let mut slices = 0;
        loop {
            let mut left = 512;
            let answer = regex.go_on(&name, &mut left);
            // No byte takes more than all places of the expression.
            let over = regex.worked.saturating_sub(512 * PLACES_PER_WORK);
            assert!(over <= 4 * regex.nfa.states().len(), "{over}");
            if let Some(matches) = answer {
                assert!(!matches);
                break;
            }
            slices += 1;
        }
        assert!(slices > 10, "{slices}");
    }
}
