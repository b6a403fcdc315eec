//! Deterministic automata over bytes: what the patterns of the policy language become.
//!
//! Templates, literals and prefixes are chains that cost nothing to build; everything else is a
//! dense automaton of `regex-automata`, bounded in size.

use std::collections::HashMap;

use mesh_engine::path::{PathTemplate, Segment};
use regex_automata::dfa::Automaton as _;
use regex_automata::dfa::dense;
use regex_automata::nfa::thompson;
use regex_automata::util::primitives::StateID;
use regex_automata::util::start;
use regex_automata::{Anchored, MatchKind};

use super::CapExceeded;

/// Memory of one dense automaton, and of making it: expressions that people write need a tenth of it, and whoever
/// writes one that explodes makes each of the readers wait until it is full.
pub(super) const AUTOMATON_BYTES_MAX: usize = 1 << 18;

/// A state of any automaton. [`DEAD`] accepts nothing, ever.
pub(super) type State = u32;

/// From here no text is accepted.
pub(super) const DEAD: State = State::MAX;

/// A deterministic automaton over bytes.
#[derive(Clone, Debug)]
pub(super) enum Automaton {
    /// A sequence of positions.
    Chain(Chain),
    /// Anything else.
    Dense(Box<dense::DFA<Vec<u32>>>, State),
}

/// An automaton that walks along a line of positions.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    positions: Vec<Position>,
    ignore_case: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    /// Exactly this byte; lower case where case is ignored.
    Byte(u8),
    /// The first byte of a segment.
    SegmentFirst,
    /// The bytes after it; a slash belongs to the next position.
    SegmentRest,
    /// The end, or a slash and then anything.
    Tail,
    /// Whatever comes.
    Anything,
    /// The end.
    End,
}

impl Chain {
    /// Exactly this text.
    pub(super) fn literal(text: &str, ignore_case: bool) -> Self {
        let mut chain = Self::empty(ignore_case);
        chain.push_text(text);
        chain.positions.push(Position::End);
        chain
    }

    /// Whatever starts with this text.
    pub(super) fn prefix(text: &str, ignore_case: bool) -> Self {
        let mut chain = Self::empty(ignore_case);
        chain.push_text(text);
        chain.positions.push(Position::Anything);
        chain
    }

    /// A path template: `*` and `{name}` are one non-empty segment, `**` at the end is the path
    /// before it and everything below.
    pub(super) fn template(template: &PathTemplate, ignore_case: bool) -> Self {
        let mut chain = Self::empty(ignore_case);
        for segment in template.segments() {
            chain.positions.push(Position::Byte(b'/'));
            match segment {
                Segment::Literal(text) => chain.push_text(text),
                Segment::One => {
                    let one = [Position::SegmentFirst, Position::SegmentRest];
                    chain.positions.extend(one);
                }
            }
        }
        let end = if template.takes_rest() {
            Position::Tail
        } else {
            Position::End
        };
        chain.positions.push(end);
        chain
    }

    fn empty(ignore_case: bool) -> Self {
        Self {
            positions: Vec::new(),
            ignore_case,
        }
    }

    fn push_text(&mut self, text: &str) {
        let ignore_case = self.ignore_case;
        let bytes = text.bytes().map(|byte| fold(byte, ignore_case));
        self.positions.extend(bytes.map(Position::Byte));
    }

    fn at(&self, state: State) -> Option<Position> {
        self.positions.get(state as usize).copied()
    }

    fn step(&self, state: State, byte: u8) -> State {
        match self.at(state) {
            Some(Position::Byte(wanted)) if wanted == fold(byte, self.ignore_case) => state + 1,
            Some(Position::SegmentFirst) if byte != b'/' => state + 1,
            Some(Position::SegmentRest) if byte != b'/' => state,
            Some(Position::SegmentRest) => self.step(state + 1, byte),
            Some(Position::Tail) if byte == b'/' => state + 1,
            Some(Position::Anything) => state,
            // A tail is the last position; what follows its slash is anything.
            None if self.positions.last() == Some(&Position::Tail) && state != DEAD => state,
            _ => DEAD,
        }
    }

    fn accepts(&self, state: State) -> bool {
        match self.at(state) {
            Some(Position::Byte(_) | Position::SegmentFirst) => false,
            Some(Position::SegmentRest) => self.accepts(state + 1),
            Some(Position::Tail | Position::Anything | Position::End) => true,
            None => self.is_full(state),
        }
    }

