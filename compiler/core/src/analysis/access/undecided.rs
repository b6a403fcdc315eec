//! What could not be decided about the rules of a service, collected while it is asked.

use std::cell::RefCell;

use crate::analysis::request_space::CapExceeded;
use crate::linked::ServiceId;

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// Whether a rule, as a position in the list of rules, can be met, is overruled or covered, or leaves a way around it.
    Rule(usize),
    /// Whether any call of this caller gets in.
    Call(ServiceId),
    /// What all rules of the service decide together.
    Service,
}

/// A question that was too large to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undecided {
    /// The question.
    pub question: Question,
    /// The bound.
    pub why: CapExceeded,
}

/// Takes note of answers that are not there.
#[derive(Debug, Default)]
pub(super) struct Asked {
    undecided: RefCell<Vec<Undecided>>,
}

impl Asked {
    /// The answer, if there is one.
    pub(super) fn known<T>(&self, question: Question, answer: Result<T, CapExceeded>) -> Option<T> {
        let note = |why| {
            let mut undecided = self.undecided.borrow_mut();
            undecided.push(Undecided { question, why });
        };
        answer.map_err(note).ok()
    }

    /// The questions without an answer, each once.
    pub(super) fn undecided(self) -> Vec<Undecided> {
        let mut undecided = self.undecided.into_inner();
        undecided.sort_by_key(|each| each.question);
        undecided.dedup_by_key(|each| each.question);
        undecided
    }
}