    fn is_full(&self, state: State) -> bool {
        match self.at(state) {
            Some(position) => position == Position::Anything,
            None => state != DEAD && self.positions.last() == Some(&Position::Tail),
        }
    }

    fn refine(&self, classes: &mut Classes) {
        classes.tell_apart(b'/', self.ignore_case);
        for position in &self.positions {
            if let Position::Byte(byte) = position {
                classes.tell_apart(*byte, self.ignore_case);
            }
        }
    }
}

fn fold(byte: u8, ignore_case: bool) -> u8 {
    if ignore_case {
        byte.to_ascii_lowercase()
    } else {
        byte
    }
}

/// Which bytes are told apart by any of some automata.
#[derive(Debug)]
pub(super) struct Classes {
    class: [u16; 256],
    next: u16,
    /// What was told apart already, with case and without: paths repeat few bytes many times.
    told: [[bool; 256]; 2],
}

impl Classes {
    /// All bytes are alike.
    pub(super) fn new() -> Self {
        Self {
            class: [0; 256],
            next: 1,
            told: [[false; 256]; 2],
        }
    }

    /// Gives a byte a class of its own; without case, together with its other form if that is in the
    /// same class so far.
    fn tell_apart(&mut self, byte: u8, ignore_case: bool) {
        let told = &mut self.told[usize::from(ignore_case)][usize::from(byte)];
        if std::mem::replace(told, true) {
            return;
        }
        let other = if ignore_case {
            byte.to_ascii_uppercase()
        } else {
            byte
        };
        let together = self.class[usize::from(byte)] == self.class[usize::from(other)];
        self.class[usize::from(byte)] = self.next;
        if !together {
            self.next += 1;
        }
        self.class[usize::from(other)] = self.next;
        self.next += 1;
    }

    /// Cuts each class into those that `part` tells apart.
    fn cut(&mut self, part: impl Fn(u8) -> u8) {
        let mut numbers: HashMap<(u16, u8), u16> = HashMap::new();
        for byte in 0..=u8::MAX {
            let class = &mut self.class[usize::from(byte)];
            // Every class is named anew, so that however many parts cut there are never more names than bytes.
            let new = u16::try_from(numbers.len()).unwrap_or(u16::MAX);
            *class = *numbers.entry((*class, part(byte))).or_insert(new);
        }
        self.next = u16::try_from(numbers.len()).unwrap_or(u16::MAX);
    }

    /// One byte for each class, the most readable one.
    pub(super) fn representatives(&self) -> Vec<u8> {
        let is_readable = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./".contains(byte);
        let readable = (b'a'..=b'z')
            .chain(b'0'..=b'9')
            .chain(b'A'..=b'Z')
            .chain(*b"-_./");
        let rest = (0..=u8::MAX).filter(|byte| !is_readable(byte));
        let mut seen = vec![false; usize::from(self.next)];
        readable
            .chain(rest)
            .filter(|byte| {
                let class = usize::from(self.class[usize::from(*byte)]);
                !std::mem::replace(&mut seen[class], true)
            })
            .collect()
    }
}

impl Automaton {
    /// The language of a regular expression that has to take the whole text, on bytes as
    /// [`mesh_engine::regex`] reads it.
    pub(super) fn regex(pattern: &str, ignore_case: bool) -> Result<Self, CapExceeded> {
        let anchored = format!(r"\A(?:{pattern})\z");
        let dfa = dense::Builder::new()
            .configure(
                dense::Config::new()
                    .match_kind(MatchKind::All)
                    .start_kind(regex_automata::dfa::StartKind::Anchored)
                    .dfa_size_limit(Some(AUTOMATON_BYTES_MAX))
                    .determinize_size_limit(Some(AUTOMATON_BYTES_MAX)),
            )
            .thompson(
                thompson::Config::new()
                    .utf8(false)
                    .nfa_size_limit(Some(AUTOMATON_BYTES_MAX)),
            )
            .syntax(super::regex::syntax(ignore_case))
            .build(&anchored)
            .map_err(|_too_large_or_not_regular| CapExceeded::Automaton)?;
        let start = dfa
            .start_state(&start::Config::new().anchored(Anchored::Yes))
            .map_err(|_look_behind| CapExceeded::Automaton)?;
        let start = start.as_u32();
        Ok(Self::Dense(Box::new(dfa), start))
    }

    /// The memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Chain(chain) => chain.positions.len() * size_of::<Position>(),
            Self::Dense(dfa, _) => dfa.memory_usage(),
        }
    }

    pub(super) fn start(&self) -> State {
        match self {
            Self::Chain(_) => 0,
            Self::Dense(_, start) => *start,
        }
    }

    pub(super) fn step(&self, state: State, byte: u8) -> State {
        match self {
            _ if state == DEAD => DEAD,
            Self::Chain(chain) => chain.step(state, byte),
            Self::Dense(dfa, _) => {
                let Ok(id) = StateID::new(state as usize) else {
                    return DEAD;
                };
                let next = dfa.next_state(id, byte);
                if dfa.is_dead_state(next) || dfa.is_quit_state(next) {
                    DEAD
                } else {
                    next.as_u32()
                }
            }
        }
    }

    pub(super) fn accepts(&self, state: State) -> bool {
        match self {
            _ if state == DEAD => false,
            Self::Chain(chain) => chain.accepts(state),
            Self::Dense(dfa, _) => StateID::new(state as usize)
                .is_ok_and(|id| dfa.is_match_state(dfa.next_eoi_state(id))),
        }
    }

    /// Whether every continuation is known to be accepted. `false` is always a safe answer.
    pub(super) fn is_full(&self, state: State) -> bool {
        match self {
            Self::Chain(chain) => chain.is_full(state),
            Self::Dense(..) => false,
        }
    }

    /// Tells apart the bytes that some state tells apart.
    pub(super) fn refine(&self, classes: &mut Classes) {
        match self {
            Self::Chain(chain) => chain.refine(classes),
            Self::Dense(dfa, _) => classes.cut(|byte| dfa.byte_classes().get(byte)),
        }
    }

    /// Whether the whole text is accepted.
    pub(super) fn matches(&self, text: &str) -> bool {
        let end = text
            .bytes()
            .fold(self.start(), |state, byte| self.step(state, byte));
        self.accepts(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(automaton: &Automaton, takes: &[&str], refuses: &[&str]) {
        for text in takes {
            assert!(automaton.matches(text), "{text} should be taken");
        }
        for text in refuses {
            assert!(!automaton.matches(text), "{text} should be refused");
        }
    }

    #[test]
    fn bytes_told_apart_ever_again_have_few_classes() {
        let mut classes = Classes::new();
        for _ in 0..100_000 {
            classes.tell_apart(b'x', false);
            classes.tell_apart(b'x', true);
        }
        for part in 0..=u8::MAX {
            classes.cut(|byte| u8::from(byte < part));
        }
        assert_eq!(classes.representatives().len(), 256);
    }

    #[test]
    fn templates_take_what_the_language_says() {
        let read = |text, ignore_case| {
            let template = PathTemplate::parse(text).unwrap();
            Automaton::Chain(Chain::template(&template, ignore_case))
        };
        let template = |text| read(text, false);
        check(&template("/a"), &["/a"], &["/a/", "/ab", "/", "/A", ""]);
        check(
            &template("/a/**"),
            &["/a", "/a/", "/a/b", "/a/b/c/"],
            &["/ab", "/", "/b"],
        );
        check(&template("/**"), &["/", "/a", "/a/b"], &["a"]);
        check(&template("/*"), &["/a", "/abc"], &["/", "/a/", "/a/b"]);
        check(
            &template("/a/{id}/c"),
            &["/a/7/c"],
            &["/a//c", "/a/7", "/a/7/c/"],
        );
        check(
            &template("/a/*/**"),
            &["/a/b", "/a/b/", "/a/b/c"],
            &["/a", "/a/"],
        );
        check(&template("/a/"), &["/a/"], &["/a"]);
        check(&template("/"), &["/"], &["/a", ""]);
        check(&read("/Ab/*", true), &["/aB/x", "/AB/X"], &["/ac/x"]);
    }

    #[test]
    fn regexes_take_the_whole_text() -> Result<(), CapExceeded> {
        check(
            &Automaton::regex("a|ab", false)?,
            &["a", "ab"],
            &["abc", "ba", ""],
        );
        check(
            &Automaton::regex("/v[0-9]+/.*", true)?,
            &["/V1/", "/v22/a/b"],
            &["/v/a", "x/v1/"],
        );
        check(
            &Automaton::regex("(?:^a$)?", false)?,
            &["", "a"],
            &["b", "aa"],
        );
        Ok(())
    }

    #[test]
    fn a_regex_past_the_bound_is_unknown() {
        let exponential = "(?:a|b)*a(?:a|b){24}";
        assert!(matches!(
            Automaton::regex(exponential, false),
            Err(CapExceeded::Automaton)
        ));
        assert!(Automaton::regex(&"(".repeat(100), false).is_err());
    }
}
